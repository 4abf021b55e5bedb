//! Every node that is known, found by its id; and hashes of how much is known of them, kept up to date with every change.
//!
//! A node's *place* is a hash of its id. Places are cut into 128 *buckets*; each has a hash of its nodes' positions, and the
//! *summary* is that of all. Hashes are combined by exclusive or, so that a change costs the same in a cluster of any size.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::message::{Life, State};
use crate::random::{Random, mix};
use crate::replica::{ADDRESSES, Held, Position};
use crate::roster::Roster;
use crate::wire::Reader;
use crate::{PeerId, Time};

/// How many buckets there are: their hashes fit half a datagram.
pub(crate) const BUCKETS: usize = 128;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: PeerId,
    pub(crate) held: Held,
    /// A whole replica of it has been seen: it is shown to the caller.
    pub(crate) is_shown: bool,
    pub(crate) life: Life,
    /// Since when it is so.
    pub(crate) since: Time,
    /// Where it says it is.
    pub(crate) addresses: Arc<[SocketAddr]>,
    /// Where it spoke from last.
    pub(crate) heard: Option<SocketAddr>,
    /// The lowest version that those who are to be told of its last change may have; and how often that is still to be done.
    pub(crate) told_since: u64,
    pub(crate) tellings: u8,
    /// It has not been sent on.
    pub(crate) is_fresh: bool,
    /// When its position was told last, for others to say what follows.
    pub(crate) asked: Option<Time>,
    /// How often it is still to be told how it is.
    pub(crate) life_tellings: u8,
    /// Where it is in the roster of nodes that are like it.
    at: u32,
}

impl Node {
    pub(crate) fn new(id: PeerId, held: Held, life: Life, since: Time) -> Self {
        let (addresses, heard) = (Arc::default(), None);
        let (told_since, tellings, life_tellings, at) = (0, 0, 0, 0);
        let (is_shown, is_fresh, asked) = (false, false, None);
        Self {
            id,
            held,
            is_shown,
            life,
            since,
            addresses,
            heard,
            told_since,
            tellings,
            is_fresh,
            asked,
            life_tellings,
            at,
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.held.latest().position()
    }

    /// Where to send what is for it.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.heard.or_else(|| self.addresses.first().copied())
    }

    /// Takes over the addresses that it says it has. Tells whether they are others than before.
    pub(crate) fn read_addresses(&mut self) -> bool {
        let mut value = Reader(self.held.current.get(ADDRESSES).unwrap_or_default());
        let told: Vec<_> = std::iter::from_fn(|| value.address().ok()).take(16).collect();
        let has_moved = *told != *self.addresses;
        if has_moved {
            self.addresses = told.into();
            // It has moved; it will be heard from there.
            self.heard =
                self.heard.filter(|address| self.addresses.is_empty() || self.addresses.contains(address));
        }
        has_moved
    }

    pub(crate) fn is_live(&self) -> bool {
        self.life.state <= State::Suspect
    }
}

/// What a node is filed under; the same on all nodes.
pub(crate) fn place(id: &PeerId) -> u64 {
    let (high, low) = id.split_at(8);
    let half = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    mix(half(high) ^ mix(half(low)))
}

fn bucket_of(place: u64) -> usize {
    (place >> (64 - BUCKETS.trailing_zeros())) as usize
}

fn hash(place: u64, position: &Position) -> u64 {
    let epoch = mix(position.epoch.incarnation.wrapping_add(u64::from(position.epoch.instance) << 32));
    mix(place ^ mix(epoch ^ mix(position.version)))
}

/// All nodes, this one included.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// Boxed: a table has more places than nodes.
    by_id: HashMap<PeerId, Box<Node>, Keyed>,
    buckets: Vec<Bucket>,
    summary: u64,
    /// The others that are alive or suspect.
    pub(crate) live: Roster,
    /// The others that are down.
    pub(crate) down: Roster,
}

#[derive(Debug, Default, Clone)]
struct Bucket {
    hash: u64,
    /// By their places.
    ids: Vec<(u64, PeerId)>,
}

