//! What arrives, part by part.

use std::net::SocketAddr;

use crate::gossip::{Deleted, Event, Gossip};
use crate::ledger::Ledger;
use crate::letters::{LETTERS, Letters};
use crate::message::{
    ACK, ASK, BUCKETS, CONSENT, DELTA, DIGEST, EXCHANGE, FORGOTTEN, Gone, Head, LIFE, Life, PROBE, PROBE_FOR,
    RELAYED, SUMMARY, State, TWIN, WANT,
};
use crate::node::Node;
use crate::repair::Asking;
use crate::replica::{ADDRESSES, Delta, Held, Merged, Position};
use crate::wire::{Garbled, Reader};
use crate::{PeerId, Time};

impl Gossip {
    /// Takes in a datagram that was opened: `payload` of a member, which came from an address. Whatever it is, nothing breaks.
    pub fn receive(&mut self, now: Time, from: SocketAddr, payload: &[u8]) {
        self.wake(now);
        let mut parts = Reader(payload);
        let Ok(head) = Head::read(&mut parts) else { return };
        if head.id == self.id {
            self.meet_self(&head, from);
            return self.rise();
        }
        self.heard = self.now;
        let mut reply = self.letters(LETTERS);
        self.hear(&head, from, &mut reply);
        while !parts.is_empty() {
            let Ok((kind, body)) = parts.part() else { break };
            if self.on_part(kind, body, &head, from, &mut reply).is_err() {
                break;
            }
        }
        self.post(from, reply);
        self.rise();
    }

    fn on_part(
        &mut self,
        kind: u8,
        mut body: Reader<'_>,
        head: &Head,
        from: SocketAddr,
        reply: &mut Letters,
    ) -> Result<(), Garbled> {
        match kind {
            PROBE => self.on_probe(body, reply)?,
            ACK => self.on_ack(body, &head.id)?,
            PROBE_FOR => self.on_probe_for(body, from)?,
            RELAYED => self.on_relayed(body)?,
            SUMMARY => self.on_summary(body, from, reply)?,
            BUCKETS => self.on_buckets(body, from, reply)?,
            DIGEST => self.on_digest(body, reply)?,
            WANT => self.on_want(body, reply)?,
            DELTA => {
                let delta = Delta::read(body)?;
                self.on_delta(&delta, reply);
                self.locate(head, from);
            }
            LIFE => {
                while !body.is_empty() {
                    let (id, life) = Life::read(&mut body)?;
                    self.hear_of_life(&id, life, reply);
                }
            }
            FORGOTTEN => {
                while !body.is_empty() {
                    self.on_gone(&Gone::read(&mut body)?);
                }
            }
            EXCHANGE => self.want_exchange(from),
            TWIN => self.on_twin(body)?,
            ASK => self.on_ask(body, head, reply)?,
            CONSENT => self.on_consent(body, head)?,
            // Of a later version.
            _ => {}
        }
        Ok(())
    }

    /// What follows from who speaks.
    fn hear(&mut self, head: &Head, from: SocketAddr, reply: &mut Letters) {
        if self.forgotten.incarnation(&head.id).is_some_and(|gone| head.epoch.incarnation <= gone) {
            self.tell_of_gone(&head.id, reply);
            return;
        }
        let Some(node) = self.nodes.get(&head.id) else { return };
        let (life, position) = (node.life, node.position());
        if head.epoch < position.epoch {
            // Its disk was set back, or it is another process: it will see by this. Not with each datagram: two nodes that both
            // exist twice would go on correcting one another.
            if self.may_ask(&head.id) {
                self.write_digest_of(reply, &head.id);
            }
            return;
        }
        self.locate(head, from);
        let now = Life { incarnation: head.epoch.incarnation, beat: head.beat, state: State::Alive };
        if now > life {
            self.set_life(&head.id, now);
        } else if life.state != State::Alive {
            Self::write_life(reply, &head.id, life);
        }
        if head.epoch > position.epoch {
            self.ask_for_rest(&head.id, Asking::AfterAWhile, reply);
        }
    }

    /// Remembers where a node speaks from.
    fn locate(&mut self, head: &Head, from: SocketAddr) {
        if let Some(node) = self.nodes.get_mut(&head.id).filter(|node| head.epoch >= node.position().epoch) {
            node.hear_at(from);
        }
    }

    /// Takes a run of a node's writes. Asks for the rest, if there is any.
    fn on_delta(&mut self, delta: &Delta<'_>, reply: &mut Letters) {
        let Some(merged) = self.learn(delta, Spread::On) else {
            self.tell_of_gone(&delta.id, reply);
            return;
        };
        match merged {
            // There is more where this came from.
            Merged::Old if self.lacks(delta) => self.ask_for_rest(&delta.id, Asking::AfterAWhile, reply),
            Merged::Old => {}
            // What is between may be on its way.
            Merged::Gap => self.ask_for_rest(&delta.id, Asking::AfterAWhile, reply),
            Merged::Growing | Merged::Changed | Merged::Replaced => {
                if delta.upto < delta.target {
                    self.ask_for_rest(&delta.id, Asking::AtOnce, reply);
                }
            }
        }
    }

    /// Whoever sent it has more of a node that is known here. (One that is not, and is not taken in, is not asked for.)
    fn lacks(&self, delta: &Delta<'_>) -> bool {
        let theirs = Position { version: delta.target, ..delta.position() };
        let is_behind = |node: &Node| node.position().compare(&theirs).is_lt();
        delta.id != self.id && self.nodes.get(&delta.id).is_some_and(is_behind)
    }

