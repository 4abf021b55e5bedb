//! What a datagram consists of: a head, and parts.
//!
//! ```text
//! head        version of the protocol, sender, its epoch and beat
//! PROBE       are you there?                        ─▶ ACK
//! PROBE_FOR   is that one there?                    ─▶ RELAYED
//! SUMMARY     a hash of all positions that I hold, and of how many nodes
//! BUCKETS     a hash for each of 128 parts of them
//! DIGEST      my position for each node of a part   ─▶ DELTA, WANT
//! WANT        my positions for nodes of which you have more   ─▶ DELTA
//! DELTA       a run of a node's writes
//! LIFE        how nodes are
//! FORGOTTEN   nodes that are gone for good
//! EXCHANGE    I have more for you than datagrams should carry: open a stream to me
//! TWIN        somebody speaks as you from that address
//! ASK         do you hold what I have said up to this version, and is there nothing against it?   ─▶ CONSENT, or DIGEST
//! CONSENT     I hold what you have said up to this position, and nothing is against it
//! ```

use std::time::Duration;

use crate::PeerId;
use crate::replica::{Epoch, Position};
use crate::wire::{Garbled, Reader, Writer};

/// Version of the protocol. Parts may be added in one version: who does not know them skips them.
const PROTOCOL: u8 = 1;

pub(crate) const PROBE: u8 = 1;
pub(crate) const ACK: u8 = 2;
pub(crate) const PROBE_FOR: u8 = 3;
pub(crate) const RELAYED: u8 = 4;
pub(crate) const SUMMARY: u8 = 5;
pub(crate) const BUCKETS: u8 = 6;
pub(crate) const DIGEST: u8 = 7;
pub(crate) const WANT: u8 = 8;
pub(crate) const DELTA: u8 = 9;
pub(crate) const LIFE: u8 = 10;
pub(crate) const FORGOTTEN: u8 = 11;
pub(crate) const EXCHANGE: u8 = 12;
pub(crate) const TWIN: u8 = 13;
pub(crate) const ASK: u8 = 14;
pub(crate) const CONSENT: u8 = 15;

/// Who speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) id: PeerId,
    pub(crate) epoch: Epoch,
    pub(crate) beat: u64,
}

impl Head {
    pub(crate) fn write(&self, to: &mut Writer) {
        to.u8(PROTOCOL);
        to.id(&self.id);
        to.number(self.epoch.incarnation);
        to.u32(self.epoch.instance);
        to.number(self.beat);
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        if from.u8()? != PROTOCOL {
            return Err(Garbled);
        }
        let id = from.array()?;
        let epoch = Epoch { incarnation: from.count()?, instance: from.u32()? };
        Ok(Self { id, epoch, beat: from.count()? })
    }
}

/// A node, and how much of it somebody holds.
pub(crate) fn write_position(to: &mut Writer, id: &PeerId, position: &Position) -> bool {
    to.attempt(|to| {
        to.id(id);
        to.number(position.epoch.incarnation);
        to.u32(position.epoch.instance);
        to.number(position.version);
        to.number(position.horizon);
        true
    })
}

/// What [`write_position`] writes, to the end of a part.
pub(crate) fn read_positions(mut from: Reader<'_>) -> Result<Vec<(PeerId, Position)>, Garbled> {
    let mut positions = Vec::new();
    while !from.is_empty() {
        let id = from.array()?;
        let epoch = Epoch { incarnation: from.count()?, instance: from.u32()? };
        positions.push((id, Position { epoch, version: from.count()?, horizon: from.count()? }));
    }
    Ok(positions)
}

/// How a node is, by order of what overrides what at one beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Alive,
    Suspect,
    Down,
    /// It said so itself.
    Left,
}

impl State {
    pub(crate) fn of(byte: u8) -> Result<Self, Garbled> {
        [Self::Alive, Self::Suspect, Self::Down, Self::Left].get(usize::from(byte)).copied().ok_or(Garbled)
    }
}

/// How a node is. Only the node itself raises its beat: so it answers a suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) incarnation: u64,
    pub(crate) beat: u64,
    pub(crate) state: State,
}

impl Life {
    pub(crate) fn write(&self, to: &mut Writer, id: &PeerId) -> bool {
        to.attempt(|to| {
            to.id(id);
            to.number(self.incarnation);
            to.number(self.beat);
            to.u8(self.state as u8);
            true
        })
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<(PeerId, Self), Garbled> {
        let id = from.array()?;
        Ok((id, Self { incarnation: from.count()?, beat: from.count()?, state: State::of(from.u8()?)? }))
    }
}

/// A node that is gone for good, up to an incarnation, and for how long to remember that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    pub(crate) id: PeerId,
    pub(crate) incarnation: u64,
    pub(crate) remaining: Duration,
}

impl Gone {
    pub(crate) fn write(&self, to: &mut Writer) -> bool {
        to.attempt(|to| {
            to.id(&self.id);
            to.number(self.incarnation);
            to.number(self.remaining.as_secs());
            true
        })
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Garbled> {
        let (id, incarnation) = (from.array()?, from.count()?);
        Ok(Self { id, incarnation, remaining: Duration::from_secs(from.number()?) })
    }
}
