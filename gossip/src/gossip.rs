//! A node of the cluster: what it knows, and what its user can ask of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::consent::Question;
use crate::exchange::Streams;
use crate::ledger::Ledger;
use crate::message::{Life, State};
use crate::node::Node;
use crate::nodes::Nodes;
use crate::own::Risen;
use crate::probe::Prober;
use crate::random::Random;
use crate::replica::{ADDRESSES, Epoch, Held, MAX_ENTRY, MAX_KEY, Position, Replica};
use crate::rumour::Rumours;
use crate::wire::Writer;
use crate::{PeerId, Time};

/// A node of the cluster.
///
/// The caller gives it what arrives ([`receive`](Self::receive)), wakes it when it asks for it ([`timeout`](Self::timeout),
/// [`advance`](Self::advance)), and after each of these sends what it wants sent ([`transmit`](Self::transmit),
/// [`wants_exchange`](Self::wants_exchange)) and looks what has happened ([`event`](Self::event)).
#[derive(Debug)]
pub struct Gossip {
    pub(crate) config: Config,
    pub(crate) id: PeerId,
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(crate) nodes: Nodes,
    pub(crate) forgotten: Forgotten,
    pub(crate) seeds: Vec<SocketAddr>,
    /// Seeds are to be asked as soon as anything is sent.
    pub(crate) greets: bool,
    /// When another node was heard last.
    pub(crate) heard: Time,
    pub(crate) has_left: bool,
    pub(crate) risen: Risen,
    pub(crate) prober: Prober,
    pub(crate) rumours: Rumours,
    pub(crate) streams: Streams,
    pub(crate) question: Option<Question>,
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// Deleted keys, in the order in which they are to be forgotten.
    pub(crate) deleted: VecDeque<Deleted>,
    pub(crate) outbox: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
}

/// A datagram to be sealed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Its contents: at most [`Config::datagram`] less [`seal::OVERHEAD`](crate::seal::OVERHEAD) bytes.
    pub payload: Arc<[u8]>,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node is known, with all that it says of itself. It may be new, or only new to this one.
    Joined {
        /// Which.
        id: PeerId,
    },
    /// A node wrote keys, or deleted them: [`Gossip::changed`] tells which.
    Changed {
        /// Which node.
        id: PeerId,
        /// The version above which they are.
        since: u64,
    },
    /// Any of a node's keys may be another or gone: it was started again, or had not been heard of for long.
    Reset {
        /// Which node.
        id: PeerId,
    },
    /// A node has changed its addresses.
    Moved {
        /// Which node.
        id: PeerId,
    },
    /// A node is otherwise than before.
    Liveness {
        /// Which node.
        id: PeerId,
        /// How it is now.
        liveness: Liveness,
    },
    /// A node is gone for good, and what it said with it: somebody had it forgotten.
    Forgotten {
        /// Which node.
        id: PeerId,
    },
    /// This node counts as this incarnation from now on: others had heard of the old one, or of a later one, what it did not
    /// write, or had been told to forget it. To be kept on disk; what it wrote stays written.
    Incarnation {
        /// The new one.
        new: u64,
    },
    /// A node asks whether there is anything against what it says, all of which up to then is held here:
    /// [`Gossip::consent`], or [`Gossip::object`].
    Asked {
        /// Which node.
        id: PeerId,
    },
    /// Another process says that it is this node, at the same time: a copy of its disk is in use. Neither can win: one must
    /// become another node.
    Clone {
        /// Where it spoke from, if it did so directly.
        address: Option<SocketAddr>,
    },
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It has not answered, and has a while to say that it is there.
    Suspect,
    /// It has not answered for long, or said that it leaves. What it wrote stays.
    Down,
}

impl From<State> for Liveness {
    fn from(state: State) -> Self {
        match state {
            State::Alive => Self::Alive,
            State::Suspect => Self::Suspect,
            State::Down | State::Left => Self::Down,
        }
    }
}

/// A node that is known.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Which.
    pub id: PeerId,
    /// The life that it is in: counted by itself.
    pub incarnation: u64,
    /// How it is.
    pub liveness: Liveness,
    /// Since when it is so, by this node's clock.
    pub since: Time,
    /// Where it says it can be reached, best first.
    pub addresses: &'a [SocketAddr],
    /// Where it was heard from last, if it was.
    pub heard: Option<SocketAddr>,
}

/// More than can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLarge {
    /// A key.
    Key {
        /// How long it is, in bytes.
        length: usize,
    },
    /// A key and its value.
    Entry {
        /// Which key.
        key: String,
        /// How long both are, in bytes.
        length: usize,
    },
    /// All keys and values of this node.
    Node {
        /// The one that was to be added.
        key: String,
    },
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { length } => write!(f, "a key has {length} bytes: {MAX_KEY} at most"),
            Self::Entry { key, length } => {
                write!(
                    f,
                    "\"{key}\" and its value have {length} bytes: {MAX_ENTRY} at most, to fit one datagram"
                )
            }
            Self::Node { key } => {
                write!(f, "no room for \"{key}\": this node has too many keys, or too much in them")
            }
        }
    }
}

