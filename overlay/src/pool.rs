//! The cluster's range, and how it is cut into subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::node::{Subnet, SubnetState};

/// The ranges that pods' addresses are from, at most one of each family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Range>", into = "Vec<Range>")]
pub struct Pool(Vec<Range>);

/// A range of addresses, cut into equal subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// The whole: `10.244.0.0/16`.
    pub cluster: IpNet,
    /// The length of each part's prefix: 24.
    pub subnet_length: u8,
}

impl Range {
    /// The family of its addresses, as people call it.
    pub fn family(&self) -> &'static str {
        if self.cluster.addr().is_ipv6() { "IPv6" } else { "IPv4" }
    }

    /// How many subnets there are.
    pub fn len(&self) -> u64 {
        1 << (self.subnet_length - self.cluster.prefix_len()).min(63)
    }

    /// Never: the type wants a word for it.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The subnet of an index, below [`len`](Self::len).
    pub fn subnet(&self, index: u64) -> Option<IpNet> {
        if index >= self.len() {
            return None;
        }
        match self.cluster {
            IpNet::V4(cluster) => {
                let shift = 32 - u32::from(self.subnet_length);
                let offset = u32::try_from(index).ok()?.checked_shl(shift).unwrap_or(0);
                let base = Ipv4Addr::from_bits(cluster.network().to_bits() | offset);
                Ipv4Net::new(base, self.subnet_length).ok().map(IpNet::V4)
            }
            IpNet::V6(cluster) => {
                let shift = 128 - u32::from(self.subnet_length);
                let offset = u128::from(index).checked_shl(shift).unwrap_or(0);
                let base = Ipv6Addr::from_bits(cluster.network().to_bits() | offset);
                Ipv6Net::new(base, self.subnet_length).ok().map(IpNet::V6)
            }
        }
    }

    /// Whether a prefix is one of its subnets.
    pub fn is_subnet(&self, prefix: &IpNet) -> bool {
        prefix.prefix_len() == self.subnet_length
            && self.cluster.contains(prefix)
            && prefix.trunc() == *prefix
    }

    /// The index of the subnet that is derived from a node's own address: the address's host part, as far as the
    /// range has indices. Two nodes of one segment differ in it, if the range is large enough.
    pub fn derived_index(&self, address: IpAddr) -> u64 {
        let bits = u32::from(self.subnet_length - self.cluster.prefix_len()).min(63);
        let low = match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits() as u64,
        };
        low & ((1 << bits) - 1)
    }
}

impl Pool {
    /// Of ranges.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(ranges: Vec<Range>) -> Result<Self, String> {
        let [first, rest @ ..] = ranges.as_slice() else {
            return Err("there is no range: give the cluster's, as 10.244.0.0/16".to_owned());
        };
        if rest.len() > 1
            || rest.iter().any(|range| range.cluster.addr().is_ipv4() == first.cluster.addr().is_ipv4())
        {
            return Err("more than one range of a family".to_owned());
        }
        for Range { cluster, subnet_length } in &ranges {
            let all = cluster.max_prefix_len();
            if *cluster != cluster.trunc() {
                return Err(format!("{cluster} has host bits: did you mean {}?", cluster.trunc()));
            }
            // A subnet without room for a gateway and a pod is none.
            if *subnet_length < cluster.prefix_len() || *subnet_length > all - 2 {
                return Err(format!(
                    "{cluster} cannot be cut into prefixes of length {subnet_length}: {} to {}",
                    cluster.prefix_len(),
                    all - 2
                ));
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The ranges of which a node that has some subnets holds none: its pods would lack an address of that family.
    pub fn lacking<'a>(&'a self, subnets: &'a [Subnet]) -> impl Iterator<Item = &'a Range> {
        let is_of = |range: &Range, subnet: &Subnet| {
            subnet.state == SubnetState::Held && range.cluster.contains(&subnet.prefix)
        };
        self.0.iter().filter(move |range| !subnets.iter().any(|subnet| is_of(range, subnet)))
    }

    /// The range that an address is in.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.cluster.contains(&address))
    }

    /// Whether all of a prefix lies in one of the ranges.
    pub fn holds(&self, prefix: &IpNet) -> bool {
        self.0.iter().any(|range| range.cluster.contains(prefix))
    }

    /// The range whose subnet a prefix is.
    pub fn range_of_subnet(&self, prefix: &IpNet) -> Option<&Range> {
        self.0.iter().find(|range| range.is_subnet(prefix))
    }
}

impl TryFrom<Vec<Range>> for Pool {
    type Error = String;