impl Nodes {
    pub(crate) fn new(own: Node, seed: u64) -> Self {
        let mut nodes = Self {
            by_id: HashMap::with_hasher(Keyed(seed)),
            buckets: vec![Bucket::default(); BUCKETS],
            summary: 0,
            live: Roster::default(),
            down: Roster::default(),
        };
        nodes.file(own);
        nodes
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Node> {
        self.by_id.get(id).map(|node| &**node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_id.values().map(|node| &**node)
    }

    /// For changes that leave its position and life as they are.
    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Node> {
        self.by_id.get_mut(id).map(|node| &mut **node)
    }

    pub(crate) fn summary(&self) -> u64 {
        self.summary
    }

    /// The bucket's hash, shortened: a difference that hides shows when the next write comes, or in the summary.
    pub(crate) fn bucket(&self, bucket: usize) -> u32 {
        self.buckets.get(bucket).map_or(0, |bucket| (bucket.hash >> 32) as u32 ^ bucket.hash as u32)
    }

    /// The nodes of a range of places, in order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &(u64, PeerId)> {
        let buckets = self.buckets.get(bucket_of(from)..=bucket_of(to)).unwrap_or_default();
        let all = buckets.iter().flat_map(|bucket| &bucket.ids);
        all.filter(move |(place, _)| (from..=to).contains(place))
    }

    /// The range of a bucket.
    pub(crate) fn bounds(bucket: usize) -> (u64, u64) {
        let size = u64::MAX / BUCKETS as u64 + 1;
        let from = size * bucket as u64;
        (from, from + (size - 1))
    }

    /// Changes a node, its position and life too.
    pub(crate) fn change<T>(&mut self, id: &PeerId, change: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let node = self.by_id.get_mut(id)?;
        let (before, was_live) = (node.position(), node.is_live());
        let result = change(node);
        let (after, is_live, at) = (node.position(), node.is_live(), node.at);
        if before != after {
            let place = place(id);
            self.toggle(place, hash(place, &before) ^ hash(place, &after));
        }
        if was_live != is_live && at != OWN {
            self.leave_roster(was_live, at);
            self.enter_roster(id, is_live);
        }
        Some(result)
    }

    /// Another node.
    pub(crate) fn insert(&mut self, node: Node) {
        let (id, is_live) = (node.id, node.is_live());
        if self.file(node) {
            self.enter_roster(&id, is_live);
        }
    }

    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<Node> {
        let node = *self.by_id.remove(id)?;
        let place = place(id);
        self.toggle(place, hash(place, &node.position()));
        if let Some(bucket) = self.buckets.get_mut(bucket_of(place)) {
            bucket.ids.retain(|(_, other)| other != id);
        }
        self.leave_roster(node.is_live(), node.at);
        Some(node)
    }

    fn file(&mut self, mut node: Node) -> bool {
        node.at = OWN;
        let (id, position) = (node.id, node.position());
        let Entry::Vacant(vacant) = self.by_id.entry(id) else { return false };
        vacant.insert(Box::new(node));
        let place = place(&id);
        self.toggle(place, hash(place, &position));
        if let Some(bucket) = self.buckets.get_mut(bucket_of(place)) {
            let at = bucket.ids.partition_point(|other| *other < (place, id));
            bucket.ids.insert(at, (place, id));
        }
        true
    }

    fn toggle(&mut self, place: u64, hash: u64) {
        self.summary ^= hash;
        if let Some(bucket) = self.buckets.get_mut(bucket_of(place)) {
            bucket.hash ^= hash;
        }
    }

    fn enter_roster(&mut self, id: &PeerId, is_live: bool) {
        let roster = if is_live { &mut self.live } else { &mut self.down };
        let at = roster.push(*id);
        self.moved(id, at);
    }

    fn leave_roster(&mut self, was_live: bool, at: u32) {
        let roster = if was_live { &mut self.live } else { &mut self.down };
        for (id, at) in roster.remove(at).into_iter().flatten() {
            self.moved(&id, at);
        }
    }

    fn moved(&mut self, id: &PeerId, at: u32) {
        if let Some(node) = self.by_id.get_mut(id) {
            node.at = at;
        }
    }

    /// The next one to probe: every live one once, in an order that is another each time.
    pub(crate) fn next_live(&mut self, random: &mut Random) -> Option<PeerId> {
        let (id, moved) = self.live.next(random)?;
        for (id, at) in moved {
            self.moved(&id, at);
        }
        Some(id)
    }
}

/// Where this node is in a roster: in none.
const OWN: u32 = u32::MAX;

/// Hashes ids, which are random already, so that nobody outside can choose ones that collide.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyed(pub(crate) u64);

impl BuildHasher for Keyed {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            self.0 = mix(self.0 ^ word);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of an id: always the same.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replica::{Epoch, Replica};

    fn node(number: u8, versions: u8) -> Node {
        let mut replica = Replica::new(Epoch { incarnation: 1, instance: number.into() });
        for version in 0..versions {
            replica.write(&[version], Some(&[]));
        }
        let life = Life { incarnation: 1, beat: 0, state: State::Alive };
        Node::new([number; 16], Held::of(replica), life, Time::ZERO)
    }

    proptest! {
        #[test]
        fn who_knows_the_same_has_the_same_hashes(
            acts in prop::collection::vec((0_u8..3, 1_u8..40), 0..100),
        ) {
            let mut nodes = Nodes::new(node(0, 1), 1);
            for (act, number) in acts {
                let id = [number; 16];
                match act {
                    0 => nodes.insert(node(number, 1)),
                    1 => drop(nodes.remove(&id)),
                    _ => {
                        let down = nodes.get(&id).is_some_and(|node| node.life.state == State::Down);
                        nodes.change(&id, |node| {
                            node.held.current_mut().write(b"k", Some(&[]));
                            node.life.state = if down { State::Alive } else { State::Down };
                        });
                    }
                }
            }
            // Told in another order, by another node's random numbers.
            let mut others = Nodes::new(node(0, 1), 2);
            let mut known: Vec<_> = nodes.iter().filter(|node| node.id != [0; 16]).collect();
            known.sort_unstable_by_key(|node| std::cmp::Reverse(node.id));
            for known in known {
                others.insert(Node::new(known.id, known.held.clone(), known.life, Time::ZERO));
            }
            prop_assert_eq!(nodes.summary(), others.summary());
            prop_assert!((0..BUCKETS).all(|bucket| nodes.bucket(bucket) == others.bucket(bucket)));
            prop_assert!(nodes.range(0, u64::MAX).eq(others.range(0, u64::MAX)));
            prop_assert_eq!(nodes.range(0, u64::MAX).count(), nodes.len());
            prop_assert_eq!((nodes.live.len(), nodes.down.len()), (others.live.len(), others.down.len()));
            prop_assert_eq!(nodes.live.len() + nodes.down.len() + 1, nodes.len());
        }
    }

    #[test]
    fn buckets_cover_all_places() {
        let bounds: Vec<_> = (0..BUCKETS).map(Nodes::bounds).collect();
        assert_eq!((bounds[0].0, bounds[BUCKETS - 1].1), (0, u64::MAX));
        assert!(bounds.windows(2).all(|two| two[0].1 + 1 == two[1].0));
        assert!(
            bounds.iter().enumerate().all(|(at, (from, to))| bucket_of(*from) == at && bucket_of(*to) == at)
        );
    }
}
