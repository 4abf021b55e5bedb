//! Every node that is known, found by its id; and hashes of how much is known of them, kept up to date with every change.
//!
//! A node's *place* is a hash of its id. Places are cut into 128 *buckets*; each has a hash of its nodes' positions, and the
//! *summary* is that of all. Hashes are combined by exclusive or, so that a change costs the same in a cluster of any size.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};

use crate::PeerId;
use crate::node::Node;
use crate::random::{Random, mix};
use crate::replica::Position;
use crate::roster::Roster;

/// How many buckets there are: their hashes fit half a datagram.
pub(crate) const BUCKETS: usize = 128;

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
    /// In no order. Where one is in here is its number, in all that follows.
    all: Vec<Node>,
    by_id: HashMap<PeerId, u32, Keyed>,
    buckets: Vec<Bucket>,
    summary: u64,
    /// The others that are alive or suspect.
    live: Roster,
    /// The others that are down.
    down: Roster,
}

#[derive(Debug, Default, Clone)]
struct Bucket {
    hash: u64,
    /// By their places.
    nodes: Vec<u32>,
}

impl Nodes {
    pub(crate) fn new(own: Node, seed: u64) -> Self {
        let mut nodes = Self {
            all: Vec::new(),
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
        self.all.len()
    }

    pub(crate) fn get(&self, id: &PeerId) -> Option<&Node> {
        self.at(*self.by_id.get(id)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_id.values().filter_map(|number| self.at(*number))
    }

    /// For changes that leave its position and life as they are.
    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Node> {
        let number = *self.by_id.get(id)?;
        self.at_mut(number)
    }

    fn at(&self, number: u32) -> Option<&Node> {
        self.all.get(number as usize)
    }

    fn at_mut(&mut self, number: u32) -> Option<&mut Node> {
        self.all.get_mut(number as usize)
    }

    pub(crate) fn summary(&self) -> u64 {
        self.summary
    }

    /// The bucket's hash, shortened: a difference that hides shows when the next write comes, or in the summary.
    pub(crate) fn bucket(&self, bucket: usize) -> u32 {
        self.buckets.get(bucket).map_or(0, |bucket| (bucket.hash >> 32) as u32 ^ bucket.hash as u32)
    }

    /// The nodes of a range of places, in order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Node> {
        let buckets = self.buckets.get(bucket_of(from)..=bucket_of(to)).unwrap_or_default();
        let all = buckets.iter().flat_map(|bucket| &bucket.nodes).filter_map(|number| self.at(*number));
        all.filter(move |node| (from..=to).contains(&place(&node.id)))
    }

    /// The range of a bucket.
    pub(crate) fn bounds(bucket: usize) -> (u64, u64) {
        let size = u64::MAX / BUCKETS as u64 + 1;
        let from = size * bucket as u64;
        (from, from + (size - 1))
    }

    /// Changes a node, its position and life too.
    pub(crate) fn change<T>(&mut self, id: &PeerId, change: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let number = *self.by_id.get(id)?;
        let node = self.at_mut(number)?;
        let (before, was_live) = (node.position(), node.is_live());
        let result = change(node);
        let (after, is_live, at) = (node.position(), node.is_live(), node.at);
        if before != after {
            let place = place(id);
            self.toggle(place, hash(place, &before) ^ hash(place, &after));
        }
        if was_live != is_live && at != OWN {
            self.leave_roster(was_live, at);
            self.enter_roster(number, is_live);
        }
        Some(result)
    }

    /// Another node.
    pub(crate) fn insert(&mut self, node: Node) {
        let is_live = node.is_live();
        if let Some(number) = self.file(node) {
            self.enter_roster(number, is_live);
        }
    }

    pub(crate) fn remove(&mut self, id: &PeerId) -> Option<Node> {
        let number = self.by_id.remove(id)?;
        let (place, node) = (place(id), self.at(number)?);
        let (hash, is_live, at) = (hash(place, &node.position()), node.is_live(), node.at);
        self.toggle(place, hash);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(place)) {
            bucket.nodes.retain(|other| *other != number);
        }
        self.leave_roster(is_live, at);
        let node = self.all.swap_remove(number as usize);
        self.renumber(self.all.len() as u32, number);
        Some(node)
    }

    /// The last node has the place of one that is gone.
    fn renumber(&mut self, old: u32, new: u32) {
        let Some(node) = self.at(new) else { return };
        let (id, is_live, at) = (node.id, node.is_live(), node.at);
        self.by_id.insert(id, new);
        let bucket = self.buckets.get_mut(bucket_of(place(&id)));
        for number in bucket.into_iter().flat_map(|bucket| &mut bucket.nodes).filter(|number| **number == old)
        {
            *number = new;
        }
        self.roster(is_live).replace(at, new);
    }

