use std::fmt;
use std::net::IpAddr;

use crate::range::{Bits, Range};

/// Ranges of one address family; an attachment takes **one** address out of a set.
///
/// Made only by [`RangeSet::new`]: never empty, one family, no address twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range>,
    /// Gateways that lie in one of the ranges, sorted. A gateway of one range is not handed out by any other.
    excluded: Vec<IpAddr>,
}

impl RangeSet {
    /// Parses a set. The order of the ranges is the order in which they are filled.
    ///
    /// # Errors
    ///
    /// [`PoolError::EmptySet`], [`PoolError::MixedFamilies`], [`PoolError::Overlap`], or [`PoolError::OnlyGateways`].
    pub fn new(ranges: Vec<Range>) -> Result<Self, PoolError> {
        let Some(family) = ranges.first().map(|range| range.first().is_ipv4()) else {
            return Err(PoolError::EmptySet);
        };
        if ranges.iter().any(|range| range.first().is_ipv4() != family) {
            return Err(PoolError::MixedFamilies);
        }
        for (index, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges[..index].iter().find(|other| other.overlaps(range)) {
                return Err(PoolError::Overlap { ranges: Box::new([other.clone(), range.clone()]) });
            }
        }
        let mut set = Self { ranges, excluded: Vec::new() };
        set.exclude(&set.gateways())?;
        Ok(set)
    }

    /// The ranges, in the order in which they are filled.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The range that can hand out this address: it lies in it and is nobody's gateway.
    #[must_use]
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        if self.excluded.binary_search(&address).is_ok() {
            return None;
        }
        self.ranges.iter().find(|range| range.contains(address))
    }

    /// Whether the address lies in one of the ranges but is a gateway, and so is never handed out.
    #[must_use]
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.excluded.binary_search(&address).is_ok()
    }

    /// How many addresses the set can hand out. Saturates at [`u128::MAX`].
    #[must_use]
    pub fn capacity(&self) -> u128 {
        let span = |range: &Range| {
            let inside = self.excluded.iter().filter(|gateway| range.contains(**gateway)).count();
            let own = u128::from(range.gateway().is_some_and(|gateway| range.contains(gateway)));
            range.capacity().saturating_add(own).saturating_sub(inside as u128)
        };
        self.ranges.iter().fold(0, |sum: u128, range| sum.saturating_add(span(range)))
    }

    /// Every address that the set can hand out, once, in round-robin order: from the one after `last_reserved` to the
    /// end, then from the start up to and including `last_reserved`; from where each range [begins](Range::beginning_at) if
    /// there is no such address in the set. Lazy: taking the first few of a `/64` costs nothing.
    ///
    /// So an address that was just given back is the last to be handed out again, and a container that crashes in a
    /// loop does not confuse those who still have the old one in their neighbour caches.
    pub fn candidates(&self, last_reserved: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        self.spans(last_reserved)
            .flat_map(|(low, high)| {
                std::iter::successors(Some(low), move |at| (*at < high).then(|| at.plus(1)))
            })
            .map(Bits::address)
            .filter(|address| !self.is_gateway(*address))
    }

    /// The first of [`candidates`](Self::candidates) that is not in `taken`, which must be sorted and without
    /// duplicates.
    ///
    /// Costs a step per taken address, not per candidate.
    #[must_use]
    pub fn first_free(&self, last_reserved: Option<IpAddr>, taken: &[IpAddr]) -> Option<IpAddr> {
        debug_assert!(taken.is_sorted_by(|a, b| a < b));
        self.spans(last_reserved).find_map(|(low, high)| {
            let low_address = low.address();
            let mut occupied =
                taken[taken.partition_point(|address| *address < low_address)..].iter().peekable();
            std::iter::successors(Some(low), |at| (*at < high).then(|| at.plus(1)))
                .map(Bits::address)
                .find(|address| occupied.next_if_eq(&address).is_none() && !self.is_gateway(*address))
        })
    }

    /// The inclusive runs of addresses that make up the round-robin order.
    fn spans(&self, last_reserved: Option<IpAddr>) -> impl Iterator<Item = (Bits, Bits)> + '_ {
        let resume = last_reserved
            .and_then(|last| Some((self.ranges.iter().position(|range| range.contains(last))?, last)));
        let (index, resume) = resume.map_or((0, None), |(index, last)| (index, Some(Bits::from(last))));

        let rest = resume.and_then(|last| {
            let high = Bits::from(self.ranges[index].last());
            (last < high).then(|| (last.plus(1), high))
        });
        let others = self.ranges[index..].iter().chain(&self.ranges[..index]);
        let others = others.skip(usize::from(resume.is_some())).flat_map(Range::spans);
        let wrapped = resume.map(|last| (Bits::from(self.ranges[index].first()), last));
        rest.into_iter().chain(others).chain(wrapped)
    }

    fn gateways(&self) -> Vec<IpAddr> {
        self.ranges.iter().filter_map(Range::gateway).collect()
    }

    fn exclude(&mut self, gateways: &[IpAddr]) -> Result<(), PoolError> {
        let inside =
            gateways.iter().filter(|gateway| self.ranges.iter().any(|range| range.contains(**gateway)));
        self.excluded.extend(inside);
        self.excluded.sort_unstable();
        self.excluded.dedup();
        if self.capacity() == 0 { Err(PoolError::OnlyGateways { set: self.to_string() }) } else { Ok(()) }
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

/// What a network hands out: an attachment gets one address of **each** set (one IPv4 and one IPv6 set: dual stack).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    sets: Vec<RangeSet>,
}

