//! What many nodes of one process know alike: for simulations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gossip::{Gossip, Ledger, Position};

use crate::claim::Stake;
use crate::id::NodeId;
use crate::node::Node;

/// What many nodes of one process know alike: see [`Mesh::share`](super::Mesh::share).
#[derive(Debug, Default)]
pub struct Shelf {
    ledger: Arc<Ledger>,
    /// As read by whoever was first. Nothing: each reads for itself.
    read: Option<Mutex<HashMap<NodeId, Known>>>,
}

/// What is known of a node: one has heard more of it than another.
type Known = Vec<(Position, Shared)>;

#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) stakes: Arc<[Stake]>,
}

impl Shelf {
    /// One from which nodes take what others have read, instead of reading it themselves: a fourth of the memory.
    pub fn of_what_is_read() -> Self {
        Self { read: Some(Mutex::default()), ..Self::default() }
    }

    /// The first thing that a node has heard and its owner has not said.
    pub fn fault(&self) -> Option<String> {
        self.ledger.fault()
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What another one has read, if it was what this one would read.
    pub(super) fn get(&self, id: &NodeId, gossip: &Gossip) -> Option<Shared> {
        let read = self.read.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let position = gossip.position(id.as_bytes())?;
        let (_, shared) = read.get(id)?.iter().rev().find(|(at, _)| *at == position)?;
        Some(shared.clone())
    }

    pub(super) fn put(&self, id: &NodeId, gossip: &Gossip, shared: Shared) {
        if let Some((read, position)) = self.read.as_ref().zip(gossip.position(id.as_bytes())) {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            let known = read.entry(*id).or_default();
            if known.len() == known.capacity() {
                // What nobody has any more.
                known.retain(|(_, shared)| Arc::strong_count(&shared.node) > 1);
                known.reserve(known.len() + 4);
            }
            known.push((position, shared));
        }
    }
}
