//! What an agent and the source of its topology tell one another.

use std::net::IpAddr;
use std::sync::Arc;

use crate::id::{NodeId, NodeName};
use crate::machine::Machine;
use crate::node::{Mode, Role, Subnet, Tunnel};
use crate::pod::Pod;
use crate::report::Problem;
use crate::topology::Topology;

/// What a node knows of itself without asking anybody: all of a [`Node`](crate::Node) but its subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Which node.
    pub id: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Where other nodes reach it, best first.
    pub addresses: Vec<IpAddr>,
    /// What it does in the network.
    pub role: Role,
    /// How it was told to reach others.
    pub mode: Mode,
    /// Its end of tunnels.
    pub tunnel: Option<Tunnel>,
    /// MTU in bytes of the interface that leads to other nodes.
    pub mtu: u32,
    /// Which machine it is.
    pub machine: Machine,
    /// The interfaces of its pods.
    pub pods: Vec<Pod>,
}

impl Local {
    /// With subnets, it is a node.
    pub fn with_subnets(&self, subnets: Vec<Subnet>) -> crate::Node {
        crate::Node {
            id: self.id,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            subnets,
            role: self.role,
            mode: self.mode,
            tunnel: self.tunnel,
            mtu: self.mtu,
            machine: self.machine,
            pods: self.pods.clone(),
        }
    }
}

/// What the source of the topology knows: all of it, each time. Who reads it compares, and misses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Every node, this one included as soon as the source knows it.
    pub topology: Arc<Topology>,
    /// This node's subnets, as far as they are its own. Kept while the source is out of reach.
    pub subnets: Vec<Subnet>,
    /// Why there is no subnet for new pods, if there is none.
    pub waiting: Option<String>,
    /// The source cannot be reached; what is here may be old. No peer answers, the server does not.
    pub cut_off: Option<String>,
    /// What else a person should know.
    pub problems: Vec<Problem>,
}
