//! What does not depend on any single peer: the bridge and its addresses, the tunnel's interfaces, settings, the packet filter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netops::{
    Address, DontFragment, Link, LinkKind, LinkName, MacAddr, OverlayRules, Plan, Resource, Scope, Sysctl,
    SysctlKey, Vxlan,
};

use super::owners::Owners;
use super::{Facts, HERE, NEXT_HOPS, OUTSIDE, PROTOCOL, Settings, gateway, scattered};
use crate::id::NodeId;
use crate::node::{Mode, Role};
use crate::path::tunnel_overhead;

impl Facts<'_> {
    /// The families of pods' addresses: of IPv6, whether a packet is.
    pub(super) fn families(&self) -> impl Iterator<Item = bool> + '_ {
        let ranges = self.settings.pool.ranges();
        let has = move |ipv6: bool| ranges.iter().any(|range| super::routes::is_ipv6(&range.cluster) == ipv6);
        [false, true].into_iter().filter(move |ipv6| has(*ipv6) && (!ipv6 || self.underlay.ipv6))
    }

    pub(super) fn has_family(&self, ipv6: bool) -> bool {
        self.families().any(|family| family == ipv6)
    }
}

/// The table of all packets that no rule leads elsewhere (`RT_TABLE_MAIN`).
const MAIN_TABLE: u32 = 254;

/// What is ours: whatever of it a plan does not have goes.
pub(super) fn scope(settings: &Settings) -> Scope {
    Scope {
        protocol: PROTOCOL,
        next_hops: NEXT_HOPS,
        links: tunnel_links(settings),
        tables: vec![MAIN_TABLE, OUTSIDE.table],
    }
}

pub(super) fn plan(plan: &mut Plan, facts: &Facts<'_>, owners: &Owners) {
    plan_forwarding(plan, facts);
    if facts.own.role == Role::Worker {
        plan_bridge(plan, facts, owners);
    }
    plan_packet_filter(plan, facts);
    for ipv6 in tunnels(facts) {
        plan_tunnel(plan, facts, ipv6);
    }
    plan_peers_ways_in(plan, facts);
}

/// The node passes on what it gets.
fn plan_forwarding(plan: &mut Plan, facts: &Facts<'_>) {
    // A router heeds no router advertisements, unless it is told to (`accept_ra` is 2): a node whose own addresses and routes
    // come by them would lose those.
    for link in &facts.host.advertised {
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(link, "accept_ra"), 2)));
    }
    if facts.has_family(false) {
        plan.own(HERE, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)));
        // What the node has learned of a path's MTU, pods are told. Without it only a route's own MTU counts.
        set(plan, "net/ipv4/ip_forward_use_pmtu", 1);
    }
    if facts.has_family(true) {
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6_forwarding(), 1)));
    }
    if facts.own.role == Role::Router {
        // What comes in by an interface and leaves by it again is how a router works here, and no detour.
        set(plan, "net/ipv4/conf/all/send_redirects", 0);
    }
}

/// The bridge that pods are plugged into, as the plugin makes it too; here already before the first pod, so that other nodes'
/// probes are answered.
fn plan_bridge(plan: &mut Plan, facts: &Facts<'_>, owners: &Owners) {
    let bridge = &facts.settings.bridge;
    plan.own(
        HERE,
        Resource::Link(Link {
            // Its pods know it: one that has an address keeps it.
            mac: Some(facts.host.bridge_mac.unwrap_or_else(|| bridge_mac(&facts.own.id))),
            ignore_router_advertisements: true,
            ..Link::new(bridge.clone(), LinkKind::Bridge { vlan_filtering: false })
        }),
    );
    if facts.has_family(true) {
        // While it looked for duplicates of its link-local address, packets from elsewhere would wait.
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(bridge, "accept_dad"), 0)));
    }
    plan.own(HERE, Resource::LinkUp(bridge.clone()));
    for net in gateways(facts, owners) {
        // Where the prefix is another's, or none, the address is there for pods that still send to it; the kernel's route to
        // the prefix would lead to the bridge what is elsewhere.
        let prefix_route = net.prefix_len() < net.max_prefix_len();
        plan.own(HERE, Resource::Address(Address { prefix_route, ..Address::new(bridge.clone(), net) }));
    }
    scattered::plan(plan, facts, owners);
}

/// The MAC address of a node's bridge, from its id: not the tunnel's.
fn bridge_mac(id: &NodeId) -> MacAddr {
    let [.., a, b, c, d, e] = *id.as_bytes();
    MacAddr::new([0x0a, a, b, c, d, e])
}

/// The bridge's addresses: in each subnet that is held with its prefix, in each that stray pods were given theirs of alone.
fn gateways(facts: &Facts<'_>, owners: &Owners) -> BTreeSet<IpNet> {
    let pool = &facts.settings.pool;
    let held = facts.own.held().filter(|net| pool.holds(net));
    let held: BTreeSet<IpNet> =
        held.filter_map(|net| IpNet::new(gateway(net), net.prefix_len()).ok()).collect();
    let left = scattered::left(facts, owners).into_iter().map(gateway);
    let left: BTreeSet<IpNet> =
        left.filter(|address| !held.iter().any(|net| net.addr() == *address)).map(IpNet::from).collect();
    held.into_iter().chain(left).collect()
}

/// Addresses that the bridge got from a subnet which is not held any more: with the prefix comes a route that would lead to the
/// bridge what is another node's. Those outside the cluster's range are not ours.
pub(super) fn stale_addresses(facts: &Facts<'_>, owners: &Owners) -> Vec<Resource> {
    let wanted = gateways(facts, owners);
    let is_stale = |address: &&Address| {
        let net = address.net;
        facts.settings.pool.range_of(net.addr()).is_some()
            && !wanted.contains(&net)
            && owners.by_subnet(net.addr()) != Some(facts.own.id)
    };
    facts.host.bridge_addresses.iter().filter(is_stale).cloned().map(Resource::Address).collect()
}

