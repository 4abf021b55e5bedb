//! From the topology to what this node's kernel must hold: a [`netops::Plan`].
//!
//! ```text
//! Topology, own subnets and pods ─▶ owners      which prefix, and which single address, is whose
//! Reach of each peer             ─▶ hops        one next hop object for each peer and family
//!                                   routes      a destination, whose it is, by that one's next hop
//! Host                           ─▶ neighbours  what will be too many
//!                                   overlap     what is in the way
//!                                   scattered   pods of one subnet on several nodes
//!                                   ground      the bridge, the tunnel's interface, settings, packet filter
//! ```
//!
//! A peer that gets another address is one message to the kernel, by whatever number of routes it is reached: behind a tunnel
//! it is one FDB entry, on the segment one next hop. Only peers that are gone lose their routes; those that merely do not answer
//! keep them.
//!
//! All of it is a function of its arguments. Two nodes that know the same send each packet to the same node.

mod ground;
mod hops;
mod neighbours;
mod numbers;
mod overlap;
mod owners;
mod routes;
mod scattered;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{Address, LinkName, MacAddr, Place, Plan, Resource, Route, Scope};

pub use ground::{left as ground_left, pods_mtu, tunnel_links};
pub use numbers::{NEXT_HOPS, next_hop_of, peers_next_hop};

use crate::id::NodeId;
use crate::node::Node;
use crate::path::Reach;
use crate::pool::Pool;
use crate::report::{Problem, Severity};
use crate::topology::Topology;
use crate::underlay::Underlay;

/// What routes, next hops and neighbours of ours carry as their maker's number (`rtm_protocol`).
pub const PROTOCOL: u8 = 87;
/// The metric of our routes: whatever else leads to the same prefix with the kernel's own metric of IPv4 comes first, and
/// is told, instead of being replaced.
pub const METRIC: u32 = 87;
/// The metric of the route that drops what the cluster's range has no owner for: any other comes first.
pub const LAST_METRIC: u32 = u32::MAX - 87;

/// The metric of plain routes that are tried: the way that is taken comes first, but not for a probe that is bound to the
/// interface of this one. (A table of their own would take a rule, and where there is any, each packet that a node passes on is
/// looked up once more: `fib4_has_custom_rules()` in `fib_validate_source()`.)
pub const TRIAL_METRIC: u32 = METRIC + 1;
/// The probes that go through the tunnel to addresses which are reached outside of it otherwise.
pub const OUTSIDE: Lane = Lane { mark: 0x88, table: 8788 };

/// Routes for probes alone, and the rule that leads those there: made only where it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// What such a probe's packets are marked with (`SO_MARK`).
    pub mark: u32,
    /// The routing table that they are looked up in.
    pub table: u32,
}

/// What does not change while an agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The ranges of all nodes' pods.
    pub pool: Pool,
    /// The interface that pods are plugged into.
    pub bridge: LinkName,
    /// The tunnels' interface; the one over IPv6 has a `6` after that.
    pub tunnel: LinkName,
    /// What pods reach with addresses of their own besides the cluster's ranges; `None`: everything.
    pub masquerade_except: Option<Vec<IpNet>>,
}

/// What this node's kernel holds that is not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The bridge's MAC address, if there is a bridge: its pods know it.
    pub bridge_mac: Option<MacAddr>,
    /// The bridge's addresses.
    pub bridge_addresses: Vec<Address>,
    /// Routes of others in the main table.
    pub routes: Vec<Route>,
    /// Interfaces by which packets are let in only if what answers them leaves there, too (`rp_filter` is 1).
    pub strict: Vec<LinkName>,
    /// How many neighbours it finds by asking at most, of IPv4 and of IPv6 (`gc_thresh3`). It says so in its first network namespace
    /// only.
    pub neighbour_limits: [Option<u32>; 2],
    /// Interfaces that heed router advertisements as long as the node is no router itself (`accept_ra` is 1).
    pub advertised: Vec<LinkName>,
}

/// All that the plan follows from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What does not change.
    pub settings: &'a Settings,
    /// What this node says of itself.
    pub own: &'a Node,
    /// Who there is. What it says of this node does not count.
    pub topology: &'a Topology,
    /// How each peer is reached.
    pub reaches: &'a BTreeMap<NodeId, Reach>,
    /// How the nodes' own addresses are reached.
    pub underlay: &'a Underlay,
    /// What else the kernel holds.
    pub host: &'a Host,
}

/// What this node's kernel must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fabric {
    /// It.
    pub plan: Plan,
    /// What is ours, and goes where the plan does not have it.
    pub scope: Scope,
    /// What must go before the plan can be.
    pub stale: Vec<Resource>,
    /// What a person should know.
    pub problems: Vec<Problem>,
}

/// What this node's kernel must hold.
pub fn weave(facts: &Facts<'_>) -> Fabric {
    let mut plan = Plan::new();
    let (ranges, mut problems) = overlap::usable_ranges(facts);
    let owners = owners::Owners::of(facts.own, facts.topology, &facts.settings.pool);
    problems.extend(foreign_subnets(facts, &owners));

    ground::plan(&mut plan, facts, &owners);
    let hops = hops::Hops::of(facts, &mut problems);
    hops.plan(&mut plan);
    routes::plan(&mut plan, facts, &owners, &hops, &ranges);
    problems.extend(neighbours::scarce(facts));
    problems.extend(overlap::in_the_way(facts, &owners, &ranges));
    problems.sort();
    let stale = ground::stale_addresses(facts, &owners);
    Fabric { plan, scope: ground::scope(facts.settings), stale, problems }
}

/// What is left of a data plane: nothing. For a node that leaves the network.
pub fn unweave(settings: &Settings) -> (Plan, Scope) {
    (Plan::new(), ground::scope(settings))
}

/// The bridge's address in a subnet, which pods send to what is elsewhere: the first one that a host may have.
pub fn gateway(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(network) => IpAddr::V4((network.to_bits().saturating_add(1)).into()),
        IpAddr::V6(network) => IpAddr::V6((network.to_bits().saturating_add(1)).into()),
    }
}

/// Where the node is whose plan it is.
const HERE: Place = Place::Host;

fn foreign_subnets(facts: &Facts<'_>, owners: &owners::Owners) -> Vec<Problem> {
    let told = |(id, prefix): &(NodeId, IpNet)| Problem {
        severity: Severity::Error,
        what: format!(
            "node {} holds {prefix}, which is not in the cluster's range: nothing is routed there",
            name(facts, id)
        ),
        advice: "give all nodes the same cluster range".to_owned(),
    };
    owners.foreign.iter().map(told).collect()
}

/// What people call a node.
fn name(facts: &Facts<'_>, id: &NodeId) -> String {
    match facts.topology.get(id) {
        _ if *id == facts.own.id => facts.own.name.to_string(),
        Some(member) => member.node.name.to_string(),
        None => id.to_string(),
    }
}
