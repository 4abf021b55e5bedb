//! Each peer's next hops, and what the tunnel needs for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{FdbEntry, LinkName, MacAddr, NeighbourEntry, NextHop, Plan, Resource, Via};

use super::numbers::{self, Purpose, Slot};
use super::{Facts, HERE, PROTOCOL, ground, name};
use crate::id::NodeId;
use crate::path::{self, Direct, Reach};
use crate::report::{Problem, Severity, Way};

/// How the packets to each peer's pods leave.
#[derive(Debug, Default)]
pub(super) struct Hops {
    peers: BTreeMap<NodeId, Hop>,
    next_hops: Vec<NextHop>,
    neighbours: BTreeMap<(LinkName, IpAddr), MacAddr>,
    fdb: BTreeMap<(LinkName, MacAddr), IpAddr>,
    /// Subnets that are tried to be reached by a plain route, and by which next hop.
    pub(super) trials: Vec<(IpNet, u32)>,
    /// Nodes' own addresses that are probed through the tunnel, and by which next hop.
    pub(super) outside: Vec<(IpAddr, u32)>,
}

/// One peer's.
#[derive(Debug, Clone, Copy, Default)]
struct Hop {
    v4: Option<Exit>,
    v6: Option<Exit>,
}

/// A next hop object, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) next_hop: u32,
    pub(super) mtu: u32,
}

impl Hops {
    pub(super) fn of(facts: &Facts<'_>, problems: &mut Vec<Problem>) -> Self {
        let slots = numbers::slots(facts.reaches.keys());
        let families: Vec<bool> = facts.families().collect();
        let mut hops = Self::default();
        let twins = twins(facts, problems);
        let tunnels = ground::tunnels(facts);
        for (id, reach) in facts.reaches {
            let Some(slot) = slots.get(id) else { continue };
            let tunnels: &[bool] = if twins.contains(id) { &[] } else { &tunnels };
            let mut peer = Weaver { facts, id, slot: *slot, reach, tunnels, hops: &mut hops };
            let hop = |ipv6: bool, peer: &mut Weaver<'_, '_>| {
                families.contains(&ipv6).then(|| peer.exit(ipv6)).flatten()
            };
            let found = Hop { v4: hop(false, &mut peer), v6: hop(true, &mut peer) };
            peer.probes();
            hops.peers.insert(*id, found);
        }
        hops
    }

    /// The way of packets of a family to a peer's pods.
    pub(super) fn to(&self, facts: &Facts<'_>, id: &NodeId, ipv6: bool) -> Option<Exit> {
        let reach = facts.reaches.get(id)?;
        let nearest = match reach.way {
            Way::Router { router } => self.peers.get(&router)?,
            _ => self.peers.get(id)?,
        };
        if ipv6 { nearest.v6 } else { nearest.v4 }
    }

    /// Whoever is next is made before whoever sends to him.
    pub(super) fn plan(&self, plan: &mut Plan) {
        for ((link, mac), remote) in &self.fdb {
            plan.own(HERE, Resource::Fdb(FdbEntry { link: link.clone(), mac: *mac, remote: *remote }));
        }
        for ((link, address), mac) in &self.neighbours {
            let entry =
                NeighbourEntry { link: link.clone(), address: *address, mac: *mac, protocol: PROTOCOL };
            plan.own(HERE, Resource::Neighbour(entry));
        }
        for next_hop in &self.next_hops {
            plan.own(HERE, Resource::NextHop(next_hop.clone()));
        }
    }
}

/// What is woven for one peer.
struct Weaver<'a, 'b> {
    facts: &'a Facts<'a>,
    id: &'a NodeId,
    slot: Slot,
    reach: &'a Reach,
    /// The families that its tunnel may go over: none if another node has its MAC address.
    tunnels: &'a [bool],
    hops: &'b mut Hops,
}

impl Weaver<'_, '_> {
    fn exit(&mut self, ipv6: bool) -> Option<Exit> {
        let purpose = if ipv6 { Purpose::V6 } else { Purpose::V4 };
        let (via, mtu) = match self.reach.way {
            Way::Vxlan { remote } => (self.through_tunnel(remote, ipv6)?, self.reach.mtu),
            Way::Route { .. } => match self.reach.direct.of(ipv6) {
                Some(via) => (straight(via), self.reach.mtu),
                // No address of that family on the segment.
                None => {
                    let (remote, mtu) = self.reach.tunnel?;
                    (self.through_tunnel(remote, ipv6)?, mtu.min(self.reach.mtu))
                }
            },
            Way::Router { .. } | Way::None => return None,
        };
        Some(Exit { next_hop: self.next_hop(purpose, via), mtu })
    }

    /// What probes alone take.
    fn probes(&mut self) {
        if let Some(path::Trial { to, by }) = &self.reach.trial
            && let Some(via) = Direct::of(by, to.is_ipv6())
            && let Some(subnet) = self
                .facts
                .topology
                .get(self.id)
                .and_then(|peer| peer.node.held().find(|subnet| subnet.contains(to)))
        {
            let next_hop = self.next_hop(Purpose::Trial, straight(via));
            self.hops.trials.push((subnet, next_hop));
        }
        if let Some(to) = self.reach.outside
            && let Way::Vxlan { remote } = self.reach.way
            && let Some(via) = self.through_tunnel(remote, to.is_ipv6())
        {
            let next_hop = self.next_hop(Purpose::Outside, via);
            self.hops.outside.push((to, next_hop));
        }
    }

    fn next_hop(&mut self, purpose: Purpose, via: Via) -> u32 {
        let id = self.slot.next_hop(purpose);
        self.hops.next_hops.push(NextHop { id, via, protocol: PROTOCOL });
        id
    }

    fn through_tunnel(&mut self, remote: IpAddr, ipv6: bool) -> Option<Via> {
        if !self.tunnels.contains(&remote.is_ipv6()) {
            return None;
        }
        let link = ground::tunnel_link(self.facts.settings, remote.is_ipv6())?;
        let (address, mac) = (self.slot.gateway(ipv6), self.id.tunnel_mac());
        self.hops.neighbours.insert((link.clone(), address), mac);
        self.hops.fdb.insert((link.clone(), mac), remote);
        Some(Via::Gateway { address, link, onlink: true })
    }
}

fn straight(via: &path::Via) -> Via {
    Via::Gateway { address: via.address, link: via.link.clone(), onlink: false }
}

/// Peers whose tunnel's MAC address another node has too, this one or one with a lower id: frames for it would reach that one.
fn twins(facts: &Facts<'_>, problems: &mut Vec<Problem>) -> BTreeSet<NodeId> {
    let mut seen = BTreeMap::from([(facts.own.id.tunnel_mac(), facts.own.id)]);
    let mut twins = BTreeSet::new();
    for id in facts.reaches.keys() {
        if let Some(first) = seen.get(&id.tunnel_mac()) {
            twins.insert(*id);
            let (one, other) = (name(facts, first), name(facts, id));
            problems.push(Problem {
                severity: Severity::Error,
                what: format!(
                    "nodes {one} and {other} have one MAC address ({}): no tunnel to {other}",
                    id.tunnel_mac()
                ),
                advice: format!(
                    "remove the file with the id of {other}'s agent, and restart that: it makes a new one"
                ),
            });
        } else {
            seen.insert(id.tunnel_mac(), *id);
        }
    }
    twins
}
