//! This node's own part: what it writes, and what it does when others know better.

use std::net::SocketAddr;

use crate::Time;
use crate::gossip::{Deleted, Event, Gossip};
use crate::message::{Head, Life, State};
use crate::replica::{Epoch, Replica};

/// When it had to take a higher incarnation lately. Once is a disk that was set back; again and again is another process.
#[derive(Debug, Default)]
pub(crate) struct Risen {
    /// It is to rise above this one, when what has arrived is answered.
    above: Option<u64>,
    times: Vec<Time>,
    told: Option<Time>,
    /// When it looked for its other self.
    pub(crate) looked: Option<Time>,
    /// When that spoke to it.
    pub(crate) met: Option<Time>,
}

/// So often within so many rounds.
const CLONE_RISES: usize = 3;
const CLONE_ROUNDS: u32 = 30;

impl Gossip {
    pub(crate) fn replica(&self) -> &Replica {
        // The own node is put in when all begins, and never taken out.
        static NOTHING: Replica = Replica::nothing();
        self.nodes.get(&self.id).map_or(&NOTHING, |own| &*own.held.current)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.replica().epoch
    }

    pub(crate) fn life(&self) -> Life {
        let nothing = Life { incarnation: 0, beat: 0, state: State::Alive };
        self.nodes.get(&self.id).map_or(nothing, |own| own.life)
    }

    pub(crate) fn head(&self) -> Head {
        Head { id: self.id, epoch: self.epoch(), beat: self.life().beat }
    }

    /// Writes, and has it told.
    pub(crate) fn write(&mut self, key: &[u8], value: Option<&[u8]>) {
        let id = self.id;
        let before = self.replica().version;
        self.nodes.change(&id, |own| own.held.current_mut().write(key, value));
        if value.is_none() {
            let (epoch, version) = (self.epoch(), self.replica().version);
            self.deleted.push_back(Deleted::new(id, epoch, version, self.now + self.config.deleted_for));
        }
        self.note(before);
        self.tell(&id, before);
    }

    /// Has what it wrote above a version noted, if somebody does.
    pub(crate) fn note(&self, since: u64) {
        if let Some(ledger) = &self.ledger {
            ledger.wrote(self.id, self.replica(), since);
        }
    }

    /// Says how it is, to some at once.
    pub(crate) fn announce_life(&mut self, beat: u64, state: State) {
        let (id, now) = (self.id, self.now);
        self.nodes.change(&id, |own| {
            own.life.beat = beat;
            own.life.state = state;
            own.since = now.into();
        });
        self.tell_life(&id);
        self.tell_at_once();
    }

    /// Others know of a life of this node that it never had, or have been told to forget the one that it has.
    ///
    /// It rises when what has arrived is answered: whatever the caller changes because of it is told with the new life, never
    /// after it.
    pub(crate) fn rise_above(&mut self, incarnation: u64) {
        self.risen.above = self.risen.above.max(Some(incarnation));
    }

    /// Rises, if it has to.
    pub(crate) fn rise(&mut self) {
        let Some(incarnation) = self.risen.above.take() else { return };
        let pause = self.risen.times.last().is_some_and(|last| self.now < *last + self.config.round);
        if pause || self.has_left {
            return;
        }
        let instance = self.epoch().instance;
        let new = incarnation.max(self.epoch().incarnation) + 1;
        let id = self.id;
        self.nodes.change(&id, |own| {
            own.held.current_mut().move_to(Epoch { incarnation: new, instance });
            own.life = Life { incarnation: new, beat: 0, state: State::Alive };
        });
        self.deleted.retain(|deleted| deleted.id != id);
        self.note(0);
        self.tell(&id, 0);
        let now = self.now;
        self.question.iter_mut().for_each(|question| question.begin(now));
        self.events.push_back(Event::Incarnation { new });

        let window = self.config.round * CLONE_ROUNDS;
        self.risen.times.retain(|time| *time + window > self.now);
        self.risen.times.push(self.now);
        if self.risen.times.len() >= CLONE_RISES {
            self.report_clone(None);
        }
    }

    /// A datagram came from this node, as it says. Of this process it is if it was its own seed.
    pub(crate) fn meet_self(&mut self, head: &Head, from: SocketAddr) {
        if head.epoch.instance != self.epoch().instance {
            self.risen.met = Some(self.now);
            if self.report_clone(Some(from)) {
                // The other must hear it, too.
                self.look_at(from);
            }
            if head.epoch > self.epoch() {
                self.rise_above(head.epoch.incarnation);
            }
        }
    }

    /// Tells the caller, unless it has done so lately.
    fn report_clone(&mut self, address: Option<SocketAddr>) -> bool {
        let pause = self.config.round * CLONE_ROUNDS;
        let is_news = self.risen.told.is_none_or(|told| told + pause <= self.now);
        if is_news {
            self.risen.told = Some(self.now);
            self.events.push_back(Event::Clone { address });
        }
        is_news
    }
}
