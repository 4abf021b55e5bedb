//! What all nodes of one process have written, for simulations: what any of them learns is compared with it, and held once.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::gossip::{Event, Gossip};
use crate::node::Node;
use crate::nodes::Keyed;
use crate::replica::{Change, Delta, Epoch, Held, Merged, Position, Replica};
use crate::{PeerId, Time};

/// What all nodes of one process have written, for simulations: see [`Gossip::witness`](crate::Gossip::witness).
///
/// An agent's process has one node; a simulation's has thousands, each of which holds what all others say. What one learns
/// must be what its owner wrote, to the letter; and who has learnt as much as another holds the same memory. What becomes of
/// that memory by a delta is worked out, and compared, once for all who hold the one and are sent the other.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    by_id: HashMap<PeerId, Page, Keyed>,
    fault: Option<String>,
}

/// What a node has written, and what others hold of it.
#[derive(Debug, Default)]
struct Page {
    /// A hash of the key and the value of each write of a life, by its version; 0 where there was none. Only the owner adds
    /// to it.
    writes: BTreeMap<Epoch, Vec<u64>>,
    /// What somebody holds.
    held: Vec<(Position, Weak<Replica>)>,
    steps: Vec<Step>,
    addresses: Arc<[SocketAddr]>,
}

/// What a replica becomes by a delta: one of a node that was not known, the whole of it.
#[derive(Debug)]
struct Step {
    before: Option<Weak<Replica>>,
    delta: u64,
    after: Weak<Replica>,
}

impl Ledger {
    /// The first thing that a node has learnt and its owner has not written.
    pub fn fault(&self) -> Option<String> {
        self.pages().fault.clone()
    }

    /// An owner has written what is above a version.
    pub(crate) fn wrote(&self, id: PeerId, own: &Replica, since: u64) {
        let mut pages = self.pages();
        let writes = pages.by_id.entry(id).or_default().writes.entry(own.epoch).or_default();
        for change in own.changes().filter(|change| change.version > since) {
            let at = change.version as usize;
            writes.resize(writes.len().max(at + 1), 0);
            if let Some(written) = writes.get_mut(at) {
                *written = hash(&change);
            }
        }
    }

    /// A node takes in a delta.
    pub(crate) fn merge(&self, delta: &Delta<'_>, held: &mut Held) -> Merged {
        let pages = &mut *self.pages();
        let page = pages.by_id.entry(delta.id).or_default();
        // What is put together of several deltas is worked out by each; what is old, sooner than looked up.
        if !held.is_whole() || delta.position().compare(&held.current.position()).is_le() {
            return page.merge(delta, held, &mut pages.fault);
        }
        let is_new = held.current.position() == Position::default();
        let (hash, expected) = (delta.hash(), if is_new { Merged::Replaced } else { Merged::Changed });
        if let Some(after) = page.step((!is_new).then_some(&held.current), hash) {
            held.current = after;
            return expected;
        }
        let before = (!is_new).then(|| Arc::downgrade(&held.current));
        let merged = page.merge(delta, held, &mut pages.fault);
        if merged == expected {
            let step = Step { before, delta: hash, after: Arc::downgrade(&held.current) };
            put(&mut page.steps, step, |step| step.after.strong_count() > 0);
        }
        merged
    }

