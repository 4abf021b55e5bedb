//! What must be so after every step.
//!
//! Each check costs what has changed, not what there is: a node's subnets are looked at when they change, a value when
//! somebody learns it (`gossip::Ledger`), and reasons only for prefixes that are in fact held twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ipnet::IpNet;
use overlay::{Subnet, SubnetState};

use crate::history::History;
use crate::machine::Traffic;

/// How long after the last reason for it two nodes may still hold one prefix: news of it have to get around, and a node that is
/// down for its neighbours has to be found again.
pub(crate) const RESOLVED: Duration = Duration::from_secs(60);
/// Windows in which traffic is counted.
const WINDOW: Duration = Duration::from_secs(10);
/// How often one looks whether those who hold one prefix still may.
const LOOK: Duration = Duration::from_secs(1);

/// What must be so after every step.
#[derive(Debug)]
pub struct Check {
    /// By where they begin, of those who run: what overlaps is near.
    holders: BTreeSet<(IpNet, usize)>,
    held: BTreeMap<usize, Vec<IpNet>>,
    /// Who holds overlapping prefixes, the lower number first.
    disputes: BTreeSet<(usize, usize)>,
    looked: Duration,
    pub(crate) history: History,
    /// Bytes of a node in a second, on average over ten, at most.
    pub limit: u64,
    windows: HashMap<usize, (Duration, u64)>,
    /// The most that was.
    pub most: u64,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            holders: BTreeSet::new(),
            held: BTreeMap::new(),
            disputes: BTreeSet::new(),
            looked: Duration::ZERO,
            history: History::default(),
            limit: 1_000_000,
            windows: HashMap::new(),
            most: 0,
        }
    }
}

impl Check {
    /// A node's subnets, if it runs: what it holds overlaps with nobody's, unless there is a reason.
    pub(crate) fn subnets(&mut self, n: usize, subnets: &[Subnet], now: Duration) {
        let held = subnets.iter().filter(|subnet| subnet.state == SubnetState::Held);
        let held: Vec<IpNet> = held.map(|subnet| subnet.prefix).collect();
        let before = self.held.get(&n).map_or(&[][..], Vec::as_slice);
        if before == held {
            return;
        }
        for prefix in before {
            self.holders.remove(&(*prefix, n));
        }
        self.disputes.retain(|(one, other)| *one != n && *other != n);
        for prefix in &held {
            let others: Vec<usize> = self.overlapping(prefix).collect();
            for other in others {
                self.disputes.insert((n.min(other), n.max(other)));
            }
            self.holders.insert((*prefix, n));
        }
        self.held.insert(n, held);
        self.disputes(now);
    }

    /// Two nodes have heard of one another.
    pub(crate) fn meet(&mut self, one: usize, other: usize, now: Duration) {
        let holds = |n: &usize| self.held.get(n).is_some_and(|held| !held.is_empty());
        self.history.meet(one, other, holds, now);
    }

    /// Who holds a prefix, a part of it, or one that it is a part of.
    fn overlapping<'a>(&'a self, prefix: &'a IpNet) -> impl Iterator<Item = usize> + 'a {
        let begins = |net: IpNet| self.holders.range((net, 0)..=(net, usize::MAX));
        let around = (0..=prefix.prefix_len()).filter_map(|length| IpNet::new(prefix.network(), length).ok());
        let around = around.map(|outer| outer.trunc()).flat_map(begins);
        // Prefixes are in the order of their addresses, then of their lengths.
        let last = IpNet::new(prefix.broadcast(), prefix.max_prefix_len()).unwrap_or(*prefix);
        let inside = self.holders.range((*prefix, usize::MAX)..=(last, usize::MAX));
        let inside = inside.filter(move |(inner, _)| prefix.contains(inner) && inner != prefix);
        around.chain(inside).map(|(_, n)| *n)
    }

    /// Those who hold overlapping prefixes may do so, still.
    fn disputes(&mut self, now: Duration) {
        self.looked = now;
        for (one, other) in &self.disputes {
            let why = self.history.why(*one, *other, now);
            assert!(
                why.is_some(),
                "n{one} holds {:?} and n{other} {:?} at {now:?}, for which there is no reason, or has not been for {RESOLVED:?}",
                self.held.get(one),
                self.held.get(other)
            );
        }
    }

    /// Who holds overlapping prefixes.
    pub fn disputed(&self) -> Vec<(usize, usize)> {
        self.disputes.iter().copied().collect()
    }

    /// What a node has sent until now.
    pub(crate) fn traffic(&mut self, n: usize, traffic: Traffic, now: Duration) {
        if !self.disputes.is_empty() && now >= self.looked + LOOK {
            self.disputes(now);
        }
        let window = self.windows.entry(n).or_insert((now, traffic.bytes));
        if now >= window.0 + WINDOW {
            let rate = traffic.bytes.saturating_sub(window.1) * 1000
                / u64::try_from((now - window.0).as_millis()).unwrap().max(1);
            assert!(rate <= self.limit, "node {n} sends {rate} bytes a second at {now:?}");
            self.most = self.most.max(rate);
            *window = (now, traffic.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(prefix: &str) -> Vec<Subnet> {
        vec![Subnet { prefix: prefix.parse().unwrap(), state: SubnetState::Held }]
    }

    #[test]
    fn what_overlaps_is_found_whichever_is_the_longer_one() {
        for (first, second, is_disputed) in [
            ("10.0.1.0/24", "10.0.1.0/24", true),
            ("10.0.1.0/24", "10.0.0.0/16", true),
            ("10.0.0.0/16", "10.0.1.0/24", true),
            ("10.0.0.0/16", "10.0.0.0/24", true),
            ("10.0.0.0/24", "10.0.0.0/16", true),
            ("10.0.0.0/24", "10.0.1.0/24", false),
            ("10.0.0.0/16", "10.1.0.0/16", false),
        ] {
            let mut check = Check::default();
            check.history.excuse(1, Duration::ZERO, "it is a test");
            check.subnets(0, &held(first), Duration::ZERO);
            check.subnets(1, &held(second), Duration::ZERO);
            assert_eq!(check.disputed().len(), usize::from(is_disputed), "{first} {second}");
            check.subnets(1, &[], Duration::ZERO);
            assert_eq!(check.disputed(), []);
        }
    }

    #[test]
    #[should_panic(expected = "for which there is no reason")]
    fn a_prefix_is_not_held_twice_without_a_reason() {
        let mut check = Check::default();
        check.subnets(0, &held("10.0.1.0/24"), Duration::ZERO);
        check.subnets(1, &held("10.0.1.0/24"), Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "has not been for")]
    fn nor_longer_than_it_takes_to_resolve_that() {
        let mut check = Check::default();
        check.history.starts(1, Duration::ZERO);
        check.history.excuse(1, Duration::ZERO, "it is a test");
        check.subnets(0, &held("10.0.1.0/24"), Duration::ZERO);
        check.subnets(1, &held("10.0.1.0/24"), Duration::ZERO);
        check.traffic(5, Traffic::default(), RESOLVED + LOOK);
    }
}
