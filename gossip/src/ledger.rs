//! What all nodes of one process have written, for simulations: what any of them learns is compared with it, and held once.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::PeerId;
use crate::nodes::Node;
use crate::replica::{Change, Delta, Epoch, Replica};

/// What all nodes of one process have written, for simulations: see [`Gossip::witness`](crate::Gossip::witness).
///
/// An agent's process has one node; a simulation's has thousands, each of which holds what all others say. What one learns
/// must be what its owner wrote, to the letter; and who has learnt as much as another holds the same memory.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    /// A hash of the key and the value of each write. Only owners add to it.
    writes: HashMap<(PeerId, Epoch, u64), u64>,
    /// The most that is known of each node.
    latest: HashMap<PeerId, Shared>,
    fault: Option<String>,
}

#[derive(Debug)]
struct Shared {
    replica: Arc<Replica>,
    addresses: Arc<[SocketAddr]>,
}

impl Ledger {
    /// The first thing that a node has learnt and its owner has not written.
    pub fn fault(&self) -> Option<String> {
        self.pages().fault.clone()
    }

    /// An owner has written what is above a version.
    pub(crate) fn wrote(&self, id: PeerId, own: &Replica, since: u64) {
        let mut pages = self.pages();
        for change in own.changes().filter(|change| change.version > since) {
            pages.writes.insert((id, own.epoch, change.version), hash(&change));
        }
    }

    /// A node has taken in a delta.
    pub(crate) fn learnt(&self, delta: &Delta<'_>, node: &mut Node) {
        let mut pages = self.pages();
        for change in &delta.changes {
            let written = pages.writes.get(&(delta.id, delta.epoch, change.version));
            if written != Some(&hash(change)) {
                let key = String::from_utf8_lossy(change.key);
                let what = if written.is_some() { "otherwise" } else { "never" };
                let fault = format!(
                    "a node has learnt \"{key}\" of {:02x?}, {:?}, version {}, which wrote it {what}",
                    delta.id, delta.epoch, change.version
                );
                pages.fault.get_or_insert(fault);
            }
        }
        pages.place(node);
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Takes what is there, if it is the same; puts it there, if it is newer.
    fn place(&mut self, node: &mut Node) {
        let current = &node.held.current;
        let position = current.position();
        match self.latest.get(&node.id) {
            Some(shared) if shared.replica.position() == position => {
                if !shared.replica.entries().eq(current.entries()) {
                    let fault =
                        format!("two nodes differ in what they know of {:02x?} at {position:?}", node.id);
                    self.fault.get_or_insert(fault);
                    return;
                }
                node.held.current = Arc::clone(&shared.replica);
                if node.addresses == shared.addresses {
                    node.addresses = Arc::clone(&shared.addresses);
                }
            }
            Some(shared) if shared.replica.position().compare(&position).is_gt() => {}
            _ => {
                let shared = Shared { replica: Arc::clone(current), addresses: Arc::clone(&node.addresses) };
                self.latest.insert(node.id, shared);
            }
        }
    }
}

fn hash(change: &Change<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (change.key, change.value).hash(&mut hasher);
    hasher.finish()
}
