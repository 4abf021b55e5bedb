//! Pods of one subnet on several nodes, after a conflict: each asks its own segment for the others, and the node answers for them.
//!
//! For IPv4 one setting does that (`proxy_arp`): the node answers for whatever it has a route to elsewhere. For IPv6 there is none
//! but for single addresses (`proxy_ndp` and what it is to answer for).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{NeighbourProxy, Plan, Resource, Sysctl, SysctlKey};

use super::owners::Owners;
use super::{Facts, HERE, PROTOCOL};
use crate::id::NodeId;
use crate::node::SubnetState;
use crate::pod::Pod;

/// Pods ask the segment for whatever is in their own subnet. Where some of that is on another node, this one answers for it.
pub(super) fn plan(plan: &mut Plan, facts: &Facts<'_>, owners: &Owners) {
    let scattered = is_scattered(facts, owners);
    let bridge = &facts.settings.bridge;
    let mut set = |key, value| {
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(key, value)));
    };
    for (family, has) in [("ipv4", true), ("ipv6", facts.has_family(true))] {
        if let (true, Ok(key)) = (has, SysctlKey::new(&format!("net/{family}/neigh/{bridge}/proxy_delay"))) {
            set(key, 0);
        }
    }
    set(SysctlKey::ipv4(bridge, "proxy_arp"), i32::from(scattered));
    if facts.has_family(true) {
        set(SysctlKey::ipv6(bridge, "proxy_ndp"), i32::from(scattered));
        if scattered {
            for address in elsewhere(facts, owners).into_iter().filter(IpAddr::is_ipv6) {
                let proxy = NeighbourProxy { link: bridge.clone(), address, protocol: PROTOCOL };
                plan.own(HERE, Resource::Proxy(proxy));
            }
        }
    }
}

/// Whether pods of one subnet are on this node and on another.
fn is_scattered(facts: &Facts<'_>, owners: &Owners) -> bool {
    let is_own = |id: Option<NodeId>| id == Some(facts.own.id);
    let strays = owners.strays.iter();
    let by_strays =
        strays.into_iter().any(|(address, owner)| is_own(Some(*owner)) || is_own(owners.by_subnet(*address)));
    by_strays
        || owners.subnets.iter().any(|(prefix, owner)| !is_own(Some(*owner)) && is_own(owners.around(prefix)))
}

/// The pods of other nodes that pods here take for neighbours.
fn elsewhere(facts: &Facts<'_>, owners: &Owners) -> BTreeSet<IpAddr> {
    let held = facts.own.held().filter(|net| facts.settings.pool.holds(net));
    let near: BTreeSet<IpNet> = held.chain(left(facts, owners)).collect();
    let here: BTreeSet<IpAddr> = facts.own.pods.iter().flat_map(Pod::addresses).copied().collect();
    let others = facts.topology.peers(&facts.own.id).flat_map(|peer| &peer.node.pods);
    let addresses = others.flat_map(Pod::addresses).copied();
    addresses
        .filter(|address| near.iter().any(|net| net.contains(address)) && !here.contains(address))
        .collect()
}

/// The subnets that stray pods of this node were given their addresses of: lost ones, or, if they are older than that, those that
/// there would be around them.
pub(super) fn left(facts: &Facts<'_>, owners: &Owners) -> BTreeSet<IpNet> {
    let lost = |address: &IpAddr| {
        let mut lost = facts.own.subnets.iter().filter(|subnet| subnet.state == SubnetState::Lost);
        lost.find(|subnet| subnet.prefix.contains(address)).map(|subnet| subnet.prefix)
    };
    let usual = |address: &IpAddr| {
        let range = facts.settings.pool.range_of(*address)?;
        IpNet::new(*address, range.subnet_length).ok()
    };
    let own_strays =
        owners.strays.iter().filter(|(_, owner)| **owner == facts.own.id).map(|(address, _)| *address);
    own_strays
        .filter_map(|address| lost(&address).or_else(|| usual(&address)))
        .map(|net| net.trunc())
        .collect()
}