    /// Takes a run of a node's writes. None: that node is to be forgotten.
    pub(crate) fn learn(&mut self, delta: &Delta<'_>, spread: Spread) -> Option<Merged> {
        let id = delta.id;
        if id == self.id {
            self.hear_of_own_position(&delta.position());
            return Some(Merged::Old);
        }
        if self.forgotten.incarnation(&id).is_some_and(|gone| delta.epoch.incarnation <= gone) {
            return None;
        }
        let state = State::of(delta.state).unwrap_or(State::Alive);
        let life = Life { incarnation: delta.epoch.incarnation, beat: delta.beat, state };
        let before = self.nodes.get(&id).map(Node::position);
        let merged = match before {
            Some(known) if delta.is_old(&known) => Merged::Old,
            Some(_) => {
                let ledger = self.ledger.as_deref();
                self.nodes.change(&id, |node| merge(delta, &mut node.held, ledger)).unwrap_or(Merged::Old)
            }
            None => self.meet(delta, life),
        };
        if matches!(merged, Merged::Old | Merged::Gap) {
            return Some(merged);
        }
        self.forgotten.remove(&id);
        if before.is_some()
            && self.nodes.get(&id).is_some_and(|node| node.life.incarnation < life.incarnation)
        {
            self.set_life(&id, life);
        }
        self.remember_deleted(
            delta,
            before.filter(|_| merged == Merged::Changed).map_or(0, |known| known.version),
        );
        self.show(delta, &merged, before.map_or(0, |known| known.version));
        if spread == Spread::On {
            let known = before.filter(|before| before.epoch == delta.epoch).unwrap_or_default();
            self.tell(&id, known.version.min(delta.upto));
        }
        Some(merged)
    }

    /// A node that was not known.
    fn meet(&mut self, delta: &Delta<'_>, life: Life) -> Merged {
        if self.nodes.len() >= self.config.nodes {
            return Merged::Old;
        }
        let mut held = Held::default();
        let merged = merge(delta, &mut held, self.ledger.as_deref());
        if !matches!(merged, Merged::Old | Merged::Gap) {
            let node = Node::new(delta.id, held, life, self.now);
            self.nodes.insert(node);
            if life.state == State::Suspect {
                self.set_life(&delta.id, life);
            }
        }
        merged
    }

    /// Tells the caller what a delta has brought to whoever knew what is up to a version.
    fn show(&mut self, delta: &Delta<'_>, merged: &Merged, known: u64) {
        let id = delta.id;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let may_have_moved = match merged {
            Merged::Changed => delta.above(known).any(|change| change.key == ADDRESSES),
            _ => true,
        };
        let has_moved = may_have_moved && node.read_addresses();
        if let Some(ledger) = self.ledger.as_ref().filter(|_| has_moved) {
            ledger.share_addresses(node);
        }
        match merged {
            Merged::Replaced if !std::mem::replace(&mut node.is_shown, true) => {
                self.events.push_back(Event::Joined { id });
                return;
            }
            Merged::Replaced => self.events.push_back(Event::Reset { id }),
            Merged::Changed if delta.above(known).any(|change| change.key != ADDRESSES) => {
                self.events.push_back(Event::Changed { id, since: known });
            }
            Merged::Changed => {}
            _ => return,
        }
        if has_moved {
            self.events.push_back(Event::Moved { id });
        }
    }

    fn remember_deleted(&mut self, delta: &Delta<'_>, known: u64) {
        let due = self.now + self.config.deleted_for;
        let is_news = |version| version > known;
        let deleted = delta.changes.iter().filter(|change| change.value.is_none() && is_news(change.version));
        self.deleted.extend(deleted.map(|change| Deleted::new(delta.id, delta.epoch, change.version, due)));
    }

    /// Others hold something of this node: it may be more than it wrote.
    pub(crate) fn hear_of_own_position(&mut self, theirs: &Position) {
        if theirs.compare(&self.replica().position()).is_gt() {
            self.rise_above(theirs.epoch.incarnation);
        }
    }

    fn tell_of_gone(&self, id: &PeerId, reply: &mut Letters) {
        if let Some(gone) = self.gone(id) {
            reply.part(FORGOTTEN, |to| gone.write(to));
        }
    }

    /// A node is said to be gone for good.
    pub(crate) fn on_gone(&mut self, gone: &Gone) {
        if gone.id == self.id {
            if gone.incarnation >= self.epoch().incarnation {
                self.rise_above(gone.incarnation);
            }
            return;
        }
        let is_known = self.forgotten.incarnation(&gone.id).is_some_and(|known| known >= gone.incarnation);
        let is_back = |node: &Node| node.position().epoch.incarnation > gone.incarnation;
        if !is_known && !self.nodes.get(&gone.id).is_some_and(is_back) {
            self.bury(gone.id, gone.incarnation, gone.remaining.min(self.config.forgotten_for));
        }
    }

    /// Forgets a node, and remembers that.
    pub(crate) fn bury(&mut self, id: PeerId, incarnation: u64, remaining: Time) {
        if remaining.is_zero() || self.forgotten.by_id.len() >= self.config.nodes {
            return;
        }
        self.forgotten.insert(id, incarnation, self.now + remaining);
        self.tell_gone(&id);
        if self.nodes.remove(&id).is_some_and(|node| node.is_shown) {
            self.events.push_back(Event::Forgotten { id });
        }
    }
}

/// Takes in a delta; together with others of this process, if there is a ledger.
fn merge(delta: &Delta<'_>, held: &mut Held, ledger: Option<&Ledger>) -> Merged {
    match ledger {
        Some(ledger) => ledger.merge(delta, held),
        None => held.merge(delta),
    }
}

/// Whether what is learnt is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    On,
    Off,
}
