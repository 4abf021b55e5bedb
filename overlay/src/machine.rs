//! What a node says of the machine that it runs on, so that copies are noticed.

use std::fmt;
use std::str::FromStr;

use netops::MacAddr;
use serde::{Deserialize, Serialize};

/// What a node says of the machine that it runs on. No two machines have the same of any of it, unless somebody has copied one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// Of its machine-id(5).
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub id: Option<Fingerprint>,
    /// Of its kernel's `boot_id`, another at each boot. Nodes with the same one are namespaces of one machine, on purpose.
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub boot: Option<Fingerprint>,
    /// MAC address of the interface that leads to other nodes.
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

impl Machine {
    /// Nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// What is not known of it as somebody else knows it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { id: self.id.or(other.id), boot: self.boot.or(other.boot), mac: self.mac.or(other.mac) }
    }

    /// Whether both are one machine for sure.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.boot.is_some() && self.boot == other.boot
    }
}

/// A hash of something that nobody else has to know, to be compared. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Of the first bytes of a hash.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits =
            Some(text).filter(|text| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number
            .map(|number| Self(number.to_be_bytes()))
            .ok_or_else(|| format!("\"{}\" is not 16 hexadecimal digits", text.escape_debug()))
    }
}

/// As people write it.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_machine_is_written_as_people_write_it() {
        let machine = Machine {
            id: Some(Fingerprint::from_bytes([1, 2, 3, 4, 5, 6, 7, 0xff])),
            boot: None,
            mac: Some(MacAddr::new([0x52, 0x54, 0, 0, 0, 1])),
        };
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(text, r#"{"id":"01020304050607ff","mac":"52:54:00:00:00:01"}"#);
        assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
        assert_eq!(serde_json::from_str::<Machine>("{}").unwrap(), Machine::default());
        for wrong in ["", "0102", "+1020304050607ff", "01020304050607ff0"] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