impl std::error::Error for TooLarge {}

/// How many rounds without a word from anybody are no accident: each has an answer, or several.
const SILENCE: u32 = 10;

/// For how many events there is room at any time.
const EVENTS: usize = 16;

/// How many deleted keys are remembered at most, of all nodes. Of more the oldest are forgotten sooner.
const DELETED: usize = 131_072;

impl Gossip {
    /// This node, alone.
    ///
    /// `incarnation` must be higher than any before of this id: kept on disk, and one more each time. `addresses` are where
    /// others reach it, best first. `seed` must be another one each time, and for each node.
    ///
    /// What is [`set`](Self::set) before the first [`transmit`](Self::transmit) is told as one: others see it replace what an
    /// earlier life had set without anything missing in between.
    pub fn new(
        id: PeerId,
        incarnation: u64,
        addresses: Vec<SocketAddr>,
        config: Config,
        seed: u64,
        now: Time,
    ) -> Self {
        let mut random = Random::new(seed);
        let epoch = Epoch { incarnation, instance: random.number() as u32 };
        let life = Life { incarnation, beat: 0, state: State::Alive };
        let mut own = Node::new(id, Held::of(Replica::new(epoch)), life, now);
        own.is_shown = true;
        let nodes = Nodes::new(own, random.number());
        let prober = Prober::new(&config, &mut random, now);
        let mut gossip = Self {
            config,
            id,
            now,
            random,
            nodes,
            forgotten: Forgotten::default(),
            seeds: Vec::new(),
            greets: false,
            heard: now,
            has_left: false,
            risen: Risen::default(),
            prober,
            rumours: Rumours::default(),
            streams: Streams::default(),
            question: None,
            ledger: None,
            deleted: VecDeque::new(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
        };
        gossip.set_addresses(now, addresses);
        gossip
    }

    /// Which node this is.
    pub fn id(&self) -> &PeerId {
        &self.id
    }

    /// The life that it is in.
    pub fn incarnation(&self) -> u64 {
        self.epoch().incarnation
    }

    /// Where others may be. Some are asked with the next [`transmit`](Self::transmit), and then until somebody answers, and now and then while some are not heard from.
    pub fn join(&mut self, now: Time, seeds: &[SocketAddr]) {
        self.wake(now);
        self.seeds = seeds.iter().take(256).copied().collect();
        self.greets = true;
    }

    /// Says something, to all nodes. Nothing happens if it says so already.
    ///
    /// # Errors
    /// It is more than can be told.
    pub fn set(&mut self, now: Time, key: &str, value: &[u8]) -> Result<(), TooLarge> {
        self.wake(now);
        let length = key.len() + value.len();
        if key.len() > MAX_KEY {
            return Err(TooLarge::Key { length: key.len() });
        }
        if length > MAX_ENTRY {
            return Err(TooLarge::Entry { key: key.to_owned(), length });
        }
        let replica = self.replica();
        match replica.get(key.as_bytes()) {
            Some(same) if same == value => return Ok(()),
            None if !replica.has_room(key.len(), value.len()) => {
                return Err(TooLarge::Node { key: key.to_owned() });
            }
            _ => {}
        }
        self.write(key.as_bytes(), Some(value));
        Ok(())
    }

    /// Takes back what it said.
    pub fn delete(&mut self, now: Time, key: &str) {
        self.wake(now);
        if self.replica().get(key.as_bytes()).is_some() {
            self.write(key.as_bytes(), None);
        }
    }

    /// Where others reach it from now on, best first.
    pub fn set_addresses(&mut self, now: Time, addresses: Vec<SocketAddr>) {
        self.wake(now);
        let mut value = Writer::new(MAX_ENTRY);
        addresses.iter().take(16).for_each(|address| value.address(address));
        let value = value.finish();
        if self.replica().get(ADDRESSES) != Some(&value) {
            self.write(ADDRESSES, Some(&value));
        }
        if let Some(own) = self.nodes.get_mut(&self.id) {
            own.addresses = addresses.into();
        }
    }

    /// The next datagram to send. To be called until there is none, after everything else.
    pub fn transmit(&mut self) -> Option<Transmit> {
        if self.outbox.is_empty() {
            if std::mem::take(&mut self.greets) {
                self.try_seeds(3);
            }
            self.spread_if_due();
            self.ask_if_due();
        }
        self.outbox.pop_front()
    }

    /// The next thing that has happened. To be called until there is none, after everything else.
    pub fn event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() {
            // After all at once, as a stream brings it, there are few at a time again.
            self.events.shrink_to(EVENTS);
        }
        event
    }

