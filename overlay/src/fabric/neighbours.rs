//! How many neighbours the kernel may find by asking, and how many there will be.

use super::Facts;
use crate::pod::Pod;
use crate::report::{Problem, Severity};

/// Limits that are nearly reached. One number is for all network namespaces of a kernel, pods' included (`gc_thresh3`, arp(7)); above
/// it, new neighbours are refused, and packets to them with that. Those that were told, as ours in tunnels are, do not count.
pub(super) fn scarce(facts: &Facts<'_>) -> Vec<Problem> {
    let told = |ipv6: bool| {
        let limit = facts.host.neighbour_limits[usize::from(ipv6)]?;
        let needed = needed(facts, ipv6);
        // The kernel begins to forget before that, and there are others than ours.
        (needed.saturating_mul(4) > limit.saturating_mul(3)).then(|| {
            let family = if ipv6 { "ipv6" } else { "ipv4" };
            let room = needed.saturating_mul(2).max(limit).checked_next_power_of_two().unwrap_or(u32::MAX);
            Problem {
                severity: Severity::Warning,
                what: format!(
                    "this node and its pods need some {needed} neighbours of {family}, and the kernel keeps {limit} at most \
                     (gc_thresh3): packets to the others will be lost"
                ),
                advice: format!(
                    "sysctl -w net.{family}.neigh.default.gc_thresh3={room} net.{family}.neigh.default.gc_thresh2={}, and the \
                     same in /etc/sysctl.d",
                    room / 2
                ),
            }
        })
    };
    [false, true].into_iter().filter_map(told).collect()
}

/// Nodes on the segment, and for each pod two: the node knows it, and it the node.
fn needed(facts: &Facts<'_>, ipv6: bool) -> u32 {
    let hops = &facts.underlay.hops;
    let on_segment = facts.topology.peers(&facts.own.id).filter(|peer| {
        let addresses = peer.node.addresses.iter().filter(|address| address.is_ipv6() == ipv6);
        addresses.into_iter().any(|address| hops.get(address).is_some_and(|hop| hop.on_segment))
    });
    let pods = facts.own.pods.iter().flat_map(Pod::addresses);
    let pods = pods.filter(|address| address.is_ipv6() == ipv6);
    u32::try_from(on_segment.count() + 2 * pods.count()).unwrap_or(u32::MAX)
}
