//! The topology by gossip: each node tells all others of itself, and claims a subnet where nobody objects.
//!
//! ```text
//! Local ──▶ keys `node`, `subnets`, `pod/…` ──▶ gossip ──▶ other nodes' keys ──▶ nodes ──▶ View
//!                      ▲                                        │
//!                      └───────────── claims ◀──────────────────┘
//! ```
//!
//! As [`gossip::Gossip`], it is told the time and what arrives, and says what to send. Besides, some of what it says must be on
//! disk before anybody hears it: after each call, [`Mesh::unsaved`] says whether there is such, and nothing is sent until
//! [`Mesh::saved`] was called.

mod asking;
mod codec;
mod forget;
mod nodes;
mod shelf;
mod telling;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gossip::{Event, Garbled, Gossip, Said, Transmit};
use ipnet::IpNet;

use crate::claim::{self, Around, Claims, Standing, Taken};
use crate::id::NodeId;
use crate::node::Role;
use crate::pod::Pod;
use crate::pool::Pool;
use crate::report::{Problem, Severity};
use crate::topology::Topology;
use crate::view::{Local, View};
use nodes::{Nodes, Refreshed};
pub use shelf::Shelf;
pub use telling::Saved;

pub use crate::claim::Time;

/// The keys of gossip.
const ABOUT: &str = "node";
const STAKES: &str = "subnets";
const POD: &str = "pod/";

/// How long one hears that two machines have this node's id after it was seen.
const CLONE_SHOWN: Duration = Duration::from_secs(600);

/// How often one looks who has been down for too long.
const LOOK: Duration = Duration::from_secs(60);

/// What does not change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The ranges of all nodes' pods.
    pub pool: Pool,
    /// How often, how long, how much.
    pub gossip: gossip::Config,
    /// How long a claim takes.
    pub claims: claim::Settings,
    /// This may be a cluster's first node: it takes a subnet although no seed has answered. Without seeds that goes without
    /// saying.
    pub bootstrap: bool,
}

/// A node of the mesh.
#[derive(Debug)]
pub struct Mesh {
    settings: Settings,
    gossip: Gossip,
    claims: Claims,
    taken: Taken,
    nodes: Nodes,
    local: Local,
    own_addresses: Vec<SocketAddr>,
    seeds: Vec<SocketAddr>,
    /// What is on disk, and what has to be.
    on_disk: Option<Saved>,
    cloned: Option<Time>,
    /// A peer's key may have freed a prefix, or taken one.
    look_around: bool,
    /// When to look in any case: a node may have been down for too long.
    look_again: Time,
    /// What nodes held that this one has had forgotten, and until when it tells that.
    freed: Vec<(IpNet, Time)>,
    /// Exchanges that it has begun, and which of them ended last.
    exchanges: u64,
    exchanged: u64,
    /// With whom, the last time.
    exchanged_with: Option<NodeId>,
    next_exchange: Time,
    /// It is asking others what they have against what it says of prefixes.
    asks: bool,
    /// Until when it sees to it that all hear what it holds.
    tells_until: Time,
    /// Who asks this one the same.
    askers: Vec<NodeId>,
    /// What it told last could not be told whole.
    untold: Option<String>,
    now: Time,
    /// Since when it has heard others without a break.
    heard_since: Option<Time>,
    revision: u64,
}

impl Mesh {
    /// This node, alone. `saved` is what was on disk: nothing, if this is the node's first life. `seed` must be another
    /// number each time.
    pub fn new(
        settings: Settings,
        local: Local,
        gossip_addresses: Vec<SocketAddr>,
        saved: Saved,
        seed: u64,
        now: Time,
    ) -> Self {
        let incarnation = saved.incarnation.saturating_add(1);
        let id = *local.id.as_bytes();
        let gossip =
            Gossip::new(id, incarnation, gossip_addresses.clone(), settings.gossip.clone(), seed, now);
        let claims = Claims::new(
            local.id,
            &settings.pool,
            settings.claims.clone(),
            &saved.subnets,
            seed.rotate_left(32),
            now,
        );
        let mut mesh = Self {
            settings,
            gossip,
            claims,
            taken: Taken::new(),
            nodes: Nodes::default(),
            own_addresses: gossip_addresses,
            seeds: Vec::new(),
            on_disk: None,
            cloned: None,
            look_around: true,
            look_again: now + LOOK,
            freed: Vec::new(),
            exchanges: 0,
            exchanged: 0,
            exchanged_with: None,
            next_exchange: now,
            asks: false,
            tells_until: now,
            askers: Vec::new(),
            untold: None,
            now,
            heard_since: None,
            revision: 0,
            local,
        };
        mesh.tell_about();
        mesh.tell_pods(&[]);
        mesh.settle();
        mesh
    }

    /// What it says is noted, and what it hears compared, by [`Gossip::witness`]; what was read by one of those that have the same
    /// shelf, it takes over. To be called at once: for simulations.
    pub fn share(&mut self, shelf: &Arc<Shelf>) {
        self.gossip.witness(Arc::clone(shelf.ledger()));
        self.nodes.share(Arc::clone(shelf));
    }

