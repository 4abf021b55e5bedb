use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Who holds a lease: one interface of one container, an *attachment* in the words of the CNI specification.
///
/// Made only by [`Owner::new`]: both parts are what the specification allows, so that they can be written into a
/// lease file (and its name be derived from them) without ever being mistaken for something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    container_id: String,
    interface: String,
}

impl Owner {
    /// Parses `CNI_CONTAINERID` and `CNI_IFNAME`.
    ///
    /// # Errors
    ///
    /// [`OwnerError`] if the container ID is not one (letters, digits, `_`, `.`, `-`, the first a letter or digit,
    /// at most 220 of them), or the interface name is not one that Linux accepts (1 to 15 bytes, not `.` or `..`,
    /// no `/`, `:` or white space).
    pub fn new(container_id: &str, interface: &str) -> Result<Self, OwnerError> {
        if !is_container_id(container_id) {
            return Err(OwnerError::ContainerId { text: container_id.into() });
        }
        if !is_interface_name(interface) {
            return Err(OwnerError::Interface { text: interface.into() });
        }
        Ok(Self { container_id: container_id.into(), interface: interface.into() })
    }

    /// `CNI_CONTAINERID`
    #[must_use]
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// `CNI_IFNAME`
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {} interface {}", self.container_id, self.interface)
    }
}

/// What is wrong with the name of an [`Owner`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnerError {
    /// Not a container ID.
    ContainerId {
        /// What was given.
        text: String,
    },
    /// Not an interface name.
    Interface {
        /// What was given.
        text: String,
    },
}

impl fmt::Display for OwnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContainerId { text } => write!(
                f,
                "{text:?} is not a container ID: 1 to {LONGEST_CONTAINER_ID} letters, digits, '_', '.', '-', \
                 the first a letter or digit"
            ),
            Self::Interface { text } => {
                write!(f, "{text:?} is not an interface name: 1 to 15 bytes without '/', ':' or white space")
            }
        }
    }
}

impl std::error::Error for OwnerError {}

/// libcni's own cache file, `<network>-<container ID>-<interface>`, cannot be created with a longer one (NAME_MAX is
/// 255), and neither can our index entry, `<container ID>:<interface>:<set>`.
const LONGEST_CONTAINER_ID: usize = 220;

fn is_container_id(text: &str) -> bool {
    text.len() <= LONGEST_CONTAINER_ID
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// `dev_valid_name` in the kernel's net/core/dev.c.
fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

/// An address that is taken, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Who holds it.
    pub holder: Holder,
}

impl Lease {
    /// The attachment that holds it, if one does.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        match &self.holder {
            Holder::Attachment(owner) => Some(owner),
            _ => None,
        }
    }

    /// Whether it is this attachment's: written for it, or (by plugins before 2018) for its container as a whole.
    #[must_use]
    pub fn is_held_by(&self, owner: &Owner) -> bool {
        match &self.holder {
            Holder::Attachment(holder) => holder == owner,
            Holder::Container(id) => id == owner.container_id(),
            Holder::Nobody | Holder::Stranger | Holder::Unreadable => false,
        }
    }
}

/// Who holds a [`Lease`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// An interface of a container.
    Attachment(Owner),
    /// A container, whichever the interface: the format of containernetworking/plugins before version 0.7.
    Container(String),
    /// Nobody: whoever made it died before it was written. Reclaimed when it is safe.
    Nobody,
    /// Something that no CNI plugin writes. The address is taken until a person, or a garbage collection, removes it.
    Stranger,
    /// Whoever it is, the file cannot be read: a bad block, or a right that is missing. The address is taken until a
    /// person removes it; garbage collection does not, for it may be a healthy container's, and says so.
    Unreadable,
}

