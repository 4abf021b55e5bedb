//! Looking at routes: lists of them, and the one that a packet takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::LinkName;
use crate::resource::{MAIN_TABLE, Route, RouteTarget, Selector, Via};

use super::namespace::Namespace;
use super::overlay;
use super::routes::is_reached_locally;

/// The routes out of a link.
pub(super) fn list(namespace: &Namespace, name: &LinkName) -> Vec<Route> {
    let Ok(link) = namespace.index(name) else { return Vec::new() };
    let leaves = namespace.routes.iter().filter(|entry| entry.link == Some(link));
    leaves
        .map(|entry| Route { target: shown(namespace, &entry.route, name), ..entry.route.clone() })
        .collect()
}

/// Where a route leads, as it is shown to who asks for those of an interface.
fn shown(namespace: &Namespace, route: &Route, link: &LinkName) -> RouteTarget {
    let RouteTarget::NextHop(id) = route.target else { return route.target.clone() };
    let hop = overlay::hops(namespace, |hop| hop.id == id).pop();
    let (gateway, onlink) = match hop.map(|hop| hop.via) {
        Some(Via::Gateway { address, onlink, .. }) => (Some(address), onlink),
        _ => (None, false),
    };
    RouteTarget::Link { link: link.clone(), gateway, onlink }
}

/// The routes that carry a protocol's number, and are in a table.
pub(super) fn list_of(namespace: &Namespace, protocol: Option<u8>, table: Option<u32>) -> Vec<Route> {
    let wanted = |route: &&Route| {
        protocol.is_none_or(|protocol| route.protocol() == protocol)
            && table.is_none_or(|table| route.table() == table)
    };
    namespace.routes.iter().map(|entry| &entry.route).filter(wanted).cloned().collect()
}

/// The route to an address for what the namespace itself sends without a mark: the best of the first table that has one,
/// of those that the rules name in their order.
pub(super) fn best(namespace: &Namespace, from: Option<IpAddr>, to: IpAddr) -> Option<&Route> {
    let of_source = |selector: Selector| match selector {
        Selector::From(prefix) => {
            // Who has no source yet has the address of nobody.
            let nobody =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            prefix.addr().is_ipv4() == to.is_ipv4() && prefix.contains(&from.unwrap_or(nobody))
        }
        Selector::Mark { .. } => false,
    };
    let rules = namespace.rules.iter().filter(|rule| of_source(rule.selector));
    rules.filter_map(|rule| best_of(namespace, rule.table, to)).next()
}

/// The best route of a table to an address.
fn best_of(namespace: &Namespace, table: u32, address: IpAddr) -> Option<&Route> {
    let reaches = |route: &&Route| route.table() == table && route.destination.contains(&address);
    let rank = |route: &&Route| {
        (route.destination.prefix_len(), std::cmp::Reverse(route.metric.unwrap_or_default()))
    };
    // Of equals the first.
    namespace.routes.iter().rev().map(|entry| &entry.route).filter(reaches).max_by_key(rank)
}

/// Whether an address is the namespace's own.
pub(super) fn is_local(namespace: &Namespace, address: IpAddr) -> bool {
    namespace
        .links
        .values()
        .any(|link| link.up && link.addresses.iter().any(|held| is_reached_locally(held.net, address)))
}

/// The default routes of the main table, the one that is taken first.
pub(super) fn defaults(namespace: &Namespace) -> Vec<Route> {
    let routes = namespace.routes.iter().map(|entry| &entry.route);
    let mut found: Vec<_> = routes
        .filter(|route| {
            route.destination.prefix_len() == 0 && route.table.is_none_or(|table| table == MAIN_TABLE)
        })
        .cloned()
        .collect();
    found.sort_by_key(|route| (route.destination.addr().is_ipv6(), route.metric.unwrap_or(0)));
    found
}

/// The link that an address is on: that of the best route, if it needs no gateway, and the address is nobody's here.
pub(super) fn link_to(namespace: &Namespace, address: IpAddr) -> Option<u32> {
    let best = best(namespace, None, address).filter(|_| !is_local(namespace, address))?;
    let link = best.link().filter(|_| best.gateway().is_none())?;
    namespace.index(link).ok()
}
