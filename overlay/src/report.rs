//! What an agent says when it is asked: the JSON of its API, as types for both ends.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::NonZero;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, NodeName};
use crate::node::{Mode, Node, Subnet};
use crate::topology::{Conflict, Liveness};

/// How a node and its view of the others are: `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The node itself.
    pub node: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// The agent's version.
    pub version: String,
    /// Seconds since the agent was started.
    pub uptime: u64,
    /// The network's name, as in the CNI configuration.
    pub network: String,
    /// The interface that its pods are plugged into.
    pub bridge: String,
    /// Where other nodes reach it.
    pub addresses: Vec<IpAddr>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// How it was told to reach others.
    pub mode: Mode,
    /// Where the topology comes from.
    pub store: StoreStatus,
    /// How many nodes there are, by how they are.
    pub peers: PeerCounts,
    /// How many of its pods have an interface.
    pub pods: usize,
    /// New pods get addresses: `/readyz` says the same.
    pub ready: bool,
    /// What a person should know or do, worst first.
    pub problems: Vec<Problem>,
    /// Where it listens; an agent of an earlier version does not say.
    #[serde(default)]
    pub ports: Option<Ports>,
}

/// Where an agent, and the kernel for it, listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// For gossip, UDP and TCP, if that is the store.
    pub gossip: Option<u16>,
    /// For tunnels, UDP.
    pub tunnel: u16,
    /// For probes of the way between nodes, UDP.
    pub probes: u16,
    /// For whoever asks for health and metrics, TCP.
    pub health: Option<u16>,
}

/// Where the topology comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// `static`, `gossip`, `etcd` or `kubernetes`.
    pub kind: String,
    /// Its servers, seeds or file.
    pub endpoints: Vec<String>,
    /// Why it cannot be reached, if it cannot.
    pub cut_off: Option<String>,
}

/// How many nodes there are, this one not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerCounts {
    /// They answer.
    pub alive: usize,
    /// They have not answered for a moment.
    pub suspect: usize,
    /// They have not answered for long.
    pub down: usize,
    /// The store does not say.
    pub unknown: usize,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What is so, with the object's name.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// How bad something is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something may stop working, or works worse than it could.
    Warning,
}

/// A peer, and the way to it: an element of `GET /v1/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Which node.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// How it is.
    pub liveness: Liveness,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// How many interfaces of pods it has.
    pub pods: usize,
    /// The way to it.
    pub path: Path,
}

/// The way to a peer's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// What packets do.
    pub way: Way,
    /// Why this one: `same segment, probes come back`.
    pub reason: Cow<'static, str>,
    /// The largest packet to a pod, in bytes: what the route says.
    pub mtu: u32,
    /// Whether that has come through (a probe of that size was answered), or is only what interfaces promise.
    pub mtu_confirmed: bool,
    /// How long a probe took last, in microseconds.
    pub round_trip: Option<u64>,
    /// Seconds since a probe was answered last; `None` if none ever was.
    pub answered: Option<u64>,
}

/// What packets to a peer's pods do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Way {
    /// They go through a tunnel to this address of the peer's.
    Vxlan {
        /// The tunnel's other end.
        remote: IpAddr,
    },
    /// They go to this address of the peer's as they are.
    Route {
        /// The next hop.
        gateway: IpAddr,
    },
    /// They go to the node that is the router.
    Router {
        /// Which node.
        router: NodeId,
    },
    /// Nowhere: the reason says why.
    None,
}

/// The whole topology: `GET /v1/topology`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Map {
    /// Who tells it.
    pub node: NodeId,
    /// The network's name.
    pub network: String,
    /// The interface on every node that its pods are plugged into.
    pub bridge: String,
    /// Every node.
    pub nodes: Vec<MapNode>,
    /// Why pods of other nodes may be missing, if they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking_pods: Option<String>,
    /// What two nodes say that only one can.
    pub conflicts: Vec<Conflict>,
}

/// A node of a [`Map`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapNode {
    /// What it says of itself.
    #[serde(flatten)]
    pub node: Node,
    /// How it is.
    pub liveness: Liveness,
    /// Which life of its this is, if the store counts them: one more each time that its agent starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<NonZero<u32>>,
    /// The way to it from the node that tells this; `None` for that node itself.
    pub path: Option<Path>,
}

/// What came of `POST /v1/forget` with a body of `{"node": "ID or name"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forgotten {
    /// The node that nobody will know any more.
    pub node: NodeId,
    /// What people called it.
    pub name: NodeName,
    /// Its subnets, which will be free after a while.
    pub subnets: Vec<Subnet>,
}

/// An error of the API's, with a status of 400 and above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// What went wrong.
    pub error: String,
}
