//! Datagrams to one place, filled one after the other.

use std::net::SocketAddr;

use crate::gossip::{Gossip, Transmit};
use crate::message::Head;
use crate::wire::Writer;

/// How many datagrams one answer may have. The rest comes with the next question, or by stream.
pub(crate) const LETTERS: usize = 8;

/// Datagrams, all with the same head.
#[derive(Debug)]
pub(crate) struct Letters {
    head: Vec<u8>,
    limit: usize,
    /// How many there may be.
    count: usize,
    full: Vec<Vec<u8>>,
    current: Writer,
    extra: Vec<Vec<u8>>,
}

impl Letters {
    fn new(head: &Head, limit: usize, count: usize) -> Self {
        let mut current = Writer::new(limit);
        head.write(&mut current);
        let head = current.finish();
        let current = begin(&head, limit);
        Self { head, limit, count, full: Vec::new(), current, extra: Vec::new() }
    }

    /// Writes a part into this one, or else into the next. Not at all if there may be no more.
    pub(crate) fn part(&mut self, kind: u8, mut write: impl FnMut(&mut Writer) -> bool) -> bool {
        self.write(|to| to.part(kind, &mut write))
    }

    /// Writes something whole into this one, or else into the next.
    pub(crate) fn write(&mut self, mut write: impl FnMut(&mut Writer) -> bool) -> bool {
        write(&mut self.current) || (self.next() && write(&mut self.current))
    }

    /// The one that is being written.
    pub(crate) fn current(&mut self) -> &mut Writer {
        &mut self.current
    }

    /// No other may follow this one.
    pub(crate) fn is_last(&self) -> bool {
        self.full.len() + 1 >= self.count
    }

    fn next(&mut self) -> bool {
        if self.is_blank() || self.is_last() {
            return false;
        }
        let full = std::mem::replace(&mut self.current, begin(&self.head, self.limit));
        self.full.push(full.finish());
        true
    }

    fn is_blank(&self) -> bool {
        self.current.len() <= self.head.len()
    }

    /// An empty part, in one more datagram if need be.
    pub(crate) fn force(&mut self, kind: u8) {
        if !self.current.part(kind, |_| true) {
            self.count += 1;
            self.part(kind, |_| true);
        }
    }

    /// All of others, after these.
    pub(crate) fn append(&mut self, others: Self) {
        self.extra.extend(others.finish());
    }

    /// Those with anything in them.
    pub(crate) fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.is_blank() {
            self.full.push(self.current.finish());
        }
        self.full.append(&mut self.extra);
        self.full
    }
}

fn begin(head: &[u8], limit: usize) -> Writer {
    let mut letter = Writer::new(limit);
    letter.raw(head);
    letter
}

impl Gossip {
    /// Up to so many datagrams of this node.
    pub(crate) fn letters(&self, count: usize) -> Letters {
        Letters::new(&self.head(), self.config.payload(), count)
    }

    /// Sends them.
    pub(crate) fn post(&mut self, to: SocketAddr, letters: Letters) {
        // Whoever is asked faster than can be sent forgets what it was asked: it is asked again.
        for payload in letters.finish() {
            if self.outbox.len() < 65_536 {
                self.outbox.push_back(Transmit { to, payload: payload.into() });
            }
        }
    }
}