    /// Every node that is known, this one included; in no order.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.nodes.iter().filter(|node| node.is_shown).map(member)
    }

    /// A node, if it is known.
    pub fn member(&self, id: &PeerId) -> Option<Member<'_>> {
        self.nodes.get(id).filter(|node| node.is_shown).map(member)
    }

    /// How much of what a node says is known here: another node that is at the same position holds the same.
    pub fn position(&self, id: &PeerId) -> Option<Position> {
        self.nodes.get(id).filter(|node| node.is_shown).map(|node| node.held.current.position())
    }

    /// From now on, what it writes is noted, what it learns is compared with what others have noted, and held together with all
    /// that were given the same ledger. To be called before the first [`transmit`](Self::transmit): for simulations.
    pub fn witness(&mut self, ledger: Arc<Ledger>) {
        self.ledger = Some(ledger);
        self.note(0);
    }

    /// What a node says.
    pub fn get(&self, id: &PeerId, key: &str) -> Option<&[u8]> {
        self.nodes.get(id)?.held.current.get(key.as_bytes())
    }

    /// All that a node says, in the order of keys.
    pub fn entries(&self, id: &PeerId) -> impl Iterator<Item = (&str, &[u8])> {
        self.nodes.get(id).into_iter().flat_map(|node| node.held.current.entries())
    }

    /// What a node has written above a version, in the order of keys; nothing where it deleted one.
    pub fn changed(&self, id: &PeerId, since: u64) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.nodes.get(id).into_iter().flat_map(move |node| node.held.current.changed(since))
    }

    /// No other node is known to be alive, or none has been heard from for so long that it is this one that is cut off: it
    /// takes many rounds until every single one counts as down.
    pub fn is_isolated(&self) -> bool {
        self.nodes.live() == 0 || self.now > self.heard + self.config.round * SILENCE
    }

    /// Has all nodes forget one for good, with what it said. If it is in fact alive and hears of it, it comes back with all
    /// that it says, in a new incarnation.
    pub fn forget(&mut self, now: Time, id: &PeerId) {
        self.wake(now);
        let known = self.nodes.get(id).filter(|node| node.id != self.id);
        let incarnation = known.map(|node| node.position().epoch.incarnation.max(node.life.incarnation));
        if let Some(incarnation) = incarnation {
            self.bury(*id, incarnation, self.config.forgotten_for);
        }
    }

    /// Says goodbye: others count it as down at once. What it wrote stays.
    pub fn leave(&mut self, now: Time) {
        self.wake(now);
        self.has_left = true;
        let beat = self.life().beat + 1;
        self.announce_life(beat, State::Left);
    }

    /// When to call [`advance`](Self::advance) at the latest.
    pub fn timeout(&self) -> Time {
        [self.rumours.due(), self.ask_due()].into_iter().flatten().fold(self.prober.timeout(), Time::min)
    }

    /// Does what is due.
    pub fn advance(&mut self, now: Time) {
        self.wake(now);
        self.advance_probes();
        self.ask_if_due();
    }

    /// Time never goes back.
    pub(crate) fn wake(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(crate) fn collect_deleted(&mut self) {
        while let Some(Deleted { id, version, instance, due }) = self.deleted.front().copied() {
            if Time::from_secs(due.into()) > self.now && self.deleted.len() <= DELETED {
                break;
            }
            self.deleted.pop_front();
            if let Some(node) =
                self.nodes.get_mut(&id).filter(|node| node.held.current.epoch.instance == instance)
            {
                node.held.current_mut().collect(version);
            }
        }
    }
}

fn member(node: &Node) -> Member<'_> {
    Member {
        id: node.id,
        incarnation: node.held.current.epoch.incarnation,
        liveness: node.life.state.into(),
        since: node.since.into(),
        addresses: &node.addresses,
        heard: node.heard(),
    }
}

/// A deleted key. Small, for there may be many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    pub(crate) id: PeerId,
    version: u64,
    instance: u32,
    /// From which second on it may be forgotten.
    due: u32,
}

impl Deleted {
    pub(crate) fn new(id: PeerId, epoch: Epoch, version: u64, until: Time) -> Self {
        let due = u32::try_from(until.as_secs() + 1).unwrap_or(u32::MAX);
        Self { id, version, instance: epoch.instance, due }
    }
}

/// Nodes that are gone for good.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    pub(crate) by_id: BTreeMap<PeerId, (u64, Time)>,
    by_time: BTreeSet<(Time, PeerId)>,
}

impl Forgotten {
    /// Up to which incarnation a node is.
    pub(crate) fn incarnation(&self, id: &PeerId) -> Option<u64> {
        self.by_id.get(id).map(|(incarnation, _)| *incarnation)
    }

    pub(crate) fn insert(&mut self, id: PeerId, incarnation: u64, until: Time) {
        self.remove(&id);
        self.by_id.insert(id, (incarnation, until));
        self.by_time.insert((until, id));
    }

    pub(crate) fn remove(&mut self, id: &PeerId) {
        if let Some((_, until)) = self.by_id.remove(id) {
            self.by_time.remove(&(until, *id));
        }
    }

    pub(crate) fn expire(&mut self, now: Time) {
        while let Some((until, id)) = self.by_time.first().copied().filter(|(until, _)| *until <= now) {
            self.by_time.remove(&(until, id));
            self.by_id.remove(&id);
        }
    }
}
