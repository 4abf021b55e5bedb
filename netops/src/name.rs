//! Names and numbers that cannot be held wrong: link names, MAC addresses, sysctl keys, marks, names of `iptables`' chains.

use std::fmt;
use std::str::FromStr;

/// A value that cannot be what it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    what: &'static str,
    value: String,
    reason: &'static str,
}

impl Invalid {
    pub(crate) fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        // Hostile input may be of any length; an error is for a person's eyes.
        Self { what, value: value.chars().take(64).collect(), reason }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.what, self.value, self.reason)
    }
}

impl std::error::Error for Invalid {}

/// The name of a network interface: 1 to 15 bytes, as the kernel's `dev_valid_name()` has it.
///
/// In place, with zeros behind it: there are thousands of one name where a node has thousands of peers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName([u8; Self::MAX]);

impl LinkName {
    /// Longest name in bytes (`IFNAMSIZ` less the terminating NUL, `linux/if.h`).
    pub const MAX: usize = 15;

    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for an empty or over-long name, for `.` and `..`, and for a `/`, `:`, `%`, white space or NUL in it.
    /// (`eth%d` is not a name to the kernel but the wish for one: it would make another.)
    pub fn new(name: &str) -> Result<Self, Invalid> {
        let reason = if name.is_empty() {
            "must not be empty"
        } else if name.len() > Self::MAX {
            "must be at most 15 bytes long"
        } else if name == "." || name == ".." {
            "is a directory's name"
        } else if name.chars().any(|c| matches!(c, '/' | ':' | '%' | '\0') || c.is_whitespace()) {
            "must not contain '/', ':', '%', NUL or white space"
        } else {
            return Ok(Self::of(name));
        };
        Err(Invalid::new("interface name", name, reason))
    }

    fn of(name: &str) -> Self {
        let mut bytes = [0; Self::MAX];
        bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        // It was made of text.
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The loopback interface, which every network namespace is born with.
    pub fn loopback() -> Self {
        Self::of("lo")
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LinkName").field(&self.as_str()).finish()
    }
}

impl FromStr for LinkName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// An address from its six bytes, in transmission order.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The six bytes, in transmission order.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Whether an interface may carry it: not a group address and not all zero (`is_valid_ether_addr()`).
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |number: u8| char::from_digit(number.into(), 16).unwrap_or_default();
        let mut text = String::with_capacity(17);
        for (n, byte) in self.0.into_iter().enumerate() {
            if n > 0 {
                text.push(':');
            }
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        f.pad(&text)
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("MAC address", text, "must be six bytes as aa:bb:cc:dd:ee:ff");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(invalid)?;
            // from_str_radix would take a sign.
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

/// The path of a network sysctl below `/proc/sys`, such as `net/ipv4/conf/eth0/arp_notify`.
///
/// Paths, not dots: an interface may be called `eth0.100`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysctlKey(String);

impl SysctlKey {
    /// Parses a path.
    ///
    /// # Errors
    /// [`Invalid`] for anything outside `net/`, and for empty, `.` and `..` components.
    pub fn new(path: &str) -> Result<Self, Invalid> {
        let reason = if !path.starts_with("net/") {
            "only keys below net/ belong to a network namespace"
        } else if path.len() > 255 || path.contains('\0') {
            "is no sysctl's path"
        } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "must not contain empty, '.' or '..' components"
        } else {
            return Ok(Self(path.to_owned()));
        };
        Err(Invalid::new("sysctl", path, reason))
    }

    /// An interface's IPv4 setting: `net/ipv4/conf/LINK/SETTING`.
    pub fn ipv4(link: &LinkName, setting: &'static str) -> Self {
        Self(format!("net/ipv4/conf/{link}/{setting}"))
    }

    /// An interface's IPv6 setting: `net/ipv6/conf/LINK/SETTING`.
    pub fn ipv6(link: &LinkName, setting: &'static str) -> Self {
        Self(format!("net/ipv6/conf/{link}/{setting}"))
    }

    /// IPv4 forwarding of the whole namespace.
    pub fn ipv4_forwarding() -> Self {
        Self("net/ipv4/ip_forward".to_owned())
    }

    /// IPv6 forwarding of the whole namespace.
    pub fn ipv6_forwarding() -> Self {
        Self("net/ipv6/conf/all/forwarding".to_owned())
    }

    /// The path below `/proc/sys`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The interface that the setting is of, if it is one's: `net/ipv4/conf/LINK/…`.
    pub fn link(&self) -> Option<&str> {
        let mut parts = self.0.split('/').skip(1);
        let (_family, conf, link) = (parts.next()?, parts.next()?, parts.next()?);
        (matches!(conf, "conf" | "neigh") && !matches!(link, "all" | "default")).then_some(link)
    }
}

impl fmt::Display for SysctlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who owns something in the kernel, in words: an interface's alias, an nf_tables element's comment.
///
/// The bound is nft's, whose `comment` takes 128 bytes with the NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(String);

impl Mark {
    /// Longest mark in bytes.
    pub const MAX: usize = 127;

