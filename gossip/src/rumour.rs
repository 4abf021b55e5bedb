//! News: told to some at once, who tell some others, until everybody knows (an epidemic, Demers et al. 1987).
//!
//! What changes here goes to `log2 n + 1` live nodes at once. Whoever learns something by it sends it on to half as many,
//! once; who knew it already, sends nothing. That reaches nearly all within a few hops. News then ride on the probes and
//! acknowledgements of the next rounds, for `log2 n` times; whom they miss, the comparison of hashes finds.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::gossip::Gossip;
use crate::letters::{LETTERS, Letters};
use crate::message::{FORGOTTEN, Gone, LIFE, Life, State};
use crate::node::Node;
use crate::replica::Position;
use crate::wire::Writer;
use crate::{PeerId, Time};

/// What is to be told.
#[derive(Debug, Default)]
pub(crate) struct Rumours {
    /// Nodes with writes that have not been sent on.
    fresh: Vec<PeerId>,
    /// Some of them are this node's own.
    is_own: bool,
    due: Option<Time>,
    last: Option<Time>,
    /// Nodes with writes that ride along.
    writes: VecDeque<PeerId>,
    lives: VecDeque<PeerId>,
    gone: VecDeque<(PeerId, u8)>,
}

impl Rumours {
    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }
}

/// How many nodes' writes ride along at most.
const RIDERS: usize = 16;
/// How many nodes' lives: they are short, and those who miss them take somebody for dead.
const LIVES: usize = 40;
/// Of how many nodes writes wait to ride along at most.
const WAITING: usize = 4 * RIDERS;

impl Gossip {
    /// The logarithm of the number of nodes, rounded up.
    pub(crate) fn log2(&self) -> u8 {
        (usize::BITS - self.nodes.len().leading_zeros()) as u8
    }

