//! The rules of next hops, neighbours and FDB entries, and of edits.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::error::Errno;
use crate::kernel::{Created, Edit};
use crate::lookup::{FoundRoute, NeighbourState, Reachability, RouteKind, RouteLookup};
use crate::name::{LinkName, MacAddr};
use crate::resource::{
    FdbEntry, IpVersion, LinkKind, NeighbourEntry, NeighbourProxy, NextHop, Resource, Route, RouteTarget,
    Via, Vxlan,
};

use super::machine::Problem;
use super::namespace::{Interface, Kind, Namespace};
use super::routes::{self, Family};
use super::{refused, sysctls, ways};

/// Next hops, neighbours and FDB entries of a namespace.
#[derive(Default)]
pub(super) struct Overlay {
    /// By number, with the index of the interface.
    hops: BTreeMap<u32, (NextHop, Option<u32>)>,
    /// By interface and address.
    neighbours: BTreeMap<(u32, IpAddr), (MacAddr, u8)>,
    /// By interface and address.
    proxies: BTreeMap<(u32, IpAddr), u8>,
    /// By interface and MAC address.
    fdb: BTreeMap<(u32, MacAddr), IpAddr>,
}

/// What is to become of what is in the place already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InPlace {
    /// `NLM_F_EXCL`.
    Refuse,
    /// `NLM_F_REPLACE`.
    Replace,
}

/// As [`crate::Kernel::edit`], for one edit.
pub(super) fn edit(namespace: &mut Namespace, edit: Edit<'_>) -> Result<(), Problem> {
    let in_place = if matches!(edit, Edit::Replace(_)) { InPlace::Replace } else { InPlace::Refuse };
    if let Edit::Remove(resource) = edit {
        match resource {
            Resource::NextHop(hop) => drop(remove_hop(namespace, hop.id)),
            Resource::Neighbour(neighbour) => drop(remove_neighbour(namespace, neighbour)),
            Resource::Proxy(proxy) => drop(remove_proxy(namespace, proxy)),
            Resource::Fdb(entry) => drop(remove_fdb(namespace, entry)),
            Resource::Route(route) => drop(routes::remove(namespace, route)),
            _ => return Err(refused(Errno::EOPNOTSUPP, "not one of many")),
        }
        return Ok(());
    }
    let made = match edit.resource() {
        Resource::NextHop(hop) => put_hop(namespace, hop, in_place),
        Resource::Neighbour(neighbour) => put_neighbour(namespace, neighbour, in_place),
        Resource::Proxy(proxy) => put_proxy(namespace, proxy),
        Resource::Fdb(entry) => put_fdb(namespace, entry, in_place),
        Resource::Route(route) => routes::put(namespace, route, in_place),
        _ => Err(refused(Errno::EOPNOTSUPP, "not one of many")),
    };
    made.map(drop)
}