    /// All that it says, for others of this process: [`know`](Self::know).
    pub fn said(&self) -> Option<Said> {
        self.gossip.said()
    }

    /// Knows at once what others say now: for simulations that begin with much.
    pub fn know(&mut self, now: Time, said: &[Said]) {
        self.wake(now);
        self.gossip.know(now, said);
        self.settle();
    }

    /// Which node it is.
    pub fn id(&self) -> NodeId {
        self.local.id
    }

    /// Where others may be; this node's own addresses among them do no harm.
    pub fn join(&mut self, now: Time, seeds: &[SocketAddr]) {
        self.wake(now);
        self.seeds = seeds.iter().filter(|seed| !self.own_addresses.contains(seed)).copied().collect();
        self.gossip.join(now, &self.seeds);
        self.look_around = true;
        self.settle();
    }

    /// What this node knows of itself has changed.
    pub fn set_local(&mut self, now: Time, local: Local) {
        self.wake(now);
        let before = std::mem::replace(&mut self.local, local);
        if before == self.local {
            return;
        }
        self.tell_about();
        self.tell_pods(&before.pods);
        self.look_around = true;
        self.revision += 1;
        self.settle();
    }

    /// Where others reach its gossip has changed.
    pub fn set_gossip_addresses(&mut self, now: Time, addresses: Vec<SocketAddr>) {
        self.wake(now);
        self.own_addresses.clone_from(&addresses);
        self.gossip.set_addresses(now, addresses);
        self.settle();
    }

    /// An opened datagram has come.
    pub fn receive(&mut self, now: Time, from: SocketAddr, payload: &[u8]) {
        self.wake(now);
        self.gossip.receive(now, from, payload);
        self.settle();
    }

    /// A datagram has come that is refused because its sender has sealed later ones that were heard: [`Gossip::receive_refused`].
    pub fn receive_refused(&mut self, now: Time, from: SocketAddr, sender: [u8; 16]) {
        self.wake(now);
        self.gossip.receive_refused(now, from, &sender);
        self.settle();
    }

    /// Whether the other machine that has this node's id is gone, and nobody hears this one for its sake: [`Gossip::outlives_twin`].
    pub fn outlives_twin(&mut self, now: Time) -> bool {
        let outlives = self.gossip.outlives_twin(now);
        if outlives {
            self.cloned = None;
            self.revision += 1;
            self.settle();
        }
        outlives
    }

    /// The next datagram to seal and send. None while something is [unsaved](Self::unsaved).
    pub fn transmit(&mut self) -> Option<Transmit> {
        if self.is_saved() { self.gossip.transmit() } else { None }
    }

    /// Where to open a stream to: [`gossip::Gossip::wants_exchange`], and for a claim. Nowhere while something is unsaved.
    pub fn wants_exchange(&mut self) -> Option<SocketAddr> {
        if !self.is_saved() {
            return None;
        }
        self.gossip.wants_exchange().or_else(|| self.exchange_for_claim())
    }

    /// What to send on that stream.
    pub fn exchange_request(&mut self, now: Time) -> Vec<u8> {
        self.exchanges += 1;
        self.gossip.exchange_request(now)
    }

    /// What to answer to what came on somebody else's stream.
    ///
    /// # Errors
    /// When it is no request.
    pub fn exchange_answer(&mut self, now: Time, request: &[u8]) -> Result<Vec<u8>, Garbled> {
        self.wake(now);
        let answer = self.gossip.exchange_answer(now, request);
        self.settle();
        answer
    }

    /// What came back on a stream of one's own.
    ///
    /// # Errors
    /// When it is no answer.
    pub fn exchange_finish(&mut self, now: Time, answer: &[u8]) -> Result<(), Garbled> {
        self.wake(now);
        let finished = self.gossip.exchange_finish(now, answer);
        if let Ok(partner) = finished {
            self.exchanged = self.exchanges;
            self.exchanged_with = Some(NodeId::from_bytes(partner));
            self.look_around = true;
        }
        self.settle();
        finished.map(drop)
    }

    /// When to call [`advance`](Self::advance) at the latest.
    pub fn timeout(&self) -> Time {
        self.gossip.timeout().min(self.claims.timeout()).min(self.look_again)
    }

    /// Does what is due.
    pub fn advance(&mut self, now: Time) {
        self.wake(now);
        self.gossip.advance(now);
        self.taken.advance(now);
        self.end_quarantine();
        if self.cloned.is_some_and(|seen| now >= seen + CLONE_SHOWN) {
            self.cloned = None;
            self.revision += 1;
        }
        if now >= self.claims.timeout().min(self.look_again) {
            self.look_around = true;
            self.look_again = now + LOOK;
        }
        self.settle();
    }

    /// Says goodbye: others count it as down at once. What it said stays.
    pub fn leave(&mut self, now: Time) {
        self.wake(now);
        self.gossip.leave(now);
    }

    /// No other node answers.
    pub fn is_isolated(&self) -> bool {
        self.gossip.is_isolated()
    }

