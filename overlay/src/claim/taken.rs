//! What is said of prefixes, by whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::claim::Time;
use crate::id::NodeId;
use crate::pool::Range;

/// What a node says of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stake {
    /// The prefix.
    pub(crate) prefix: IpNet,
    /// What of it.
    pub(crate) kind: StakeKind,
}

/// What a node says of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StakeKind {
    /// It would like to have it.
    Tentative,
    /// It is its own, by what its disk says. It was away, and has not yet heard whether somebody else holds it now: if so, it
    /// yields.
    Returning,
    /// It is its own.
    Held,
    /// It was its own; pods still have addresses of it.
    Lost,
    /// It was another node's, which this one has had forgotten a moment ago: packets for it may still be under way. Told for
    /// those who come later, and have not heard of that node.
    Freed,
}

impl StakeKind {
    /// Others have routes to it.
    pub(crate) fn is_held(self) -> bool {
        matches!(self, Self::Held | Self::Returning)
    }
}

/// What all other nodes say of prefixes. Follows with each change of one, at the cost of that one.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    by_node: HashMap<NodeId, Arc<[Stake]>>,
    /// By where they begin: what lies in a prefix is a range of it.
    by_place: BTreeSet<(IpAddr, u8, NodeId)>,
    /// How many there are of each family and length: nearly always one length. A prefix that contains another has one of them.
    lengths: BTreeMap<(bool, u8), usize>,
    /// How many stakes say that they are held, and how many that their owner has just come back.
    held: usize,
    returning: usize,
    /// What was a forgotten node's, and until when it stays unused.
    quarantine: BTreeMap<IpNet, Time>,
}

impl Taken {
    /// Of nobody.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What a node says from now on, instead of what it said before. Whether that is something else.
    pub(crate) fn set(&mut self, id: NodeId, stakes: impl Into<Arc<[Stake]>>) -> bool {
        let mut stakes = stakes.into();
        let before = self.by_node.get_mut(&id);
        if before.as_ref().map_or(stakes.is_empty(), |before| **before == stakes) {
            return false;
        }
        // Most often a prefix becomes what it was wanted for, and all are where they were.
        let prefixes = |stakes: &[Stake]| stakes.iter().map(|stake| stake.prefix).collect::<Vec<_>>();
        if let Some(before) = before.filter(|before| prefixes(before) == prefixes(&stakes)) {
            let before = std::mem::replace(before, Arc::clone(&stakes));
            self.count(&before, false);
            self.count(&stakes, true);
            return true;
        }
        let before = self.by_node.remove(&id).unwrap_or_default();
        self.count(&before, false);
        for stake in before.iter() {
            self.by_place.remove(&place(&stake.prefix, id));
            let length = (stake.prefix.addr().is_ipv6(), stake.prefix.prefix_len());
            if let Some(count) = self.lengths.get_mut(&length) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&length);
                }
            }
        }
        // A prefix is said one thing of.
        let mut seen = Vec::with_capacity(stakes.len());
        for stake in stakes.iter() {
            if self.by_place.insert(place(&stake.prefix, id)) {
                *self
                    .lengths
                    .entry((stake.prefix.addr().is_ipv6(), stake.prefix.prefix_len()))
                    .or_default() += 1;
                seen.push(*stake);
            }
        }
        if seen.len() < stakes.len() {
            stakes = seen.into();
        }
        self.count(&stakes, true);
        if !stakes.is_empty() {
            self.by_node.insert(id, stakes);
        }
        true
    }

    fn count(&mut self, stakes: &[Stake], are_new: bool) {
        for (kind, count) in [(StakeKind::Held, &mut self.held), (StakeKind::Returning, &mut self.returning)]
        {
            let some = stakes.iter().filter(|stake| stake.kind == kind).count();
            *count = if are_new { *count + some } else { *count - some };
        }
    }

    /// Somebody holds something for good.
    pub(crate) fn is_settled(&self) -> bool {
        self.held > 0
    }

    /// A node does.
    pub(crate) fn is_settled_by(&self, id: &NodeId) -> bool {
        self.of(id).iter().any(|stake| stake.kind == StakeKind::Held)
    }

    /// All that is known to be held is of nodes that have just come back: they may not have met those who were there all the
    /// time.
    pub(crate) fn is_hearsay(&self) -> bool {
        self.held == 0 && self.returning > 0
    }

    /// A node is gone for good; what it held stays unused until a time.
    pub(crate) fn forget(&mut self, id: &NodeId, until: Time) -> Vec<IpNet> {
        let held = self.of(id).iter().filter(|stake| stake.kind.is_held() || stake.kind == StakeKind::Lost);
        let freed: Vec<IpNet> = held.map(|stake| stake.prefix).collect();
        self.quarantine.extend(freed.iter().map(|prefix| (*prefix, until)));
        self.set(*id, Vec::new());
        freed
    }

    /// Ends what is over of quarantines.
    pub(crate) fn advance(&mut self, now: Time) {
        self.quarantine.retain(|_, until| *until > now);
    }

    /// What a node says.
    pub(crate) fn of(&self, id: &NodeId) -> &[Stake] {
        self.by_node.get(id).map_or(&[], |stakes| stakes)
    }

    /// As [`of`](Self::of), to be held by others too.
    pub(crate) fn shared(&self, id: &NodeId) -> Arc<[Stake]> {
        self.by_node.get(id).cloned().unwrap_or_default()
    }

    /// What is said of a prefix, of a part of it, or of one that it is a part of.
    pub(crate) fn overlapping<'a>(&'a self, prefix: &'a IpNet) -> impl Iterator<Item = (NodeId, Stake)> + 'a {
        let inside =
            self.by_place.range((prefix.network(), 0, NodeId::MIN)..=(prefix.broadcast(), 128, NodeId::MAX));
        // What begins where the prefix begins may contain it: it comes in this way, and must not in the other.
        let inside = inside.filter(|(_, length, _)| *length >= prefix.prefix_len());
        let family = prefix.addr().is_ipv6();
        let shorter = self.lengths.range((family, 0)..(family, prefix.prefix_len()));
        let around = shorter.filter_map(|((_, length), _)| IpNet::new(prefix.network(), *length).ok());
        let around = around.flat_map(|outer| {
            let (network, length) = (outer.network(), outer.prefix_len());
            self.by_place.range((network, length, NodeId::MIN)..=(network, length, NodeId::MAX))
        });
        inside.chain(around).filter_map(|(network, length, id)| {
            let is_it =
                |stake: &&Stake| stake.prefix.network() == *network && stake.prefix.prefix_len() == *length;
            Some((*id, *self.of(id).iter().find(is_it)?))
        })
    }

    /// Nobody says anything of it, and nobody did a moment ago.
    pub(crate) fn is_free(&self, prefix: &IpNet) -> bool {
        self.overlapping(prefix).next().is_none() && !self.is_quarantined(prefix)
    }

    pub(crate) fn is_quarantined(&self, prefix: &IpNet) -> bool {
        self.quarantine.keys().any(|other| other.contains(prefix) || prefix.contains(other))
    }

    /// How many of a range's subnets somebody says something of, quarantine not included: an upper bound where prefixes of
    /// several lengths are.
    pub(crate) fn used(&self, range: &Range) -> u64 {
        let is_someones = |(id, prefix): &(NodeId, IpNet)| {
            self.of(id).iter().any(|stake| stake.prefix == *prefix && stake.kind != StakeKind::Freed)
        };
        let inside = self.within(range).filter(is_someones);
        inside.map(|(_, prefix)| parts(range, &prefix)).fold(0, u64::saturating_add).min(range.len())
    }

    fn within(&self, range: &Range) -> impl Iterator<Item = (NodeId, IpNet)> + '_ {
        let (first, last) = (range.cluster.network(), range.cluster.broadcast());
        let inside = self.by_place.range((first, 0, NodeId::MIN)..=(last, 128, NodeId::MAX));
        inside.filter_map(|(network, length, id)| Some((*id, IpNet::new(*network, *length).ok()?)))
    }
}

