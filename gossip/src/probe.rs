//! Who is there (SWIM: Das et al. 2002): each round every node probes one other, each in its turn. Who does not answer is
//! probed through some others; who then does not answer is suspected, and counts as down if it has not spoken up in time.
//!
//! A node that is slow itself should not suspect others (Lifeguard: Dadgar et al. 2017). Helpers answer in any case, so that
//! who hears from nobody knows that the fault is its own, and waits longer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;

use crate::config::Config;
use crate::gossip::{Event, Gossip, Liveness};
use crate::letters::Letters;
use crate::message::{ACK, Life, PROBE, PROBE_FOR, RELAYED, SUMMARY, State};
use crate::node::Node;
use crate::random::Random;
use crate::wire::{Garbled, Reader};
use crate::{PeerId, Time};

#[derive(Debug)]
pub(crate) struct Prober {
    next_round: Time,
    next_retry: Time,
    retries: u32,
    sequence: u32,
    probe: Option<Probe>,
    relays: VecDeque<Relay>,
    suspicions: BinaryHeap<Reverse<(Time, PeerId, Life)>>,
    /// 0: as fast as expected.
    slowness: u32,
    /// Nodes that were down are coming back: try the others soon.
    hopeful_until: Time,
}

#[derive(Debug)]
struct Probe {
    target: PeerId,
    sequence: u32,
    phase: Phase,
    ends: Time,
    /// Helpers that were asked, and those that have answered.
    asked: usize,
    answered: usize,
}

#[derive(Debug)]
enum Phase {
    /// Until then an answer is expected from itself alone.
    Direct(Time),
    Indirect,
}

#[derive(Debug)]
struct Relay {
    sequence: u32,
    target: PeerId,
    asker: SocketAddr,
    asked_as: u32,
    ends: Time,
}

/// A node that is slow itself waits up to so many times longer, and once.
const SLOWEST: u32 = 7;
/// For how many others a node probes at once.
const RELAYS: usize = 256;
/// How many others are tried at once when there is hope.
const HOPEFUL: usize = 3;
/// How many rounds there is hope after a node has come back.
const HOPEFUL_ROUNDS: u32 = 10;

impl Prober {
    pub(crate) fn new(config: &Config, random: &mut Random, now: Time) -> Self {
        // Nodes that are started at once do not go on in step.
        let jitter = Time::from_micros(random.below(config.round.as_micros() as u64));
        Self {
            next_round: now + jitter,
            next_retry: now + config.retry,
            retries: 0,
            sequence: random.number() as u32,
            probe: None,
            relays: VecDeque::new(),
            suspicions: BinaryHeap::new(),
            slowness: 0,
            hopeful_until: Time::ZERO,
        }
    }

    pub(crate) fn timeout(&self) -> Time {
        let probe = self.probe.as_ref().map(|probe| match probe.phase {
            Phase::Direct(until) => until,
            Phase::Indirect => probe.ends,
        });
        let relay = self.relays.front().map(|relay| relay.ends);
        self.next_round.min(probe.unwrap_or(Time::MAX)).min(relay.unwrap_or(Time::MAX))
    }

    /// There is reason to think that this node is slow.
    pub(crate) fn slow_down(&mut self) {
        self.slowness = (self.slowness + 1).min(SLOWEST);
    }

    fn speed_up(&mut self) {
        self.slowness = self.slowness.saturating_sub(1);
    }

