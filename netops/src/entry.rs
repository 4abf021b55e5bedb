//! What cnikit's own tables of nf_tables hold: elements of sets and maps, each with its owner's mark.
//!
//! An entry is found by its key, in one look-up, however many there are; and by its mark, by looking through all of its
//! kind. What sets, maps and rules they hang from is `linux/nft`'s to lay out.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::{LinkName, MacAddr, Mark};
use crate::port_mapping::{HostPort, PortMapping};
use crate::resource::Resource;

/// Something in cnikit's tables that one attachment owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Entry {
    /// Source NAT for one address, where its packets leave its subnet.
    Masquerade(Masquerade),
    /// A port of the node that leads into a container.
    PortMapping(PortMapping),
    /// A bridge port from which only one source MAC address is let through.
    SpoofCheck(SpoofCheck),
    /// An address whose packets pass the host's own packet filter.
    Forwarded(Forwarded),
}

/// What an entry is found by; at most one entry has each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EntryKey {
    /// The source address that is masqueraded.
    Masquerade(IpAddr),
    /// The node's port.
    PortMapping(HostPort),
    /// The bridge port that is checked.
    SpoofCheck(LinkName),
    /// The address whose packets pass.
    Forwarded(IpAddr),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// [`Entry::Masquerade`].
    Masquerade,
    /// [`Entry::PortMapping`].
    PortMapping,
    /// [`Entry::SpoofCheck`].
    SpoofCheck,
    /// [`Entry::Forwarded`].
    Forwarded,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: &'static [Self] =
        &[Self::Masquerade, Self::PortMapping, Self::SpoofCheck, Self::Forwarded];
}

/// Source NAT for packets of one address to anywhere but its own subnet and multicast.
///
/// An element of a verdict map in cnikit's own nf_tables table: one lookup per new connection, however many there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Masquerade {
    /// The address; at most one masquerade each.
    pub source: IpAddr,
    /// The subnet within which the address is kept.
    pub within: IpNet,
    /// Who owns it.
    pub mark: Mark,
}

/// Drops what a bridge port sends from any MAC address but one (nf_tables, family bridge).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpoofCheck {
    /// The port; at most one check each.
    pub port: LinkName,
    /// The only source address let through.
    pub mac: MacAddr,
    /// Who owns it.
    pub mark: Mark,
}

/// Lets pass what an address sends, and what answers it, where the host's own packet filter has a
/// [`ForwardJump`](crate::ForwardJump).
///
/// An element of a set in cnikit's own nf_tables table: two lookups per forwarded packet, however many there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forwarded {
    /// The address; at most one entry each.
    pub address: IpAddr,
    /// Who owns it.
    pub mark: Mark,
}

impl Entry {
    /// What it is found by.
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Masquerade(masquerade) => EntryKey::Masquerade(masquerade.source),
            Self::PortMapping(mapping) => EntryKey::PortMapping(mapping.port),
            Self::SpoofCheck(check) => EntryKey::SpoofCheck(check.port.clone()),
            Self::Forwarded(forwarded) => EntryKey::Forwarded(forwarded.address),
        }
    }

    /// Who owns it.
    pub fn mark(&self) -> &Mark {
        match self {
            Self::Masquerade(masquerade) => &masquerade.mark,
            Self::PortMapping(mapping) => &mapping.mark,
            Self::SpoofCheck(check) => &check.mark,
            Self::Forwarded(forwarded) => &forwarded.mark,
        }
    }

    /// What it says of its key, by name: what a comparison is about.
    pub(crate) fn properties(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Masquerade(masquerade) => vec![("subnet", masquerade.within.trunc().to_string())],
            Self::PortMapping(mapping) => mapping.properties(),
            Self::SpoofCheck(check) => vec![("MAC address", check.mac.to_string())],
            Self::Forwarded(_) => Vec::new(),
        }
    }

    /// Why it makes no sense, if it does not.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        match self {
            Self::Masquerade(Masquerade { source, within, .. })
                if source.is_ipv4() != within.addr().is_ipv4() =>
            {
                Some("the address and the subnet are of different versions of IP")
            }
            Self::PortMapping(mapping) => mapping.contradiction(),
            _ => None,
        }
    }

    /// The same entry as the kernel keeps it.
    #[cfg(feature = "testing")]
    pub(crate) fn kept(&self) -> Self {
        match self {
            Self::Masquerade(masquerade) => {
                Self::Masquerade(Masquerade { within: masquerade.within.trunc(), ..masquerade.clone() })
            }
            Self::PortMapping(mapping) => Self::PortMapping(mapping.kept()),
            other => other.clone(),
        }
    }
}

impl EntryKey {
    /// What an entry with this key is.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Masquerade(_) => EntryKind::Masquerade,
            Self::PortMapping(_) => EntryKind::PortMapping,
            Self::SpoofCheck(_) => EntryKind::SpoofCheck,
            Self::Forwarded(_) => EntryKind::Forwarded,
        }
    }
}

impl From<Masquerade> for Resource {
    fn from(masquerade: Masquerade) -> Self {
        Self::Entry(Entry::Masquerade(masquerade))
    }
}

impl From<PortMapping> for Resource {
    fn from(mapping: PortMapping) -> Self {
        Self::Entry(Entry::PortMapping(mapping))
    }
}

impl From<SpoofCheck> for Resource {
    fn from(check: SpoofCheck) -> Self {
        Self::Entry(Entry::SpoofCheck(check))
    }
}

impl From<Forwarded> for Resource {
    fn from(forwarded: Forwarded) -> Self {
        Self::Entry(Entry::Forwarded(forwarded))
    }
}

/// As errors name it: `masquerade of 10.22.0.5`.
impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masquerade(source) => write!(f, "masquerade of {source}"),
            Self::PortMapping(port) => write!(f, "mapping of {port}"),
            Self::SpoofCheck(port) => write!(f, "spoof check of port \"{port}\""),
            Self::Forwarded(address) => write!(f, "forwarding of {address}"),
        }
    }
}

/// As its key.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

/// In the plural.
impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Masquerade => "masquerades",
            Self::PortMapping => "port mappings",
            Self::SpoofCheck => "spoof checks",
            Self::Forwarded => "forwarded addresses",
        })
    }
}
