//! What lies below: how this node reaches the addresses of the nodes themselves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netops::LinkName;

/// How this node reaches the addresses of others, as its kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Underlay {
    /// The node's own addresses on the interfaces that lead to others, best first.
    pub addresses: Vec<IpAddr>,
    /// How each address of a peer is reached. One that is not in it is not reached at all.
    pub hops: BTreeMap<IpAddr, Hop>,
    /// The kernel has IPv6.
    pub ipv6: bool,
}

/// How an address is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The interface that packets to it leave by.
    pub link: LinkName,
    /// The largest packet that goes out there, in bytes.
    pub mtu: u32,
    /// It is on that interface's segment: no router is between.
    pub on_segment: bool,
}

impl Underlay {
    /// Whether it has an address of a family.
    pub fn has(&self, ipv6: bool) -> bool {
        self.addresses.iter().any(|address| address.is_ipv6() == ipv6)
    }
}
