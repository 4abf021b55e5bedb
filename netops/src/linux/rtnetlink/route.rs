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
use crate::lookup::{FoundRoute, RouteKind, RouteLookup};
use crate::name::LinkName;
use crate::resource::{MAIN_TABLE, Route, RouteTarget};

/// Length of `struct rtmsg`, and of `struct rtnexthop`.
const HEADER: usize = 12;
const HOP_HEADER: usize = 8;
/// `RTA_VIA` and `RTA_NH_ID`, which not every C library's headers have.
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
/// `RTAX_MTU`, `RTAX_ADVMSS`: the metrics in `RTA_METRICS`.
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;

/// Adds a route. Without `NLM_F_EXCL`, so that a second next hop to the same destination is added beside the first;
/// one that is there already, next hop and all, is `EEXIST` nevertheless.
pub(in crate::linux) fn create(datagram: &mut Datagram, index: Option<u32>, route: &Route) {
    put(datagram, libc::NLM_F_CREATE, index, route);
}

/// Adds a route, with `NLM_F_EXCL` only where there is none to its destination with its metric, with `NLM_F_REPLACE` in
/// place of one that there is.
pub(in crate::linux) fn put(datagram: &mut Datagram, flags: i32, index: Option<u32>, route: &Route) {
    // IPv6 has no such thing.
    let scope = route.scope.map(RouteScope::from).unwrap_or(match (route.destination, &route.target) {
        (IpNet::V4(_), RouteTarget::Link { gateway: None, .. }) => RouteScope::Link,
        _ => RouteScope::Universe,
    });
    let protocol = RouteProtocol::from(route.protocol());
    let mut message = message(index, route, protocol, scope);
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    // Without any, IPv4 gives a route by a next hop those of another by the same one (`fib_find_info_nh()`): a route would get
    // an MTU that it was not given, and keep one that is taken back. A list of none is one.
    if !metrics.is_empty() || matches!(route.target, RouteTarget::NextHop(_)) {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    datagram.request(flags, &NewRoute(message));
}

/// Removes a route: whoever made it, if nobody is named.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: Option<u32>, route: &Route) {
    let scope = route.scope.map_or(RouteScope::NoWhere, RouteScope::from);
    let protocol = route.protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    datagram.request(0, &DelRoute(message(index, route, protocol, scope)));
}

fn message(index: Option<u32>, route: &Route, protocol: RouteProtocol, scope: RouteScope) -> RouteMessage {
    let destination = route.destination.trunc();
    let table = route.table();
    let (kind, onlink) = match route.target {
        RouteTarget::Link { onlink, .. } => (RouteType::Unicast, onlink),
        RouteTarget::NextHop(_) => (RouteType::Unicast, false),
        RouteTarget::Blackhole => (RouteType::BlackHole, false),
        RouteTarget::Unreachable => (RouteType::Unreachable, false),
    };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.addr()),
        destination_prefix_length: destination.prefix_len(),
        // Tables past what the field holds are only in the attribute.
        table: u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
        protocol,
        scope,
        kind,
        flags: if onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    if destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    attributes.extend(route.gateway().map(|gateway| {
        if family(gateway) == family(destination.addr()) {
            RouteAttribute::Gateway(gateway.into())
        } else {
            // A next hop of the other family (RFC 5549).
            RouteAttribute::Via(gateway.into())
        }
    }));
    if let RouteTarget::NextHop(id) = route.target {
        attributes.push(RouteAttribute::NhId(id));
    }
    attributes.extend(index.map(RouteAttribute::Oif));
    attributes.push(RouteAttribute::Table(table));
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

/// Asks for the routes of one family: all, or those of a table, or those of a protocol.
pub(in crate::linux) fn get_of(
    datagram: &mut Datagram,
    family: AddressFamily,
    protocol: Option<u8>,
    table: Option<u32>,
) {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    message.attributes = table.map(RouteAttribute::Table).into_iter().collect();
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

/// Asks for the way of a packet, or for the route that decides it (`RTM_F_FIB_MATCH`, Linux 4.13). Of
/// routes to nowhere the kernel only says no, either way.
pub(in crate::linux) fn get_way(
    datagram: &mut Datagram,
    lookup: &RouteLookup,
    input: Option<u32>,
    match_only: bool,
) {
    let length = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header.address_family = family(lookup.to);
    message.header.destination_prefix_length = length(lookup.to);
    message.header.source_prefix_length = lookup.from.map_or(0, length);
    message.header.flags = if match_only { RouteFlags::FibMatch } else { RouteFlags::empty() };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(lookup.to.into()));
    attributes.extend(lookup.from.map(|from| RouteAttribute::Source(from.into())));
    attributes.extend(lookup.mark.map(RouteAttribute::Mark));
    attributes.extend(input.map(RouteAttribute::Iif));
    datagram.request(0, &GetRoute(message));
}