impl Pool {
    /// Parses a pool. The order of the sets is that of the addresses in a result, and numbers the
    /// `last_reserved_ip.N` files.
    ///
    /// A gateway of any set is handed out by none.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoSets`], [`PoolError::Overlap`] between sets, or [`PoolError::OnlyGateways`].
    pub fn new(mut sets: Vec<RangeSet>) -> Result<Self, PoolError> {
        if sets.is_empty() {
            return Err(PoolError::NoSets);
        }
        let ranges: Vec<(usize, &Range)> = sets
            .iter()
            .enumerate()
            .flat_map(|(set, ranges)| ranges.ranges.iter().map(move |r| (set, r)))
            .collect();
        for (index, (set, range)) in ranges.iter().enumerate() {
            let clash =
                ranges[..index].iter().find(|(other, earlier)| other != set && earlier.overlaps(range));
            if let Some((_, other)) = clash {
                return Err(PoolError::Overlap { ranges: Box::new([(*other).clone(), (*range).clone()]) });
            }
        }
        let gateways: Vec<IpAddr> = sets.iter().flat_map(RangeSet::gateways).collect();
        for set in &mut sets {
            set.exclude(&gateways)?;
        }
        Ok(Self { sets })
    }

    /// The sets, in order.
    #[must_use]
    pub fn sets(&self) -> &[RangeSet] {
        &self.sets
    }
}

/// Why ranges do not make a set, or sets no pool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool without sets.
    NoSets,
    /// A set without ranges.
    EmptySet,
    /// A set with IPv4 and IPv6 ranges.
    MixedFamilies,
    /// Two ranges share addresses.
    Overlap {
        /// The two.
        ranges: Box<[Range; 2]>,
    },
    /// Every address of the set is some range's gateway.
    OnlyGateways {
        /// The set's ranges.
        set: String,
    },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSets => f.write_str("no address ranges are configured"),
            Self::EmptySet => f.write_str("a range set is empty"),
            Self::MixedFamilies => f.write_str(
                "a range set mixes IPv4 and IPv6; give each family a set of its own (ranges: [[…v4], […v6]])",
            ),
            Self::Overlap { ranges } => write!(f, "ranges {} and {} overlap", ranges[0], ranges[1]),
            Self::OnlyGateways { set } => write!(f, "every address of {set} is a gateway"),
        }
    }
}