    /// A node has written something above a version.
    pub(crate) fn tell(&mut self, id: &PeerId, since: u64) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let is_news = node.is_fresh || node.tellings > 0;
        node.told_since = if is_news { node.told_since.min(since) } else { since };
        if !node.is_fresh {
            node.is_fresh = true;
            self.rumours.fresh.push(*id);
        }
        if *id == self.id {
            self.tell_at_once();
        } else {
            self.tell_soon();
        }
    }

    /// A node is otherwise than before. It is told before all that was told already: a suspect must hear of it in time.
    pub(crate) fn tell_life(&mut self, id: &PeerId) {
        let tellings = self.log2() + 2;
        // It may be in there for what it was before: as long as that is seldom, once more does no harm.
        let is_crowded = self.rumours.lives.len() > 2 * self.nodes.len();
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.life_tellings == 0 || !is_crowded {
            self.rumours.lives.push_front(*id);
        }
        node.life_tellings = tellings;
    }

    /// A node is gone for good.
    pub(crate) fn tell_gone(&mut self, id: &PeerId) {
        let tellings = 2 * self.log2();
        if self.rumours.gone.len() < self.config.nodes {
            self.rumours.gone.push_back((*id, tellings));
        }
        self.tell_soon();
    }

    /// This node has something to say itself.
    pub(crate) fn tell_at_once(&mut self) {
        self.rumours.is_own = true;
        self.tell_soon();
    }

    /// The first news after a while do not wait. More gather, so that a storm of them is a few full datagrams.
    fn tell_soon(&mut self) {
        let due = self.rumours.last.map_or(self.now, |last| self.now.max(last + self.config.gather));
        self.rumours.due.get_or_insert(due);
    }

    pub(crate) fn spread_if_due(&mut self) {
        if self.rumours.due.is_some_and(|due| due <= self.now) {
            self.spread();
        }
    }

    /// Sends what is fresh to some.
    fn spread(&mut self) {
        self.rumours.due = None;
        self.rumours.last = Some(self.now);
        let all = usize::from(self.log2()) + 1;
        let count = if std::mem::take(&mut self.rumours.is_own) { all } else { all / 2 + 1 };
        let peers = self.nodes.some_live(count, None, &mut self.random);
        let addresses: Vec<_> = peers.into_iter().filter_map(Node::address).collect();
        let fresh = std::mem::take(&mut self.rumours.fresh);
        let mut letters = self.letters(LETTERS / 2);
        for id in &fresh {
            // Of a long state only the beginning: who lacks it asks for the rest, once, and not of everybody.
            self.write_news(&mut letters, id);
        }
        self.write_riders(letters.current(), 0);
        self.let_ride(fresh);
        let letters = letters.finish();
        for payload in letters.into_iter().map(Arc::<[u8]>::from) {
            for to in &addresses {
                self.outbox.push_back(crate::Transmit { to: *to, payload: Arc::clone(&payload) });
            }
        }
    }

    /// What has been sent on rides along from now on.
    fn let_ride(&mut self, told: Vec<PeerId>) {
        let tellings = self.log2();
        for id in told {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            node.is_fresh = false;
            if node.tellings == 0 {
                self.rumours.writes.push_back(id);
            }
            node.tellings = tellings;
        }
        // Many news at once would ride for long, and be known to everybody by then.
        while self.rumours.writes.len() > WAITING {
            let Some(id) = self.rumours.writes.pop_front() else { break };
            if let Some(node) = self.nodes.get_mut(&id) {
                node.tellings = 0;
            }
        }
        self.rumours.writes.shrink_to(2 * WAITING);
    }

    fn write_news(&self, letters: &mut Letters, id: &PeerId) -> bool {
        let Some(node) = self.nodes.get(id) else { return false };
        let latest = node.held.latest();
        let known = Position { version: node.told_since, ..latest.position() };
        let life = (node.life.beat, node.life.state as u8);
        letters.write(|to| latest.write_delta(to, id, life, &known).is_some())
    }

    /// Fills a datagram that goes anyway.
    pub(crate) fn write_riders(&mut self, to: &mut Writer, reserve: usize) {
        if to.room() <= reserve {
            return;
        }
        let mut rest = Writer::new(to.room() - reserve);
        self.write_lives(&mut rest);
        self.write_gone(&mut rest);
        self.write_writes(&mut rest);
        to.raw(&rest.finish());
    }

    fn write_lives(&mut self, to: &mut Writer) {
        let count = self.rumours.lives.len().min(LIVES);
        let mut told = Vec::new();
        to.part(LIFE, |to| {
            for id in self.rumours.lives.iter().take(count) {
                let Some(node) = self.nodes.get(id) else { continue };
                if !node.life.write(to, id) {
                    break;
                }
                told.push(*id);
            }
            !told.is_empty()
        });
        for _ in 0..count {
            let Some(id) = self.rumours.lives.pop_front() else { break };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            if told.contains(&id) {
                node.life_tellings = node.life_tellings.saturating_sub(1);
            }
            if node.life_tellings > 0 {
                self.rumours.lives.push_back(id);
            }
        }
    }

    fn write_gone(&mut self, to: &mut Writer) {
        for _ in 0..self.rumours.gone.len().min(RIDERS) {
            let Some((id, tellings)) = self.rumours.gone.pop_front() else { break };
            let Some(gone) = self.gone(&id) else { continue };
            let told = to.part(FORGOTTEN, |to| gone.write(to));
            let left = tellings - u8::from(told);
            if left > 0 {
                self.rumours.gone.push_back((id, left));
            }
        }
    }

    fn write_writes(&mut self, to: &mut Writer) {
        for _ in 0..self.rumours.writes.len().min(RIDERS) {
            let Some(id) = self.rumours.writes.pop_front() else { break };
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let latest = node.held.latest();
            let known = Position { version: node.told_since, ..latest.position() };
            let life = (node.life.beat, node.life.state as u8);
            if latest.write_delta(to, &id, life, &known).is_some() {
                node.tellings = node.tellings.saturating_sub(1);
            }
            if node.tellings > 0 {
                self.rumours.writes.push_back(id);
            }
        }
    }

    /// What there is to say of a node that is gone.
    pub(crate) fn gone(&self, id: &PeerId) -> Option<Gone> {
        let (incarnation, until) = *self.forgotten.by_id.get(id)?;
        Some(Gone { id: *id, incarnation, remaining: until.saturating_sub(self.now) })
    }

    /// What there is to say of how a node is.
    pub(crate) fn write_life(letters: &mut Letters, id: &PeerId, life: Life) {
        letters.part(LIFE, |to| life.write(to, id));
    }

    /// Takes what is said of a node's life, if it is news; says better who takes it for down and has missed that it is not.
    pub(crate) fn hear_of_life(&mut self, id: &PeerId, mut life: Life, reply: &mut Letters) {
        if *id == self.id {
            return self.hear_of_own_life(life);
        }
        let Some(node) = self.nodes.get(id) else { return };
        if life <= node.life {
            if life.state >= State::Down && node.life.state == State::Alive {
                Self::write_life(reply, id, node.life);
            }
            return;
        }
        // Nobody is down here who was not suspected here: it has had no time to speak up. Unless it said so itself.
        if life.state == State::Down && node.life.state == State::Alive {
            life.state = State::Suspect;
        }
        self.set_life(id, life);
    }

    fn hear_of_own_life(&mut self, life: Life) {
        let own = self.life();
        if life.incarnation > own.incarnation {
            return self.rise_above(life.incarnation);
        }
        if life > own && !self.has_left && life.beat < u64::MAX / 2 {
            // Others have waited for an answer in vain: perhaps this node is slow.
            self.prober.slow_down();
            self.announce_life(life.beat + 1, State::Alive);
        }
    }
}