    fn number(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

impl Gossip {
    /// Does what is due by now.
    pub(crate) fn advance_probes(&mut self) {
        self.give_up_relays();
        self.advance_probe();
        if self.prober.next_round <= self.now {
            self.round();
        }
    }

    fn round(&mut self) {
        let late = self.now.saturating_sub(self.prober.next_round);
        self.prober.next_round = self.now + self.config.round;
        if late > self.config.round {
            self.was_asleep(late);
        }
        self.end_suspicions();
        self.collect_deleted();
        self.forgotten.expire(self.now);
        if self.has_left {
            return;
        }
        if self.prober.probe.is_none() {
            self.probe_next();
        }
        if self.is_isolated() {
            self.try_seeds(1);
        }
        if self.now < self.prober.hopeful_until {
            self.try_down(HOPEFUL);
        }
        if self.prober.next_retry <= self.now {
            self.prober.next_retry = self.now + self.config.retry;
            self.prober.retries = self.prober.retries.wrapping_add(1);
            self.try_down(1);
            // Seeds join halves that have forgotten one another. They are few, and asked by everybody: seldom.
            if self.prober.retries.is_multiple_of(6) {
                self.try_seeds(1);
            }
        }
    }

    /// Nobody ran this process for a while: that others did not answer says nothing.
    fn was_asleep(&mut self, late: Time) {
        self.prober.slow_down();
        self.prober.probe = None;
        let suspicions = std::mem::take(&mut self.prober.suspicions).into_vec();
        self.prober.suspicions = suspicions
            .into_iter()
            .map(|Reverse((ends, id, life))| Reverse((ends + late, id, life)))
            .collect();
    }

    fn probe_next(&mut self) {
        let Some(target) = self.nodes.next_live(&mut self.random) else { return };
        let sequence = self.prober.number();
        let patience = 1 + self.prober.slowness;
        let probe = Probe {
            target,
            sequence,
            phase: Phase::Direct(self.now + self.config.probe_timeout * patience),
            ends: self.now + self.config.round * patience - self.config.round / 50,
            asked: 0,
            answered: 0,
        };
        self.prober.probe = Some(probe);
        if let Some(to) = self.nodes.get(&target).and_then(Node::address) {
            self.send_probe(Some(&target), to, sequence);
        }
    }

    /// Asks whether somebody is there, and says all that is news on the way.
    fn send_probe(&mut self, target: Option<&PeerId>, to: SocketAddr, sequence: u32) {
        let mut letters = self.letters(1);
        letters.part(PROBE, |to| {
            to.u32(sequence);
            true
        });
        match target.and_then(|id| self.nodes.get(id)) {
            // Whoever is suspected hears of it first of all.
            Some(node) if node.life.state != State::Alive => {
                Self::write_life(&mut letters, &node.id, node.life)
            }
            Some(_) => {}
            // Whoever does not know this node learns where it is.
            None => {
                self.write_lacking(&mut letters, &self.id, &Default::default());
            }
        }
        self.write_riders(letters.current(), SUMMARY_BYTES);
        // At the end: what came before it counts.
        let (hash, count) = (self.nodes.summary(), self.nodes.len() as u64);
        letters.part(SUMMARY, |to| {
            to.u64(hash);
            to.number(count);
            true
        });
        self.post(to, letters);
    }

    /// Looks whether somebody is at an address, whoever it is.
    pub(crate) fn look_at(&mut self, address: SocketAddr) {
        let sequence = self.prober.number();
        self.send_probe(None, address, sequence);
    }

    /// Tries some seeds.
    pub(crate) fn try_seeds(&mut self, count: usize) {
        if self.seeds.is_empty() {
            return;
        }
        let first = self.random.index(self.seeds.len());
        let seeds = self.seeds.iter().cycle().skip(first).take(count.min(self.seeds.len()));
        for seed in seeds.copied().collect::<Vec<_>>() {
            self.look_at(seed);
        }
    }

    /// Tries some that are down: they may be back.
    fn try_down(&mut self, count: usize) {
        let retries = self.prober.retries as usize;
        // Where it was heard last, and in turn where else it says it is.
        let place = |node: &Node| {
            let turn = (retries % (node.addresses.len() + 1)).checked_sub(1);
            let to = turn.and_then(|turn| node.addresses.get(turn).copied()).or_else(|| node.address())?;
            Some((node.id, to))
        };
        let down = self.nodes.some_down(count, &mut self.random);
        for (id, to) in down.into_iter().filter_map(place).collect::<Vec<_>>() {
            let sequence = self.prober.number();
            self.send_probe(Some(&id), to, sequence);
        }
    }

    fn advance_probe(&mut self) {
        let Some(probe) = &mut self.prober.probe else { return };
        if probe.ends <= self.now {
            let Some(probe) = self.prober.probe.take() else { return };
            return self.probe_failed(&probe);
        }
        if matches!(probe.phase, Phase::Direct(until) if until <= self.now) {
            probe.phase = Phase::Indirect;
            let (target, sequence) = (probe.target, probe.sequence);
            self.probe_otherwise(target, sequence);
        }
    }

    /// Through others, and at its other addresses.
    fn probe_otherwise(&mut self, target: PeerId, sequence: u32) {
        let helpers = self.nodes.some_live(self.config.helpers, Some(&target), &mut self.random);
        let helpers: Vec<_> = helpers.into_iter().map(Node::address).collect();
        if let Some(probe) = &mut self.prober.probe {
            probe.asked = helpers.len();
        }
        for to in helpers.into_iter().flatten() {
            let mut letters = self.letters(1);
            letters.part(PROBE_FOR, |to| {
                to.u32(sequence);
                to.id(&target);
                true
            });
            self.post(to, letters);
        }
        let Some(node) = self.nodes.get(&target) else { return };
        let tried = node.address();
        let others: Vec<_> =
            node.addresses.iter().copied().filter(|other| Some(*other) != tried).take(3).collect();
        for to in others {
            self.send_probe(Some(&target), to, sequence);
        }
    }

    fn probe_failed(&mut self, probe: &Probe) {
        if probe.answered < probe.asked || probe.asked == 0 {
            self.prober.slow_down();
        }
        let Some(node) = self.nodes.get(&probe.target) else { return };
        if node.life.state == State::Alive {
            let (life, to) = (Life { state: State::Suspect, ..node.life }, node.address());
            self.set_life(&probe.target, life);
            // It hears of that from here first.
            if let Some(to) = to {
                let sequence = self.prober.number();
                self.send_probe(Some(&probe.target), to, sequence);
            }
        }
    }

    fn give_up_relays(&mut self) {
        while self.prober.relays.front().is_some_and(|relay| relay.ends <= self.now) {
            let Some(relay) = self.prober.relays.pop_front() else { break };
            self.send_relayed(&relay, false);
        }
    }

    fn send_relayed(&mut self, relay: &Relay, reached: bool) {
        let mut letters = self.letters(1);
        letters.part(RELAYED, |to| {
            to.u32(relay.asked_as);
            to.u8(reached.into());
            true
        });
        self.post(relay.asker, letters);
    }

    /// Others ask whether this node is there.
    pub(crate) fn on_probe(&mut self, mut body: Reader<'_>, reply: &mut Letters) -> Result<(), Garbled> {
        let sequence = body.u32()?;
        if !self.has_left {
            reply.part(ACK, |to| {
                to.u32(sequence);
                true
            });
            self.write_riders(reply.current(), RESERVE);
        }
        Ok(())
    }

    pub(crate) fn on_ack(&mut self, mut body: Reader<'_>, sender: &PeerId) -> Result<(), Garbled> {
        let sequence = body.u32()?;
        if self.prober.probe.take_if(|probe| probe.sequence == sequence && probe.target == *sender).is_some()
        {
            self.prober.speed_up();
        }
        let relay =
            self.prober.relays.iter().position(|relay| relay.sequence == sequence && relay.target == *sender);
        if let Some(relay) = relay.and_then(|at| self.prober.relays.remove(at)) {
            self.send_relayed(&relay, true);
        }
        Ok(())
    }

    /// Another asks this node to probe a third one.
    pub(crate) fn on_probe_for(&mut self, mut body: Reader<'_>, asker: SocketAddr) -> Result<(), Garbled> {
        let (asked_as, target) = (body.u32()?, body.array()?);
        if self.has_left || self.prober.relays.len() >= RELAYS {
            return Ok(());
        }
        let to = self.nodes.get(&target).filter(|node| node.id != self.id).and_then(Node::address);
        let sequence = self.prober.number();
        let ends = self.now + self.config.probe_timeout;
        self.prober.relays.push_back(Relay { sequence, target, asker, asked_as, ends });
        if let Some(to) = to {
            self.send_probe(Some(&target), to, sequence);
        }
        Ok(())
    }

    pub(crate) fn on_relayed(&mut self, mut body: Reader<'_>) -> Result<(), Garbled> {
        let (sequence, reached) = (body.u32()?, body.u8()? != 0);
        let Some(probe) = self.prober.probe.as_mut().filter(|probe| probe.sequence == sequence) else {
            return Ok(());
        };
        probe.answered += 1;
        if reached {
            self.prober.probe = None;
            self.prober.speed_up();
        }
        Ok(())
    }

    /// A node is otherwise than before; others are told.
    pub(crate) fn set_life(&mut self, id: &PeerId, life: Life) {
        let now = self.now;
        let changed = self.nodes.change(id, |node| {
            let before = std::mem::replace(&mut node.life, life);
            let is_other = Liveness::from(before.state) != life.state.into();
            if is_other {
                node.since = now.into();
            }
            (before, is_other, node.is_shown)
        });
        let Some((before, is_other, is_shown)) = changed else { return };
        if is_other && is_shown {
            self.events.push_back(Event::Liveness { id: *id, liveness: life.state.into() });
        }
        if life.state == State::Suspect {
            self.prober.suspicions.push(Reverse((self.now + self.patience(), *id, life)));
            self.drop_old_suspicions();
        }
        if before.state >= State::Down && life.state == State::Alive {
            self.prober.hopeful_until = self.now + self.config.round * HOPEFUL_ROUNDS;
        }
        self.tell_life(id);
    }

    /// One counts for each node: the last.
    fn drop_old_suspicions(&mut self) {
        if self.prober.suspicions.len() > 2 * self.nodes.len() + 64 {
            let nodes = &self.nodes;
            let counts = |id: &PeerId, life: &Life| nodes.get(id).is_some_and(|node| node.life == *life);
            self.prober.suspicions.retain(|Reverse((_, id, life))| counts(id, life));
        }
    }

    /// How long a suspect has to speak up.
    fn patience(&self) -> Time {
        // The decimal logarithm, in hundredths: 1 up to 10 nodes, 3 for 1000.
        let hundredths = (self.nodes.len().max(10) as f64).log10() * 100.0;
        self.config.round * self.config.suspicion * hundredths as u32 / 100
    }

    fn end_suspicions(&mut self) {
        while let Some(Reverse((ends, id, life))) = self.prober.suspicions.peek().copied() {
            if ends > self.now {
                break;
            }
            self.prober.suspicions.pop();
            if self.nodes.get(&id).is_some_and(|node| node.life == life) {
                self.set_life(&id, Life { state: State::Down, ..life });
            }
        }
    }
}

/// What a summary takes.
const SUMMARY_BYTES: usize = 4 + 8 + 10;
/// What an acknowledgement leaves free for the hashes of buckets.
const RESERVE: usize = 4 + 4 * crate::nodes::BUCKETS + 10;
