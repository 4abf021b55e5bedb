//! Routes of others in the cluster's range.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netops::{LinkName, Route, RouteTarget};

use super::owners::Owners;
use super::{Facts, name};
use crate::report::{Problem, Severity};

/// The cluster's ranges in which something may be routed: those that the nodes' own network is not in.
pub(super) fn usable_ranges(facts: &Facts<'_>) -> (Vec<IpNet>, Vec<Problem>) {
    let (mut usable, mut problems) = (Vec::new(), Vec::new());
    let families: Vec<bool> = facts.families().collect();
    for range in facts.settings.pool.ranges().iter().map(|range| range.cluster) {
        if !families.contains(&super::routes::is_ipv6(&range)) {
            problems.push(Problem {
                severity: Severity::Error,
                what: format!("this kernel has no IPv6: no pod reaches another in {range}"),
                advice: "switch IPv6 on (the kernel's parameter ipv6.disable), or do without that range"
                    .to_owned(),
            });
            continue;
        }
        match obstacle(facts, &range) {
            None => usable.push(range),
            Some(obstacle) => problems.push(Problem {
                severity: Severity::Error,
                what: format!(
                    "the cluster's range {range} overlaps {obstacle}, by which this node reaches the others: no pod is \
                     reached in it"
                ),
                advice: "choose a range for the cluster that no network of the nodes overlaps".to_owned(),
            }),
        }
    }
    (usable, problems)
}

/// What of the nodes' own network is in a range: routes to pods would lead away what nodes send one another.
fn obstacle(facts: &Facts<'_>, range: &IpNet) -> Option<String> {
    let own = facts.underlay.addresses.iter().find(|address| range.contains(*address));
    let below: BTreeSet<&LinkName> = facts.underlay.hops.values().map(|hop| &hop.link).collect();
    let is_segment = |route: &&Route| {
        let on = match &route.target {
            RouteTarget::Link { link, gateway: None, .. } => Some(link),
            _ => None,
        };
        on.is_some_and(|link| below.contains(link)) && overlap(&route.destination, range)
    };
    let segment = facts.host.routes.iter().find(is_segment);
    segment.map(ToString::to_string).or_else(|| own.map(|address| format!("the node's address {address}")))
}

/// Routes that take away packets which are another node's pods'.
pub(super) fn in_the_way(facts: &Facts<'_>, owners: &Owners, ranges: &[IpNet]) -> Vec<Problem> {
    let inside = |route: &&Route| ranges.iter().any(|range| range.contains(&route.destination));
    let told = |route: &Route| {
        let owners = owners.subnets.iter();
        let mut whose = owners.filter(|(prefix, _)| overlap(prefix, &route.destination)).map(|(_, id)| id);
        let whose = whose.find(|id| **id != facts.own.id)?;
        Some(Problem {
            severity: Severity::Error,
            what: format!(
                "{route}, which is not ours, takes packets that are for pods of node {}",
                name(facts, whose)
            ),
            advice: "remove it, or choose another range for the cluster".to_owned(),
        })
    };
    facts.host.routes.iter().filter(inside).filter_map(told).collect()
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
