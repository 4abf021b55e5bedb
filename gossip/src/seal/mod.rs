//! What goes over the network, sealed under the cluster's key: who does not have it can neither read nor say anything.
//!
//! ```text
//! frame = format 1 | key 4 | nonce 24 | sealed( sender 16 | counter 8 | payload ) | tag 16
//! ```
//!
//! The cipher is XChaCha20-Poly1305, whose nonces are long enough to be drawn. A sender counts its frames, so that one that is
//! recorded and sent again is refused ([`Opener`]). What else must be as expected, and is not sent, is authenticated with it:
//! the protocol's name and version, the cluster's name, and of a [stream](Incoming) which exchange it is of and which frame.
//!
//! A frame that cannot be opened costs one attempt, changes nothing, and is not answered.

mod keyring;
mod replay;
mod stream;

use std::fmt;
use std::sync::Arc;

pub use keyring::{KeyError, Keyring};
pub use stream::{CHUNK, Incoming, LONGEST, Received, Ticket, frame_length};

use crate::wire::{Garbled, Reader};
use crate::{PeerId, Time};
use replay::Windows;

/// How much longer a frame is than its payload, in bytes.
pub const OVERHEAD: usize = 1 + 4 + NONCE + 16 + 8 + TAG;

/// How long a nonce is, in bytes.
pub const NONCE: usize = 24;
const TAG: usize = 16;

/// Why a frame is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It is no frame, or one of another format: of a cluster that has a key where this has none, or the other way round.
    Garbled,
    /// It is sealed with a key that is not in the keyring.
    UnknownKey,
    /// It is not what was sealed, or was sealed for another purpose or cluster.
    Forged,
    /// It was opened before, or is too old to tell. This is who sealed it.
    Replayed(PeerId),
    /// A stream that is too long.
    TooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Garbled => "it is no sealed frame of this version",
            Self::UnknownKey => "it is sealed with a key that is not in the keyring",
            Self::Forged => "its seal is broken, or it is of another cluster",
            Self::Replayed(_) => "it has been seen before, or is older than what has",
            Self::TooLong => "it is longer than an exchange may be",
        })
    }
}

impl std::error::Error for Refused {}

impl From<Garbled> for Refused {
    fn from(_: Garbled) -> Self {
        Self::Garbled
    }
}

/// Seals what this node sends.
#[derive(Debug)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    sender: PeerId,
    counter: u64,
}

/// Where a sender's counter begins, so that it is above all that it was in the sender's earlier lives: its wall clock (time
/// since 1970), or more than where the last life began, if that is known and the clock has been set back since.
///
/// To be kept on disk, with the incarnation.
pub fn counter_start(wall_clock: Time, last_start: Option<u64>) -> u64 {
    // 2^12 frames a millisecond for as long as a life lasts, or 2^40 in all.
    let clock = u64::try_from(wall_clock.as_millis()).unwrap_or(u64::MAX >> 12).min(u64::MAX >> 12) << 12;
    last_start.map_or(clock, |last| clock.max(last.saturating_add(1 << 40)))
}

impl Sealer {
    /// Of a sender whose counter begins at [`counter_start`].
    pub fn new(keyring: Arc<Keyring>, sender: PeerId, start: u64) -> Self {
        Self { keyring, sender, counter: start }
    }

    /// Goes on with other keys.
    pub fn set_keyring(&mut self, keyring: Arc<Keyring>) {
        self.keyring = keyring;
    }

    /// Goes on from a later number, as another life would.
    pub fn count_from(&mut self, start: u64) {
        self.counter = self.counter.max(start);
    }

    /// Seals a datagram's payload. The nonce must be drawn at random, and never be used again.
    pub fn seal(&mut self, nonce: [u8; NONCE], payload: &[u8]) -> Vec<u8> {
        let counter = self.count();
        self.keyring.seal(Purpose::Datagram, nonce, &self.inside(counter, payload))
    }

    fn count(&mut self) -> u64 {
        self.counter = self.counter.saturating_add(1);
        self.counter
    }

    fn inside(&self, counter: u64, payload: &[u8]) -> Vec<u8> {
        let mut inside = Vec::with_capacity(16 + 8 + payload.len() + 1);
        inside.extend_from_slice(&self.sender);
        inside.extend_from_slice(&counter.to_le_bytes());
        inside.extend_from_slice(payload);
        inside
    }
}

/// Opens what arrives.
#[derive(Debug)]
pub struct Opener {
    keyring: Arc<Keyring>,
    windows: Windows,
    /// Of requests by stream: they take longer than datagrams, and are none the older for it.
    requests: Windows,
}

/// What was in a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it, as it says: any that have the key can say so.
    pub sender: PeerId,
    /// What for [`Gossip::receive`](crate::Gossip::receive).
    pub payload: Vec<u8>,
}

impl Opener {
    /// Which has opened nothing.
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, windows: Windows::default(), requests: Windows::default() }
    }

    /// Goes on with other keys.
    pub fn set_keyring(&mut self, keyring: Arc<Keyring>) {
        self.keyring = keyring;
    }

    /// The highest number that a datagram of a sender had.
    pub fn latest(&self, sender: &PeerId) -> Option<u64> {
        self.windows.highest(sender)
    }

    /// Opens a datagram.
    ///
    /// # Errors
    /// It is not for this cluster, or not new.
    pub fn open(&mut self, now: Time, frame: &[u8]) -> Result<Opened, Refused> {
        let inside = self.keyring.open(Purpose::Datagram, frame)?.1;
        let (sender, counter, payload) = split(&inside)?;
        self.windows.admit(now, sender, counter)?;
        Ok(Opened { sender, payload: payload.to_vec() })
    }
}

/// Sender, counter, payload.
fn split(inside: &[u8]) -> Result<(PeerId, u64, &[u8]), Refused> {
    let mut inside = Reader(inside);
    Ok((inside.array()?, inside.u64()?, inside.0))
}

/// What a frame is for: one that was sealed for something else does not open.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    Datagram,
    /// The frame of an index of a request, and the nonce of its first frame if this is not that.
    Request(u32, Option<&'a Ticket>),
    /// The frame of an index of an answer to a request.
    Answer(u32, &'a Ticket),
}

impl Purpose<'_> {
    /// What is authenticated and not sent.
    fn context(&self, cluster: &str) -> Vec<u8> {
        let mut context = b"cnikit gossip 1 ".to_vec();
        let (kind, index, ticket) = match self {
            Self::Datagram => (b'd', 0, None),
            Self::Request(index, ticket) => (b'r', *index, *ticket),
            Self::Answer(index, ticket) => (b'a', *index, Some(*ticket)),
        };
        context.push(kind);
        context.extend_from_slice(&index.to_le_bytes());
        context.extend_from_slice(&ticket.map_or([0; NONCE], |ticket| ticket.0));
        context.extend_from_slice(cluster.as_bytes());
        context
    }
}