    fn try_from(ranges: Vec<Range>) -> Result<Self, String> {
        Self::new(ranges)
    }
}

impl From<Pool> for Vec<Range> {
    fn from(pool: Pool) -> Self {
        pool.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(cluster: &str, subnet_length: u8) -> Range {
        Range { cluster: cluster.parse().unwrap(), subnet_length }
    }

    #[test]
    fn subnets_are_the_parts_of_a_range() {
        let four = range("10.244.0.0/16", 24);
        assert_eq!(four.len(), 256);
        assert_eq!(four.subnet(7), Some("10.244.7.0/24".parse().unwrap()));
        assert_eq!(four.subnet(256), None);
        let six = range("fd00:10::/48", 64);
        assert_eq!(six.subnet(0x1_0), Some("fd00:10:0:10::/64".parse().unwrap()));
        assert!(six.is_subnet(&"fd00:10:0:10::/64".parse().unwrap()));
        assert!(!four.is_subnet(&"10.244.7.0/25".parse().unwrap()));
        let whole = range("10.0.0.0/24", 24);
        assert_eq!((whole.len(), whole.subnet(0)), (1, Some("10.0.0.0/24".parse().unwrap())));
    }

    #[test]
    fn an_address_gives_an_index() {
        assert_eq!(range("10.244.0.0/16", 24).derived_index("192.168.1.11".parse().unwrap()), 11);
        assert_eq!(range("10.0.0.0/8", 24).derived_index("192.168.1.11".parse().unwrap()), 0x010b);
        assert_eq!(range("fd00::/48", 64).derived_index("fe80::1:2".parse().unwrap()), 2);
    }

    #[test]
    fn a_node_lacks_what_it_does_not_hold() {
        let pool = Pool::new(vec![range("10.244.0.0/16", 24), range("fd00:10::/48", 64)]).unwrap();
        let subnet = |prefix: &str, state| Subnet { prefix: prefix.parse().unwrap(), state };
        let lacking =
            |subnets: &[Subnet]| pool.lacking(subnets).map(|range| range.family()).collect::<Vec<_>>();
        let v4 = subnet("10.244.7.0/24", SubnetState::Held);
        let v6 = subnet("fd00:10:0:7::/64", SubnetState::Held);
        assert_eq!(lacking(&[]), ["IPv4", "IPv6"]);
        assert_eq!(lacking(&[v4, subnet("fd00:10:0:7::/64", SubnetState::Tentative)]), ["IPv6"]);
        assert_eq!(lacking(&[v6, subnet("10.9.0.0/24", SubnetState::Held)]), ["IPv4"]);
        assert_eq!(lacking(&[v6, v4]), [""; 0]);
    }

    #[test]
    fn a_pool_is_refused_in_words() {
        let refused = |ranges: Vec<Range>| Pool::new(ranges).unwrap_err();
        assert!(refused(vec![]).contains("no range"));
        assert!(refused(vec![range("10.0.0.0/8", 24), range("172.16.0.0/12", 24)]).contains("family"));
        assert!(refused(vec![range("10.1.0.0/8", 24)]).contains("did you mean 10.0.0.0/8"));
        assert!(refused(vec![range("10.0.0.0/8", 31)]).contains("8 to 30"));
        assert!(refused(vec![range("10.0.0.0/24", 16)]).contains("24 to 30"));
    }
}