impl std::error::Error for PoolError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str, start: &str, end: &str, gateway: &str) -> Range {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Range::new(subnet.parse().unwrap(), address(start), address(end), address(gateway)).unwrap()
    }

    fn set(ranges: &[Range]) -> RangeSet {
        RangeSet::new(ranges.to_vec()).unwrap()
    }

    fn order(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        set.candidates(last.map(|last| last.parse().unwrap())).map(|address| address.to_string()).collect()
    }

    #[test]
    fn candidates_go_round_all_ranges_from_the_one_after_the_last() {
        let set = set(&[range("10.0.0.0/30", "", "", ""), range("10.0.1.0/29", "", "", "10.0.1.3")]);
        let all = ["10.0.0.2", "10.0.1.1", "10.0.1.2", "10.0.1.4", "10.0.1.5", "10.0.1.6"];
        assert_eq!(order(&set, None), all);
        assert_eq!(order(&set, Some("10.9.9.9")), all);
        assert_eq!(order(&set, Some("10.0.1.6")), all);
        for last in 0..5 {
            let (before, after) = all.split_at(last + 1);
            assert_eq!(order(&set, Some(all[last])), [after, before].concat());
        }
    }

    #[test]
    fn a_gateway_of_one_set_is_handed_out_by_no_other() {
        let one = set(&[range("10.0.0.0/24", "10.0.0.10", "10.0.0.19", "10.0.0.25")]);
        let two = set(&[range("10.0.0.0/24", "10.0.0.20", "10.0.0.29", "")]);
        assert_eq!(two.capacity(), 10);
        let pool = Pool::new(vec![one, two]).unwrap();
        assert_eq!(pool.sets()[1].capacity(), 9);
        assert!(!order(&pool.sets()[1], None).contains(&"10.0.0.25".to_owned()));
    }

    #[test]
    fn the_first_candidate_of_a_huge_range_costs_nothing() {
        let set = set(&[range("fd00::/16", "", "", "")]);
        assert_eq!(set.candidates(None).next(), Some("fd00::2".parse().unwrap()));
        let taken: Vec<IpAddr> = set.candidates(None).take(1000).collect();
        assert_eq!(set.first_free(None, &taken), Some("fd00::3ea".parse().unwrap()));
        let before_the_top = "fd00:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap();
        let top = "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(set.first_free(Some(before_the_top), &[top]), Some("fd00::2".parse().unwrap()));
    }

    #[test]
    fn a_beginning_is_where_the_first_address_is_from_and_all_the_others_follow() {
        let begin = |range: Range, at: &str| range.beginning_at(at.parse().unwrap()).unwrap();
        let texts = |set: &RangeSet, last: Option<&str>| -> Vec<String> {
            set.candidates(last.map(|last| last.parse().unwrap()))
                .map(|address| address.to_string())
                .collect()
        };
        let first = begin(range("10.0.0.0/29", "", "", ""), "10.0.0.5");
        let second = begin(range("10.0.1.0/29", "", "", ""), "10.0.1.6");
        let both = set(&[first.clone(), second]);
        let order = ["0.5", "0.6", "0.2", "0.3", "0.4", "1.6", "1.2", "1.3", "1.4", "1.5"];
        assert_eq!(texts(&both, None), order.map(|end| format!("10.0.{end}")));
        // Once there was one, its successor is next, and one of a subnet that is gone is no matter.
        assert_eq!(
            texts(&set(std::slice::from_ref(&first)), Some("10.0.0.3")),
            ["4", "5", "6", "2", "3"].map(|end| format!("10.0.0.{end}"))
        );
        assert_eq!(texts(&set(&[first]), Some("10.9.9.9"))[0], "10.0.0.5");

        let taken: Vec<_> = ["10.0.0.2", "10.0.0.5", "10.0.0.6"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(both.first_free(None, &taken), Some("10.0.0.3".parse().unwrap()));

        // What cannot be handed out is no beginning.
        let begun = begin(range("10.0.0.0/29", "", "", ""), "10.0.0.7");
        assert_eq!(texts(&set(&[begun]), None)[0], "10.0.0.2");
        assert!(range("10.0.0.0/29", "", "", "").beginning_at("10.0.1.1".parse().unwrap()).is_err());
    }

    #[test]
    fn what_is_no_set_or_pool_is_refused() {
        let (v4, v6) = (range("10.0.0.0/24", "", "", ""), range("fd00::/64", "", "", ""));
        assert_eq!(RangeSet::new(vec![]), Err(PoolError::EmptySet));
        assert_eq!(RangeSet::new(vec![v4.clone(), v6.clone()]), Err(PoolError::MixedFamilies));
        let inner = range("10.0.0.0/16", "10.0.0.77", "10.0.9.9", "");
        let overlap = PoolError::Overlap { ranges: Box::new([v4.clone(), inner.clone()]) };
        assert_eq!(RangeSet::new(vec![v4.clone(), inner.clone()]), Err(overlap.clone()));
        assert_eq!(Pool::new(vec![]), Err(PoolError::NoSets));
        assert_eq!(Pool::new(vec![set(&[v4]), set(&[v6]), set(&[inner])]), Err(overlap));
        let only = range("10.0.0.0/24", "10.0.0.9", "10.0.0.9", "");
        let gateway = range("10.0.0.0/24", "10.0.0.20", "10.0.0.29", "10.0.0.9");
        assert!(matches!(
            Pool::new(vec![set(&[only]), set(&[gateway])]),
            Err(PoolError::OnlyGateways { .. })
        ));
    }
}
