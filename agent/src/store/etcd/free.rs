//! The choice of a subnet that nobody has.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlay::Range;

/// How many subnets are looked at before there is said to be none: a range of IPv6 may have more than can be counted.
const PATIENCE: u64 = 1 << 20;

/// The first subnet of a range, from a random one on, that overlaps nothing that is taken; `None` if there is none.
/// Random, so that nodes that choose at once seldom choose the same.
pub(super) fn free_subnet<T>(range: &Range, taken: &BTreeMap<IpNet, T>, random: u64) -> Option<IpNet> {
    // Claims of another length are of another configuration, and few or none.
    let odd: Vec<&IpNet> = odd_claims(range, taken).collect();
    let is_free =
        |prefix: &IpNet| !taken.contains_key(prefix) && !odd.iter().any(|other| overlap(other, prefix));
    let start = random % range.len();
    let indices = (0..range.len().min(PATIENCE)).map(|step| (start + step) % range.len());
    indices.filter_map(|index| range.subnet(index)).find(is_free)
}

/// What is taken of a range but is none of its subnets.
pub(super) fn odd_claims<'a, T>(
    range: &'a Range,
    taken: &'a BTreeMap<IpNet, T>,
) -> impl Iterator<Item = &'a IpNet> {
    taken.keys().filter(|prefix| overlap(&range.cluster, prefix) && !range.is_subnet(prefix))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(cluster: &str, subnet_length: u8) -> Range {
        Range { cluster: cluster.parse().unwrap(), subnet_length }
    }

    #[test]
    fn every_subnet_is_found_and_none_twice() {
        let range = range("10.244.0.0/20", 24);
        let mut taken = BTreeMap::new();
        while let Some(prefix) = free_subnet(&range, &taken, u64::MAX - 7 * taken.len() as u64) {
            assert!(range.is_subnet(&prefix));
            assert!(taken.insert(prefix, ()).is_none(), "{prefix} twice");
        }
        assert_eq!(taken.len(), 16);
    }

    #[test]
    fn what_overlaps_a_claim_of_another_length_is_not_free() {
        let range = range("10.244.0.0/22", 24);
        let taken: BTreeMap<IpNet, ()> =
            ["10.244.0.0/25", "10.244.2.0/23"].iter().map(|net| (net.parse().unwrap(), ())).collect();
        let found: BTreeSet<_> = (0..4).filter_map(|random| free_subnet(&range, &taken, random)).collect();
        assert_eq!(found.into_iter().map(|net| net.to_string()).collect::<Vec<_>>(), ["10.244.1.0/24"]);
        assert_eq!(odd_claims(&range, &taken).count(), 2);
    }

    #[test]
    fn a_huge_range_is_no_matter() {
        let range = range("fd00::/8", 96);
        let first = free_subnet(&range, &BTreeMap::<IpNet, ()>::new(), 5).unwrap();
        let taken = BTreeMap::from([(first, ())]);
        assert_ne!(free_subnet(&range, &taken, 5), Some(first));
    }
}