pub(super) fn put_hop(
    namespace: &mut Namespace,
    hop: &NextHop,
    in_place: InPlace,
) -> Result<Created, Problem> {
    let index = hop.via.link().map(|link| namespace.index(link)).transpose()?;
    if hop.id == 0 {
        return Err(refused(Errno::EINVAL, "Can not replace a nexthop of id 0"));
    }
    can_send(namespace, hop, index)?;
    if in_place == InPlace::Refuse && namespace.overlay.hops.contains_key(&hop.id) {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    let takers =
        || namespace.routes.iter().filter(|entry| entry.route.target == RouteTarget::NextHop(hop.id));
    if hop.via.version() == IpVersion::V4
        && takers().any(|entry| routes::family_of(entry.route.destination) == Family::V6)
    {
        return Err(refused(Errno::EINVAL, "IPv6 routes can not use an IPv4 nexthop"));
    }
    namespace.overlay.hops.insert(hop.id, (hop.clone(), index));
    for entry in namespace.routes.iter_mut() {
        if entry.route.target == RouteTarget::NextHop(hop.id) {
            entry.link = index;
        }
    }
    Ok(Created::New)
}

/// As routes of the same version are asked for.
fn can_send(namespace: &Namespace, hop: &NextHop, index: Option<u32>) -> Result<(), Problem> {
    let is_up = |index| namespace.links.get(&index).is_some_and(|link| link.up);
    let Some(index) = index else {
        // Nowhere is out of the loopback interface.
        let up = namespace.links.values().any(|link| link.kind.is_loopback() && link.up);
        return if up { Ok(()) } else { Err(refused(Errno::ENETDOWN, "Device for nexthop is not up")) };
    };
    if !is_up(index) {
        return Err(refused(Errno::ENETDOWN, "Device for nexthop is not up"));
    }
    let Via::Gateway { address, link, .. } = &hop.via else { return Ok(()) };
    let onlink = matches!(hop.via, Via::Gateway { onlink: true, .. });
    let probe = Route::new((*address).into(), Some(*address), link.clone());
    routes::can_send(namespace, index, &if onlink { probe.onlink() } else { probe })
}

/// Removes a next hop and the routes that take it; whether it was there.
pub(super) fn remove_hop(namespace: &mut Namespace, id: u32) -> bool {
    let was_there = namespace.overlay.hops.remove(&id).is_some();
    namespace.routes.retain(|entry| entry.route.target != RouteTarget::NextHop(id));
    was_there
}

/// The interface that a route by a next hop leaves by.
pub(super) fn link_of_hop(namespace: &Namespace, id: u32, family: Family) -> Result<Option<u32>, Problem> {
    let Some((hop, index)) = namespace.overlay.hops.get(&id) else {
        return Err(refused(Errno::EINVAL, "Nexthop id does not exist"));
    };
    if family == Family::V6 && hop.via.version() == IpVersion::V4 {
        return Err(refused(Errno::EINVAL, "IPv6 routes can not use an IPv4 nexthop"));
    }
    Ok(*index)
}

pub(super) fn put_neighbour(
    namespace: &mut Namespace,
    neighbour: &NeighbourEntry,
    in_place: InPlace,
) -> Result<Created, Problem> {
    let index = namespace.index(&neighbour.link)?;
    if neighbour.address.is_ipv6() && !sysctls::is_ipv6_enabled(&namespace.sysctls, &neighbour.link) {
        return Err(Problem::Refused(Errno::EINVAL, None));
    }
    let key = (index, neighbour.address);
    if in_place == InPlace::Refuse && namespace.overlay.neighbours.contains_key(&key) {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    namespace.overlay.neighbours.insert(key, (neighbour.mac, neighbour.protocol));
    Ok(Created::New)
}

pub(super) fn remove_neighbour(namespace: &mut Namespace, neighbour: &NeighbourEntry) -> bool {
    let Ok(index) = namespace.index(&neighbour.link) else { return false };
    namespace.overlay.neighbours.remove(&(index, neighbour.address)).is_some()
}

/// One that is there is taken over.
pub(super) fn put_proxy(namespace: &mut Namespace, proxy: &NeighbourProxy) -> Result<Created, Problem> {
    let index = namespace.index(&proxy.link)?;
    if proxy.address.is_ipv6() && !sysctls::is_ipv6_enabled(&namespace.sysctls, &proxy.link) {
        return Err(Problem::Refused(Errno::ENOBUFS, None));
    }
    namespace.overlay.proxies.insert((index, proxy.address), proxy.protocol);
    Ok(Created::New)
}

pub(super) fn remove_proxy(namespace: &mut Namespace, proxy: &NeighbourProxy) -> bool {
    let Ok(index) = namespace.index(&proxy.link) else { return false };
    namespace.overlay.proxies.remove(&(index, proxy.address)).is_some()
}

pub(super) fn put_fdb(
    namespace: &mut Namespace,
    entry: &FdbEntry,
    in_place: InPlace,
) -> Result<Created, Problem> {
    let link = namespace.link(&entry.link).ok_or(Problem::Refused(Errno::ENODEV, None))?;
    let Kind::Tap(LinkKind::Vxlan(vxlan)) = &link.kind else {
        return Err(Problem::Refused(Errno::EOPNOTSUPP, None));
    };
    if entry.remote.is_ipv6() != vxlan.local.is_some_and(|local| local.is_ipv6()) {
        return Err(Problem::Refused(Errno::new(libc::EAFNOSUPPORT), None));
    }
    let key = (link.index, entry.mac);
    if in_place == InPlace::Refuse && namespace.overlay.fdb.contains_key(&key) {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    namespace.overlay.fdb.insert(key, entry.remote);
    Ok(Created::New)
}

pub(super) fn remove_fdb(namespace: &mut Namespace, entry: &FdbEntry) -> bool {
    let Ok(index) = namespace.index(&entry.link) else { return false };
    namespace.overlay.fdb.remove(&(index, entry.mac)).is_some()
}

/// An interface is down or gone: what led out of it is gone, and an interface that is gone has no tables.
pub(super) fn link_lost(namespace: &mut Namespace, index: u32, gone: bool) {
    let out_of_it = |(_, (_, link)): (&u32, &(NextHop, Option<u32>))| *link == Some(index);
    let lost: Vec<_> =
        namespace.overlay.hops.iter().filter(|entry| out_of_it(*entry)).map(|(id, _)| *id).collect();
    for id in lost {
        remove_hop(namespace, id);
    }
    namespace.overlay.neighbours.retain(|(link, _), _| *link != index);
    namespace.overlay.proxies.retain(|(link, _), _| *link != index);
    if gone {
        namespace.overlay.fdb.retain(|(link, _), _| *link != index);
    }
}

pub(super) fn hops(namespace: &Namespace, which: impl Fn(&NextHop) -> bool) -> Vec<NextHop> {
    namespace.overlay.hops.values().map(|(hop, _)| hop).filter(|hop| which(hop)).cloned().collect()
}

pub(super) fn neighbours(
    namespace: &Namespace,
    name: &LinkName,
    which: impl Fn(IpAddr) -> bool,
) -> Vec<NeighbourState> {
    let Ok(index) = namespace.index(name) else { return Vec::new() };
    let on_it = namespace.overlay.neighbours.iter().filter(|((link, at), _)| *link == index && which(*at));
    let state = |((_, address), (mac, protocol)): (&(u32, IpAddr), &(MacAddr, u8))| NeighbourState {
        link: name.clone(),
        address: *address,
        mac: Some(*mac),
        reachability: Reachability::Permanent,
        protocol: *protocol,
    };
    on_it.map(state).collect()
}

pub(super) fn proxies(namespace: &Namespace) -> Vec<NeighbourProxy> {
    let all = namespace.overlay.proxies.iter();
    let named = all.filter_map(|((index, address), protocol)| {
        let link = namespace.links.get(index)?.name.clone();
        Some(NeighbourProxy { link, address: *address, protocol: *protocol })
    });
    named.collect()
}

pub(super) fn fdb(namespace: &Namespace, name: &LinkName, which: impl Fn(MacAddr) -> bool) -> Vec<FdbEntry> {
    let Ok(index) = namespace.index(name) else { return Vec::new() };
    let of_it = namespace.overlay.fdb.iter().filter(|((link, mac), _)| *link == index && which(*mac));
    of_it.map(|((_, mac), remote)| FdbEntry { link: name.clone(), mac: *mac, remote: *remote }).collect()
}

/// The way of a packet, of which only the addresses are looked at.
pub(super) fn way(namespace: &Namespace, lookup: &RouteLookup) -> Option<FoundRoute> {
    if ways::is_local(namespace, lookup.to) {
        let mut way = FoundRoute::new(RouteKind::Local);
        way.link = Some(LinkName::loopback());
        way.table = super::rules::LOCAL_TABLE;
        return Some(way);
    }
    let route = ways::best(namespace, lookup.from, lookup.to)?;
    let hop = match route.target {
        RouteTarget::NextHop(id) => namespace.overlay.hops.get(&id).map(|(hop, _)| &hop.via),
        _ => None,
    };
    let kind = match (&route.target, hop) {
        (RouteTarget::Blackhole, _) | (_, Some(Via::Blackhole { .. })) => RouteKind::Blackhole,
        (RouteTarget::Unreachable, _) => RouteKind::Unreachable,
        _ => RouteKind::Unicast,
    };
    let gateway = match hop {
        Some(Via::Gateway { address, .. }) => Some(*address),
        _ => route.gateway(),
    };
    Some(FoundRoute {
        destination: Some(route.destination),
        table: route.table(),
        protocol: route.protocol(),
        next_hop: if let RouteTarget::NextHop(id) = route.target { Some(id) } else { None },
        gateway,
        link: hop.and_then(Via::link).or_else(|| route.link()).cloned(),
        source: route.source,
        mtu: route.mtu,
        ..FoundRoute::new(kind)
    })
}

/// A line for each thing.
pub(super) fn describe(namespace: &Namespace) -> Vec<String> {
    let name = |index: &u32| namespace.links.get(index).map_or("?", |link| link.name.as_str());
    let Overlay { hops, neighbours, proxies, fdb } = &namespace.overlay;
    let hops =
        hops.values().map(|(hop, _)| format!("next hop {} {} proto {}", hop.id, hop.via, hop.protocol));
    let neighbours = neighbours.iter().map(|((link, address), (mac, protocol))| {
        format!("neighbour {address} on \"{}\" mac {mac} proto {protocol}", name(link))
    });
    let fdb = fdb.iter().map(|((link, mac), remote)| format!("fdb of \"{}\" {mac} at {remote}", name(link)));
    let proxies = proxies.iter().map(|((link, address), protocol)| {
        format!("proxy for {address} on \"{}\" proto {protocol}", name(link))
    });
    hops.chain(neighbours).chain(proxies).chain(fdb).collect()
}

/// A tunnel has a socket, which no other may have.
pub(super) fn can_be_vxlan(namespace: &Namespace, wanted: &Vxlan) -> Result<(), Problem> {
    let same = |link: &Interface| match &link.kind {
        Kind::Tap(LinkKind::Vxlan(other)) => {
            let family = |local: Option<IpAddr>| local.is_some_and(|local| local.is_ipv6());
            (other.vni, other.port, family(other.local)) == (wanted.vni, wanted.port, family(wanted.local))
        }
        _ => false,
    };
    if namespace.links.values().any(same) {
        return Err(refused(Errno::EEXIST, "A VXLAN device with the specified VNI already exists"));
    }
    Ok(())
}
