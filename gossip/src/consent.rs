//! Whether everybody holds what this node says, and has nothing against it: each live node is asked, and answers for itself.
//!
//! News reach everybody sooner or later; a node that has to know that they *have* asks. The question brings along what this
//! node says, or its last part, and names the version that it ends with. Who holds it up to there tells its caller
//! ([`Event::Asked`]), who consents or has something against it; who lacks some asks for that first, and is asked again. Silence
//! is no consent.
//!
//! What follows from a consent: its sender held everything that this node had said up to that version, and knew of nothing that
//! speaks against it. It goes on holding that for the rest of its life: asked by two nodes that want what excludes one another, it
//! knows what the first one wants when the second one asks.
//!
//! A question costs a datagram to each other node, and one back. Where there are more than 128 others, none is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::gossip::{Event, Gossip, Transmit};
use crate::letters::Letters;
use crate::message::{ASK, CONSENT, Head};
use crate::node::Node;
use crate::repair::Asking;
use crate::replica::{Epoch, Position};
use crate::wire::{Garbled, Reader, Writer};
use crate::{PeerId, Time};

/// Among how many others each is asked.
const MOST: usize = 128;
/// How long after one question who has not answered is asked the next time.
const AGAIN: Duration = Duration::from_millis(150);
/// How often each is asked.
const TRIES: u8 = 20;
/// Who was not woken for so long was suspended: what it was told before is old.
const LATE: Duration = Duration::from_secs(1);
/// How many nodes are named that somebody should know of, before a consent is asked for again.
const NAMED: usize = 3;
/// What a question takes, beside what this node says.
const ASK_BYTES: usize = 4 + 10;

/// A question to everybody.
#[derive(Debug)]
pub(crate) struct Question {
    /// Up to which version of what this node says.
    version: u64,
    /// Who was asked.
    asked: HashMap<PeerId, Asked>,
    /// When those are asked again who have not answered.
    due: Time,
}

#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    tries: u8,
    /// In which of its lives it has consented. In another one it has forgotten what it knew.
    consents: Option<Epoch>,
}

impl Question {
    /// Whether a node has consented.
    fn has(&self, node: &Node) -> bool {
        self.asked.get(&node.id).is_some_and(|asked| asked.consents == Some(node.position().epoch))
    }

    /// All are asked anew.
    pub(crate) fn begin(&mut self, now: Time) {
        self.asked.clear();
        self.due = now;
    }
}

impl Gossip {
    /// Asks every other live node whether it holds all that this one has said by now, and has nothing against it; those who do
    /// not answer, a few times; those who come, as soon as they are known. Nothing happens if that is being asked already.
    pub fn ask(&mut self, now: Time) {
        self.wake(now);
        let version = self.replica().version;
        if self.question.as_ref().is_none_or(|question| question.version != version) {
            self.question = Some(Question { version, asked: HashMap::new(), due: self.now });
        }
    }

    /// Whether no more others are alive than can be asked.
    pub fn can_ask(&self) -> bool {
        self.nodes.live() <= MOST && !self.has_left
    }

    /// What was [asked](Self::ask) is of no interest any more.
    pub fn withdraw(&mut self) {
        self.question = None;
    }

    /// Every other live node has answered what was [asked](Self::ask), and consents. Not where there is none.
    pub fn has_consent(&self) -> bool {
        let Some(question) = &self.question else { return false };
        self.can_ask()
            && self.nodes.live() > 0
            && self.now <= question.due + LATE
            && self.nodes.live_ones().all(|node| question.has(node))
    }

    /// When who has not answered is to be asked again.
    pub(crate) fn ask_due(&self) -> Option<Time> {
        self.question.as_ref().filter(|_| self.can_ask()).map(|question| question.due)
    }

    /// Answers a node that has [asked](Event::Asked): there is nothing against all that is known here of what it says.
    pub fn consent(&mut self, now: Time, id: &PeerId) {
        self.wake(now);
        let Some((to, position)) = self.asker(id) else { return };
        let mut letters = self.letters(1);
        letters.part(CONSENT, |to| {
            to.number(position.epoch.incarnation);
            to.u32(position.epoch.instance);
            to.number(position.version);
            true
        });
        self.post(to, letters);
    }

