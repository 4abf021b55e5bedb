//! What a node is called.

use std::fmt;
use std::str::FromStr;

use netops::MacAddr;
use serde::{Deserialize, Serialize};

/// Which node: 128 random bits, made once and kept on its disk. A node that lost its disk is another node.
///
/// Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; 16]);

impl NodeId {
    pub(crate) const MIN: Self = Self([0; 16]);
    pub(crate) const MAX: Self = Self([0xff; 16]);

    /// Of 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The MAC address of the node's end of every tunnel: it follows from the id, so that nobody has to be told, and
    /// nobody can believe another one.
    pub fn tunnel_mac(&self) -> MacAddr {
        let [a, b, c, d, e, ..] = self.0;
        MacAddr::new([0x02, a, b, c, d, e])
    }

    /// A number that differs between nodes, and is the same for one for ever: to begin somewhere.
    pub fn spread(&self) -> u64 {
        let (high, low) = self.0.split_at(8);
        let number = |half: &[u8]| half.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        number(high) ^ number(low)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{}\" is no node id: 32 hexadecimal digits", text.escape_debug());
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| wrong())
    }
}

impl TryFrom<String> for NodeId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

/// What people call a node: its host name, or what Kubernetes calls it. Lower-case letters, digits, `-` and `.` (RFC 1123),
/// 253 bytes at most.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// Of a text; upper-case letters are made lower-case, as Kubernetes does with a host name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let (first, last) = (text.bytes().next(), text.bytes().next_back());
        if text.len() > 253 || !text.bytes().all(is_fine) || !edge(first) || !edge(last) {
            return Err(format!(
                "\"{}\" is no node name: letters, digits, '-' and '.', 1 to 253 of them, the first and the last a letter \
                 or digit",
                text.escape_debug()
            ));
        }
        Ok(Self(text))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for NodeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_it_is_written_as() {
        let id = NodeId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "ab", &"xy".repeat(16), &"+a".repeat(16)] {
            assert!(wrong.parse::<NodeId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tunnel_mac_is_local_and_not_multicast() {
        assert_eq!(NodeId::from_bytes([0xff; 16]).tunnel_mac().to_string(), "02:ff:ff:ff:ff:ff");
    }

    #[test]
    fn names_are_those_of_hosts() {
        assert_eq!(NodeName::new(" Node-1.example\n").map(String::from), Ok("node-1.example".to_owned()));
        for wrong in ["", "-a", "a.", "a_b", "ä", "a/../b", &"a".repeat(254)] {
            assert!(NodeName::new(wrong).is_err(), "{wrong}");
        }
    }
}
