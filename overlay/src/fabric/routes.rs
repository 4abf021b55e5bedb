//! The routes: whose each destination is, by that one's next hop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netops::{IpVersion, Plan, Resource, Route, RouteTarget, Rule, Selector};

use super::hops::{Exit, Hops};
use super::owners::Owners;
use super::{Facts, HERE, LAST_METRIC, Lane, METRIC, OUTSIDE, PROTOCOL, TRIAL_METRIC};
use crate::id::NodeId;
use crate::node::{Mode, Role};
use crate::path;
use crate::report::Way;

/// Where the rules of probes are among others: before the one for the main table.
const RULE_PRIORITY: u32 = 8787;
/// What every IPv6 packet of that size must get through (RFC 8200).
const V6_LEAST: u32 = 1280;

pub(super) fn plan(plan: &mut Plan, facts: &Facts<'_>, owners: &Owners, hops: &Hops, ranges: &[IpNet]) {
    let usable = |destination: &IpNet| ranges.iter().any(|range| range.contains(destination));
    for range in ranges {
        if let Some(exit) = by_router(facts, hops, range) {
            plan.own(HERE, by(*range, exit));
        }
        // What nobody has must not leave by the default route.
        plan.own(HERE, to_nowhere(*range, LAST_METRIC, None));
    }
    for (destination, owner) in owners.destinations().filter(|(destination, _)| usable(destination)) {
        if owner == facts.own.id {
            // A subnet's route comes with the bridge's address in it.
            if destination.prefix_len() == destination.max_prefix_len() {
                plan.own(HERE, on_bridge(facts, destination));
            }
        } else if !is_covered(facts, owners, &destination, &owner)
            && let Some(exit) = hops.to(facts, &owner, is_ipv6(&destination))
        {
            plan.own(HERE, by(destination, exit));
        }
    }
    for ipv6 in facts.families() {
        lane(plan, OUTSIDE, &hops.outside, ipv6);
    }
    for (subnet, next_hop) in hops.trials.iter().filter(|(subnet, _)| usable(subnet)) {
        plan.own(HERE, to_try(*subnet, TRIAL_METRIC, *next_hop, None));
    }
}

/// A worker in mode `router` sends the whole range there.
fn by_router(facts: &Facts<'_>, hops: &Hops, range: &IpNet) -> Option<Exit> {
    if facts.own.mode != Mode::Router || facts.own.role != Role::Worker {
        return None;
    }
    hops.to(facts, &facts.topology.router()?.node.id, is_ipv6(range))
}

/// Whether the route of the whole range leads to a destination already: it is by the router, as that is, and no prefix in
/// between leads elsewhere.
fn is_covered(facts: &Facts<'_>, owners: &Owners, destination: &IpNet, owner: &NodeId) -> bool {
    let by_router = |id: &NodeId| {
        facts.reaches.get(id).is_some_and(|reach: &path::Reach| matches!(reach.way, Way::Router { .. }))
    };
    facts.own.mode == Mode::Router
        && by_router(owner)
        && owners.around(destination).is_none_or(|around| by_router(&around))
}

fn by(destination: IpNet, exit: Exit) -> Resource {
    let least = if is_ipv6(&destination) { V6_LEAST } else { 0 };
    Resource::Route(Route {
        metric: Some(METRIC),
        mtu: Some(exit.mtu.max(least)),
        protocol: Some(PROTOCOL),
        ..Route::to(destination, RouteTarget::NextHop(exit.next_hop))
    })
}

/// A pod of this node with an address that other routes would lead away.
fn on_bridge(facts: &Facts<'_>, destination: IpNet) -> Resource {
    Resource::Route(Route {
        metric: Some(METRIC),
        protocol: Some(PROTOCOL),
        ..Route::new(destination, None, facts.settings.bridge.clone())
    })
}

fn to_nowhere(destination: IpNet, metric: u32, table: Option<u32>) -> Resource {
    Resource::Route(Route {
        metric: Some(metric),
        protocol: Some(PROTOCOL),
        table,
        ..Route::to(destination, RouteTarget::Blackhole)
    })
}

/// Routes for probes alone. One that has none there must not be answered by another way.
fn lane(plan: &mut Plan, lane: Lane, probed: &[(IpAddr, u32)], ipv6: bool) {
    let mut probed = probed.iter().filter(|(address, _)| address.is_ipv6() == ipv6).peekable();
    if probed.peek().is_none() {
        return;
    }
    plan.own(HERE, to_nowhere(everything(ipv6), LAST_METRIC, Some(lane.table)));
    plan.own(HERE, Resource::Rule(rule(lane, ipv6)));
    for (address, next_hop) in probed {
        plan.own(HERE, to_try(IpNet::from(*address), METRIC, *next_hop, Some(lane.table)));
    }
}

/// A route that has no MTU of its own: what it carries is what is found out.
fn to_try(destination: IpNet, metric: u32, next_hop: u32, table: Option<u32>) -> Resource {
    Resource::Route(Route {
        metric: Some(metric),
        protocol: Some(PROTOCOL),
        table,
        ..Route::to(destination, RouteTarget::NextHop(next_hop))
    })
}

/// What leads probes there.
pub(super) fn rule(lane: Lane, ipv6: bool) -> Rule {
    let version = if ipv6 { IpVersion::V6 } else { IpVersion::V4 };
    let selector = Selector::Mark { mark: lane.mark, mask: u32::MAX, version };
    Rule { selector, table: lane.table, priority: Some(RULE_PRIORITY) }
}

fn everything(ipv6: bool) -> IpNet {
    if ipv6 {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))
    } else {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))
    }
}

pub(super) fn is_ipv6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}
