//! What many nodes of one process know alike, held once: for simulations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gossip::{Gossip, Position};

use super::nodes::Keys;
use crate::id::NodeId;
use crate::node::Node;

/// What many nodes of one process know alike, held once: see [`Mesh::share`](super::Mesh::share).
#[derive(Debug, Default)]
pub struct Shelf {
    gossip: Arc<gossip::Shelf>,
    /// As read by whoever was first.
    read: Mutex<HashMap<NodeId, (Position, Shared)>>,
}

#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) keys: Keys,
}

impl Shelf {
    pub(super) fn gossip(&self) -> &Arc<gossip::Shelf> {
        &self.gossip
    }

    /// What another one has read, if it was what this one would read.
    pub(super) fn get(&self, id: &NodeId, gossip: &Gossip) -> Option<Shared> {
        let position = gossip.position(id.as_bytes())?;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(id).filter(|(at, _)| *at == position).map(|(_, shared)| shared.clone())
    }

    pub(super) fn put(&self, id: &NodeId, gossip: &Gossip, node: Arc<Node>, keys: Keys) {
        if let Some(position) = gossip.position(id.as_bytes()) {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.get(id).is_none_or(|(at, _)| at.compare(&position).is_lt()) {
                read.insert(*id, (position, Shared { node, keys }));
            }
        }
    }
}
