//! By which way each peer is reached, and how large a packet may be: probes.
//!
//! [`Paths`] decides; it neither sends nor waits. A node that may be reached both ways gets a tunnel first, which nearly
//! always works. Where it is on the same segment a plain route is tried beside that, by packets as pods send them, as large as
//! interfaces promise; three answers in a row, and it is taken. Three rounds without an answer, and it is given up at once, to
//! be tried again after a pause that grows.
//!
//! ```text
//!            same segment, three answers                 no tunnel, or more than one address:
//!   tunnel ───────────────────────────────▶ route        the next one is tried
//!      ▲      three rounds without an answer  │
//!      └──────────────────────────────────────┘
//! ```
//!
//! A probe goes through the very routes that pods' packets take, from the bridge's address here to the bridge's address
//! there. What answers it goes to the node's own address: only one direction is tested, and each node tests its own. Where
//! large probes are lost and small ones are not, the largest that passes is searched for (`size`) and becomes the route's
//! MTU, so that pods are told (ICMP) instead of waiting for ever.
//!
//! Agents answer probes, and kernels carry packets: while a peer is suspected to be down, or is, its silence says nothing of its
//! way, which stays. Not every store knows that soon: so a tunnel has both its ends in each kernel beforehand
//! ([`weave`](crate::fabric::weave)), whichever of the peer's addresses is tried next.
//!
//! At rest a path is probed once in 10 to 180 s: the more peers, the less often, so that it costs the same. Those that are due
//! within a second are probed at once: to wake up costs as much as a probe.

mod limit;
mod options;
mod peer;
mod problems;
mod round;
mod size;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use options::{Direct, Via};
pub use peer::Resumed;
pub use wire::{Kind, Message, Seal, Unsealed};

pub(crate) use options::tunnel_overhead;

use crate::fabric::next_hop_of;
use crate::id::NodeId;
use crate::node::Node;
use crate::pool::Pool;
use crate::report::{self, Problem, Way};
use crate::topology::Topology;
use crate::underlay::Underlay;
use gossip::Random;
use limit::Bucket;
use netops::LinkName;
use options::{Here, Options};
use peer::Peer;
use round::Context;

/// Where the cluster's nodes listen for probes, unless they are told otherwise (UDP).
pub const DEFAULT_PORT: u16 = 4794;

/// How paths are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which node this is.
    pub id: NodeId,
    /// The ranges of pods' addresses. What a peer says of others is not believed.
    pub pool: Pool,
    /// The UDP port of all nodes' probes.
    pub port: u16,
}

/// What the kernel must hold for a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// What packets to its pods do.
    pub way: Way,
    /// The largest that may.
    pub mtu: u32,
    /// The next hops of plain routes, if that is the way.
    pub direct: Direct,
    /// The tunnel's other end and what that carries, for the family that has no plain route.
    pub tunnel: Option<(IpAddr, u32)>,
    /// A plain route that is tried beside the way.
    pub trial: Option<Trial>,
    /// The peer's own address that is probed through the tunnel ([`By::Tunnel`]): it has no pods.
    pub outside: Option<IpAddr>,
}

/// A plain route that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The address that is probed.
    pub to: IpAddr,
    /// By these next hops.
    pub by: Direct,
}

/// A datagram that shall be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// To whom.
    pub to: SocketAddr,
    /// From which of the node's addresses; the kernel's choice if absent.
    pub from: Option<IpAddr>,
    /// By which routes.
    pub by: By,
    /// Whether it may be fragmented, or told to be smaller than its interface allows.
    pub whole: bool,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// By which routes a probe goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Those of pods' packets.
    Main,
    /// A plain one that is tried: of those, it is the one that leaves by this interface.
    Direct(LinkName),
    /// Through the tunnel, to an address that is otherwise reached outside of it.
    Tunnel,
}

/// The ways to all peers.
pub struct Paths {
    settings: Settings,
    seal: Box<dyn Seal>,
    random: Random,
    /// Boxed: the map has more places than peers.
    peers: BTreeMap<NodeId, Box<Entry>>,
    due: BTreeSet<(Instant, NodeId)>,
    resumed: BTreeMap<u32, Resumed>,
    outbox: VecDeque<Probe>,
    answers: Bucket,
    here: Option<(Node, Underlay, Option<NodeId>)>,
    changed: bool,
    begun: Instant,
}

