//! What one node says, as its owner or another node holds it (scuttlebutt: van Renesse et al. 2008).
//!
//! Each write has a version, one higher than any before. Who holds a replica up to version `v` has seen *every* write up to
//! `v`: deltas carry entries in the order of versions, and one that begins above `v` is refused. So one number says what a
//! replica lacks.
//!
//! A deleted key is remembered as such (a tombstone) for a while. When tombstones are dropped, the *horizon* rises to the
//! highest version of them: who is below another's horizon may hold keys whose deletion nobody remembers, and is told the
//! whole state anew.
//!
//! A whole state may be longer than a datagram. It is put together beside the replica that it replaces ([`Replica::target`]),
//! which stays in use until then: nobody sees half a node.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::PeerId;
use crate::wire::{Garbled, Reader, Writer};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 127;
/// The longest key and value together, in bytes: with all that goes with them they fit a datagram.
pub const MAX_ENTRY: usize = 960;
/// How many keys a node may have, deleted ones included.
pub(crate) const MAX_ENTRIES: usize = 16_384;
/// How many bytes they may have together.
pub(crate) const MAX_BYTES: usize = 2 << 20;
/// The key of a node's addresses. No text, so that it is nobody's.
pub(crate) const ADDRESSES: &[u8] = &[0xff];

/// A node's life: what it writes in one replaces what it wrote in lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Epoch {
    /// Counted by the owner, and kept on its disk.
    pub(crate) incarnation: u64,
    /// Drawn when the owner starts: two processes that believe to be the same node, or one whose disk was set back, never
    /// write into one history.
    pub(crate) instance: u32,
}

/// How much of a node's writes another holds. Two that are at one position hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) version: u64,
    pub(crate) horizon: u64,
}

impl Position {
    /// Which of two has more.
    pub fn compare(&self, other: &Self) -> Ordering {
        (self.epoch, self.version).cmp(&(other.epoch, other.version))
    }
}

/// A node's writes, up to a version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) epoch: Epoch,
    pub(crate) version: u64,
    pub(crate) horizon: u64,
    /// The version that makes it whole.
    pub(crate) target: u64,
    bytes: usize,
    /// In the order of their keys.
    entries: Vec<Entry>,
}

/// A key, its value or that it has none any more, and when it was written. One allocation: there are many.
#[derive(Debug, Clone)]
struct Entry {
    version: u64,
    /// The key's length (its highest bit: deleted), the key, the value.
    bytes: Box<[u8]>,
}

const DELETED: u8 = 0x80;

impl Entry {
    fn new(change: &Change<'_>) -> Self {
        let value = change.value.unwrap_or_default();
        let mut bytes = Vec::with_capacity(1 + change.key.len() + value.len());
        bytes.push(change.key.len() as u8 | if change.value.is_none() { DELETED } else { 0 });
        bytes.extend_from_slice(change.key);
        bytes.extend_from_slice(value);
        Self { version: change.version, bytes: bytes.into() }
    }

    fn change(&self) -> Change<'_> {
        let (head, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        let (key, value) = rest.split_at_checked(usize::from(head & !DELETED)).unwrap_or_default();
        Change { version: self.version, key, value: (head & DELETED == 0).then_some(value) }
    }

    fn key(&self) -> &[u8] {
        self.change().key
    }
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) version: u64,
    pub(crate) key: &'a [u8],
    /// Nothing: deleted.
    pub(crate) value: Option<&'a [u8]>,
}

/// A run of a node's writes: all that are above one version, up to another.
#[derive(Debug, Clone)]
pub(crate) struct Delta<'a> {
    pub(crate) id: PeerId,
    /// How the sender saw the node, for those who have not seen it at all.
    pub(crate) beat: u64,
    pub(crate) state: u8,
    pub(crate) epoch: Epoch,
    pub(crate) since: u64,
    pub(crate) upto: u64,
    pub(crate) target: u64,
    pub(crate) horizon: u64,
    pub(crate) changes: Vec<Change<'a>>,
}

/// How far a delta goes that was written, and how many bytes the rest has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) upto: u64,
    pub(crate) rest: usize,
}

/// What came of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merged {
    /// All of it was known, or replaced.
    Old,
    /// It begins above what is known, or what it leaves out may matter.
    Gap,
    /// A whole state grows, and is not whole yet.
    Growing,
    /// What the delta has above the version that was known.
    Changed,
    /// The whole.
    Replaced,
}

