//! What a node says of itself.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, NodeName};
use crate::machine::Machine;
use crate::pod::Pod;

/// What a node says of itself. Nobody else writes any of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Which node.
    pub id: NodeId,
    /// What people call it. Two ids may have one name for a while: a node that was replaced.
    pub name: NodeName,
    /// Where other nodes reach it, best first; of both families, if it has both.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The parts of the cluster's range that are its own, in the order in which they became so.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// What it does in the network.
    #[serde(default)]
    pub role: Role,
    /// How it was told to reach others.
    #[serde(default)]
    pub mode: Mode,
    /// Its end of tunnels, unless it has none.
    #[serde(default)]
    pub tunnel: Option<Tunnel>,
    /// MTU in bytes of the interface that leads to other nodes.
    pub mtu: u32,
    /// Which machine it is.
    #[serde(default, skip_serializing_if = "Machine::is_unknown")]
    pub machine: Machine,
    /// The interfaces of its pods.
    #[serde(default)]
    pub pods: Vec<Pod>,
}

impl Node {
    /// The subnets whose addresses are given to new pods: held, of both families.
    pub fn held(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.subnets.iter().filter(|subnet| subnet.state == SubnetState::Held).map(|subnet| subnet.prefix)
    }

    /// The addresses of pods that lie in none of the node's held subnets: it has lost one, or its pods are older than its
    /// subnets. Each takes a route of its own.
    pub fn stray_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let addresses = self.pods.iter().flat_map(Pod::addresses).copied();
        addresses.filter(|address| !self.held().any(|prefix| prefix.contains(address)))
    }

    /// Takes out addresses that no node can be at, whoever says so: a packet sent there would go round in this node, or to nobody.
    /// Returns what is wrong with what the node says of itself, in words, if something is. (A path MTU that is none counts as
    /// not told.)
    pub fn take_out_nonsense(&mut self) -> Option<String> {
        take_out_nonsense(&mut self.addresses, self.mtu)
    }

    /// Whether a node may be at an address, as far as the address itself says: no loopback or multicast address, nor one that means
    /// nothing elsewhere.
    pub fn can_be_at(address: IpAddr) -> bool {
        match address {
            // 240.0.0.0/4 is nobody's, and used for what stays in this node; 0.0.0.0/8 is "this network" (RFC 1122, 3.2.1.3).
            IpAddr::V4(address) => {
                !address.is_loopback() && !address.is_multicast() && !matches!(address.octets()[0], 0 | 240..)
            }
            IpAddr::V6(address) => {
                !address.is_loopback()
                    && !address.is_unspecified()
                    && !address.is_multicast()
                    && !address.is_unicast_link_local()
                    && address.to_ipv4_mapped().is_none()
            }
        }
    }

    /// Its first address of a family.
    pub fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == ipv6)
    }
}

/// What IPv4 hosts must be able to take (RFC 791, section 3.1): no interface that leads to nodes has less.
pub(crate) const LEAST_MTU: u32 = 576;

/// As [`Node::take_out_nonsense`].
pub(crate) fn take_out_nonsense(addresses: &mut Vec<IpAddr>, mtu: u32) -> Option<String> {
    let (fine, odd) = std::mem::take(addresses).into_iter().partition(|address| Node::can_be_at(*address));
    *addresses = fine;
    let odd: Vec<IpAddr> = odd;
    let at = odd.first().map(|address| format!("no node is at {address}"));
    let small = (mtu < LEAST_MTU).then(|| format!("no interface has an MTU of {mtu}"));
    let wrong: Vec<String> = at.into_iter().chain(small).collect();
    (!wrong.is_empty()).then(|| wrong.join(", and "))
}

/// A part of the cluster's range, and how far it is a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// The prefix.
    pub prefix: IpNet,
    /// How far it is the node's.
    pub state: SubnetState,
}

/// How far a subnet is a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SubnetState {
    /// It would like to have it, and waits for objections. No pod has an address of it.
    Tentative,
    /// It is its own: others have routes to it.
    Held,
    /// It was its own and is another's now. Pods with addresses of it go on; new ones get none of it.
    Lost,
}

/// What a node does in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It has pods.
    #[default]
    Worker,
    /// It has none, and passes on what workers in mode [`Mode::Router`] send to one another.
    Router,
}

/// How a node reaches the pods of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// A plain route where the peer is on the same segment and probes come back; else a tunnel.
    #[default]
    Auto,
    /// A tunnel: VXLAN (RFC 7348), unicast.
    Vxlan,
    /// A plain route, with the peer's own address as next hop.
    Route,
    /// All by the node whose role is [`Role::Router`].
    Router,
}

impl Mode {
    /// As configurations have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Vxlan => "vxlan",
            Self::Route => "route",
            Self::Router => "router",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A node's end of tunnels. Its MAC address follows from the node's id: [`NodeId::tunnel_mac`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// VXLAN network identifier, 1 to 2^24 - 1: all nodes' must be the same.
    pub vni: u32,
    /// UDP port that it listens on.
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_node_can_be_at_is_not_believed() {
        let odd = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ];
        let fine = ["10.0.0.1", "192.168.1.11", "172.31.255.255", "fd01::b", "2001:db8::1"];
        let parse =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let mut addresses = parse(&[&odd[..], &fine[..]].concat());
        let told = take_out_nonsense(&mut addresses, 1500);
        assert_eq!((told.as_deref(), addresses), (Some("no node is at 0.0.0.0"), parse(&fine)));
        let told = take_out_nonsense(&mut parse(&["::1", "10.0.0.1"]), 0).unwrap();
        assert_eq!(told, "no node is at ::1, and no interface has an MTU of 0");
        assert_eq!(take_out_nonsense(&mut parse(&fine), 576), None);
        assert!(take_out_nonsense(&mut parse(&fine), 575).is_some());
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_is_fine_in_its_order_and_the_rest_is_told(
            addresses in proptest::collection::vec(any::<IpAddr>(), 0..8), mtu in any::<u32>(),
        ) {
            let mut left = addresses.clone();
            let told = take_out_nonsense(&mut left, mtu);
            let fine: Vec<IpAddr> = addresses.iter().copied().filter(|address| Node::can_be_at(*address)).collect();
            prop_assert_eq!(&left, &fine);
            prop_assert_eq!(told.is_some(), fine.len() < addresses.len() || mtu < LEAST_MTU);
            // The address itself is asked by way of the library, too.
            for address in left {
                prop_assert!(!address.is_loopback() && !address.is_multicast() && !address.is_unspecified());
            }
        }
    }
}