struct Entry {
    peer: Peer,
    due: Option<Instant>,
    /// What it may ask of this node.
    answers: Bucket,
}

/// What one peer may ask for, and all together: so many answers a second, and as many at once.
const ANSWERS_TO_ONE: (f64, f64) = (10.0, 40.0);
const ANSWERS_TO_ALL: (f64, f64) = (2000.0, 4000.0);
/// A path is probed so often at most and at least, and all together so often.
const SHORTEST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(180);
const REST_PER_PEER: Duration = Duration::from_millis(180);
/// When many peers appear at once, their first probes are as far apart as this.
const BEGIN_PER_PEER: Duration = Duration::from_millis(2);

/// How long a path is left alone on which all is well, of a node that has so many peers.
pub fn rest(peers: usize) -> Duration {
    let peers = u32::try_from(peers).unwrap_or(u32::MAX);
    REST_PER_PEER.saturating_mul(peers).clamp(SHORTEST_REST, LONGEST_REST)
}

impl std::fmt::Debug for Paths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paths").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Paths {
    /// To nobody yet. `resumed` is what the kernel does already for peers, whom this agent does not know yet, by the numbers
    /// of their [next hops](next_hop_of); `seed` is random: whoever does not see probes cannot foresee their nonces, and who
    /// sees them is on the path, and can say what he likes unless it is sealed.
    pub fn new(
        settings: Settings,
        seal: Box<dyn Seal>,
        resumed: BTreeMap<u32, Resumed>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            seal,
            random: Random::new(seed),
            peers: BTreeMap::new(),
            due: BTreeSet::new(),
            resumed,
            outbox: VecDeque::new(),
            answers: Bucket::new(ANSWERS_TO_ALL, now),
            here: None,
            changed: false,
            begun: now,
        }
    }

    /// Who there is, what this node says of itself, and what lies below, has changed.
    pub fn update(&mut self, now: Instant, own: &Node, topology: &Topology, underlay: &Underlay) {
        let router = topology.router().map(|router| router.node.id);
        let here = Here { pool: &self.settings.pool, node: own, underlay, router };
        let as_before = self.here.as_ref().is_some_and(|(node, below, by)| {
            *by == router
                && below == underlay
                && (node.mode, node.role, node.tunnel, &node.subnets)
                    == (own.mode, own.role, own.tunnel, &own.subnets)
        });

        let gone: Vec<NodeId> = self.peers.keys().filter(|id| topology.get(id).is_none()).copied().collect();
        for id in gone {
            if let Some(due) = self.peers.remove(&id).and_then(|entry| entry.due) {
                self.due.remove(&(due, id));
            }
            self.changed = true;
        }
        let crowd =
            BEGIN_PER_PEER.saturating_mul(u32::try_from(topology.members().len()).unwrap_or(u32::MAX));
        for member in topology.peers(&self.settings.id) {
            let id = member.node.id;
            let Some(entry) = self.peers.get_mut(&id) else {
                let options = Options::of(here, &member.node);
                let begin = now + crowd.mul_f64(self.random.fraction());
                let resumed = self.resumed.remove(&next_hop_of(&id));
                let peer = Peer::new(Arc::clone(&member.node), member.liveness, options, resumed, begin);
                let entry = Box::new(Entry { peer, due: None, answers: Bucket::new(ANSWERS_TO_ONE, now) });
                self.peers.entry(id).or_insert(entry).schedule(&mut self.due);
                self.changed = true;
                continue;
            };
            let same = Arc::ptr_eq(&entry.peer.node, &member.node) && entry.peer.liveness == member.liveness;
            if !(as_before && same) {
                let before = entry.peer.reach();
                let options = Options::of(here, &member.node);
                entry.peer.update(Arc::clone(&member.node), member.liveness, options, now);
                self.changed |= before != entry.peer.reach();
                entry.schedule(&mut self.due);
            }
        }
        if !as_before {
            self.here = Some((own.clone(), underlay.clone(), router));
        }
    }

    /// A datagram has come in at the port of probes.
    pub fn receive(&mut self, now: Instant, datagram: &[u8]) {
        let Some(message) = Message::read(datagram, &mut *self.seal) else { return };
        if message.to != self.settings.id {
            return;
        }
        match message.kind {
            Kind::Answer => self.with_peer(now, &message.from, |peer, context| {
                peer.receive(message.nonce, context);
            }),
            Kind::Probe => self.answer(now, message),
        }
    }

    /// Says to the sender's own address that a probe has come: to the one that is known of it, not to the one that the
    /// datagram had, so that nobody is answered who did not ask.
    fn answer(&mut self, now: Instant, probe: Message) {
        let Some(entry) = self.peers.get_mut(&probe.from) else { return };
        let Some(address) = entry.peer.answers_to() else { return };
        if !entry.answers.take(now) || !self.answers.take(now) {
            return;
        }
        let answer =
            Message { kind: Kind::Answer, from: self.settings.id, to: probe.from, nonce: probe.nonce };
        self.outbox.push_back(Probe {
            to: SocketAddr::new(address, self.settings.port),
            from: None,
            by: By::Main,
            whole: false,
            bytes: answer.write(&mut *self.seal, 0),
        });
    }

    /// What shall be sent next. Before it is, the kernel must hold what [`reaches`](Self::reaches) says.
    pub fn transmit(&mut self) -> Option<Probe> {
        let next = self.outbox.pop_front();
        if next.is_none() {
            // What many peers needed that came at once is not needed again.
            self.outbox = VecDeque::new();
        }
        next
    }

    /// When [`advance`](Self::advance) is due.
    pub fn timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Instant) {
        let due: Vec<NodeId> =
            self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        for id in due {
            self.with_peer(now, &id, Peer::advance);
        }
    }

    /// Whether [`reaches`](Self::reaches) says something else than when this was asked last.
    pub fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What the kernel must hold for each peer.
    pub fn reaches(&self) -> BTreeMap<NodeId, Reach> {
        self.peers.iter().map(|(id, entry)| (*id, entry.peer.reach())).collect()
    }

    /// The way to a peer, for people.
    pub fn path(&self, id: &NodeId, now: Instant) -> Option<report::Path> {
        let peer = &self.peers.get(id)?.peer;
        // Who sends by the router sends as much as that takes.
        let nearest = match peer.way {
            Way::Router { router } => &self.peers.get(&router)?.peer,
            _ => peer,
        };
        Some(report::Path {
            way: peer.way,
            reason: problems::reason(peer),
            mtu: nearest.size.current(),
            mtu_confirmed: nearest.size.confirmed(),
            round_trip: peer.round_trip.map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
            answered: peer.answered.map(|at| now.saturating_duration_since(at).as_secs()),
        })
    }

    /// What a person should know about paths.
    pub fn problems(&self) -> Vec<Problem> {
        problems::of(self.peers.values().map(|entry| &entry.peer))
    }

    fn with_peer(&mut self, now: Instant, id: &NodeId, act: impl FnOnce(&mut Peer, &mut Context<'_>)) {
        let interval = rest(self.peers.len());
        let Some(entry) = self.peers.get_mut(id) else { return };
        let mut context =
            Context { now, begun: self.begun, random: &mut self.random, interval, launches: Vec::new() };
        let before = entry.peer.reach();
        act(&mut entry.peer, &mut context);
        self.changed |= before != entry.peer.reach();
        entry.schedule(&mut self.due);

        let Some(target) = entry.peer.options.target else { return };
        let header = if target.address.is_ipv4() { 28 } else { 48 };
        for launch in context.launches {
            let message = Message {
                kind: Kind::Probe,
                from: self.settings.id,
                to: entry.peer.id(),
                nonce: launch.nonce,
            };
            let size = launch.size.saturating_sub(header) as usize;
            self.outbox.push_back(Probe {
                to: SocketAddr::new(target.address, self.settings.port),
                from: target.source,
                by: launch.by,
                whole: true,
                bytes: message.write(&mut *self.seal, size),
            });
        }
    }
}

impl Entry {
    fn schedule(&mut self, all: &mut BTreeSet<(Instant, NodeId)>) {
        let due = self.peer.due();
        if due == self.due {
            return;
        }
        if let Some(before) = self.due {
            all.remove(&(before, self.peer.id()));
        }
        if let Some(due) = due {
            all.insert((due, self.peer.id()));
        }
        self.due = due;
    }
}