/// Pods appear to the world as their node, and to one another as they are; none speaks to the end of a tunnel.
fn plan_packet_filter(plan: &mut Plan, facts: &Facts<'_>) {
    let ranges = || facts.settings.pool.ranges().iter().map(|range| range.cluster);
    let has_pods = facts.own.role == Role::Worker;
    let exceptions = match &facts.settings.masquerade_except {
        Some(exceptions) if has_pods => ranges().chain(exceptions.iter().copied()).collect(),
        _ => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
    };
    plan.own(
        HERE,
        Resource::OverlayRules(OverlayRules {
            sources: ranges().collect(),
            exceptions,
            tunnel_port: facts.own.tunnel.map(|tunnel| tunnel.port),
            bridge: has_pods.then(|| facts.settings.bridge.clone()),
        }),
    );
}

/// The families that tunnels go over, of IPv6, whether: an interface is of one. That over IPv6 is there if a peer may send by it:
/// where nothing comes back over IPv4 it does so without asking, and this node's agent may be dead by then.
pub(super) fn tunnels(facts: &Facts<'_>) -> Vec<bool> {
    if facts.own.tunnel.is_none() {
        return Vec::new();
    }
    let v4 = facts.underlay.has(false) || !facts.underlay.has(true);
    let wanted = !v4 || facts.topology.peers(&facts.own.id).any(|peer| peer.node.address(true).is_some());
    let v6 = facts.underlay.ipv6 && facts.underlay.has(true) && wanted;
    [(false, v4), (true, v6)].into_iter().filter(|(_, is_there)| *is_there).map(|(ipv6, _)| ipv6).collect()
}

/// What is left of a data plane when nothing is routed any more, but for the bridge, which pods may be plugged into, and for
/// settings, which others may rely on.
pub fn left(settings: &Settings) -> Vec<Resource> {
    let tunnels =
        tunnel_links(settings).into_iter().map(|link| Resource::Link(Link::new(link, LinkKind::Any)));
    let rules = [false, true].map(|ipv6| Resource::Rule(super::routes::rule(OUTSIDE, ipv6)));
    tunnels.chain(rules).chain([Resource::OverlayRules(OverlayRules::default())]).collect()
}

/// The MTU in bytes of pods' interfaces that fits every way that may be taken. Only who was told to use plain routes has as
/// much as the nodes' own.
pub fn pods_mtu(mode: Mode, addresses: &[IpAddr], mtu: u32) -> u32 {
    let any = if addresses.iter().any(IpAddr::is_ipv4) {
        IpAddr::from([0_u8; 4])
    } else {
        IpAddr::from([0_u16; 8])
    };
    let overhead = if mode == Mode::Route { 0 } else { tunnel_overhead(any) };
    mtu.saturating_sub(overhead).max(1280)
}

/// The names of the tunnels' interfaces, whether they are needed or not.
pub fn tunnel_links(settings: &Settings) -> Vec<LinkName> {
    [false, true].into_iter().filter_map(|ipv6| tunnel_link(settings, ipv6)).collect()
}

/// The tunnels' interface over a family.
pub(super) fn tunnel_link(settings: &Settings, ipv6: bool) -> Option<LinkName> {
    match ipv6 {
        false => Some(settings.tunnel.clone()),
        true => LinkName::new(&format!("{}6", settings.tunnel)).ok(),
    }
}

fn plan_tunnel(plan: &mut Plan, facts: &Facts<'_>, ipv6: bool) {
    let Some((tunnel, link)) = facts.own.tunnel.zip(tunnel_link(facts.settings, ipv6)) else { return };
    let any = if ipv6 { IpAddr::from([0_u16; 8]) } else { IpAddr::from([0_u8; 4]) };
    let below = facts.underlay.hops.values().map(|hop| hop.mtu).max().unwrap_or(0).max(facts.own.mtu);
    plan.own(
        HERE,
        Resource::Link(Link {
            mtu: Some(below.saturating_sub(tunnel_overhead(any)).max(1280)),
            // What peers address: it follows from the id, whatever somebody else does to the interface.
            mac: Some(facts.own.id.tunnel_mac()),
            ignore_router_advertisements: true,
            ..Link::new(
                link.clone(),
                LinkKind::Vxlan(Vxlan {
                    vni: tunnel.vni,
                    port: tunnel.port,
                    // The source address is whatever the route to the peer says: it is right also after it has changed.
                    local: ipv6.then_some(any),
                    // A router between that cannot pass a packet on says so, instead of cutting it up.
                    dont_fragment: DontFragment::Set,
                }),
            )
        }),
    );
    if facts.has_family(true) {
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(&link, "disable_ipv6"), 0)));
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(&link, "accept_dad"), 0)));
    }
    plan.own(HERE, Resource::LinkUp(link));
}

/// A path may be a plain route in one direction and a tunnel in the other: neither interface may insist on packets' coming in
/// where their answers leave. (The stricter of `all` and the interface's own counts, and 2 is more than 1.)
fn plan_peers_ways_in(plan: &mut Plan, facts: &Facts<'_>) {
    for link in &facts.host.strict {
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv4(link, "rp_filter"), 2)));
        if facts.own.role == Role::Router {
            plan.own(HERE, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv4(link, "send_redirects"), 0)));
        }
    }
}

fn set(plan: &mut Plan, path: &str, value: u32) {
    if let Ok(key) = SysctlKey::new(path) {
        plan.own(HERE, Resource::Sysctl(Sysctl::optional(key, value)));
    }
}
