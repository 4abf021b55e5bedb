//! What news have missed: two nodes compare what they hold, and bring one another up to date.
//!
//! Every probe carries a hash of all that its sender holds. If it differs, the answer has the hashes of all buckets, the
//! answer to that the positions of the nodes in those that differ, and the answer to that what they lack.

use std::net::SocketAddr;

use crate::gossip::Gossip;
use crate::letters::Letters;
use crate::message::{BUCKETS, DIGEST, EXCHANGE, WANT, read_positions, write_position};
use crate::node::Node;
use crate::nodes::{self, Nodes, place};
use crate::replica::Position;
use crate::wire::{Garbled, Reader, Writer};
use crate::{PeerId, Time};

/// Up to so many nodes all positions fit half a datagram, and the hashes of buckets are left out.
const FEW: usize = 16;
/// Who knows so many nodes more has more to tell than datagrams should carry.
const MANY: u64 = 16;
/// A node's writes that are longer than this should not come datagram by datagram.
const LONG: usize = 8 << 10;
/// How many datagrams of positions answer one comparison of buckets.
const DIGESTS: usize = 3;

impl Gossip {
    /// The sender's hash of all, and how many nodes it knows.
    pub(crate) fn on_summary(
        &mut self,
        mut body: Reader<'_>,
        from: SocketAddr,
        reply: &mut Letters,
    ) -> Result<(), Garbled> {
        let (hash, count) = (body.u64()?, body.number()?);
        if hash == self.nodes.summary() {
            return Ok(());
        }
        self.expect_much(count, from);
        if self.nodes.len() <= FEW {
            self.write_digest(reply, 0, u64::MAX);
            return Ok(());
        }
        let count = self.nodes.len() as u64;
        reply.part(BUCKETS, |to| {
            to.number(count);
            (0..nodes::BUCKETS).for_each(|bucket| to.u32(self.nodes.bucket(bucket)));
            true
        });
        Ok(())
    }

    /// The sender's hashes of all buckets: positions of those that differ.
    pub(crate) fn on_buckets(
        &mut self,
        mut body: Reader<'_>,
        from: SocketAddr,
        reply: &mut Letters,
    ) -> Result<(), Garbled> {
        let count = body.number()?;
        self.expect_much(count, from);
        let mut differ = [false; nodes::BUCKETS];
        for (bucket, differs) in differ.iter_mut().enumerate() {
            *differs = body.u32()? != self.nodes.bucket(bucket);
        }
        // Where not all fits, another part of it does next time.
        let first = self.random.index(nodes::BUCKETS);
        let mut digests = self.letters(DIGESTS);
        let mut range: Option<(u64, u64)> = None;
        for bucket in (first..nodes::BUCKETS).chain(0..first) {
            let (from, to) = Nodes::bounds(bucket);
            let differs = differ.get(bucket).is_some_and(|differs| *differs);
            range = match range {
                Some((start, end)) if differs && end.checked_add(1) == Some(from) => Some((start, to)),
                Some((start, end)) => {
                    if !self.write_digest(&mut digests, start, end) {
                        break;
                    }
                    differs.then_some((from, to))
                }
                None => differs.then_some((from, to)),
            };
        }
        if let Some((start, end)) = range {
            self.write_digest(&mut digests, start, end);
        }
        reply.append(digests);
        Ok(())
    }

    /// Positions of all nodes of a range, in as many parts as that takes. Tells whether all fitted.
    pub(crate) fn write_digest(&self, letters: &mut Letters, from: u64, to: u64) -> bool {
        let mut positions = self.nodes.range(from, to).peekable();
        let mut from = from;
        loop {
            let part = |letter: &mut Writer| {
                letter.part(DIGEST, |letter| {
                    letter.u64(from);
                    let end = letter.len();
                    letter.u64(to);
                    let mut any = false;
                    while let Some(node) = positions.peek() {
                        if !write_position(letter, &node.id, &node.position()) {
                            // Two nodes of one place are never apart, in practice.
                            letter.patch(end, &place(&node.id).saturating_sub(1).to_le_bytes());
                            return any;
                        }
                        any = true;
                        positions.next();
                    }
                    true
                })
            };
            if !letters.write(part) {
                return false;
            }
            match positions.peek() {
                Some(node) => from = place(&node.id),
                None => return true,
            }
        }
    }

    /// One node's position, as a digest of itself alone.
    pub(crate) fn write_digest_of(&self, letters: &mut Letters, id: &PeerId) {
        let place = place(id);
        self.write_digest(letters, place, place);
    }

