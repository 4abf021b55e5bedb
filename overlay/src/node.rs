//! What a node says of itself.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, NodeName};

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
        let addresses = self.pods.iter().flat_map(|pod| &pod.addresses).copied();
        addresses.filter(|address| !self.held().any(|prefix| prefix.contains(address)))
    }

    /// Its first address of a family.
    pub fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == ipv6)
    }
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

/// An interface of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// The runtime's name for the sandbox.
    pub container: String,
    /// The interface in it.
    pub interface: String,
    /// The addresses on that.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The pod's namespace in Kubernetes (`K8S_POD_NAMESPACE` of `CNI_ARGS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's name in Kubernetes (`K8S_POD_NAME` of `CNI_ARGS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `default/web-1`; where Kubernetes has no name for it, the container's, cut to what people compare.
impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, "{namespace}/{name}"),
            (None, Some(name)) => f.write_str(name),
            _ => match self.container.char_indices().nth(12) {
                // A long one is a hash.
                Some((end, _)) if self.container.len() >= 32 => f.write_str(&self.container[..end]),
                _ => f.write_str(&self.container),
            },
        }
    }
}