/// The way that a message tells of, without the name of its interface, whose index comes with it.
pub(in crate::linux) fn parse_way(body: &[u8]) -> Option<(FoundRoute, Option<u32>)> {
    let header = RouteHeader::parse(body).ok()?;
    let details = body.get(HEADER..)?;
    let number = |kind| attribute(details, kind).and_then(|value| get_u32(value, 0));
    let metrics = attribute(details, libc::RTA_METRICS).unwrap_or_default();
    let hop = hops(body, &header)?.next();
    let way = FoundRoute {
        destination: destination(details, &header),
        table: table(body)?,
        protocol: header.protocol.into(),
        next_hop: number(RTA_NH_ID),
        gateway: hop.and_then(|hop| hop.gateway),
        source: attribute(details, libc::RTA_PREFSRC).and_then(parse_ip),
        mtu: attribute(metrics, RTAX_MTU).and_then(|value| get_u32(value, 0)),
        ..FoundRoute::new(match header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::Broadcast => RouteKind::Broadcast,
            RouteType::Multicast => RouteKind::Multicast,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::Prohibit => RouteKind::Prohibited,
            other => RouteKind::Other(other.into()),
        })
    };
    Some((way, hop.map(|hop| hop.index)))
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
    if header.kind != RouteType::Unicast {
        return None;
    }
    let route = parse_basics(body, &header)?;
    let with_hop = |hop: Hop| Route { target: hop.target(link), ..route.clone() };
    Some(hops(body, &header)?.filter(|hop| hop.index == index).map(with_hop).collect())
}

/// The routes that a message tells of, each as it was made, and the index of the interface of each that names one.
pub(in crate::linux) fn parse_as_made(body: &[u8]) -> Vec<(Route, Option<Hop>)> {
    let parsed = || {
        let header = RouteHeader::parse(body).ok()?;
        let route = parse_basics(body, &header)?;
        let made = |target| Some(vec![(Route { target, ..route.clone() }, None)]);
        let next_hop = attribute(body.get(HEADER..)?, RTA_NH_ID).and_then(|value| get_u32(value, 0));
        match (header.kind, next_hop) {
            // Also to nowhere it may go by a next hop.
            (RouteType::Unicast | RouteType::BlackHole, Some(id)) => made(RouteTarget::NextHop(id)),
            (RouteType::BlackHole, None) => made(RouteTarget::Blackhole),
            (RouteType::Unreachable, _) => made(RouteTarget::Unreachable),
            (RouteType::Unicast, None) => {
                // What it leads to has a name yet to be found.
                let unnamed = |hop| (route.clone(), Some(hop));
                Some(hops(body, &header)?.map(unnamed).collect())
            }
            _ => None,
        }
    };
    parsed().unwrap_or_default()
}

/// All of a route but where it leads.
fn parse_basics(body: &[u8], header: &RouteHeader) -> Option<Route> {
    let details = body.get(HEADER..)?;
    let number = |kind| attribute(details, kind).and_then(|value| get_u32(value, 0));
    let table = table(body)?;
    if table == LOCAL || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let metrics = attribute(details, libc::RTA_METRICS).unwrap_or_default();
    let metric = |kind| attribute(metrics, kind).and_then(|value| get_u32(value, 0));
    Some(Route {
        source: attribute(details, libc::RTA_PREFSRC).and_then(parse_ip),
        metric: number(libc::RTA_PRIORITY),
        table: (table != MAIN_TABLE).then_some(table),
        scope: Some(header.scope.into()),
        protocol: Some(header.protocol).filter(|maker| *maker != RouteProtocol::Boot).map(u8::from),
        mtu: metric(RTAX_MTU),
        advmss: metric(RTAX_ADVMSS),
        ..Route::to(destination(details, header)?, RouteTarget::Unreachable)
    })
}

fn destination(details: &[u8], header: &RouteHeader) -> Option<IpNet> {
    match (header.address_family, attribute(details, libc::RTA_DST)) {
        (AddressFamily::Inet, None) => Some(IpNet::V4(Ipv4Net::default())),
        (AddressFamily::Inet6, None) => Some(IpNet::V6(Ipv6Net::default())),
        (_, None) => None,
        (_, Some(address)) => IpNet::new(parse_ip(address)?, header.destination_prefix_length).ok(),
    }
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

/// What a route is found by, and who made it, of whatever kind it is. A route of a single packet is none.
pub(in crate::linux) fn identity(body: &[u8]) -> Option<(IpNet, u32, u32, u8)> {
    let header = RouteHeader::parse(body).ok()?;
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let details = body.get(HEADER..)?;
    let metric = attribute(details, libc::RTA_PRIORITY).and_then(|value| get_u32(value, 0)).unwrap_or(0);
    Some((destination(details, &header)?, table(body)?, metric, header.protocol.into()))
}

/// Where a route leads: by way of a gateway or not, out of the interface of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) struct Hop {
    pub(in crate::linux) index: u32,
    gateway: Option<IpAddr>,
    onlink: bool,
}

impl Hop {
    /// The same, once the interface has a name.
    pub(in crate::linux) fn target(self, link: &LinkName) -> RouteTarget {
        RouteTarget::Link { link: link.clone(), gateway: self.gateway, onlink: self.onlink }
    }
}

/// Where a route leads: to one place, or to several.
fn hops<'a>(body: &'a [u8], header: &RouteHeader) -> Option<impl Iterator<Item = Hop> + use<'a>> {
    let details = body.get(HEADER..)?;
    let several = attribute(details, libc::RTA_MULTIPATH).into_iter().flat_map(next_hops);
    let several = several.map(|hop| Hop {
        index: hop.index,
        gateway: gateway(hop.attributes),
        onlink: hop.flags.contains(RouteFlags::Onlink),
    });
    let index = attribute(details, libc::RTA_OIF).and_then(|value| get_u32(value, 0));
    let onlink = header.flags.contains(RouteFlags::Onlink);
    let one = index.map(|index| Hop { index, gateway: gateway(details), onlink });
    Some(several.chain(one))
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
