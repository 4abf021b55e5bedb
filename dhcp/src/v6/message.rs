//! The message itself (RFC 8415, 8 and 21): a kind, a transaction, options; some of the options hold options.
//!
//! Reading never panics, whatever the bytes are; writing cannot fail.

/// Kinds of messages (RFC 8415, 7.3).
pub(super) mod kind {
    pub(in crate::v6) const SOLICIT: u8 = 1;
    pub(in crate::v6) const ADVERTISE: u8 = 2;
    pub(in crate::v6) const REQUEST: u8 = 3;
    pub(in crate::v6) const RENEW: u8 = 5;
    pub(in crate::v6) const REBIND: u8 = 6;
    pub(in crate::v6) const REPLY: u8 = 7;
    pub(in crate::v6) const RELEASE: u8 = 8;
}

/// The options that mean something here (RFC 8415, 21; 23 and 24: RFC 3646).
pub(super) mod code {
    pub(in crate::v6) const CLIENT_ID: u16 = 1;
    pub(in crate::v6) const SERVER_ID: u16 = 2;
    pub(in crate::v6) const ASSOCIATION: u16 = 3;
    pub(in crate::v6) const ADDRESS: u16 = 5;
    pub(in crate::v6) const REQUESTED_OPTIONS: u16 = 6;
    pub(in crate::v6) const PREFERENCE: u16 = 7;
    pub(in crate::v6) const ELAPSED: u16 = 8;
    pub(in crate::v6) const STATUS: u16 = 13;
    pub(in crate::v6) const RAPID_COMMIT: u16 = 14;
    pub(in crate::v6) const NAME_SERVERS: u16 = 23;
    pub(in crate::v6) const SEARCH: u16 = 24;
}

/// Status codes (RFC 8415, 21.13).
pub(super) mod status {
    pub(in crate::v6) const SUCCESS: u16 = 0;
    pub(in crate::v6) const NO_BINDING: u16 = 3;
    pub(in crate::v6) const NOT_ON_LINK: u16 = 4;
}

/// A message between client and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// 24 bits.
    pub(super) transaction: u32,
    pub(super) options: Options,
}

impl Message {
    /// The bits of a transaction.
    pub(super) const TRANSACTION: u32 = 0xff_ffff;

    /// `None` if it is not one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let ([kind, a, b, c], options) = bytes.split_first_chunk::<4>()?;
        let transaction = u32::from_be_bytes([0, *a, *b, *c]);
        Some(Self { kind: *kind, transaction, options: Options::read(options) })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let [_, a, b, c] = self.transaction.to_be_bytes();
        let mut bytes = vec![self.kind, a, b, c];
        self.options.write(&mut bytes);
        bytes
    }
}

/// Options in order; some may come several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options(Vec<(u16, Vec<u8>)>);

impl Options {
    /// What stands there, up to what makes no sense.
    pub(super) fn read(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        while let Some(([a, b, c, d], rest)) = bytes.split_first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            let Some((value, rest)) = rest.split_at_checked(length) else { break };
            options.add(u16::from_be_bytes([*a, *b]), value);
            bytes = rest;
        }
        options
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        for (code, value) in &self.0 {
            // Values are identifiers of at most a few hundred bytes, and associations of one address.
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            bytes.extend(code.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(&value[..length.into()]);
        }
    }

    pub(super) fn add(&mut self, code: u16, value: impl Into<Vec<u8>>) {
        self.0.push((code, value.into()));
    }

    pub(super) fn all(&self, code: u16) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(other, _)| *other == code).map(|(_, value)| value.as_slice())
    }

    pub(super) fn first(&self, code: u16) -> Option<&[u8]> {
        self.all(code).next()
    }

    /// A status that is not success: number and text.
    pub(super) fn status(&self) -> Option<(u16, String)> {
        let (number, text) = self.first(code::STATUS)?.split_first_chunk::<2>()?;
        let number = u16::from_be_bytes(*number);
        (number != status::SUCCESS).then(|| (number, String::from_utf8_lossy(text).into_owned()))
    }
}
