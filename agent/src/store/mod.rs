//! Where the topology comes from.
//!
//! A store is told what this node knows of itself, tells it to the others, and says what it knows of them: all of it,
//! each time something has changed. Whether it also has to find a free subnet for this node, or is given one, is its own
//! matter.

#[cfg(feature = "etcd")]
pub mod etcd;
mod gossip;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod listed;
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
mod saved;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use overlay::report::Forgotten;
use overlay::{Local, NodeName, Pod, View};
use tokio::sync::{mpsc, oneshot, watch};

pub use gossip::Gossip;
pub use listed::{Listed, ListedNode};

/// Where the topology comes from.
pub trait Store: Send {
    /// What it is called: `gossip`.
    fn kind(&self) -> &'static str;

    /// Its servers, seeds or file, for people.
    fn endpoints(&self) -> Vec<String>;

    /// Who knows the pods of other nodes, if its views do not have them.
    fn pods(&self) -> Option<Box<dyn PodList>> {
        None
    }

    /// Runs until it is dropped, or cannot go on at all. That a server is out of reach is no reason to end: it says so in
    /// its views ([`View::cut_off`]), keeps what it knew, and tries again.
    fn run(self: Box<Self>, links: Links) -> Running;
}

/// A store at work. It ends only with the reason why it cannot go on, for people.
pub type Running = Pin<Box<dyn Future<Output = String> + Send>>;

/// Who knows the pods of all nodes, and is asked when a person wants to see them: nothing else depends on them.
pub trait PodList: fmt::Debug + Send + Sync {
    /// All that can be had within that time, and not later.
    fn list(&self, patience: Duration) -> Listing<'_>;
}

/// Pods on their way.
pub type Listing<'a> = Pin<Box<dyn Future<Output = Arc<ListedPods>> + Send + 'a>>;

/// The pods of all nodes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListedPods {
    /// By node.
    pub pods: BTreeMap<NodeName, Vec<Pod>>,
    /// Why that is not all of them, if it is not.
    pub lacking: Option<String>,
}

/// What ties a store to the agent.
#[derive(Debug)]
pub struct Links {
    /// What this node knows of itself, now and after each change.
    pub local: watch::Receiver<Arc<Local>>,
    /// Where what it knows goes: at first a view of nobody.
    pub view: watch::Sender<Arc<View>>,
    /// What people ask of it.
    pub requests: mpsc::Receiver<Request>,
}

/// What people ask of a store.
#[derive(Debug)]
pub enum Request {
    /// Forget a node that will not come back, by id or name: its subnets become free.
    Forget {
        /// Which.
        node: String,
        /// What came of it, or why not.
        reply: oneshot::Sender<Result<Forgotten, String>>,
    },
}
