//! Routes: `RTM_NEWROUTE`, `RTM_GETROUTE`, `RTM_DELROUTE` (`linux/rtnetlink.h`).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::{DelRoute, GetRoute, NewRoute};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};

use super::address::{family, parse_ip};
use crate::linux::netlink::{Datagram, attribute, get_u16, get_u32};
use crate::name::LinkName;
use crate::resource::{MAIN_TABLE, Route};

/// Length of `struct rtmsg`, and of `struct rtnexthop`.
const HEADER: usize = 12;
const HOP_HEADER: usize = 8;
/// `RTA_VIA`, which not every C library's headers have.
const RTA_VIA: u16 = 18;
/// `RTAX_MTU`, `RTAX_ADVMSS`: the metrics in `RTA_METRICS`.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;

/// Adds a route. Without `NLM_F_EXCL`, so that a second next hop to the same destination is added beside the first;
/// one that is there already, next hop and all, is `EEXIST` nevertheless.
pub(in crate::linux) fn create(datagram: &mut Datagram, index: u32, route: &Route) {
    // IPv6 has no such thing.
    let scope = route.scope.map(RouteScope::from).unwrap_or(match (route.destination, route.gateway) {
        (IpNet::V4(_), None) => RouteScope::Link,
        _ => RouteScope::Universe,
    });
    let protocol = route.protocol.map_or(RouteProtocol::Boot, RouteProtocol::from);
    let mut message = message(index, route, protocol, scope);
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    datagram.request(libc::NLM_F_CREATE, &NewRoute(message));
}

/// Removes a route: whoever made it, if nobody is named.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: u32, route: &Route) {
    let scope = route.scope.map_or(RouteScope::NoWhere, RouteScope::from);
    let protocol = route.protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    datagram.request(0, &DelRoute(message(index, route, protocol, scope)));
}