    /// The sender's positions of a range: what it lacks, and what it has more of.
    pub(crate) fn on_digest(&mut self, mut body: Reader<'_>, reply: &mut Letters) -> Result<(), Garbled> {
        let (from, to) = (body.u64()?, body.u64()?);
        let mut theirs = read_positions(body)?;
        theirs.sort_unstable_by_key(|(id, _)| *id);
        let mut behind = Vec::new();
        let mut ahead = Vec::new();
        for (id, position) in &theirs {
            if *id == self.id {
                self.hear_of_own_position(position);
            }
            match self.compare(id, position) {
                Some(Compared::Lacks) => behind.push((*id, *position)),
                Some(Compared::Has(ours)) => ahead.push((*id, ours)),
                None => {}
            }
        }
        for Node { id, .. } in self.nodes.range(from, to) {
            if theirs.binary_search_by_key(id, |(id, _)| *id).is_err() {
                behind.push((*id, Position::default()));
            }
        }
        self.write_wants(reply, &ahead);
        self.write_all_lacking(reply, &behind);
        Ok(())
    }

    /// What the sender holds of nodes of which this one has more.
    pub(crate) fn on_want(&mut self, body: Reader<'_>, reply: &mut Letters) -> Result<(), Garbled> {
        let wants = read_positions(body)?;
        self.write_all_lacking(reply, &wants);
        Ok(())
    }

    /// Where they are, seen from here. None: equal, or none of their business.
    pub(crate) fn compare(&self, id: &PeerId, theirs: &Position) -> Option<Compared> {
        let Some(node) = self.nodes.get(id) else {
            let is_gone = self.forgotten.incarnation(id).is_some_and(|gone| theirs.epoch.incarnation <= gone);
            return Some(if is_gone { Compared::Lacks } else { Compared::Has(Position::default()) });
        };
        match node.position().compare(theirs) {
            std::cmp::Ordering::Less if *id == self.id => None,
            std::cmp::Ordering::Less => Some(Compared::Has(node.position())),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Compared::Lacks),
        }
    }

    fn write_wants(&self, reply: &mut Letters, ahead: &[(PeerId, Position)]) {
        let mut ahead = ahead.iter().peekable();
        while ahead.peek().is_some() {
            let written = reply.part(WANT, |to| {
                let mut any = false;
                while let Some((id, ours)) = ahead.peek() {
                    if !write_position(to, id, ours) {
                        break;
                    }
                    any = true;
                    ahead.next();
                }
                any
            });
            if !written {
                break;
            }
        }
    }

    /// Asks for what follows of a node.
    pub(crate) fn ask_for_rest(&mut self, id: &PeerId, asking: Asking, reply: &mut Letters) {
        if !self.may_ask(id) && asking == Asking::AfterAWhile {
            return;
        }
        let ours = self.nodes.get_mut(id).map(|node| {
            node.asked = Some(self.now.into());
            node.position()
        });
        self.write_wants(reply, &[(*id, ours.unwrap_or_default())]);
    }

    /// Whether it is a while since a node's position was told last, for others to say what follows; from now on it is not.
    pub(crate) fn may_ask(&mut self, id: &PeerId) -> bool {
        let (now, pause) = (self.now, self.config.gather * 4);
        let Some(node) = self.nodes.get_mut(id) else { return true };
        let may = node.asked.is_none_or(|asked| now >= Time::from(asked) + pause);
        if may {
            node.asked = Some(now.into());
        }
        may
    }

    /// What somebody lacks of some nodes.
    pub(crate) fn write_all_lacking(&self, reply: &mut Letters, behind: &[(PeerId, Position)]) {
        let mut is_much = false;
        for (id, theirs) in behind {
            if !self.write_lacking(reply, id, theirs) {
                is_much = true;
                if reply.is_last() {
                    break;
                }
            }
        }
        if is_much {
            reply.force(EXCHANGE);
        }
    }

    /// What somebody at a position lacks of a node. Tells whether datagrams are good enough for it.
    pub(crate) fn write_lacking(&self, letters: &mut Letters, id: &PeerId, theirs: &Position) -> bool {
        let Some(node) = self.nodes.get(id) else {
            return match self.gone(id) {
                Some(gone) => letters.part(crate::message::FORGOTTEN, |to| gone.write(to)),
                None => true,
            };
        };
        let latest = node.held.latest();
        let ours = latest.position();
        let life = (node.life.beat, node.life.state as u8);
        if theirs.compare(&ours).is_ge() {
            return true;
        }
        // No more than a datagram of each: whoever has it asks for the next. A run of several would be for nothing if the
        // first were lost, or came last.
        let mut rest = None;
        letters.write(|to| {
            rest = latest.write_delta(to, id, life, theirs).map(|written| written.rest);
            rest.is_some()
        });
        rest.is_some_and(|rest| rest < LONG)
    }

    /// Somebody knows many more nodes.
    fn expect_much(&mut self, count: u64, from: SocketAddr) {
        if count >= self.nodes.len() as u64 + MANY {
            self.want_exchange(from);
        }
    }
}

/// When to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// There is no more on its way.
    AtOnce,
    /// Not if that was just done.
    AfterAWhile,
}

/// Two positions of one node, seen from here.
pub(crate) enum Compared {
    /// They have less, or are to hear that it is gone.
    Lacks,
    /// They have more than this.
    Has(Position),
}
