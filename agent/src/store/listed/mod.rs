//! Nodes that somebody has listed: in a file (the store `static`), or by their addresses alone (`derived`).
//!
//! Nobody tells whether a listed node answers, or which pods it has; and no subnet is ever another's.

mod derived;
mod file;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use overlay::report::{Problem, Severity};
use overlay::{
    Liveness, Local, Mode, Node, NodeId, NodeName, Pool, Range, Role, Subnet, SubnetState, Topology, View,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Links, ListedPods, Listing, PodList, Request, Running, Store};
use crate::identity;
use crate::log;

/// A node, as a list has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListedNode {
    /// Which node; left out, it follows from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<NodeId>,
    /// What it is called.
    pub name: NodeName,
    /// Where other nodes reach it, best first.
    pub addresses: Vec<IpAddr>,
    /// What its pods' addresses are from.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    /// What it does in the network.
    #[serde(default)]
    pub role: Role,
    /// How it was told to reach others; left out, as this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// MTU in bytes of its interface that leads to others; left out, as this node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl ListedNode {
    /// Which node.
    pub fn id(&self) -> NodeId {
        self.id.unwrap_or_else(|| identity::of_name(self.name.as_str()))
    }

    fn held(&self) -> Vec<Subnet> {
        self.subnets.iter().map(|prefix| Subnet { prefix: *prefix, state: SubnetState::Held }).collect()
    }

    /// As a member of a topology. What a list does not say of it is as it is here.
    fn node(&self, local: &Local) -> Node {
        Node {
            id: self.id(),
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            subnets: self.held(),
            role: self.role,
            mode: self.mode.unwrap_or(local.mode),
            tunnel: local.tunnel,
            mtu: self.mtu.unwrap_or(local.mtu),
            machine: overlay::Machine::default(),
            pods: Vec::new(),
        }
    }
}

/// A store of nodes that somebody has listed.
#[derive(Debug)]
pub struct Listed {
    source: Source,
    pool: Pool,
    nodes: Vec<ListedNode>,
}

#[derive(Debug)]
enum Source {
    /// Read again when it changes, and when somebody asks for it.
    File { path: PathBuf, reload: watch::Receiver<()> },
    /// Never another.
    Addresses,
}

impl Listed {
    /// The nodes of a file. It is read again when it changes, and whenever `reload` is told.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_file(path: PathBuf, pool: Pool, reload: watch::Receiver<()>) -> Result<Self, String> {
        let nodes = file::read(&path, &pool)?;
        Ok(Self { source: Source::File { path, reload }, nodes, pool })
    }

    /// The nodes of a list of addresses: each node's subnet follows from its address.
    ///
    /// # Errors
    /// If two nodes would have one subnet.
    pub fn derived(addresses: &[IpAddr], pool: &Pool) -> Result<Self, String> {
        let nodes = derived::nodes(addresses, pool)?;
        Ok(Self { source: Source::Addresses, nodes, pool: pool.clone() })
    }

    /// Which node this one is, by its name and its own addresses.
    ///
    /// # Errors
    /// If no address of a list of addresses is this node's.
    pub fn own_id(&self, name: &NodeName, addresses: &[IpAddr]) -> Result<NodeId, String> {
        let own = match self.source {
            Source::File { .. } => {
                let own = self.nodes.iter().find(|node| node.name == *name);
                return Ok(own.map_or_else(|| identity::of_name(name.as_str()), ListedNode::id));
            }
            Source::Addresses => self
                .nodes
                .iter()
                .find(|node| node.addresses.iter().any(|address| addresses.contains(address))),
        };
        own.map(ListedNode::id).ok_or_else(|| {
            let listed: Vec<_> = self.endpoints();
            format!("derived.nodes lists no address of this node: neither of {} is here", listed.join(", "))
        })
    }

    /// All that is known.
    fn view(&self, local: &Local, complaint: Option<&str>) -> View {
        let own = self.nodes.iter().find(|node| node.id() == local.id);
        let subnets = own.map(ListedNode::held).unwrap_or_default();
        let mut topology = Topology::new();
        for peer in self.nodes.iter().filter(|node| node.id() != local.id) {
            topology.insert(Arc::new(peer.node(local)), Liveness::Unknown);
        }
        topology.insert(Arc::new(local.with_subnets(subnets.clone())), Liveness::Alive);
        let list = self.endpoints().join(", ");
        let waiting = match own {
            None => Some(format!("{list} has no node \"{}\"", local.name)),
            Some(_) if local.role == Role::Worker => {
                let lacking: Vec<_> = self.pool.lacking(&subnets).map(Range::family).collect();
                let families = lacking.join(" and ");
                (!lacking.is_empty())
                    .then(|| format!("{list} gives node \"{}\" no subnet of {families}", local.name))
            }
            Some(_) => None,
        };
        let problem = complaint.map(|complaint| Problem {
            severity: Severity::Error,
            what: complaint.to_owned(),
            advice: "correct it; what it said before goes on".to_owned(),
        });
        View {
            topology: Arc::new(topology),
            subnets,
            waiting,
            cut_off: None,
            problems: problem.into_iter().collect(),
        }
    }
}

