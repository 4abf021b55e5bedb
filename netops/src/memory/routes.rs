//! The rules of routes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Errno;
use crate::kernel::Created;
use crate::resource::{BOOT, MAIN_TABLE, Route, RouteTarget, V6_METRIC};

use super::addresses::Held;
use super::machine::Problem;
use super::namespace::{Interface, Namespace};
use super::overlay::{self, InPlace};
use super::{refused, sysctls};

/// `RTPROT_KERNEL`: a route that came with an address, and goes with it.
pub(super) const KERNEL: u8 = 2;
/// `RT_SCOPE_UNIVERSE`.
const UNIVERSE: u8 = 0;
/// `RT_SCOPE_LINK`.
const LINK: u8 = 253;
/// `IP6_RT_PRIO_ADDRCONF`: the metric of one that came with an address.
const V6_CONNECTED_METRIC: u32 = 256;

/// A route in a table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) route: Route,
    /// The index of the interface that it leaves by, if it leads anywhere.
    pub(super) link: Option<u32>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Adds a route, as `RTM_NEWROUTE` with `NLM_F_CREATE` alone: beside another to the same destination, unless it is the
/// same.
pub(super) fn add(namespace: &mut Namespace, wanted: &Route) -> Result<Created, Problem> {
    let entry = checked(namespace, wanted)?;
    let same = |other: &Entry| match family_of(wanted.destination) {
        Family::V4 => other.route == entry.route,
        Family::V6 => other.link == entry.link && same_hop(&other.route, &entry.route),
    };
    if namespace.routes.iter().any(same) {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    insert(namespace, entry);
    Ok(Created::New)
}

/// Adds a route where there is none to its destination with its metric, or in place of one that there is.
pub(super) fn put(namespace: &mut Namespace, wanted: &Route, in_place: InPlace) -> Result<Created, Problem> {
    let entry = checked(namespace, wanted)?;
    let place = |route: &Route| (route.destination, route.table(), route.metric());
    let same = |other: &&Entry| place(&other.route) == place(&entry.route);
    let is_v4 = family_of(entry.route.destination) == Family::V4;
    // The kernel replaces the first. That there is just this one behind it is as if nothing was to be replaced.
    let behind = namespace.routes.iter().filter(same).skip(1).any(|other| other.route == entry.route);
    if is_v4 && behind {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    let there = namespace.routes.iter_mut().find(|other| place(&other.route) == place(&entry.route));
    match (there, in_place) {
        (Some(_), InPlace::Refuse) => return Err(Problem::Refused(Errno::EEXIST, None)),
        (Some(there), InPlace::Replace) => *there = entry,
        (None, _) => insert(namespace, entry),
    }
    Ok(Created::New)
}

fn insert(namespace: &mut Namespace, entry: Entry) {
    match family_of(entry.route.destination) {
        Family::V4 => namespace.routes.insert(0, entry),
        Family::V6 => namespace.routes.push(entry),
    }
}

/// A route as the kernel keeps it, if it takes it.
fn checked(namespace: &Namespace, wanted: &Route) -> Result<Entry, Problem> {
    let family = family_of(wanted.destination);
    let link = match &wanted.target {
        RouteTarget::Link { link, .. } => Some(namespace.index(link)?),
        RouteTarget::NextHop(id) => overlay::link_of_hop(namespace, *id, family)?,
        RouteTarget::Blackhole | RouteTarget::Unreachable => None,
    };
    if wanted.gateway().is_some_and(|gateway| family_of(gateway.into()) != family) {
        return Err(Problem::Refused(Errno::EINVAL, None));
    }
    let route = normal(wanted);
    if let (RouteTarget::Link { .. }, Some(link)) = (&route.target, link) {
        can_send(namespace, link, &route)?;
    }
    if family == Family::V4 && route.source.is_some_and(|source| !is_local_v4(namespace, source)) {
        return Err(refused(Errno::EINVAL, "Invalid prefsrc address"));
    }
    Ok(Entry { route, link })
}

/// Whether the next hop of a route can be reached.
pub(super) fn can_send(namespace: &Namespace, link: u32, route: &Route) -> Result<(), Problem> {
    match family_of(route.destination) {
        Family::V4 => can_send_v4(namespace, link, route),
        Family::V6 => can_send_v6(namespace, link, route),
    }
}

/// Removes the first route that has all that is said. Whether there was one.
pub(super) fn remove(namespace: &mut Namespace, unwanted: &Route) -> bool {
    let link = match unwanted.link().map(|link| namespace.index(link)) {
        Some(Ok(link)) => Some(link),
        Some(Err(_)) => return false,
        None => None,
    };
    let is_v6 = family_of(unwanted.destination) == Family::V6;
    let leads_there = |entry: &Entry| match unwanted.target {
        // IPv6 looks neither at where one by a next hop leads, unless it is told by which, nor at what kind of nowhere it is.
        RouteTarget::NextHop(_) => entry.route.target == unwanted.target,
        _ if is_v6 && matches!(entry.route.target, RouteTarget::NextHop(_)) => true,
        RouteTarget::Link { .. } => entry.link == link,
        RouteTarget::Blackhole | RouteTarget::Unreachable => is_v6 || entry.route.target == unwanted.target,
    };
    let matches = |entry: &Entry| {
        let Entry { route, .. } = entry;
        leads_there(entry)
            && route.destination == unwanted.destination.trunc()
            && route.table() == unwanted.table()
            && unwanted.protocol.is_none_or(|maker| route.protocol() == maker)
            && unwanted.gateway().is_none_or(|gateway| route.gateway() == Some(gateway))
            && unwanted.metric.is_none_or(|metric| route.metric.unwrap_or(0) == metric)
            && unwanted.scope.is_none_or(|scope| route.scope == Some(scope))
            && unwanted.source.is_none_or(|source| route.source == Some(source))
    };
    match namespace.routes.iter().position(matches) {
        Some(at) => {
            namespace.routes.remove(at);
            true
        }
        None => false,
    }
}

/// Adds the route to an address's own prefix, if it has one.
pub(super) fn add_connected(namespace: &mut Namespace, index: u32, held: &Held) {
    let Some(link) = namespace.links.get(&index) else { return };
    let (scope, metric, source) = match held.net {
        _ if !held.prefix_route => return,
        // These go to the `local` table, which is not looked at here.
        IpNet::V4(_) if link.kind.is_loopback() => return,
        IpNet::V4(net) if held.secondary || net.prefix_len() == 32 || net.network().octets()[0] == 0 => {
            return;
        }
        IpNet::V4(net) => (LINK, None, Some(IpAddr::V4(net.addr()))),
        IpNet::V6(_) => (UNIVERSE, Some(V6_CONNECTED_METRIC), None),
    };
    let route = Route {
        scope: Some(scope),
        metric,
        source,
        protocol: Some(KERNEL),
        table: namespace.vrf_table(index),
        ..Route::new(held.net, None, link.name.clone())
    };
    let there = |entry: &Entry| entry.link == Some(index) && entry.route == route;
    if !namespace.routes.iter().any(there) {
        namespace.routes.push(Entry { route, link: Some(index) });
    }
}

/// Removes the route to an address's own prefix.
pub(super) fn remove_connected(namespace: &mut Namespace, index: u32, net: IpNet) {
    let table = namespace.vrf_table(index).unwrap_or(MAIN_TABLE);
    let came_with_it = |Entry { route, link }: &Entry| {
        *link == Some(index)
            && (route.protocol, route.table(), route.destination) == (Some(KERNEL), table, net.trunc())
    };
    namespace.routes.retain(|entry| !came_with_it(entry));
}

/// An address is no link's any more: no packet can have it as its source. IPv4's routes that say so go with it.
pub(super) fn forget_source(namespace: &mut Namespace, address: IpAddr) {
    if namespace.links.values().any(|link| link.addresses.iter().any(|held| held.net.addr() == address)) {
        return;
    }
    match family_of(address.into()) {
        Family::V4 => namespace.routes.retain(|entry| entry.route.source != Some(address)),
        Family::V6 => {
            for entry in namespace.routes.iter_mut().filter(|entry| entry.route.source == Some(address)) {
                entry.route.source = None;
            }
        }
    }
}

/// Removes all routes of a family out of a link.
pub(super) fn flush(namespace: &mut Namespace, index: u32, family: Family) {
    namespace
        .routes
        .retain(|entry| entry.link != Some(index) || family_of(entry.route.destination) != family);
}

/// The MTU of a link that has IPv6 has changed: routes that said no smaller one, or just what it was, say the new one
/// (`rt6_mtu_change_route()`).
pub(super) fn mtu_changed(namespace: &mut Namespace, index: u32, before: u32, now: u32) {
    let out_of_it = |entry: &&mut Entry| {
        let of_link = entry.link == Some(index) && matches!(entry.route.target, RouteTarget::Link { .. });
        of_link && family_of(entry.route.destination) == Family::V6
    };
    let mtus = namespace.routes.iter_mut().filter(out_of_it).filter_map(|entry| entry.route.mtu.as_mut());
    mtus.filter(|mtu| **mtu >= now || **mtu == before).for_each(|mtu| *mtu = now);
}

fn is_onlink(route: &Route) -> bool {
    matches!(route.target, RouteTarget::Link { onlink: true, .. })
}

/// What `fib_check_nh()` asks of a next hop.
fn can_send_v4(namespace: &Namespace, index: u32, route: &Route) -> Result<(), Problem> {
    let link = namespace.links.get(&index);
    let up = link.is_some_and(|link| link.up);
    let Some(gateway) = route.gateway() else {
        if link.is_some_and(|link| !sysctls::has_ipv4(&namespace.sysctls, &link.name)) {
            return Err(Problem::Refused(Errno::ENODEV, None));
        }
        return if up { Ok(()) } else { Err(refused(Errno::ENETDOWN, "Device for nexthop is not up")) };
    };
    let invalid = |errno| Err(refused(errno, "Nexthop has invalid gateway"));
    let scope = route.scope.unwrap_or(UNIVERSE);
    if is_onlink(route) {
        let unicast = namespace.had_ipv4
            && !gateway.is_multicast()
            && !is_local_v4(namespace, gateway)
            && !namespace.links.values().any(|link| is_broadcast(link, gateway));
        return match () {
            () if scope >= LINK => Err(refused(Errno::EINVAL, "Nexthop has invalid scope")),
            () if !up => Err(refused(Errno::ENETDOWN, "Nexthop device is not up")),
            () if !unicast => invalid(Errno::EINVAL),
            () => Ok(()),
        };
    }
    if link.is_some_and(|link| is_broadcast(link, gateway)) {
        return invalid(Errno::EINVAL);
    }
    // The `local` table's routes reach the link's own addresses, for what that is worth.
    let own =
        link.is_some_and(|link| link.addresses.iter().any(|held| is_reached_locally(held.net, gateway)));
    // A gateway must be reached by a narrower scope: without another gateway.
    let narrower = LINK.max(scope.saturating_add(1));
    let direct = namespace.routes.iter().any(|entry| {
        entry.link == Some(index)
            && entry.route.scope >= Some(narrower)
            && [MAIN_TABLE, route.table()].contains(&entry.route.table())
            && entry.route.destination.contains(&gateway)
    });
    match () {
        () if !direct && !own => invalid(Errno::ENETUNREACH),
        () if !up => Err(Problem::Refused(Errno::ENETDOWN, None)),
        () => Ok(()),
    }
}

/// What `fib6_nh_init()` and `ip6_route_info_create()` ask, in their order.
fn can_send_v6(namespace: &Namespace, index: u32, route: &Route) -> Result<(), Problem> {
    let Some(link) = namespace.links.get(&index) else { return Ok(()) };
    if !sysctls::has_ipv6(&namespace.sysctls, &link.name) {
        return Err(Problem::Refused(Errno::ENODEV, None));
    }
    if is_onlink(route) && !link.up {
        return Err(refused(Errno::ENETDOWN, "Nexthop device is not up"));
    }
    if let Some(gateway) = route.gateway() {
        can_be_gateway_v6(namespace, index, gateway, route)?;
    }
    if !sysctls::is_ipv6_enabled(&namespace.sysctls, &link.name) {
        return Err(refused(Errno::new(libc::EACCES), "IPv6 is disabled on nexthop device"));
    }
    if !link.up {
        return Err(refused(Errno::ENETDOWN, "Nexthop device is not up"));
    }
    // `ipv6_chk_addr()`: any link's will do.
    let held =
        |source| namespace.links.values().flat_map(|link| &link.addresses).any(|a| a.net.addr() == source);
    if route.source.is_some_and(|source| !held(source)) {
        return Err(refused(Errno::EINVAL, "Invalid source address"));
    }
    Ok(())
}

/// What `ip6_validate_gw()` asks.
fn can_be_gateway_v6(
    namespace: &Namespace,
    index: u32,
    gateway: IpAddr,
    route: &Route,
) -> Result<(), Problem> {
    let invalid = |why| Err(refused(Errno::EINVAL, why));
    let holds = |link: &Interface| link.addresses.iter().any(|held| held.net.addr() == gateway);
    if namespace.links.values().any(holds) {
        return invalid("Gateway can not be a local address");
    }
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    if !link_local {
        if gateway.is_multicast() || gateway.is_unspecified() {
            return invalid("Invalid gateway address");
        }
        if is_onlink(route) && is_elsewhere_v6(namespace, index, gateway) {
            return invalid("Nexthop has invalid gateway or device mismatch");
        }
        let direct =
            [route.table(), MAIN_TABLE].iter().any(|table| is_direct_v6(namespace, index, gateway, *table));
        if !is_onlink(route) && !direct {
            return Err(Problem::Refused(Errno::EHOSTUNREACH, None));
        }
    }
    if namespace.links.get(&index).is_some_and(|link| link.kind.is_loopback()) {
        return invalid("Egress device can not be loopback device for this route");
    }
    Ok(())
}

/// Whether the best route of a table to a gateway, out of one link, needs no other gateway.
fn is_direct_v6(namespace: &Namespace, index: u32, gateway: IpAddr, of_table: u32) -> bool {
    let reaches = |entry: &&Entry| {
        entry.link == Some(index)
            && entry.route.table() == of_table
            && entry.route.destination.contains(&gateway)
    };
    let rank = |entry: &&Entry| {
        let metric = std::cmp::Reverse(entry.route.metric.unwrap_or(V6_METRIC));
        (entry.route.destination.prefix_len(), metric)
    };
    namespace
        .routes
        .iter()
        .filter(reaches)
        .max_by_key(rank)
        .is_some_and(|best| best.route.gateway().is_none())
}

/// Whether the best routes to an address (but for default routes) are all out of other links.
fn is_elsewhere_v6(namespace: &Namespace, index: u32, address: IpAddr) -> bool {
    let reaches = |entry: &&Entry| {
        entry.route.table() == MAIN_TABLE
            && entry.route.destination.prefix_len() > 0
            && entry.route.destination.contains(&address)
    };
    let candidates = || namespace.routes.iter().filter(reaches);
    let longest = candidates().map(|entry| entry.route.destination.prefix_len()).max();
    let mut best =
        candidates().filter(|entry| Some(entry.route.destination.prefix_len()) == longest).peekable();
    best.peek().is_some() && best.all(|entry| entry.link != Some(index))
}

/// A route with what the kernel fills in.
fn normal(route: &Route) -> Route {
    let (metric, scope) = match (route.destination, &route.target) {
        (IpNet::V4(_), target) => {
            let direct = matches!(target, RouteTarget::Link { gateway: None, .. });
            let usual = if direct { LINK } else { UNIVERSE };
            (route.metric.filter(|metric| *metric != 0), route.scope.unwrap_or(usual))
        }
        (IpNet::V6(_), _) => {
            (Some(route.metric.filter(|metric| *metric != 0).unwrap_or(V6_METRIC)), UNIVERSE)
        }
    };
    Route {
        destination: route.destination.trunc(),
        metric,
        scope: Some(scope),
        table: route.table.filter(|table| *table != MAIN_TABLE),
        protocol: route.protocol.filter(|maker| *maker != BOOT),
        ..route.clone()
    }
}

/// What makes two IPv6 routes one (`rt6_duplicate_nexthop()`).
fn same_hop(a: &Route, b: &Route) -> bool {
    let nowhere = |route: &Route| matches!(route.target, RouteTarget::Blackhole | RouteTarget::Unreachable);
    (a.destination, a.metric, a.table()) == (b.destination, b.metric, b.table())
        && ((nowhere(a) && nowhere(b)) || a.target == b.target)
}

/// Whether an address is the namespace's own: any link's, and all of loopback's subnets while that is up.
fn is_local_v4(namespace: &Namespace, address: IpAddr) -> bool {
    namespace.links.values().any(|link| {
        let subnets = link.kind.is_loopback() && link.up;
        link.addresses
            .iter()
            .any(|held| held.net.addr() == address || (subnets && held.net.contains(&address)))
    })
}

/// Whether the `local` table has a route to an address for one of a link's own.
pub(super) fn is_reached_locally(held: IpNet, address: IpAddr) -> bool {
    held.addr() == address || (held.addr().is_loopback() && held.contains(&address))
}

/// Whether an address is the broadcast address of one of a link's subnets.
fn is_broadcast(link: &Interface, address: IpAddr) -> bool {
    link.up
        && link.addresses.iter().any(|held| match held.net {
            IpNet::V4(net) => net.prefix_len() < 31 && IpAddr::V4(net.broadcast()) == address,
            IpNet::V6(_) => false,
        })
}

pub(super) fn family_of(net: IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}
