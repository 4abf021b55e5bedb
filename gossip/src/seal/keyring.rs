//! The cluster's keys.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

use super::{NONCE, Purpose, Refused, TAG};
use crate::random::mix;
use crate::wire::Reader;

/// The keys of a cluster: the first is the one to seal with, all are accepted.
///
/// To change the key: add the new one as the second everywhere, then make it the first everywhere, then remove the old one.
pub struct Keyring {
    /// None: without encryption.
    keys: Vec<ClusterKey>,
    cluster: String,
}

struct ClusterKey {
    /// Tells keys apart, and nothing about them.
    id: [u8; 4],
    cipher: XChaCha20Poly1305,
}

/// What a frame begins with.
const SEALED: u8 = 1;
const INSECURE: u8 = 2;

/// A file has no more lines than that.
const KEYS: usize = 16;

/// What is wrong with a keyring, and in which line; never what the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no key.
    Empty,
    /// There are too many.
    TooMany,
    /// A line is not 32 bytes in hexadecimal or base64.
    Line(usize),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("there is no key in it: one is 32 random bytes, in base64 or hexadecimal")
            }
            Self::TooMany => {
                write!(f, "there are more than {KEYS} keys in it: remove those that no node seals with")
            }
            Self::Line(line) => {
                write!(
                    f,
                    "line {line} is no key: 32 bytes, as 44 characters of base64 or 64 hexadecimal digits"
                )
            }
        }
    }
}

impl std::error::Error for KeyError {}

/// Says how many, and not which.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.len()).field("cluster", &self.cluster).finish()
    }
}

impl Keyring {
    /// Reads a file's text: a key in each line, in base64 or hexadecimal. Empty lines, and lines that begin with `#`, are none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(number, line)| (number + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.push(ClusterKey::new(&read_key(line).ok_or(KeyError::Line(number))?));
            if keys.len() > KEYS {
                return Err(KeyError::TooMany);
            }
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self { keys, cluster: String::new() }) }
    }

    /// The text of a new file, of 32 bytes that must be drawn at random.
    pub fn generate(random: &[u8; 32]) -> String {
        random.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect()
    }

    /// No keys: frames are as they would be with one, but anybody can read and write them. A checksum finds what is damaged,
    /// and frames of another cluster; nothing else.
    pub fn insecure() -> Self {
        Self { keys: Vec::new(), cluster: String::new() }
    }

    /// For the cluster of a name: frames of others are refused, also if they have the same key.
    #[must_use]
    pub fn for_cluster(mut self, name: &str) -> Self {
        name.clone_into(&mut self.cluster);
        self
    }

    /// Frames are encrypted.
    pub fn is_secure(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(crate) fn seal(&self, purpose: Purpose<'_>, nonce: [u8; NONCE], inside: &[u8]) -> Vec<u8> {
        let context = purpose.context(&self.cluster);
        let (format, id) = self.keys.first().map_or((INSECURE, [0; 4]), |key| (SEALED, key.id));
        let mut frame = Vec::with_capacity(1 + 4 + NONCE + inside.len() + TAG);
        frame.push(format);
        frame.extend_from_slice(&id);
        frame.extend_from_slice(&nonce);
        let head = frame.len();
        frame.extend_from_slice(inside);
        let (_, body) = frame.split_at_mut(head);
        let tag = match self.keys.first() {
            Some(key) => key.tag(&nonce, &context, body),
            None => checksum(&nonce, &context, body),
        };
        frame.extend_from_slice(&tag);
        frame
    }

    /// The nonce, and what is inside.
    pub(crate) fn open(&self, purpose: Purpose<'_>, frame: &[u8]) -> Result<([u8; NONCE], Vec<u8>), Refused> {
        let mut from = Reader(frame);
        let (format, id, nonce) = (from.u8()?, from.array::<4>()?, from.array::<NONCE>()?);
        let length = from.0.len().checked_sub(TAG).ok_or(Refused::Garbled)?;
        let mut inside = from.bytes(length)?.to_vec();
        let tag = from.array::<TAG>()?;
        let context = purpose.context(&self.cluster);
        let is_genuine = match format {
            SEALED if self.is_secure() => {
                // Ids are short: two keys may share one.
                let sealed = inside;
                let mut with_id = self.keys.iter().filter(|key| key.id == id).peekable();
                with_id.peek().ok_or(Refused::UnknownKey)?;
                let opened = with_id.find_map(|key| key.open(&nonce, &context, &sealed, &tag));
                inside = opened.ok_or(Refused::Forged)?;
                true
            }
            INSECURE if !self.is_secure() => checksum(&nonce, &context, &inside) == tag,
            _ => return Err(Refused::Garbled),
        };
        if is_genuine { Ok((nonce, inside)) } else { Err(Refused::Forged) }
    }
}

impl ClusterKey {
    fn new(key: &[u8; 32]) -> Self {
        let cipher = XChaCha20Poly1305::new(&Key::from(*key));
        let mut key = Self { id: [0; 4], cipher };
        // A keyed hash of a constant. Nothing else is ever sealed with this nonce: the others are drawn from 2^192.
        let [a, b, c, d, ..] = key.tag(&[0; NONCE], b"cnikit gossip key id", &mut []);
        key.id = [a, b, c, d];
        key
    }

    /// Encrypts in place.
    fn tag(&self, nonce: &[u8; NONCE], context: &[u8], body: &mut [u8]) -> [u8; TAG] {
        // It fails for bodies of more than 256 GiB; such a frame would not open.
        let tag = self.cipher.encrypt_inout_detached(&XNonce::from(*nonce), context, body.into());
        tag.map_or([0; TAG], Into::into)
    }

    fn open(&self, nonce: &[u8; NONCE], context: &[u8], sealed: &[u8], tag: &[u8; TAG]) -> Option<Vec<u8>> {
        let mut body = sealed.to_vec();
        let nonce = XNonce::from(*nonce);
        let opened =
            self.cipher.decrypt_inout_detached(&nonce, context, body.as_mut_slice().into(), &(*tag).into());
        opened.is_ok().then_some(body)
    }
}

/// In a tag's place, where there is no key.
fn checksum(nonce: &[u8], context: &[u8], body: &[u8]) -> [u8; TAG] {
    let mut sum = 0;
    for part in [nonce, context, body] {
        sum = mix(sum ^ part.len() as u64);
        for chunk in part.chunks(8) {
            sum = mix(sum ^ chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }
    let mut tag = [0; TAG];
    tag[..8].copy_from_slice(&sum.to_le_bytes());
    tag
}

fn read_key(text: &str) -> Option<[u8; 32]> {
    read_hex(text).or_else(|| read_base64(text))
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    let bytes: Vec<_> =
        digits.chunks(2).map(|two| two.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect();
    bytes.try_into().ok()
}

/// As `base64` and `openssl rand -base64 32` write it: 43 characters for 258 bits, the last two of which are zero.
fn read_base64(text: &str) -> Option<[u8; 32]> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::with_capacity(32));
    for digit in digits.chars() {
        bits = bits << 6 | DIGITS.find(digit)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    if bits == 0 { bytes.try_into().ok() } else { None }
}
