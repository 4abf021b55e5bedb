//! Netfilter rules that other programs have made for an attachment: found and removed, never made.
//!
//! They are described as far as it takes to tell them from their neighbours': by the chain that they are or are in, by
//! a comment, by an address. Whether they were written through nf_tables (also by `iptables-nft`) or through the older
//! `ip_tables` is the backend's to find out.

use std::fmt;
use std::net::IpAddr;

use crate::resource::{IpVersion, Resource};

/// Some rules of another program's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForeignRules {
    /// The chain that they are in.
    pub chain: ForeignChain,
    /// Which of that chain's.
    pub which: WhichRules,
}

/// A chain of another program's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForeignChain {
    /// The family of its table.
    pub family: Family,
    /// The name of its table.
    pub table: String,
    /// Its own name.
    pub name: String,
}

/// Which packets pass through a table (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Family {
    /// IPv4: what `iptables` writes.
    Ipv4,
    /// IPv6: what `ip6tables` writes.
    Ipv6,
    /// Both.
    Inet,
    /// Frames that a bridge forwards.
    Bridge,
}

/// Which rules of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WhichRules {
    /// All of them and the chain itself, with the rules of these chains of the same table that jump to it.
    Chain {
        /// Names of chains.
        callers: Vec<String>,
    },
    /// Those with exactly this comment.
    Comment(String),
    /// Those with a comment that begins so.
    CommentPrefix(String),
    /// Those that accept what comes from, or goes to, one address.
    Address(IpAddr),
}

impl ForeignChain {
    /// A chain of a table.
    pub fn new(family: Family, table: &str, name: &str) -> Self {
        Self { family, table: table.to_owned(), name: name.to_owned() }
    }

    /// Another chain of the same table.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// All of it, with the rules of some chains of the same table that jump to it.
    pub fn called_from(self, callers: &[&str]) -> ForeignRules {
        let callers = callers.iter().map(|caller| (*caller).to_owned()).collect();
        ForeignRules { chain: self, which: WhichRules::Chain { callers } }
    }

    /// Its rules with this comment.
    pub fn commented(self, comment: &str) -> ForeignRules {
        ForeignRules { chain: self, which: WhichRules::Comment(comment.to_owned()) }
    }

    /// Its rules with a comment that begins so.
    pub fn comment_begins(self, prefix: &str) -> ForeignRules {
        ForeignRules { chain: self, which: WhichRules::CommentPrefix(prefix.to_owned()) }
    }

    /// Its rules that accept what comes from, or goes to, one address.
    pub fn about(self, address: IpAddr) -> ForeignRules {
        ForeignRules { chain: self, which: WhichRules::Address(address) }
    }
}

impl ForeignRules {
    /// Where there must be rules if these are in force: the callers of a chain, else the chain itself.
    pub(crate) fn sites(&self) -> Vec<ForeignChain> {
        match &self.which {
            WhichRules::Chain { callers } => callers.iter().map(|name| self.chain.sibling(name)).collect(),
            _ => vec![self.chain.clone()],
        }
    }
}

impl WhichRules {
    /// Whether a comment is meant.
    pub(crate) fn has_comment(&self, comment: Option<&str>) -> bool {
        match self {
            Self::Comment(wanted) => comment == Some(wanted),
            Self::CommentPrefix(prefix) => {
                comment.is_some_and(|comment| comment.starts_with(prefix.as_str()))
            }
            Self::Chain { .. } | Self::Address(_) => false,
        }
    }
}

impl From<ForeignRules> for Resource {
    fn from(rules: ForeignRules) -> Self {
        Self::Foreign(rules)
    }
}

/// Of the tables that `iptables` or `ip6tables` writes.
impl From<IpVersion> for Family {
    fn from(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::Ipv4,
            IpVersion::V6 => Self::Ipv6,
        }
    }
}

/// As `nft` has it.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        })
    }
}

/// As `nft` has it: `ip nat CNI-HOSTPORT-DNAT`.
impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// As errors name it: `chain ip nat CNI-…`, `rules about 10.22.0.5 in chain ip filter CNI-FORWARD`.
impl fmt::Display for ForeignRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, which } = self;
        match which {
            WhichRules::Chain { .. } => write!(f, "chain {chain}"),
            WhichRules::Comment(comment) | WhichRules::CommentPrefix(comment) => {
                write!(f, "rules of \"{comment}\" in chain {chain}")
            }
            WhichRules::Address(address) => write!(f, "rules about {address} in chain {chain}"),
        }
    }
}