fn place(prefix: &IpNet, id: NodeId) -> (IpAddr, u8, NodeId) {
    (prefix.network(), prefix.prefix_len(), id)
}

/// Of how many subnets of a range a prefix has a part.
fn parts(range: &Range, prefix: &IpNet) -> u64 {
    1 << range.subnet_length.saturating_sub(prefix.prefix_len().max(range.cluster.prefix_len())).min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn held(prefix: &str) -> Stake {
        Stake { prefix: prefix.parse().unwrap(), kind: StakeKind::Held }
    }

    fn owners(taken: &Taken, prefix: &str) -> Vec<u8> {
        let prefix: IpNet = prefix.parse().unwrap();
        let mut owners: Vec<u8> = taken.overlapping(&prefix).map(|(id, _)| id.as_bytes()[0]).collect();
        owners.sort();
        owners
    }

    #[test]
    fn what_overlaps_is_found_from_outside_and_inside() {
        let mut taken = Taken::new();
        taken.set(id(1), vec![held("10.0.0.0/16")]);
        taken.set(id(2), vec![held("10.0.1.0/24"), held("10.1.0.0/24"), held("fd00::/64")]);
        taken.set(id(3), vec![held("10.0.1.128/25")]);
        assert_eq!(owners(&taken, "10.0.1.0/24"), [1, 2, 3]);
        assert_eq!(owners(&taken, "10.0.0.0/16"), [1, 2, 3]);
        assert_eq!(owners(&taken, "10.0.0.0/24"), [1]);
        assert_eq!(owners(&taken, "10.1.0.128/25"), [2]);
        assert_eq!(owners(&taken, "10.2.0.0/24"), [0_u8; 0]);
        assert_eq!(owners(&taken, "fd00::/80"), [2]);
        assert!(taken.set(id(1), vec![]) && !taken.set(id(1), vec![]));
        assert_eq!(owners(&taken, "10.0.0.0/24"), [0_u8; 0]);
    }

    #[test]
    fn what_becomes_of_a_prefix_in_its_place_counts() {
        let (mut taken, mut stake) = (Taken::new(), held("10.0.1.0/24"));
        for (kind, is_hearsay) in [
            (StakeKind::Returning, true),
            (StakeKind::Held, false),
            (StakeKind::Tentative, false),
            (StakeKind::Returning, true),
        ] {
            stake.kind = kind;
            assert!(taken.set(id(1), vec![stake]) && !taken.set(id(1), vec![stake]));
            assert_eq!(
                (taken.is_hearsay(), taken.overlapping(&stake.prefix).collect()),
                (is_hearsay, vec![(id(1), stake)])
            );
        }
        taken.set(id(1), vec![]);
        assert!(!taken.is_hearsay());
    }

    #[test]
    fn what_a_forgotten_node_held_stays_unused_for_a_while() {
        let mut taken = Taken::new();
        taken.set(id(1), vec![held("10.0.1.0/24")]);
        let prefix = "10.0.1.0/24".parse().unwrap();
        assert_eq!(taken.forget(&id(1), Time::from_secs(10)), [prefix]);
        taken.advance(Time::from_secs(9));
        assert!(!taken.is_free(&prefix));
        let range = Range { cluster: "10.0.0.0/16".parse().unwrap(), subnet_length: 24 };
        assert_eq!(taken.used(&range), 0);
        taken.advance(Time::from_secs(10));
        assert!(taken.is_free(&prefix));
    }
}
