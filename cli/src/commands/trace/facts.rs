//! What was found out about the way of a packet: the kernel's own answers, and what the agent knows of the other side.
//! Nothing here is judged.

use std::net::IpAddr;

use ipnet::IpNet;
use netops::MacAddr;
use overlay::Liveness;
use overlay::report::Path;

/// All of it, in the order in which a packet meets it. What is `None` was not reached, or is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) source: Source,
    pub(super) destination: Destination,
    /// How large the packet is, in bytes, if somebody asks for one size.
    pub(super) size: Option<u32>,
    /// In the pod.
    pub(super) pod: Option<Leg>,
    /// The other end of the pod's cable, on the node.
    pub(super) host_end: Option<Interface>,
    /// What the host's end is plugged into.
    pub(super) bridge: Option<Bridge>,
    /// On the node; absent if the packet does not leave the bridge.
    pub(super) node: Option<Node>,
    /// The pod on this node that it is for.
    pub(super) neighbour_pod: Option<LocalPod>,
    /// The node that it is for.
    pub(super) peer: Option<Peer>,
    /// Others that have the source's address or the destination's: for people.
    pub(super) duplicates: Vec<String>,
    /// Why the agent may not know all pods of other nodes, if it may not.
    pub(super) lacking_pods: Option<String>,
    /// Why the agent has told nothing, if it has not.
    pub(super) agent: Option<String>,
}

/// Where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The pod; `None` is the node itself.
    pub(super) pod: Option<String>,
    /// This node.
    pub(super) node: String,
    /// The source address, where it is known beforehand.
    pub(super) address: Option<IpAddr>,
}

/// Where it is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: IpAddr,
    /// The pod's name, if that is known.
    pub(super) pod: Option<String>,
    /// The address is one of the overlay's range.
    pub(super) is_in_cluster: bool,
}

/// One look-up of a route, and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leg {
    /// `None`: there is no route.
    pub(super) way: Option<Way>,
    /// The interface that it leaves by.
    pub(super) interface: Option<Interface>,
    /// Whoever it is handed to on that; `None` if nobody has to be found there.
    pub(super) neighbour: Option<Neighbour>,
}

/// What the kernel does with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) kind: Kind,
    /// The route that decides.
    pub(super) route: Option<IpNet>,
    /// The number of its next hop object.
    pub(super) next_hop: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) link: Option<String>,
    /// Path MTU, where the route has one.
    pub(super) mtu: Option<u32>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sent,
    Local,
    Blackhole,
    Unreachable,
    Prohibited,
    Other,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    /// `veth`, `bridge`, `vxlan`; empty for hardware.
    pub(super) kind: String,
    pub(super) up: bool,
    pub(super) carrier: bool,
    pub(super) mtu: u32,
}

/// Somebody on an interface's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) address: IpAddr,
    pub(super) known: Known,
}

/// Whether a MAC address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    As(MacAddr),
    /// Not yet: it will be asked for.
    NotYet,
    /// It was asked for, and did not answer.
    Failed,
}

/// The bridge that the pod is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) interface: Interface,
    /// The addresses that the node has on it.
    pub(super) addresses: Vec<IpAddr>,
}

/// What the node does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Packets of others are passed on (`ip_forward`); `None` if the node itself sends it.
    pub(super) forwards: Option<bool>,
    /// The reverse path filter on the interface that it comes in by (`rp_filter`: the larger of `all`'s and its own).
    pub(super) reverse_filter: u8,
    /// The interface that the node would answer the source by.
    pub(super) back_by: Option<String>,
    pub(super) leg: Leg,
    pub(super) tunnel: Option<Tunnel>,
    /// Chains on the way that drop what no rule of theirs lets pass; rules are not looked at.
    pub(super) dropped_by: Vec<String>,
}

/// What a tunnel does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// The machine to which frames for the neighbour's MAC address are sent; `None`: there is no such entry.
    pub(super) remote: Option<IpAddr>,
    /// The way of the outer packet.
    pub(super) underlay: Option<Leg>,
}

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalPod {
    pub(super) name: String,
    pub(super) host_end: Option<Interface>,
    /// The bridge keeps its ports apart, and both are such.
    pub(super) is_kept_apart: bool,
}

/// What the agent knows of the node that has the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) liveness: Liveness,
    pub(super) addresses: Vec<IpAddr>,
    /// The subnet of its own that the destination is in.
    pub(super) subnet: Option<IpNet>,
    pub(super) bridge: String,
    /// The interface of the pod that has the address.
    pub(super) pod: Option<(String, String)>,
    pub(super) path: Option<Path>,
    /// The node that passes it on, with its addresses, where there is one.
    pub(super) router: Option<(String, Vec<IpAddr>)>,
}
