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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use crate::message::{Life, State};
    use crate::replica::Held;

    const OWNER: PeerId = [7; 16];
    const EPOCH: Epoch = Epoch { incarnation: 1, instance: 5 };

    /// A replica in which a key has a value.
    fn replica(value: &[u8]) -> Replica {
        let mut replica = Replica::new(EPOCH);
        replica.write(b"key", Some(value));
        replica
    }

    /// Has another node learn what a replica has, after its owner has written `true`. Tells what is wrong with it.
    fn fault_of(learnt: &[Replica]) -> Option<String> {
        let ledger = Ledger::default();
        ledger.wrote(OWNER, &replica(b"true"), 0);
        for replica in learnt {
            let changes: Vec<_> = replica.changes().collect();
            let (upto, horizon) = (replica.version, replica.horizon);
            let (id, epoch) = (OWNER, replica.epoch);
            let delta =
                Delta { id, beat: 0, state: 0, epoch, since: 0, upto, target: upto, horizon, changes };
            let life = Life { incarnation: 1, beat: 0, state: State::Alive };
            let mut node = Node::new(OWNER, Held::of(replica.clone()), life, Time::ZERO);
            ledger.learnt(&delta, &mut node);
        }
        ledger.fault()
    }

    #[test]
    fn what_was_written_may_be_learnt_again_and_again() {
        assert_eq!(fault_of(&[replica(b"true"), replica(b"true")]), None);
    }

    #[test]
    fn a_forged_value_is_found() {
        let fault = fault_of(&[replica(b"true"), replica(b"forged")]).unwrap();
        assert!(fault.contains("\"key\"") && fault.contains("wrote it otherwise"), "{fault}");
    }

    #[test]
    fn what_its_owner_never_wrote_is_found() {
        let mut more = replica(b"true");
        more.write(b"other", Some(b"word"));
        let fault = fault_of(&[more]).unwrap();
        assert!(fault.contains("\"other\"") && fault.contains("wrote it never"), "{fault}");
    }

    #[test]
    fn two_that_have_learnt_as_much_and_differ_are_found() {
        // The same versions without their content: as a node would hold that lost something.
        let mut empty = replica(b"true");
        empty.write(b"key", None);
        let mut full = replica(b"true");
        full.write(b"other", Some(b"word"));
        let ledger = Ledger::default();
        for replica in [&empty, &full] {
            ledger.wrote(OWNER, replica, 0);
            let life = Life { incarnation: 1, beat: 0, state: State::Alive };
            let mut node = Node::new(OWNER, Held::of(replica.clone()), life, Time::ZERO);
            ledger.pages().place(&mut node);
        }
        assert!(ledger.fault().unwrap().contains("two nodes differ"));
    }
}