    /// Puts a node to the others. Its number, if it was not known.
    fn file(&mut self, mut node: Node) -> Option<u32> {
        node.at = OWN;
        let number = self.all.len() as u32;
        let (id, position) = (node.id, node.position());
        let Entry::Vacant(vacant) = self.by_id.entry(id) else { return None };
        vacant.insert(number);
        let place = place(&id);
        self.toggle(place, hash(place, &position));
        if let Some(bucket) = self.buckets.get_mut(bucket_of(place)) {
            let is_before = |other: &u32| {
                self.all
                    .get(*other as usize)
                    .is_some_and(|other| (self::place(&other.id), other.id) < (place, id))
            };
            let at = bucket.nodes.partition_point(is_before);
            bucket.nodes.insert(at, number);
        }
        if self.all.len() == self.all.capacity() {
            // Not twice as many: they are the most that there is in memory, and nodes come seldom.
            self.all.reserve_exact(self.all.len() / 8 + 4);
        }
        self.all.push(node);
        Some(number)
    }

    fn toggle(&mut self, place: u64, hash: u64) {
        self.summary ^= hash;
        if let Some(bucket) = self.buckets.get_mut(bucket_of(place)) {
            bucket.hash ^= hash;
        }
    }

    fn roster(&mut self, is_live: bool) -> &mut Roster {
        if is_live { &mut self.live } else { &mut self.down }
    }

    fn enter_roster(&mut self, number: u32, is_live: bool) {
        let at = self.roster(is_live).push(number);
        self.moved(number, at);
    }

    fn leave_roster(&mut self, was_live: bool, at: u32) {
        for (number, at) in self.roster(was_live).remove(at).into_iter().flatten() {
            self.moved(number, at);
        }
    }

    fn moved(&mut self, number: u32, at: u32) {
        if let Some(node) = self.at_mut(number) {
            node.at = at;
        }
    }

    /// How many others are alive or suspect.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// The others that are alive or suspect.
    pub(crate) fn live_ones(&self) -> impl Iterator<Item = &Node> {
        self.live.iter().filter_map(|number| self.at(number))
    }

    /// The next one to probe: every live one once, in an order that is another each time.
    pub(crate) fn next_live(&mut self, random: &mut Random) -> Option<PeerId> {
        let (number, moved) = self.live.next(random)?;
        for (number, at) in moved {
            self.moved(number, at);
        }
        self.at(number).map(|node| node.id)
    }

    /// Up to so many live ones, without an excluded one.
    pub(crate) fn some_live(&self, count: usize, except: Option<&PeerId>, random: &mut Random) -> Vec<&Node> {
        let except = except.and_then(|id| self.by_id.get(id).copied());
        let some = self.live.pick_some(count, except, random);
        some.into_iter().filter_map(|number| self.at(number)).collect()
    }

    /// Up to so many that are down.
    pub(crate) fn some_down(&self, count: usize, random: &mut Random) -> Vec<&Node> {
        self.down.pick_some(count, None, random).into_iter().filter_map(|number| self.at(number)).collect()
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
    use crate::Time;
    use crate::message::{Life, State};
    use crate::replica::{Epoch, Held, Replica};

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
            let ids = |nodes: &Nodes| nodes.range(0, u64::MAX).map(|node| node.id).collect::<Vec<_>>();
            prop_assert_eq!(nodes.summary(), others.summary());
            prop_assert!((0..BUCKETS).all(|bucket| nodes.bucket(bucket) == others.bucket(bucket)));
            prop_assert_eq!(ids(&nodes), ids(&others));
            prop_assert_eq!(ids(&nodes).len(), nodes.len());
            prop_assert!(nodes.iter().all(|node| nodes.get(&node.id).is_some_and(|found| found.id == node.id)));
            prop_assert_eq!((nodes.live.len(), nodes.down.len()), (others.live.len(), others.down.len()));
            prop_assert_eq!(nodes.live.len() + nodes.down.len() + 1, nodes.len());
            // All are in the rosters where they believe to be.
            let mut random = Random::new(3);
            let mut probed: Vec<_> = (0..nodes.live()).filter_map(|_| nodes.next_live(&mut random)).collect();
            probed.sort_unstable();
            probed.dedup();
            prop_assert_eq!(probed.len(), nodes.live());
            for id in probed {
                prop_assert!(nodes.remove(&id).is_some_and(|node| node.id == id));
            }
            prop_assert_eq!((nodes.live(), nodes.len()), (0, nodes.down.len() + 1));
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
