//! What stands in the way of packets that a node forwards: the host's own packet filter, and the isolation of bridges.

use std::fmt;
use std::net::IpAddr;

use crate::name::{ChainName, LinkName};

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// An address's.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The way for the packets of every [`crate::Forwarded`] address through the host's own packet filter.
///
/// That an nf_tables table of ours lets a packet pass is no help where the chain `FORWARD` of `iptables` drops it: by its
/// policy, or by a rule of docker's. So that chain's first rule jumps to `CNI-FORWARD`, and that lets them pass, unless the
/// administrator's chain has done something else with them before: the same chains, and the same two jumps, that the
/// reference's `firewall` makes. It is set up once, whatever the number of addresses, in `iptables`' nf_tables tables and, where
/// the kernel has a legacy table `filter` as well, in that.
///
/// Made if it is missing, and never removed: what it lets pass is for the addresses to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardJump {
    /// Whose `FORWARD`: that of `iptables` or that of `ip6tables`.
    pub version: IpVersion,
    /// The chain with the administrator's own rules, made if it is missing.
    pub admin_chain: ChainName,
}

/// A bridge to which nothing is forwarded from another such bridge. The world beyond the node reaches it as before.
///
/// The stricter of two about one bridge counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isolation {
    /// The bridge.
    pub bridge: LinkName,
    /// Whether what comes from the bridge itself is forwarded to it. (What the bridge switches is not forwarded, unless
    /// `net.bridge.bridge-nf-call-iptables` is set.)
    pub neighbours: Neighbours,
}

/// Whether those on one bridge reach one another by way of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Neighbours {
    /// They do.
    Reachable,
    /// They do not.
    Unreachable,
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// As errors name it: `way through FORWARD by CNI-ADMIN (IPv4)`.
impl fmt::Display for ForwardJump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "way through FORWARD by {} ({})", self.admin_chain, self.version)
    }
}

/// As errors name it: `isolation of bridge "cni0" from other bridges`.
impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "isolation of bridge \"{}\" from other bridges", self.bridge)?;
        match self.neighbours {
            Neighbours::Reachable => Ok(()),
            Neighbours::Unreachable => f.write_str(" and itself"),
        }
    }
}
