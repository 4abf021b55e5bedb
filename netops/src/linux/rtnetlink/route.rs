//! Routes: `RTM_NEWROUTE`, `RTM_GETROUTE`, `RTM_DELROUTE` (`linux/rtnetlink.h`).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::address::{family, ip, parse_ip};
use crate::linux::netlink::{Attributes, Datagram, attribute, get_u16, get_u32};
use crate::name::LinkName;
use crate::resource::Route;

/// Length of `struct rtmsg`, and of `struct rtnexthop`.
const HEADER: usize = 12;
const HOP_HEADER: usize = 8;
/// `RTNH_F_ONLINK`, which works as a flag of the whole route (`linux/rtnetlink.h`).
const ONLINK: u32 = 4;
/// `RTA_VIA`, which not every C library's headers have.
const RTA_VIA: u16 = 18;
/// `RTAX_MTU`, `RTAX_ADVMSS`: the metrics in `RTA_METRICS`.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const MAIN: u32 = libc::RT_TABLE_MAIN as u32;
const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;

/// Adds a route. Without `NLM_F_EXCL`, so that a second next hop to the same destination is added beside the first;
/// one that is there already, next hop and all, is `EEXIST` nevertheless.
pub(in crate::linux) fn create(datagram: &mut Datagram, index: u32, route: &Route) {
    // IPv6 has no such thing.
    let scope = route.scope.unwrap_or(match (route.destination, route.gateway) {
        (IpNet::V4(_), None) => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    });
    push(
        datagram,
        libc::RTM_NEWROUTE,
        libc::NLM_F_CREATE,
        index,
        route,
        (libc::RTPROT_BOOT, scope),
        |message| {
            if route.mtu.is_some() || route.advmss.is_some() {
                message.nest(libc::RTA_METRICS, |metrics| {
                    for (kind, value) in [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] {
                        if let Some(value) = value {
                            metrics.u32(kind, value);
                        }
                    }
                });
            }
        },
    );
}

/// Removes a route, whoever made it.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: u32, route: &Route) {
    let scope = route.scope.unwrap_or(libc::RT_SCOPE_NOWHERE);
    push(datagram, libc::RTM_DELROUTE, 0, index, route, (libc::RTPROT_UNSPEC, scope), |_| {});
}

fn push(
    datagram: &mut Datagram,
    kind: u16,
    flags: i32,
    index: u32,
    route: &Route,
    (protocol, scope): (u8, u8),
    more: impl FnOnce(&mut Attributes<'_>),
) {
    let destination = route.destination.trunc();
    let table = route.table.unwrap_or(MAIN);
    let mut header = [0; HEADER];
    header[0] = family(destination.addr()) as u8;
    header[1] = destination.prefix_len();
    // Tables past what the field holds are only in the attribute.
    header[4] = u8::try_from(table).unwrap_or(libc::RT_TABLE_UNSPEC);
    header[5] = protocol;
    header[6] = scope;
    header[7] = libc::RTN_UNICAST;
    header[8..].copy_from_slice(&(if route.onlink { ONLINK } else { 0 }).to_ne_bytes());
    datagram.push(kind, flags, &header, |message| {
        if destination.prefix_len() > 0 {
            ip(message, libc::RTA_DST, destination.addr());
        }
        match route.gateway {
            Some(gateway) if family(gateway) == family(destination.addr()) => {
                ip(message, libc::RTA_GATEWAY, gateway);
            }
            Some(gateway) => via(message, gateway),
            None => {}
        }
        message.u32(libc::RTA_OIF, index).u32(libc::RTA_TABLE, table);
        if let Some(metric) = route.metric {
            message.u32(libc::RTA_PRIORITY, metric);
        }
        if let Some(source) = route.source {
            ip(message, libc::RTA_PREFSRC, source);
        }
        more(message);
    });
}

/// A next hop of the other family (RFC 5549): `struct rtvia`.
fn via(message: &mut Attributes<'_>, gateway: IpAddr) {
    let mut value = (family(gateway) as u16).to_ne_bytes().to_vec();
    match gateway {
        IpAddr::V4(address) => value.extend(address.octets()),
        IpAddr::V6(address) => value.extend(address.octets()),
    }
    message.bytes(RTA_VIA, &value);
}

/// Asks for the routes of one family out of one interface.
pub(in crate::linux) fn get(datagram: &mut Datagram, family: i32, index: u32) {
    let mut header = [0; HEADER];
    header[0] = family as u8;
    datagram.push(libc::RTM_GETROUTE, 0, &header, |message| {
        message.u32(libc::RTA_OIF, index);
    });
}

/// The routes out of an interface that a message tells of: none if it is not about unicast, or about the table of
/// local addresses; several if there are several next hops.
pub(in crate::linux) fn parse(body: &[u8], index: u32, link: &LinkName) -> Vec<Route> {
    parse_all(body, index, link).unwrap_or_default()
}

fn parse_all(body: &[u8], index: u32, link: &LinkName) -> Option<Vec<Route>> {
    let details = body.get(HEADER..)?;
    let (prefix, scope, kind) = (*body.get(1)?, *body.get(6)?, *body.get(7)?);
    let flags = get_u32(body, 8)?;
    let number = |kind| attribute(details, kind).and_then(|value| get_u32(value, 0));
    let table = number(libc::RTA_TABLE).unwrap_or(u32::from(*body.get(4)?));
    if kind != libc::RTN_UNICAST || table == LOCAL || flags & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let destination = match (i32::from(*body.first()?), attribute(details, libc::RTA_DST)) {
        (libc::AF_INET, None) => IpNet::V4(Ipv4Net::default()),
        (libc::AF_INET6, None) => IpNet::V6(Ipv6Net::default()),
        (_, None) => return None,
        (_, Some(address)) => IpNet::new(parse_ip(address)?, prefix).ok()?,
    };
    let metrics = attribute(details, libc::RTA_METRICS).unwrap_or_default();
    let metric = |kind| attribute(metrics, kind).and_then(|value| get_u32(value, 0));
    let route = Route {
        source: attribute(details, libc::RTA_PREFSRC).and_then(parse_ip),
        metric: number(libc::RTA_PRIORITY),
        table: (table != MAIN).then_some(table),
        scope: Some(scope),
        mtu: metric(RTAX_MTU),
        advmss: metric(RTAX_ADVMSS),
        ..Route::new(destination, None, link.clone())
    };
    let with_hop = |attributes: &[u8], flags: u32| Route {
        gateway: gateway(attributes),
        onlink: flags & ONLINK != 0,
        ..route.clone()
    };
    if let Some(hops) = attribute(details, libc::RTA_MULTIPATH) {
        let hops = next_hops(hops).filter(|hop| hop.index == index);
        return Some(hops.map(|hop| with_hop(hop.attributes, hop.flags)).collect());
    }
    (number(libc::RTA_OIF)? == index).then(|| vec![with_hop(details, flags)])
}

fn gateway(details: &[u8]) -> Option<IpAddr> {
    let via = || attribute(details, RTA_VIA).and_then(|value| value.get(2..));
    attribute(details, libc::RTA_GATEWAY).or_else(via).and_then(parse_ip)
}

/// One of several next hops (`struct rtnexthop`).
struct NextHop<'a> {
    flags: u32,
    index: u32,
    attributes: &'a [u8],
}

fn next_hops(mut bytes: &[u8]) -> impl Iterator<Item = NextHop<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(get_u16(bytes, 0)?);
        let hop = NextHop {
            flags: u32::from(*bytes.get(2)?),
            index: get_u32(bytes, 4)?,
            attributes: bytes.get(HOP_HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(hop)
    })
}
