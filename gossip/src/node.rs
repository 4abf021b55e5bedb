//! A node that is known.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::message::{Life, State};
use crate::replica::{ADDRESSES, Held, Position};
use crate::wire::Reader;
use crate::{PeerId, Time};

/// A node. Small: each knows thousands of others, and most have nothing unusual.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: PeerId,
    pub(crate) held: Held,
    /// A whole replica of it has been seen: it is shown to the caller.
    pub(crate) is_shown: bool,
    pub(crate) life: Life,
    /// Since when it is so.
    pub(crate) since: Nanos,
    /// Where it says it is.
    pub(crate) addresses: Arc<[SocketAddr]>,
    heard: Heard,
    /// The lowest version that those who are to be told of its last change may have; and how often that is still to be done.
    pub(crate) told_since: u64,
    pub(crate) tellings: u8,
    /// It has not been sent on.
    pub(crate) is_fresh: bool,
    /// When its position was told last, for others to say what follows.
    pub(crate) asked: Option<Nanos>,
    /// How often it is still to be told how it is.
    pub(crate) life_tellings: u8,
    /// Where it is in the roster of nodes that are like it: see [`Nodes`](crate::nodes::Nodes).
    pub(crate) at: u32,
}

/// A time, in half as many bytes as the type has that calculates with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nanos(NonZeroU64);

impl From<Time> for Nanos {
    fn from(time: Time) -> Self {
        Self(NonZeroU64::MIN.saturating_add(time.as_nanos() as u64))
    }
}

impl From<Nanos> for Time {
    fn from(Nanos(nanos): Nanos) -> Self {
        Self::from_nanos(nanos.get() - 1)
    }
}

/// Where a node spoke from last.
#[derive(Debug)]
enum Heard {
    Nowhere,
    /// Where it says it is.
    At(u8),
    Elsewhere(Box<SocketAddr>),
}

impl Node {
    pub(crate) fn new(id: PeerId, held: Held, life: Life, since: Time) -> Self {
        let (addresses, heard, since) = (Arc::default(), Heard::Nowhere, since.into());
        let (told_since, tellings, life_tellings, at) = (0, 0, 0, 0);
        let (is_shown, is_fresh, asked) = (false, false, None);
        Self {
            id,
            held,
            is_shown,
            life,
            since,
            addresses,
            heard,
            told_since,
            tellings,
            is_fresh,
            asked,
            life_tellings,
            at,
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.held.latest().position()
    }

    /// Where to send what is for it.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.heard().or_else(|| self.addresses.first().copied())
    }

    /// Where it spoke from last, if it did.
    pub(crate) fn heard(&self) -> Option<SocketAddr> {
        match &self.heard {
            Heard::Nowhere => None,
            Heard::At(at) => self.addresses.get(usize::from(*at)).copied(),
            Heard::Elsewhere(address) => Some(**address),
        }
    }

    pub(crate) fn hear_at(&mut self, from: SocketAddr) {
        if self.heard() != Some(from) {
            let at = self.addresses.iter().position(|address| *address == from);
            self.heard = match at.and_then(|at| u8::try_from(at).ok()) {
                Some(at) => Heard::At(at),
                None => Heard::Elsewhere(Box::new(from)),
            };
        }
    }

    /// Takes over the addresses that it says it has. Tells whether they are others than before.
    pub(crate) fn read_addresses(&mut self) -> bool {
        let mut value = Reader(self.held.current.get(ADDRESSES).unwrap_or_default());
        let told: Vec<_> = std::iter::from_fn(|| value.address().ok()).take(16).collect();
        let has_moved = *told != *self.addresses;
        if has_moved {
            let heard = self.heard();
            self.addresses = told.into();
            self.heard = Heard::Nowhere;
            // If it has moved, it will be heard from there.
            if let Some(heard) = heard
                && (self.addresses.is_empty() || self.addresses.contains(&heard))
            {
                self.hear_at(heard);
            }
        }
        has_moved
    }

    pub(crate) fn is_live(&self) -> bool {
        self.life.state <= State::Suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    #[test]
    fn where_a_node_is_heard_is_kept_while_it_may_be_there() {
        let [one, other, odd]: [SocketAddr; 3] = [1, 2, 3].map(|n| ([10, 0, 0, n], 1).into());
        let life = Life { incarnation: 1, beat: 0, state: State::Alive };
        let mut node = Node::new([1; 16], Held::default(), life, Time::ZERO);
        let say = |node: &mut Node, addresses: &[SocketAddr]| {
            let mut to = Writer::new(100);
            addresses.iter().for_each(|address| to.address(address));
            node.held.current_mut().write(ADDRESSES, Some(&to.finish()));
            node.read_addresses()
        };
        assert_eq!((say(&mut node, &[one, other]), node.address()), (true, Some(one)));
        node.hear_at(other);
        assert_eq!((say(&mut node, &[other, one]), node.heard()), (true, Some(other)));
        assert_eq!((say(&mut node, &[one]), node.heard(), node.address()), (true, None, Some(one)));
        node.hear_at(odd);
        assert_eq!((say(&mut node, &[one]), node.address()), (false, Some(odd)));
        assert_eq!((say(&mut node, &[other]), node.address()), (true, Some(other)));
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 120, "{}", size_of::<Node>());
        let time = Time::new(1 << 32, 999_999_999);
        assert_eq!([Time::ZERO, time].map(|time| Time::from(Nanos::from(time))), [Time::ZERO, time]);
    }
}