fn message(index: u32, route: &Route, protocol: RouteProtocol, scope: RouteScope) -> RouteMessage {
    let destination = route.destination.trunc();
    let table = route.table();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        // Tables past what the field holds are only in the attribute.
        table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol,
        scope,
        kind: RouteType::Unicast,
        flags: if route.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    if destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    attributes.extend(route.gateway.map(|gateway| {
        if family(gateway) == family(destination.addr()) {
            RouteAttribute::Gateway(gateway.into())
        } else {
            // A next hop of the other family (RFC 5549).
            RouteAttribute::Via(gateway.into())
        }
    }));
    attributes.extend([RouteAttribute::Oif(index), RouteAttribute::Table(table)]);
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

/// Asks for the routes of one family, perhaps only for those out of one interface.
pub(in crate::linux) fn get(datagram: &mut Datagram, family: AddressFamily, index: Option<u32>) {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.attributes = index.map(RouteAttribute::Oif).into_iter().collect();
    datagram.request(0, &GetRoute(message));
}

/// Asks for the way to an address.
pub(in crate::linux) fn get_to(datagram: &mut Datagram, address: IpAddr) {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    datagram.request(0, &GetRoute(message));
}

/// The index of the interface that the way to an address leads out of, if it leads to no gateway.
pub(in crate::linux) fn parse_direct(body: &[u8]) -> Option<u32> {
    let header = RouteHeader::parse(body).ok()?;
    let details = body.get(HEADER..)?;
    if header.kind != RouteType::Unicast || gateway(details).is_some() {
        return None;
    }
    get_u32(attribute(details, libc::RTA_OIF)?, 0)
}

/// Asks for the routes of one family in the main table.
pub(in crate::linux) fn get_table(datagram: &mut Datagram, family: AddressFamily) {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes = vec![RouteAttribute::Table(MAIN_TABLE)];
    datagram.request(0, &GetRoute(message));
}

/// The metric and the interfaces of the default route of the main table that a message tells of, if it does.
pub(in crate::linux) fn default_of(body: &[u8]) -> Vec<(u32, u32)> {
    let parsed = || {
        let header = RouteHeader::parse(body).ok()?;
        let details = body.get(HEADER..)?;
        let number = |kind| attribute(details, kind).and_then(|value| get_u32(value, 0));
        let table = number(libc::RTA_TABLE).unwrap_or_else(|| header.table.into());
        if header.destination_prefix_length > 0 || header.kind != RouteType::Unicast || table != MAIN_TABLE {
            return None;
        }
        let hops = attribute(details, libc::RTA_MULTIPATH).into_iter().flat_map(next_hops);
        let indices = number(libc::RTA_OIF).into_iter().chain(hops.map(|hop| hop.index));
        let metric = number(libc::RTA_PRIORITY).unwrap_or(0);
        Some(indices.map(|index| (metric, index)).collect())
    };
    parsed().unwrap_or_default()
}

/// The routes out of an interface that a message tells of: none if it is not about unicast, or about the table of
/// local addresses; several if there are several next hops.
pub(in crate::linux) fn parse(body: &[u8], index: u32, link: &LinkName) -> Vec<Route> {
    parse_all(body, index, link).unwrap_or_default()
}

fn parse_all(body: &[u8], index: u32, link: &LinkName) -> Option<Vec<Route>> {
    let header = RouteHeader::parse(body).ok()?;
    let details = body.get(HEADER..)?;
    let number = |kind| attribute(details, kind).and_then(|value| get_u32(value, 0));
    let table = table(body)?;
    if header.kind != RouteType::Unicast || table == LOCAL || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let destination = match (header.address_family, attribute(details, libc::RTA_DST)) {
        (AddressFamily::Inet, None) => IpNet::V4(Ipv4Net::default()),
        (AddressFamily::Inet6, None) => IpNet::V6(Ipv6Net::default()),
        (_, None) => return None,
        (_, Some(address)) => IpNet::new(parse_ip(address)?, header.destination_prefix_length).ok()?,
    };
    let metrics = attribute(details, libc::RTA_METRICS).unwrap_or_default();
    let metric = |kind| attribute(metrics, kind).and_then(|value| get_u32(value, 0));
    let route = Route {
        source: attribute(details, libc::RTA_PREFSRC).and_then(parse_ip),
        metric: number(libc::RTA_PRIORITY),
        table: (table != MAIN_TABLE).then_some(table),
        scope: Some(header.scope.into()),
        protocol: Some(header.protocol).filter(|maker| *maker != RouteProtocol::Boot).map(u8::from),
        mtu: metric(RTAX_MTU),
        advmss: metric(RTAX_ADVMSS),
        ..Route::new(destination, None, link.clone())
    };
    let with_hop = |attributes: &[u8], flags: RouteFlags| Route {
        gateway: gateway(attributes),
        onlink: flags.contains(RouteFlags::Onlink),
        ..route.clone()
    };
    if let Some(hops) = attribute(details, libc::RTA_MULTIPATH) {
        let hops = next_hops(hops).filter(|hop| hop.index == index);
        return Some(hops.map(|hop| with_hop(hop.attributes, hop.flags)).collect());
    }
    (number(libc::RTA_OIF)? == index).then(|| vec![with_hop(details, header.flags)])
}

/// The table of the route that a message tells of, whatever kind of route it is.
pub(in crate::linux) fn table(body: &[u8]) -> Option<u32> {
    let header = RouteHeader::parse(body).ok()?;
    let named = attribute(body.get(HEADER..)?, libc::RTA_TABLE).and_then(|value| get_u32(value, 0));
    Some(named.unwrap_or_else(|| header.table.into()))
}

fn gateway(details: &[u8]) -> Option<IpAddr> {
    let via = || attribute(details, RTA_VIA).and_then(|value| value.get(2..));
    attribute(details, libc::RTA_GATEWAY).or_else(via).and_then(parse_ip)
}

/// One of several next hops (`struct rtnexthop`).
struct NextHop<'a> {
    /// Those of a whole route mean the same.
    flags: RouteFlags,
    index: u32,
    attributes: &'a [u8],
}

fn next_hops(mut bytes: &[u8]) -> impl Iterator<Item = NextHop<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(get_u16(bytes, 0)?);
        let hop = NextHop {
            flags: RouteFlags::from_bits_retain(u32::from(*bytes.get(2)?)),
            index: get_u32(bytes, 4)?,
            attributes: bytes.get(HOP_HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(hop)
    })
}