    /// Answers a node that has [asked](Event::Asked): it should first hear what some others say, this one maybe among them.
    pub fn object(&mut self, now: Time, id: &PeerId, others: &[PeerId]) {
        self.wake(now);
        let Some((to, _)) = self.asker(id) else { return };
        let mut letters = self.letters(1);
        // Their positions: who holds less asks for the rest.
        for other in others.iter().take(NAMED) {
            self.write_digest_of(&mut letters, other);
        }
        self.post(to, letters);
    }

    fn asker(&self, id: &PeerId) -> Option<(std::net::SocketAddr, Position)> {
        let node = self.nodes.get(id).filter(|node| node.id != self.id && !self.has_left)?;
        Some((node.address()?, node.held.current.position()))
    }

    /// Asks who was not asked, and again who has not answered for a while.
    pub(crate) fn ask_if_due(&mut self) {
        if !self.can_ask() {
            return;
        }
        let now = self.now;
        let Some(question) = &mut self.question else { return };
        if now > question.due + LATE {
            question.begin(now);
        }
        let is_due = question.due <= now;
        if is_due {
            question.due = now + AGAIN;
        }
        let mut addresses = Vec::new();
        for node in self.nodes.live_ones() {
            let is_answered = question.has(node);
            let asked = question.asked.entry(node.id).or_default();
            let is_next = asked.tries == 0 || is_due && !is_answered && asked.tries < TRIES;
            if let Some(to) = node.address().filter(|_| is_next) {
                asked.tries += 1;
                addresses.push(to);
            }
        }
        let version = question.version;
        if !addresses.is_empty() {
            let payload = self.write_question(version);
            self.outbox
                .extend(addresses.into_iter().map(|to| Transmit { to, payload: Arc::clone(&payload) }));
        }
    }

    /// What this node says, or the last of it if that is long; and what it asks.
    fn write_question(&self, version: u64) -> Arc<[u8]> {
        let (own, life) = (self.replica(), self.life());
        let last = Position { version: version.saturating_sub(1), ..own.position() };
        let mut letters = self.letters(1);
        let room = letters.current().room() - ASK_BYTES;
        let said = |since: &Position| {
            let mut to = Writer::new(room);
            let written = own.write_delta(&mut to, &self.id, (life.beat, life.state as u8), since)?;
            Some((to.finish(), written.rest == 0))
        };
        let whole = said(&Position::default()).filter(|(_, is_whole)| *is_whole);
        let (said, _) = whole.or_else(|| said(&last)).unwrap_or_default();
        letters.current().raw(&said);
        letters.part(ASK, |to| {
            to.number(version);
            true
        });
        letters.finish().into_iter().next().unwrap_or_default().into()
    }

    /// Another asks whether this node holds what it says.
    pub(crate) fn on_ask(
        &mut self,
        mut body: Reader<'_>,
        head: &Head,
        reply: &mut Letters,
    ) -> Result<(), Garbled> {
        let version = body.count()?;
        let is_gone = self.forgotten.incarnation(&head.id).is_some_and(|gone| head.epoch.incarnation <= gone);
        if self.has_left || is_gone {
            return Ok(());
        }
        let known = self.nodes.get(&head.id).map(|node| node.held.current.position());
        match known {
            Some(known) if known.epoch == head.epoch && known.version >= version => {
                let event = Event::Asked { id: head.id };
                // However often one datagram asks, it is answered once.
                if !self.events.contains(&event) {
                    self.events.push_back(event);
                }
            }
            Some(known) if known.epoch > head.epoch => {}
            _ => self.ask_for_rest(&head.id, Asking::AfterAWhile, reply),
        }
        Ok(())
    }

    /// Another holds what this node says, and has nothing against it.
    pub(crate) fn on_consent(&mut self, mut body: Reader<'_>, head: &Head) -> Result<(), Garbled> {
        let epoch = Epoch { incarnation: body.count()?, instance: body.u32()? };
        let version = body.count()?;
        let is_own = epoch == self.epoch() && version <= self.replica().version;
        if let Some(question) =
            self.question.as_mut().filter(|question| is_own && version >= question.version)
            && let Some(asked) = question.asked.get_mut(&head.id)
        {
            asked.consents = asked.consents.max(Some(head.epoch));
        }
        Ok(())
    }
}