impl Replica {
    /// Of a life that begins.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch, ..Self::default() }
    }

    pub(crate) const fn nothing() -> Self {
        let epoch = Epoch { incarnation: 0, instance: 0 };
        Self { epoch, version: 0, horizon: 0, target: 0, bytes: 0, entries: Vec::new() }
    }

    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.epoch, version: self.version, horizon: self.horizon }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.version >= self.target
    }

    /// Who is at this position can be told what follows it.
    pub(crate) fn continues(&self, position: &Position) -> bool {
        position.epoch == self.epoch && (position.version >= self.horizon || position.horizon >= self.horizon)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let at = self.find(key).ok()?;
        self.entries.get(at)?.change().value
    }

    /// The keys that are text and have a value, in their order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().filter_map(|entry| {
            let change = entry.change();
            Some((std::str::from_utf8(change.key).ok()?, change.value?))
        })
    }

    /// What was written above a version, as far as it still counts, in the order of keys: those that are text.
    pub(crate) fn changed(&self, since: u64) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let new = self.entries.iter().filter(move |entry| entry.version > since);
        new.filter_map(|entry| {
            let change = entry.change();
            Some((std::str::from_utf8(change.key).ok()?, change.value))
        })
    }

    /// All writes that still count, deletions among them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.entries.iter().map(Entry::change)
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(key))
    }

    /// Whether a key and a value of these lengths can be added to it.
    pub(crate) fn has_room(&self, key: usize, value: usize) -> bool {
        self.entries.len() < MAX_ENTRIES && self.bytes + key + value < MAX_BYTES
    }

    /// Writes as the owner does. Tells the version.
    pub(crate) fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> u64 {
        self.version += 1;
        self.target = self.version;
        self.put(&Change { version: self.version, key, value });
        self.version
    }

    fn put(&mut self, change: &Change<'_>) {
        let entry = Entry::new(change);
        self.bytes += entry.bytes.len();
        match self.find(change.key) {
            Ok(at) => {
                if let Some(old) = self.entries.get_mut(at) {
                    self.bytes -= old.bytes.len();
                    *old = entry;
                }
            }
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Forgets that the key of a version was deleted, if it still is by that.
    pub(crate) fn collect(&mut self, version: u64) {
        let found = self.entries.iter().position(|entry| entry.version == version);
        let Some(at) = found.filter(|at| self.entries.get(*at).is_some_and(|e| e.change().value.is_none()))
        else {
            return;
        };
        self.bytes -= self.entries.remove(at).bytes.len();
        self.horizon = self.horizon.max(version);
    }

    /// Goes on in another life: all that is alive counts as written in it.
    pub(crate) fn move_to(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.entries.retain(|entry| entry.change().value.is_some());
        self.bytes = self.entries.iter().map(|entry| entry.bytes.len()).sum();
        self.horizon = 0;
    }

    /// Adds what follows. The caller has made sure that it does.
    fn extend(&mut self, delta: &Delta<'_>) -> bool {
        let new = delta.above(self.version);
        let bytes: usize =
            new.clone().map(|change| change.key.len() + 1 + change.value.unwrap_or_default().len()).sum();
        // An owner keeps to the same bounds; this one is none of ours.
        if self.entries.len() + new.clone().count() > 2 * MAX_ENTRIES || self.bytes + bytes > 2 * MAX_BYTES {
            return false;
        }
        new.for_each(|change| self.put(change));
        self.version = self.version.max(delta.upto);
        true
    }

    /// Writes the delta that a position lacks, as much as fits. None if nothing fits.
    pub(crate) fn write_delta(
        &self,
        to: &mut Writer,
        id: &PeerId,
        (beat, state): (u64, u8),
        theirs: &Position,
    ) -> Option<Written> {
        let since = if self.continues(theirs) { theirs.version } else { 0 };
        if since > self.version {
            return None;
        }
        let mut changes: Vec<_> = self.entries.iter().filter(|entry| entry.version > since).collect();
        changes.sort_unstable_by_key(|entry| entry.version);
        let mut written = Written { upto: self.version, rest: 0 };
        let any = to.part(super::message::DELTA, |to| {
            to.id(id);
            to.number(beat);
            to.u8(state);
            to.number(self.epoch.incarnation);
            to.u32(self.epoch.instance);
            to.number(since);
            to.number(self.target.max(self.version));
            to.number(self.horizon);
            // How far it goes is known when it is full; the field's width is fixed.
            let head = to.len();
            to.u64(0);
            let mut last = since;
            let mut changes = changes.iter();
            for entry in changes.by_ref() {
                let change = entry.change();
                if !to.attempt(|to| write_change(to, &change, last)) {
                    let rest = changes.map(|entry| entry.bytes.len()).sum::<usize>();
                    written = Written { upto: last, rest: rest + entry.bytes.len() };
                    break;
                }
                last = change.version;
            }
            to.patch(head, &written.upto.to_le_bytes());
            written.upto > since
        });
        any.then_some(written)
    }
}

fn write_change(to: &mut Writer, change: &Change<'_>, last: u64) -> bool {
    to.number(change.version - last);
    to.u8(change.key.len() as u8 | if change.value.is_none() { DELETED } else { 0 });
    to.raw(change.key);
    if let Some(value) = change.value {
        to.number(value.len() as u64);
        to.raw(value);
    }
    true
}

impl<'a> Delta<'a> {
    /// Where one is who has it.
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.epoch, version: self.upto, horizon: self.horizon }
    }

    /// Who is at a position has all that it is a part of.
    pub(crate) fn is_old(&self, position: &Position) -> bool {
        self.epoch < position.epoch || (self.epoch == position.epoch && self.target <= position.version)
    }

    /// What is news to whoever is at a version.
    pub(crate) fn above(&self, version: u64) -> impl Iterator<Item = &Change<'a>> + Clone {
        self.changes.iter().filter(move |change| change.version > version)
    }

    /// Reads what [`Replica::write_delta`] writes.
    pub(crate) fn read(mut from: Reader<'a>) -> Result<Self, Garbled> {
        let id = from.array()?;
        let beat = from.count()?;
        let state = from.u8()?;
        let epoch = Epoch { incarnation: from.count()?, instance: from.u32()? };
        let since = from.count()?;
        let target = from.count()?;
        let horizon = from.count()?;
        let upto = from.u64()?;
        let changes = Vec::new();
        let mut delta = Self { id, beat, state, epoch, since, upto, target, horizon, changes };
        let mut last = since;
        while !from.is_empty() {
            let change = read_change(&mut from, last)?;
            if delta.changes.len() >= 2 * MAX_ENTRIES {
                return Err(Garbled);
            }
            last = change.version;
            delta.changes.push(change);
        }
        let is_sound = last <= upto && since <= upto && upto <= target && horizon <= target;
        if is_sound { Ok(delta) } else { Err(Garbled) }
    }
}

