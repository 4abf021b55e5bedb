//! One pod network from many nodes: who is where, who owns which subnet, and what follows for each node's kernel.
//!
//! ```text
//! Node            what a node says of itself: id, name, addresses, subnets, pods …
//! Topology        every node that is known, and how each is
//! claim           a node's way to a subnet of its own, where nobody hands them out
//! mesh            the topology by gossip
//! fabric          topology ─▶ what this node's kernel must hold: a netops::Plan
//! path            by which way a peer is reached, and how large a packet may be: probes
//! report          what an agent says when it is asked: the API's types
//! ```
//!
//! There is no I/O in it, and no clock: time, packets and random numbers come in as arguments. What runs it is
//! `cnikit-agent`, or a simulator.

mod claim;
pub mod fabric;
mod id;
mod machine;
pub mod mesh;
mod node;
pub mod path;
mod pod;
mod pool;
pub mod report;
mod topology;
mod underlay;
mod view;

pub use claim::Settings as ClaimSettings;
pub use id::{NodeId, NodeName};
pub use machine::{Fingerprint, Machine};
pub use mesh::Mesh;
pub use node::{Mode, Node, Role, Subnet, SubnetState, Tunnel};
pub use pod::Pod;
pub use pool::{Pool, Range};
pub use topology::{Conflict, Identity, Liveness, Member, Topology};
pub use underlay::{Hop, Underlay};
pub use view::{Local, View};