    /// Where a node is, as it says, is in memory once.
    pub(crate) fn share_addresses(&self, node: &mut Node) {
        let mut pages = self.pages();
        let shared = &mut pages.by_id.entry(node.id).or_default().addresses;
        if *shared == node.addresses {
            node.addresses = Arc::clone(shared);
        } else {
            *shared = Arc::clone(&node.addresses);
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that a node says, as it has it in memory: for simulations.
#[derive(Debug, Clone)]
pub struct Said {
    id: PeerId,
    replica: Arc<Replica>,
}

impl Gossip {
    /// All that it says itself, for others of this process.
    pub fn said(&self) -> Option<Said> {
        let own = self.nodes.get(&self.id)?;
        Some(Said { id: self.id, replica: Arc::clone(&own.held.current) })
    }

    /// Knows at once what nodes that it knows say now, without a message: where thousands begin with much. Others are not told.
    pub fn know(&mut self, now: Time, said: &[Said]) {
        self.wake(now);
        for Said { id, replica } in said.iter().filter(|said| said.id != self.id) {
            let is_news = |node: &&Node| {
                let position = node.position();
                position.epoch == replica.epoch && position.version < replica.version && node.held.is_whole()
            };
            let Some(node) = self.nodes.get(id).filter(is_news) else { continue };
            let since = node.position().version;
            self.nodes.change(id, |node| node.held.current = Arc::clone(replica));
            self.events.push_back(Event::Changed { id: *id, since });
        }
    }
}

impl Page {
    /// Merges, and compares what is new.
    fn merge(&mut self, delta: &Delta<'_>, held: &mut Held, fault: &mut Option<String>) -> Merged {
        let merged = held.merge(delta);
        if !matches!(merged, Merged::Old | Merged::Gap) {
            let found = self.compare(delta).or_else(|| self.place(&delta.id, &mut held.current));
            *fault = fault.take().or(found);
        }
        merged
    }

    /// What a replica becomes by a delta, if that was worked out.
    fn step(&self, before: Option<&Arc<Replica>>, delta: u64) -> Option<Arc<Replica>> {
        let before = before.map(Arc::as_ptr);
        let is_it = |step: &&Step| step.delta == delta && step.before.as_ref().map(Weak::as_ptr) == before;
        self.steps.iter().rev().find(is_it)?.after.upgrade()
    }

    /// What is wrong with a delta: something that its owner did not write.
    fn compare(&self, delta: &Delta<'_>) -> Option<String> {
        let writes = self.writes.get(&delta.epoch);
        let written =
            |change: &Change<'_>| writes?.get(change.version as usize).copied().filter(|hash| *hash != 0);
        let forged = delta.changes.iter().find(|change| written(change) != Some(hash(change)))?;
        let what = if written(forged).is_some() { "otherwise" } else { "never" };
        Some(format!(
            "a node has learnt \"{}\" of {:02x?}, {:?}, version {}, which wrote it {what}",
            String::from_utf8_lossy(forged.key),
            delta.id,
            delta.epoch,
            forged.version
        ))
    }

    /// Takes what somebody holds, if it is the same; else others take this. What is wrong, if two differ.
    fn place(&mut self, id: &PeerId, current: &mut Arc<Replica>) -> Option<String> {
        let position = current.position();
        let known = self.held.iter().rev().filter(|(at, _)| *at == position);
        let Some(shared) = known.filter_map(|(_, replica)| replica.upgrade()).next() else {
            let known = (position, Arc::downgrade(current));
            put(&mut self.held, known, |(_, replica)| replica.strong_count() > 0);
            return None;
        };
        if !shared.entries().eq(current.entries()) {
            return Some(format!("two nodes differ in what they know of {id:02x?} at {position:?}"));
        }
        *current = shared;
        None
    }
}

/// Puts one more to others; of those that nobody holds any more are taken out when they are many.
fn put<T>(items: &mut Vec<T>, item: T, is_held: impl Fn(&T) -> bool) {
    if items.len() == items.capacity() {
        items.retain(is_held);
        items.reserve(items.len() + 4);
    }
    items.push(item);
}

impl Delta<'_> {
    /// Of all that decides what becomes of a replica by it.
    fn hash(&self) -> u64 {
        let Epoch { incarnation, instance } = self.epoch;
        let head = [incarnation, instance.into(), self.since, self.upto, self.target, self.horizon];
        let head = head.into_iter().fold(0, fold);
        self.changes.iter().fold(head, |sum, change| fold(fold(sum, change.version), hash(change)))
    }
}

/// Of a key and its value, or that it has none.
fn hash(change: &Change<'_>) -> u64 {
    let bytes = |sum, bytes: &[u8]| {
        let (words, rest) = bytes.as_chunks::<8>();
        let sum = words
            .iter()
            .fold(fold(sum, bytes.len() as u64), |sum, word| fold(sum, u64::from_le_bytes(*word)));
        rest.iter().fold(sum, |sum, byte| fold(sum, (*byte).into()))
    };
    match change.value {
        Some(value) => bytes(bytes(1, change.key), value),
        None => bytes(2, change.key),
    }
}

/// One more word in a hash: the halves of a product, over one another.
fn fold(sum: u64, word: u64) -> u64 {
    let product = u128::from(sum ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xbf58_476d_1ce4_e5b9);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: PeerId = [7; 16];
    const EPOCH: Epoch = Epoch { incarnation: 1, instance: 5 };

    /// A replica in which a key has a value.
    fn replica(value: &[u8]) -> Replica {
        let mut replica = Replica::new(EPOCH);
        replica.write(b"key", Some(value));
        replica
    }

    /// What a replica has from one version on to another.
    fn delta(replica: &Replica, since: u64, upto: u64) -> Delta<'_> {
        let is_in = |change: &Change<'_>| change.version > since && change.version <= upto;
        let changes: Vec<_> = replica.changes().filter(is_in).collect();
        let (target, horizon, epoch) = (replica.version, replica.horizon, replica.epoch);
        Delta { id: OWNER, beat: 0, state: 0, epoch, since, upto, target, horizon, changes }
    }

    /// Has another node learn what a replica has, after its owner has written `true`. Tells what is wrong with it.
    fn fault_of(learnt: &[Replica]) -> Option<String> {
        let ledger = Ledger::default();
        ledger.wrote(OWNER, &replica(b"true"), 0);
        for replica in learnt {
            ledger.merge(&delta(replica, 0, replica.version), &mut Held::default());
        }
        ledger.fault()
    }

    #[test]
    fn who_knew_the_same_and_learns_the_same_holds_the_same() {
        let mut owner = replica(b"true");
        owner.write(b"other", Some(b"word"));
        let ledger = Ledger::default();
        ledger.wrote(OWNER, &owner, 0);
        let [mut one, mut other] = [Held::default(), Held::default()];
        let first = replica(b"true");
        for (delta, expected) in
            [(delta(&first, 0, 1), Merged::Replaced), (delta(&owner, 1, 2), Merged::Changed)]
        {
            assert_eq!([&mut one, &mut other].map(|held| ledger.merge(&delta, held)), [expected, expected]);
            assert!(Arc::ptr_eq(&one.current, &other.current));
        }
        assert!(one.current.changes().eq(owner.changes()));
        // The same versions, and other words: that it was worked out once makes nobody believe it.
        let mut forged = replica(b"true");
        forged.write(b"other", Some(b"lie"));
        let mut third = Held::default();
        ledger.merge(&delta(&first, 0, 1), &mut third);
        ledger.merge(&delta(&forged, 1, 2), &mut third);
        assert!(ledger.fault().unwrap().contains("wrote it otherwise"));
    }

    #[test]
    fn the_last_part_of_a_long_state_makes_nobody_whole_who_lacks_the_first() {
        let mut owner = replica(b"true");
        owner.write(b"other", Some(b"word"));
        let ledger = Ledger::default();
        ledger.wrote(OWNER, &owner, 0);
        let [mut one, mut other] = [Held::default(), Held::default()];
        assert_eq!(ledger.merge(&delta(&owner, 0, 1), &mut one), Merged::Growing);
        assert_eq!(ledger.merge(&delta(&owner, 1, 2), &mut one), Merged::Replaced);
        assert_eq!(ledger.merge(&delta(&owner, 1, 2), &mut other), Merged::Gap);
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
        let mut all = Vec::new();
        for replica in [&empty, &full] {
            ledger.wrote(OWNER, replica, 0);
            let mut pages = ledger.pages();
            let page = pages.by_id.entry(OWNER).or_default();
            let mut held = Arc::new(replica.clone());
            let fault = page.place(&OWNER, &mut held);
            all.push(held);
            pages.fault = fault;
        }
        assert!(ledger.fault().unwrap().contains("two nodes differ"));
    }
}