fn read_change<'a>(from: &mut Reader<'a>, last: u64) -> Result<Change<'a>, Garbled> {
    let step = from.number()?;
    let version = last.checked_add(step).filter(|_| step > 0).ok_or(Garbled)?;
    let head = from.u8()?;
    let key = from.bytes(usize::from(head & !DELETED))?;
    if key != ADDRESSES && std::str::from_utf8(key).is_err() {
        return Err(Garbled);
    }
    if head & DELETED != 0 {
        return Ok(Change { version, key, value: None });
    }
    let length = usize::try_from(from.number()?).map_err(|_| Garbled)?;
    if key.len().saturating_add(length) > MAX_ENTRY {
        return Err(Garbled);
    }
    Ok(Change { version, key, value: Some(from.bytes(length)?) })
}

/// A replica, and the one that is to replace it, while that is not whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// Others in this process may hold the very same: see [`Ledger`](crate::Ledger).
    pub(crate) current: Arc<Replica>,
    growing: Option<Box<Replica>>,
}

impl Held {
    pub(crate) fn of(current: Replica) -> Self {
        Self { current: Arc::new(current), growing: None }
    }

    pub(crate) fn current_mut(&mut self) -> &mut Replica {
        Arc::make_mut(&mut self.current)
    }

    /// Nothing is to replace it.
    pub(crate) fn is_whole(&self) -> bool {
        self.growing.is_none()
    }

    /// The one that has more: what others are told of, and told.
    pub(crate) fn latest(&self) -> &Replica {
        self.growing.as_deref().unwrap_or(&self.current)
    }

    pub(crate) fn merge(&mut self, delta: &Delta<'_>) -> Merged {
        let latest = self.latest();
        if delta.is_old(&latest.position()) {
            return Merged::Old;
        }
        let follows = delta.epoch == latest.epoch
            && delta.since <= latest.version
            && (latest.version >= delta.horizon || latest.horizon >= delta.horizon);
        if follows {
            if delta.upto <= latest.version {
                return Merged::Old;
            }
            let is_whole = self.growing.is_none();
            let latest = match &mut self.growing {
                Some(growing) => growing,
                None => Arc::make_mut(&mut self.current),
            };
            if !latest.extend(delta) {
                return Merged::Old;
            }
            return if is_whole {
                // What a delta names as its target may be more than it brings; a whole replica is whole where it ends.
                latest.target = latest.version;
                Merged::Changed
            } else {
                self.settle()
            };
        }
        if delta.since > 0 {
            return Merged::Gap;
        }
        let mut anew = Replica::new(delta.epoch);
        anew.horizon = delta.horizon;
        anew.target = delta.target;
        if !anew.extend(delta) {
            return Merged::Old;
        }
        self.growing = Some(Box::new(anew));
        self.settle()
    }

    fn settle(&mut self) -> Merged {
        match self.growing.take_if(|growing| growing.is_whole()) {
            Some(whole) => {
                self.current = Arc::new(*whole);
                Merged::Replaced
            }
            None => Merged::Growing,
        }
    }
}

#[cfg(test)]
mod tests;
