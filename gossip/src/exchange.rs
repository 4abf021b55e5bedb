//! All at once, by stream: for a node that joins, and for halves that meet again.
//!
//! The one who expects to learn opens a stream and sends its positions; the answer is all that it lacks, and of which nodes
//! it has more: those it sends by datagrams, or asks the other to come for them. Only what is answered is learnt from, so that
//! a request that is recorded and sent again changes nothing.

use std::net::SocketAddr;

use crate::gossip::Gossip;
use crate::letters::LETTERS;
use crate::message::{DELTA, DIGEST, FORGOTTEN, Gone, Head, WANT, read_positions, write_position};
use crate::node::Node;
use crate::receive::Spread;
use crate::repair::Compared;
use crate::replica::{Delta, Position};
use crate::wire::{Garbled, Reader, Writer};
use crate::{PeerId, Time};

/// The largest answer, in bytes. What does not fit comes with the next.
const LARGEST: usize = 60 << 20;
/// What is learnt of more nodes than this at once is not sent on: others will see that they lack it.
const FEW: usize = 16;

/// Streams that this node would like to open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    wanted: Option<SocketAddr>,
    next: Time,
}

impl Gossip {
    /// To open a stream to somebody, as soon as the caller asks.
    pub(crate) fn want_exchange(&mut self, with: SocketAddr) {
        if self.streams.next <= self.now && !self.has_left {
            self.streams.wanted.get_or_insert(with);
        }
    }

    /// Where to open a stream to, if there is much to learn. To be asked after everything else.
    ///
    /// The caller sends [`exchange_request`](Self::exchange_request) there, gives what comes back to
    /// [`exchange_finish`](Self::exchange_finish), and on the other end answers with
    /// [`exchange_answer`](Self::exchange_answer). Nothing is lost if that fails: datagrams bring it, more slowly.
    pub fn wants_exchange(&mut self) -> Option<SocketAddr> {
        let wanted = self.streams.wanted.take()?;
        self.streams.next = self.now + self.config.exchange_interval;
        Some(wanted)
    }

    /// What this node holds, to be answered.
    pub fn exchange_request(&mut self, now: Time) -> Vec<u8> {
        self.wake(now);
        let mut to = Writer::new(LARGEST);
        self.head().write(&mut to);
        to.part(DIGEST, |to| {
            to.u64(0);
            to.u64(u64::MAX);
            self.nodes.iter().all(|node| write_position(to, &node.id, &node.position()))
        });
        to.finish()
    }

    /// All that the one lacks who asks.
    ///
    /// # Errors
    /// It is no request.
    pub fn exchange_answer(&mut self, now: Time, request: &[u8]) -> Result<Vec<u8>, Garbled> {
        self.wake(now);
        let mut parts = Reader(request);
        Head::read(&mut parts)?;
        let mut theirs = None;
        while !parts.is_empty() {
            if let (DIGEST, mut body) = parts.part()? {
                body.bytes(16)?;
                theirs = Some(read_positions(body)?);
            }
        }
        let mut theirs = theirs.ok_or(Garbled)?;
        theirs.sort_unstable_by_key(|(id, _)| *id);
        Ok(self.answer(&theirs))
    }

    fn answer(&self, theirs: &[(PeerId, Position)]) -> Vec<u8> {
        let mut to = Writer::new(LARGEST);
        self.head().write(&mut to);
        for id in self.forgotten.by_id.keys() {
            if let Some(gone) = self.gone(id) {
                to.part(FORGOTTEN, |to| gone.write(to));
            }
        }
        to.part(WANT, |to| {
            let ahead = theirs.iter().filter_map(|(id, position)| match self.compare(id, position)? {
                Compared::Has(ours) => Some((id, ours)),
                Compared::Lacks => None,
            });
            ahead.into_iter().all(|(id, ours)| write_position(to, id, &ours))
        });
        for node in self.nodes.iter() {
            let at = theirs.binary_search_by_key(&node.id, |(id, _)| *id).ok();
            let theirs = at.and_then(|at| theirs.get(at)).map(|(_, position)| *position).unwrap_or_default();
            if theirs.compare(&node.position()).is_lt() {
                let life = (node.life.beat, node.life.state as u8);
                let _ = node.held.latest().write_delta(&mut to, &node.id, life, &theirs);
            }
        }
        to.finish()
    }

    /// Takes in an answer. Tells who has answered.
    ///
    /// # Errors
    /// It is none. What could be read of it counts.
    pub fn exchange_finish(&mut self, now: Time, answer: &[u8]) -> Result<PeerId, Garbled> {
        self.wake(now);
        let read = self.read_answer(Reader(answer));
        self.rise();
        read
    }

    fn read_answer(&mut self, mut parts: Reader<'_>) -> Result<PeerId, Garbled> {
        let head = Head::read(&mut parts)?;
        let mut count = 0;
        let mut rest = parts;
        while !rest.is_empty() {
            count += usize::from(rest.part()?.0 == DELTA);
        }
        let spread = if count <= FEW { Spread::On } else { Spread::Off };
        while !parts.is_empty() {
            match parts.part()? {
                (DELTA, body) => {
                    self.learn(&Delta::read(body)?, spread);
                }
                (FORGOTTEN, mut body) => {
                    while !body.is_empty() {
                        self.on_gone(&Gone::read(&mut body)?);
                    }
                }
                (WANT, body) => self.bring(&head, body)?,
                _ => {}
            }
        }
        Ok(head.id)
    }

    /// Sends the one who answered what it lacks itself.
    fn bring(&mut self, head: &Head, wants: Reader<'_>) -> Result<(), Garbled> {
        let Some(to) = self.nodes.get(&head.id).and_then(Node::address) else { return Ok(()) };
        let mut letters = self.letters(LETTERS);
        self.write_all_lacking(&mut letters, &read_positions(wants)?);
        self.post(to, letters);
        Ok(())
    }
}
