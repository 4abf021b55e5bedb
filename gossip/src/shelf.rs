//! What many nodes of one process hold alike, held once. A process of an agent has one node; a simulation has thousands, each of
//! which holds what all others say.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::PeerId;
use crate::nodes::Node;
use crate::replica::Replica;

/// What many nodes of one process hold alike, held once: see [`Gossip::share`](crate::Gossip::share).
#[derive(Debug, Default)]
pub struct Shelf {
    latest: Mutex<HashMap<PeerId, Shared>>,
}

#[derive(Debug)]
struct Shared {
    replica: Arc<Replica>,
    addresses: Arc<[SocketAddr]>,
}

impl Shelf {
    /// Takes what is there, if it is the same; puts it there, if it is newer.
    pub(crate) fn place(&self, node: &mut Node) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let position = node.held.current.position();
        match latest.get(&node.id) {
            Some(shared) if shared.replica.position() == position => {
                node.held.current = Arc::clone(&shared.replica);
                if node.addresses == shared.addresses {
                    node.addresses = Arc::clone(&shared.addresses);
                }
            }
            Some(shared) if shared.replica.position().compare(&position).is_gt() => {}
            _ => {
                let (replica, addresses) = (Arc::clone(&node.held.current), Arc::clone(&node.addresses));
                latest.insert(node.id, Shared { replica, addresses });
            }
        }
    }
}