impl Holder {
    /// Reads the content of a lease file: `<container ID>\r\n<interface>`.
    ///
    /// Never fails: what is not a lease is a [`Stranger`](Self::Stranger), and what a crash leaves behind (an empty
    /// file, one of NUL bytes, one that ends before the interface) is [`Nobody`](Self::Nobody)'s. White space around
    /// the content is ignored, as the reference does.
    #[must_use]
    pub fn parse(content: &[u8]) -> Self {
        if content.contains(&0) || content.ends_with(LINE_BREAK.as_bytes()) {
            return Self::Nobody;
        }
        let Ok(text) = std::str::from_utf8(content) else {
            return Self::Stranger;
        };
        match text.trim().split_once(LINE_BREAK) {
            Some((id, interface)) => Owner::new(id, interface).map_or(Self::Stranger, Self::Attachment),
            None if text.trim().is_empty() => Self::Nobody,
            None if is_container_id(text.trim()) => Self::Container(text.trim().into()),
            None => Self::Stranger,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attachment(owner) => owner.fmt(f),
            Self::Container(id) => write!(f, "container {id}"),
            Self::Nobody => f.write_str("nobody"),
            Self::Stranger => f.write_str("a file that no CNI plugin wrote"),
            Self::Unreadable => f.write_str("a file that cannot be read"),
        }
    }
}

/// The content of the owner's lease files.
pub(crate) fn lease_text(owner: &Owner) -> String {
    format!("{}{LINE_BREAK}{}", owner.container_id, owner.interface)
}

const LINE_BREAK: &str = "\r\n";

/// The address that a lease file is named after; `None` if the name is not exactly how that address is written (the
/// lease of `fd00::5` is never looked up as `fd00:0::5`), or no address at all.
pub(crate) fn address_of(name: &str) -> Option<IpAddr> {
    match IpAddr::from_str(name).ok()? {
        // There is only one way to write an IPv4 address that the standard library reads.
        address @ IpAddr::V4(_) => Some(address),
        address @ IpAddr::V6(_) => (address.to_string() == name).then_some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let owner = Owner::new("blue", "eth0").unwrap();
        assert_eq!(lease_text(&owner), "blue\r\neth0");
        assert_eq!(Holder::parse(b"blue\r\neth0"), Holder::Attachment(owner.clone()));
        assert_eq!(Holder::parse(b" blue\r\neth0\n"), Holder::Attachment(owner));
        assert_eq!(Holder::parse(b"blue"), Holder::Container("blue".into()));
    }

    #[test]
    fn what_a_crash_leaves_is_nobody_s_and_anything_else_a_stranger_s() {
        for content in [&b""[..], b"\n", b"\0\0\0", b"blue\r\n", b"blue\r\n\0\0\0\0"] {
            assert_eq!(Holder::parse(content), Holder::Nobody, "{content:?}");
        }
        for content in
            [&b"\xff"[..], b"blue\neth0", b"a b", b"blue\r\neth0\r\nmore", b"../etc\r\neth0", b"-x"]
        {
            assert_eq!(Holder::parse(content), Holder::Stranger, "{content:?}");
        }
    }

    #[test]
    fn names_that_are_not_the_specification_s_are_refused() {
        for id in ["", ".", "..", "a/b", "-a", "_a", "a b", "a\r\nb", "ä", "a\0", &"a".repeat(221)] {
            assert!(matches!(Owner::new(id, "eth0"), Err(OwnerError::ContainerId { .. })), "{id:?}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\0", "0123456789abcdef"] {
            assert!(matches!(Owner::new("blue", name), Err(OwnerError::Interface { .. })), "{name:?}");
        }
        assert!(Owner::new(&"a".repeat(220), "0123456789abcde").is_ok());
    }

    #[test]
    fn only_the_one_way_to_write_an_address_names_a_lease() {
        for name in ["10.0.0.1", "fd00::5", "::"] {
            assert_eq!(address_of(name).unwrap().to_string(), name);
        }
        for name in
            ["lock", "last_reserved_ip.0", "10.0.0.01", "10.0.0", "fd00:0::5", "FD00::5", "fd00::5%eth0", ""]
        {
            assert_eq!(address_of(name), None, "{name:?}");
        }
    }
}
