//! What probes are made of.
//!
//! ```text
//! length (2 bytes) │ sealed message │ zeros, up to the size that is probed
//! ```
//!
//! Only the message is sealed: what fills a probe up says nothing, and would cost time. Reading never fails loudly: what is
//! no message of ours is nobody's.

use crate::id::NodeId;

/// Seals what nodes say to one another, so that nobody else can say it.
pub trait Seal: Send {
    /// Seals a message.
    fn seal(&mut self, message: &[u8]) -> Vec<u8>;

    /// Opens one; `None` if it was not sealed by one of us.
    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>>;
}

/// No seal: for a network whose members trust everybody who can send to them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unsealed;

impl Seal for Unsealed {
    fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        message.to_vec()
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        Some(sealed.to_vec())
    }
}

/// A probe, or what answers one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Which of the two.
    pub kind: Kind,
    /// Who says it.
    pub from: NodeId,
    /// Whom it is for: whoever else gets it has an address that is not its own.
    pub to: NodeId,
    /// What only one probe has; its answer repeats it.
    pub nonce: u64,
}

/// What a [`Message`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It asks whether the way is one.
    Probe,
    /// It says so.
    Answer,
}

/// What no other message begins with that is sealed with the same key. The last is the version.
const MAGIC: [u8; 8] = *b"cnkpath\x01";
const LENGTH: usize = MAGIC.len() + 1 + 16 + 16 + 8;

impl Message {
    /// As a datagram of so many bytes, or more if it does not fit.
    pub fn write(&self, seal: &mut dyn Seal, size: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(LENGTH);
        message.extend_from_slice(&MAGIC);
        message.push(match self.kind {
            Kind::Probe => 0,
            Kind::Answer => 1,
        });
        message.extend_from_slice(self.from.as_bytes());
        message.extend_from_slice(self.to.as_bytes());
        message.extend_from_slice(&self.nonce.to_be_bytes());

        let sealed = seal.seal(&message);
        let length = u16::try_from(sealed.len()).unwrap_or(u16::MAX);
        let mut datagram = Vec::with_capacity(size.max(2 + sealed.len()));
        datagram.extend_from_slice(&length.to_be_bytes());
        datagram.extend_from_slice(&sealed);
        datagram.resize(size.max(datagram.len()), 0);
        datagram
    }

    /// Of a datagram; `None` if it is none of ours.
    pub fn read(datagram: &[u8], seal: &mut dyn Seal) -> Option<Self> {
        let (length, rest) = datagram.split_first_chunk::<2>()?;
        let sealed = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        let message = seal.open(sealed)?;
        let rest = message.strip_prefix(&MAGIC)?;
        let (kind, rest) = rest.split_first()?;
        let (from, rest) = rest.split_first_chunk::<16>()?;
        let (to, nonce) = rest.split_first_chunk::<16>()?;
        let kind = match kind {
            0 => Kind::Probe,
            1 => Kind::Answer,
            _ => return None,
        };
        let (from, to) = (NodeId::from_bytes(*from), NodeId::from_bytes(*to));
        Some(Self { kind, from, to, nonce: u64::from_be_bytes(nonce.try_into().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> Message {
        let id = |n| NodeId::from_bytes([n; 16]);
        Message { kind: Kind::Probe, from: id(1), to: id(2), nonce: 0x0123_4567_89ab_cdef }
    }

    #[test]
    fn a_probe_has_the_size_that_it_is_to_probe() {
        let written = message().write(&mut Unsealed, 1422);
        assert_eq!(written.len(), 1422);
        assert_eq!(Message::read(&written, &mut Unsealed), Some(message()));
        assert_eq!(message().write(&mut Unsealed, 0).len(), 2 + LENGTH);
    }

    proptest! {
        #[test]
        fn what_is_no_message_is_read_as_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(Message::read(&bytes, &mut Unsealed), None);
        }

        #[test]
        fn a_message_that_is_cut_is_none(cut in 0..2 + LENGTH) {
            let written = message().write(&mut Unsealed, 0);
            prop_assert_eq!(Message::read(&written[..cut], &mut Unsealed), None);
        }
    }
}