    /// Parses a mark.
    ///
    /// # Errors
    /// [`Invalid`] for an empty or over-long text and for anything but printable ASCII.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let reason = if text.is_empty() {
            "must not be empty"
        } else if text.len() > Self::MAX {
            "must be at most 127 bytes long"
        } else if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            "must be printable ASCII"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(Invalid::new("mark", text, reason))
    }

    /// The mark as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a chain that rules of `iptables` can jump to, as its command line takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(String);

impl ChainName {
    /// Longest name in bytes (`XT_EXTENSION_MAXNAMELEN` less the terminating NUL, `linux/netfilter/x_tables.h`).
    pub const MAX: usize = 28;

    /// What a rule can jump to without there being a chain of that name, and the chains that packets begin in.
    const TAKEN: [&str; 9] =
        ["ACCEPT", "DROP", "RETURN", "QUEUE", "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for an empty or over-long name, for anything but printable ASCII without blanks, quotation marks and
    /// backslashes, for one that begins like an option or a negation, and for one that `iptables` knows already.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        let reason = if name.is_empty() {
            "must not be empty"
        } else if name.len() > Self::MAX {
            "must be at most 28 bytes long"
        } else if !name.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b)) {
            "must be printable ASCII without blanks, quotation marks and backslashes"
        } else if name.starts_with(['-', '!']) {
            "must not begin with '-' or '!'"
        } else if Self::TAKEN.contains(&name) {
            "is a built-in chain or target of iptables"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Invalid::new("iptables chain", name, reason))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_are_the_kernels() {
        for good in ["eth0", "a", "veth0123456789a", "eth0.100", "é"] {
            assert!(LinkName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\0", "eth%d", "0123456789abcdef"] {
            assert!(LinkName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mac_addresses_round_trip() {
        let mac: MacAddr = "02:aa:BB:cc:dd:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:aa:bb:cc:dd:01");
        for bad in [
            "",
            "02:aa:bb:cc:dd",
            "02:aa:bb:cc:dd:01:02",
            "+2:aa:bb:cc:dd:01",
            "2:aa:bb:cc:dd:01",
            "zz:aa:bb:cc:dd:01",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
        assert!(!"01:00:5e:00:00:01".parse::<MacAddr>().unwrap().is_unicast());
    }

    #[test]
    fn chain_names_are_what_iptables_takes() {
        for good in ["CNI-ADMIN", "a", "0123456789012345678901234567", "x!", "a;b"] {
            assert!(ChainName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-A",
            "!x",
            "a b",
            "a\"b",
            "a\\b",
            "a\n",
            "é",
            "ACCEPT",
            "FORWARD",
            "01234567890123456789012345678",
        ] {
            assert!(ChainName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sysctl_keys_stay_below_net() {
        assert!(SysctlKey::new("net/ipv4/ip_forward").is_ok());
        for bad in ["kernel/hostname", "net/../kernel/hostname", "net//x", "net/ipv4/./x", "/net/ipv4"] {
            assert!(SysctlKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