impl Store for Listed {
    fn kind(&self) -> &'static str {
        match self.source {
            Source::File { .. } => "static",
            Source::Addresses => "derived",
        }
    }

    fn endpoints(&self) -> Vec<String> {
        match &self.source {
            Source::File { path, .. } => vec![path.display().to_string()],
            Source::Addresses => {
                self.nodes.iter().flat_map(|node| &node.addresses).map(ToString::to_string).collect()
            }
        }
    }

    fn pods(&self) -> Option<Box<dyn PodList>> {
        Some(Box::new(Untold))
    }

    fn run(self: Box<Self>, links: Links) -> Running {
        Box::pin(run(*self, links))
    }
}

/// Other nodes' pods, of which there are none here: not because there are none.
#[derive(Debug)]
struct Untold;

impl PodList for Untold {
    fn list(&self, _: Duration) -> Listing<'_> {
        let lacking = Some("a list of nodes does not tell of them".to_owned());
        Box::pin(std::future::ready(Arc::new(ListedPods { lacking, ..ListedPods::default() })))
    }
}

/// Ends only if nobody is interested any more.
async fn run(mut store: Listed, mut links: Links) -> String {
    let mut file = match &store.source {
        Source::File { path, reload, .. } => Some((file::Watch::new(path), reload.clone())),
        Source::Addresses => None,
    };
    let mut complaint = None;
    loop {
        let view = store.view(&links.local.borrow_and_update(), complaint.as_deref());
        links.view.send_if_modified(|known| {
            let differs = **known != view;
            if differs {
                *known = Arc::new(view);
            }
            differs
        });
        tokio::select! {
            changed = links.local.changed() => if changed.is_err() { break },
            () = changed(&mut file) => complaint = store.read_again().err(),
            request = links.requests.recv() => match request {
                Some(Request::Forget { reply, .. }) => {
                    let list = store.endpoints().join(", ");
                    // Who asked may have gone.
                    let _ = reply.send(Err(format!("which nodes there are is written by hand: take it out of {list}")));
                }
                None => break,
            }
        }
    }
    "nobody asks any more".to_owned()
}

async fn changed(file: &mut Option<(file::Watch, watch::Receiver<()>)>) {
    let Some((watch, reload)) = file else { return std::future::pending().await };
    tokio::select! {
        () = watch.changed() => {}
        told = reload.changed() => if told.is_err() { std::future::pending().await },
    }
}

impl Listed {
    /// Takes what the file says now. If that makes no sense, what it said before goes on.
    fn read_again(&mut self) -> Result<(), String> {
        let Source::File { path, .. } = &self.source else { return Ok(()) };
        match file::read(path, &self.pool) {
            Ok(nodes) if nodes == self.nodes => Ok(()),
            Ok(nodes) => {
                log::info(format_args!(
                    "{} lists {} nodes now, not {}",
                    path.display(),
                    nodes.len(),
                    self.nodes.len()
                ));
                self.nodes = nodes;
                Ok(())
            }
            Err(error) => {
                log::error(format_args!("{error}; what it said before goes on"));
                Err(error)
            }
        }
    }
}