    /// Changes whenever [`view`](Self::view) may have.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Who is known, and how each is. This node is in it as of the last [`view`](Self::view).
    pub fn topology(&self) -> &Topology {
        self.nodes.topology_ref()
    }

    /// All that is known.
    pub fn view(&mut self) -> View {
        let subnets = self.subnets();
        self.nodes.insert_own(self.local.with_subnets(subnets.clone()), self.gossip.incarnation());
        let mut problems = self.nodes.problems();
        if self.cloned.is_some() {
            problems.push(Problem {
                severity: Severity::Error,
                what: format!("two machines use the node id {}", self.local.id),
                advice: "one is a copy of the other's disk: stop its agent, remove its state directory, and start it again"
                    .to_owned(),
            });
        }
        problems.extend(self.untold.iter().map(|what| Problem {
            severity: Severity::Warning,
            what: format!("not all of this node's pods are told to other nodes: {what}"),
            advice: "pods in the node's subnet are reached all the same".to_owned(),
        }));
        View {
            topology: self.nodes.topology(),
            waiting: self.claims.waiting(&self.standing()),
            subnets,
            cut_off: self.cut_off(),
            problems,
        }
    }

    /// How many nodes there are, this one included.
    pub fn len(&self) -> usize {
        self.gossip.members().count()
    }

    /// Never: it knows itself.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Gossip has something to do each second. Who was not woken for long was suspended, and heard nobody in that time.
    fn wake(&mut self, now: Time) {
        if now > self.now + LOOK {
            self.heard_since = None;
        }
        self.now = now;
    }

    /// Takes in what has happened, and looks what follows for its subnets.
    fn settle(&mut self) {
        while let Some(event) = self.gossip.event() {
            self.take(event);
        }
        self.heard_since = if self.gossip.is_isolated() { None } else { self.heard_since.or(Some(self.now)) };
        let Refreshed { any, prefixes } = self.nodes.refresh(&self.gossip, &mut self.taken);
        if any {
            self.revision += 1;
        }
        let has_consent = self.asks && self.gossip.has_consent();
        if std::mem::take(&mut self.look_around) || prefixes || has_consent {
            self.step();
        }
        self.ask();
        self.answer();
    }

    fn take(&mut self, event: Event) {
        let (id, what) = match event {
            Event::Joined { id } | Event::Reset { id } => (id, nodes::What::All),
            Event::Changed { id, since } => (id, nodes::What::Above(since)),
            Event::Liveness { id, .. } => (id, nodes::What::Liveness),
            Event::Forgotten { id } => {
                let id = NodeId::from_bytes(id);
                self.nodes.remove(&id);
                self.taken.forget(&id, self.now + self.settings.claims.quarantine);
                self.look_around = true;
                self.revision += 1;
                return;
            }
            Event::Clone { .. } => {
                self.cloned = Some(self.now);
                self.revision += 1;
                return;
            }
            // Others know a life of this node that it has not had, or were told to forget it.
            Event::Incarnation { .. } => {
                self.claims.was_away(self.now);
                self.tell_stakes();
                self.look_around = true;
                return;
            }
            Event::Asked { id } => {
                self.askers.push(NodeId::from_bytes(id));
                return;
            }
            // Addresses are in what a node says.
            _ => return,
        };
        let id = NodeId::from_bytes(id);
        if id != self.local.id {
            // Most of what others write are pods, on which no prefix depends.
            self.look_around |= !matches!(what, nodes::What::Above(_));
            self.nodes.mark(id, what);
        }
    }

    fn step(&mut self) {
        let pods = &self.local.pods;
        let in_use =
            |prefix: &IpNet| pods.iter().flat_map(Pod::addresses).any(|address| prefix.contains(address));
        let around = Around { taken: &self.taken, standing: self.standing(), in_use: &in_use };
        let changed = self.claims.step(self.now, &around);
        if changed {
            self.revision += 1;
            self.tell_stakes();
        }
        self.reclaim();
    }

    fn standing(&self) -> Standing {
        let is_isolated = self.gossip.is_isolated();
        Standing {
            // It has heard from another, or may be the first.
            admitted: self.settings.bootstrap || self.seeds.is_empty() || !is_isolated,
            others: self.others(),
            exchanges: self.exchanges,
            exchanged: (!is_isolated).then_some(self.exchanged),
            vouched: self.vouched(),
            consented: self.asks && self.gossip.has_consent(),
            wanted: self.local.role == Role::Worker,
        }
    }

    /// How many others may object. Who came to join others has some, even before it has heard of them: also one that may be
    /// the first, as that is said of it for ever, and true once.
    fn others(&self) -> usize {
        self.nodes.alive().max(usize::from(!self.seeds.is_empty()))
    }

    fn cut_off(&self) -> Option<String> {
        let knows =
            self.nodes.count(&self.local.id) > 0 || !self.seeds.is_empty() && !self.settings.bootstrap;
        (knows && self.gossip.is_isolated()).then(|| {
            format!(
                "no other node answers: of {} known none, nor any of {} seeds",
                self.nodes.count(&self.local.id),
                self.seeds.len()
            )
        })
    }
}

#[cfg(test)]
mod tests;
