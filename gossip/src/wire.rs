//! Bytes: numbers, ids, addresses, and parts that a reader who does not know their kind skips.
//!
//! By hand, not by a serialization crate, for three reasons: a datagram is *filled* (entry after entry until one does not
//! fit, which is then taken back); what is read is bounded where it is read, and borrowed; and unknown parts are skipped by
//! their length, so that versions can be mixed.
//!
//! Reading never panics, and allocates nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::PeerId;

/// Bytes that are not what they should be: another version's, damaged, or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these bytes are no gossip of a version that is known here")
    }
}

impl std::error::Error for Garbled {}

/// What many datagrams take.
const DATAGRAM: usize = 1200;

/// Reads from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Garbled)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Garbled> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Garbled> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Garbled> {
        self.array().map(u64::from_le_bytes)
    }

    /// Seven bits a byte, the lowest first (LEB128).
    pub(crate) fn number(&mut self) -> Result<u64, Garbled> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Garbled);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Garbled)
    }

    /// A number that only grows by one: what nobody reaches by that is not believed, so that there is always one above.
    pub(crate) fn count(&mut self) -> Result<u64, Garbled> {
        self.number().and_then(|count| if count < u64::MAX / 2 { Ok(count) } else { Err(Garbled) })
    }

    pub(crate) fn address(&mut self) -> Result<SocketAddr, Garbled> {
        let ip = match self.u8()? {
            4 => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Garbled),
        };
        Ok(SocketAddr::new(ip, u16::from_le_bytes(self.array()?)))
    }

    /// The next part: its kind, and what is in it.
    pub(crate) fn part(&mut self) -> Result<(u8, Self), Garbled> {
        let kind = self.u8()?;
        let [a, b, c] = self.array()?;
        let length = u32::from_le_bytes([a, b, c, 0]);
        Ok((kind, Self(self.bytes(length as usize)?)))
    }
}

/// Writes, up to a limit.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    limit: usize,
}

impl Writer {
    pub(crate) fn new(limit: usize) -> Self {
        // A datagram grows once; what may be long, as it does.
        Self { bytes: Vec::with_capacity(limit.min(DATAGRAM)), limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How much still fits.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes something if it fits as a whole; else nothing.
    pub(crate) fn attempt(&mut self, write: impl FnOnce(&mut Self) -> bool) -> bool {
        let before = self.bytes.len();
        let done = write(self) && self.bytes.len() <= self.limit;
        if !done {
            self.bytes.truncate(before);
        }
        done
    }

    /// Writes a part, if it fits and its contents want to be written.
    pub(crate) fn part(&mut self, kind: u8, write: impl FnOnce(&mut Self) -> bool) -> bool {
        self.attempt(|to| {
            to.u8(kind);
            let at = to.len();
            to.raw(&[0; 3]);
            let done = write(to);
            let length = u32::try_from(to.len() - at - 3).unwrap_or(u32::MAX).to_le_bytes();
            to.patch(at, &length[..3]);
            done && length[3] == 0
        })
    }

    /// Writes over what was written.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.bytes.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.raw(&number.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.u8(number as u8 | 0x80);
            number >>= 7;
        }
        self.u8(number as u8);
    }

    pub(crate) fn id(&mut self, id: &PeerId) {
        self.raw(id);
    }

    pub(crate) fn address(&mut self, address: &SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.u8(4);
                self.raw(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u8(6);
                self.raw(&ip.octets());
            }
        }
        self.raw(&address.port().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u64>(), shift in 0..64_u32, v6 in any::<u128>(), port in any::<u16>()) {
            let addresses = [SocketAddr::from((Ipv6Addr::from(v6), port)), ([10, 0, 0, v6 as u8], port).into()];
            let mut to = Writer::new(1000);
            to.number(number >> shift);
            addresses.iter().for_each(|address| to.address(address));
            let bytes = to.finish();
            let mut from = Reader(&bytes);
            prop_assert_eq!(from.number(), Ok(number >> shift));
            prop_assert_eq!([from.address(), from.address()], addresses.map(Ok));
            prop_assert!(from.is_empty());
        }

        #[test]
        fn a_number_has_one_meaning_or_none(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut from = Reader(&bytes);
            if let Ok(number) = from.number() {
                prop_assert!(bytes.len() - from.0.len() <= 10);
                let mut to = Writer::new(10);
                to.number(number);
                prop_assert_eq!(Reader(&to.finish()).number(), Ok(number));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written_at_all() {
        let mut to = Writer::new(10);
        assert!(to.part(1, |to| {
            to.u8(7);
            true
        }));
        assert!(!to.part(2, |to| {
            to.u64(7);
            true
        }));
        assert!(!to.part(3, |_| false));
        assert_eq!(to.room(), 5);
        let bytes = to.finish();
        assert_eq!(bytes, [1, 1, 0, 0, 7]);
        let (kind, body) = Reader(&bytes).part().unwrap();
        assert_eq!((kind, body.0), (1, &[7][..]));
        assert_eq!(Reader(&bytes[..4]).part().map(|_| ()), Err(Garbled));
    }
}
