//! The message itself (RFC 2131, 2): fixed fields, then options.
//!
//! Reading never panics, whatever the bytes are; writing cannot fail.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netops::MacAddr;

/// The options that mean something here (RFC 2132; 119: RFC 3397; 121: RFC 3442).
pub(crate) mod code {
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTERS: u8 = 3;
    pub(crate) const NAME_SERVERS: u8 = 6;
    pub(crate) const HOST_NAME: u8 = 12;
    pub(crate) const DOMAIN: u8 = 15;
    pub(crate) const STATIC_ROUTES: u8 = 33;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const REQUESTED_OPTIONS: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_MESSAGE: u8 = 57;
    pub(crate) const RENEWAL_TIME: u8 = 58;
    pub(crate) const REBINDING_TIME: u8 = 59;
    pub(crate) const VENDOR_CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const USER_CLASS: u8 = 77;
    pub(crate) const SEARCH: u8 = 119;
    pub(crate) const CLASSLESS_ROUTES: u8 = 121;
    pub(super) const PAD: u8 = 0;
    pub(super) const END: u8 = 255;
}

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the fields are.
const HARDWARE: usize = 28;
const SERVER_NAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;
/// Shorter ones are dropped by old relays (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// `BROADCAST` in `flags`.
const BROADCAST: u16 = 0x8000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Request,
    Reply,
}

/// A message, as far as a client has to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) op: Op,
    /// `xid`
    pub(super) transaction: u32,
    /// `secs`
    pub(super) elapsed: u16,
    pub(super) broadcast: bool,
    /// `ciaddr`: the address that the client has.
    pub(super) client: Ipv4Addr,
    /// `yiaddr`: the address that it gets.
    pub(super) yours: Ipv4Addr,
    /// `chaddr`
    pub(super) hardware: MacAddr,
    pub(super) options: Options,
}

impl Message {
    /// `None` if it is not one, or not of a client on Ethernet.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..OPTIONS)?;
        let op = match fixed[0] {
            1 => Op::Request,
            2 => Op::Reply,
            _ => return None,
        };
        // htype and hlen: Ethernet, six bytes.
        if fixed[1..3] != [1, 6] || fixed[236..] != COOKIE {
            return None;
        }
        let four = |at: usize| -> Option<[u8; 4]> { fixed.get(at..at + 4)?.try_into().ok() };
        let mut options = Options::default();
        options.read(&bytes[OPTIONS..]);
        // The two texts may hold more options (RFC 2132, 9.3).
        let overload = options.get(code::OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
        if overload & 1 != 0 {
            options.read(&fixed[FILE]);
        }
        if overload & 2 != 0 {
            options.read(&fixed[SERVER_NAME]);
        }
        Some(Self {
            op,
            transaction: u32::from_be_bytes(four(4)?),
            elapsed: u16::from_be_bytes([fixed[8], fixed[9]]),
            broadcast: u16::from_be_bytes([fixed[10], fixed[11]]) & BROADCAST != 0,
            client: four(12)?.into(),
            yours: four(16)?.into(),
            hardware: MacAddr::new(fixed.get(HARDWARE..HARDWARE + 6)?.try_into().ok()?),
            options,
        })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS];
        let op = if self.op == Op::Request { 1 } else { 2 };
        bytes[..4].copy_from_slice(&[op, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.elapsed.to_be_bytes());
        bytes[10..12].copy_from_slice(&if self.broadcast { BROADCAST } else { 0 }.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[HARDWARE..HARDWARE + 6].copy_from_slice(&self.hardware.bytes());
        bytes[236..].copy_from_slice(&COOKIE);
        self.options.write(&mut bytes);
        bytes.resize(bytes.len().max(SHORTEST), code::PAD);
        bytes
    }
}

/// Options, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    pub(super) fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// One address, or the first of several.
    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.get(code)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
    }

    /// A number of 32 bits.
    pub(super) fn number(&self, code: u8) -> Option<u32> {
        self.get(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.0.insert(code, value.into());
    }

    /// Adds what stands there, as far as it makes sense. An option that comes in several pieces is one (RFC 3396).
    fn read(&mut self, mut bytes: &[u8]) {
        loop {
            match bytes {
                [code::PAD, rest @ ..] => bytes = rest,
                [code::END, ..] | [] | [_] => return,
                [code, length, rest @ ..] => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
                    self.0.entry(*code).or_default().extend(value);
                    bytes = rest;
                }
            }
        }
    }

    /// The message's kind first, as is the custom.
    fn write(&self, bytes: &mut Vec<u8>) {
        let kind = |(code, _): &(&u8, &Vec<u8>)| **code == code::MESSAGE_TYPE;
        let others = self.0.iter().filter(|option| !kind(option));
        for (code, value) in self.0.iter().filter(kind).chain(others) {
            // One without a value is one, too.
            let pieces = if value.is_empty() { vec![&value[..]] } else { value.chunks(255).collect() };
            for piece in pieces {
                bytes.extend([*code, piece.len() as u8]);
                bytes.extend(piece);
            }
        }
        bytes.push(code::END);
    }
}
