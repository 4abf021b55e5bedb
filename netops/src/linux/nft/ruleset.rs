//! What is laid out in nf_tables. As `nft list ruleset` prints it:
//!
//! ```text
//! table inet cnikit {
//!     map masquerade4 {
//!         type ipv4_addr : verdict
//!         elements = { 10.22.0.5 comment "…" : jump within-10.22.0.0/16 }
//!     }
//!     map masquerade6 { type ipv6_addr : verdict }
//!     chain within-10.22.0.0/16 {
//!         ip daddr 10.22.0.0/16 return
//!         ip daddr != 224.0.0.0/4 masquerade
//!     }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr vmap @masquerade4
//!         ip6 saddr vmap @masquerade6
//!     }
//! }
//! table bridge cnikit {
//!     set checked {
//!         type ifname
//!         elements = { "veth1" comment "02:00:00:00:00:02" }
//!     }
//!     set allowed {
//!         type ifname . ether_addr
//!         elements = { "veth1" . 02:00:00:00:00:02 comment "…" }
//!     }
//!     chain prerouting {
//!         type filter hook prerouting priority dstnat; policy accept;
//!         iifname @checked iifname . ether saddr != @allowed drop
//!     }
//! }
//! ```
//!
//! A connection costs one look-up, a frame one or two, however many pods there are; a pod is an element or two. The
//! comments are marks; that in `checked` says by which key a port is found in `allowed`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::expression::{Field, Rule, Verdict, Version};
use super::message::{Element, Hook, Key, Set, Table, Transaction};
use crate::kernel::Query;
use crate::name::{LinkName, MacAddr, Mark};
use crate::resource::{Masquerade, Resource, SpoofCheck};
use crate::ruleset::{self, POSTROUTING, PREROUTING, TABLE, chain_of, subnet_of};

const INET: Table = Table { family: libc::NFPROTO_INET, name: TABLE };
const BRIDGE: Table = Table { family: libc::NFPROTO_BRIDGE, name: TABLE };

pub(super) const MASQUERADE4: Set =
    Set { table: INET, name: ruleset::MASQUERADE4, key: &[Field::Source(Version::V4)], verdicts: true };
pub(super) const MASQUERADE6: Set =
    Set { table: INET, name: ruleset::MASQUERADE6, key: &[Field::Source(Version::V6)], verdicts: true };
pub(super) const CHECKED: Set =
    Set { table: BRIDGE, name: ruleset::CHECKED, key: &[Field::InputInterface], verdicts: false };
pub(super) const ALLOWED: Set = Set {
    table: BRIDGE,
    name: ruleset::ALLOWED,
    key: &[Field::InputInterface, Field::EthernetSource],
    verdicts: false,
};

/// `srcnat`: after everything that looks at a packet's own addresses (`NF_IP_PRI_NAT_SRC`).
const SOURCE_NAT: Hook = Hook { kind: "nat", number: libc::NF_INET_POST_ROUTING, priority: 100 };
/// First of all, where the reference has it as well (`NF_BR_PRI_NAT_DST_BRIDGED`).
const BRIDGE_ENTRY: Hook = Hook { kind: "filter", number: libc::NF_INET_PRE_ROUTING, priority: -300 };

/// A resource as elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) enum Entry {
    Masquerade(Masquerade),
    SpoofCheck(SpoofCheck),
}

impl Entry {
    /// The entry that a resource is, if it is one.
    pub(super) fn of(resource: &Resource) -> Option<Self> {
        match resource {
            Resource::Masquerade(masquerade) => Some(Self::Masquerade(masquerade.clone())),
            Resource::SpoofCheck(check) => Some(Self::SpoofCheck(check.clone())),
            _ => None,
        }
    }

    /// What asks for it.
    pub(super) fn query(&self) -> Query {
        match self {
            Self::Masquerade(masquerade) => Query::Masquerade(masquerade.source),
            Self::SpoofCheck(check) => Query::SpoofCheck(check.port.clone()),
        }
    }

    /// The set whose element says whose it is.
    fn set(&self) -> &'static Set {
        match self {
            Self::Masquerade(masquerade) => masquerades(Version::of(masquerade.source)),
            Self::SpoofCheck(_) => &ALLOWED,
        }
    }

    /// That element's key.
    fn key(&self) -> Key {
        match self {
            Self::Masquerade(masquerade) => Key::default().address(masquerade.source),
            Self::SpoofCheck(check) => port(check).mac(check.mac),
        }
    }

    /// Whose it is.
    pub(super) fn mark(&self) -> &Mark {
        match self {
            Self::Masquerade(masquerade) => &masquerade.mark,
            Self::SpoofCheck(check) => &check.mark,
        }
    }

    /// Whether it makes sense: no address is within a subnet of the other version.
    pub(super) fn is_of_one_version(&self) -> bool {
        match self {
            Self::Masquerade(masquerade) => {
                Version::of(masquerade.source) == Version::of(masquerade.within.addr())
            }
            Self::SpoofCheck(_) => true,
        }
    }

    /// Adds it.
    pub(super) fn add(&self, transaction: &mut Transaction) {
        let verdict = match self {
            Self::Masquerade(masquerade) => Some(Verdict::Jump(chain_of(masquerade.within))),
            Self::SpoofCheck(check) => {
                let comment = Some(check.mac.to_string());
                transaction.add(&CHECKED, &Element { key: port(check), verdict: None, comment });
                None
            }
        };
        let comment = Some(self.mark().to_string());
        transaction.add(self.set(), &Element { key: self.key(), verdict, comment });
    }

    /// Deletes it.
    pub(super) fn delete(&self, transaction: &mut Transaction) {
        if let Self::SpoofCheck(check) = self {
            transaction.delete(&CHECKED, port(check));
        }
        transaction.delete(self.set(), self.key());
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masquerade(masquerade) => Resource::Masquerade(masquerade.clone()).fmt(f),
            Self::SpoofCheck(check) => Resource::SpoofCheck(check.clone()).fmt(f),
        }
    }
}

/// Makes all that entries hang from, the same whether it is there in part, in whole or not at all.
pub(super) fn lay_out(transaction: &mut Transaction, entries: &[Entry]) {
    let mut subnets: Vec<IpNet> = entries.iter().filter_map(subnet).collect();
    subnets.sort();
    subnets.dedup();
    if !subnets.is_empty() {
        lay_out_masquerading(transaction, &subnets);
    }
    if entries.iter().any(|entry| matches!(entry, Entry::SpoofCheck(_))) {
        lay_out_spoof_checks(transaction);
    }
}

fn lay_out_masquerading(transaction: &mut Transaction, subnets: &[IpNet]) {
    transaction.table(INET);
    transaction.empty_chain(INET, POSTROUTING, Some(SOURCE_NAT));
    for version in [Version::V4, Version::V6] {
        let map = masquerades(version);
        transaction.set(map);
        transaction.rule(INET, POSTROUTING, &Rule::default().verdict_map(map.key, map.name));
    }
    for subnet in subnets {
        let chain = chain_of(*subnet);
        transaction.empty_chain(INET, &chain, None);
        let stays = Rule::default().within(Field::Destination, *subnet).verdict(Verdict::Return);
        transaction.rule(INET, &chain, &stays);
        let leaves = Rule::default().outside(Field::Destination, multicast(*subnet)).masquerade();
        transaction.rule(INET, &chain, &leaves);
    }
}

fn lay_out_spoof_checks(transaction: &mut Transaction) {
    transaction.table(BRIDGE);
    transaction.set(&CHECKED);
    transaction.set(&ALLOWED);
    transaction.empty_chain(BRIDGE, PREROUTING, Some(BRIDGE_ENTRY));
    let rule = Rule::default().in_set(CHECKED.key, CHECKED.name).not_in_set(ALLOWED.key, ALLOWED.name);
    transaction.rule(BRIDGE, PREROUTING, &rule.verdict(Verdict::Drop));
}

/// The map of a version's masquerades.
pub(super) fn masquerades(version: Version) -> &'static Set {
    match version {
        Version::V4 => &MASQUERADE4,
        Version::V6 => &MASQUERADE6,
    }
}

/// The masquerade that an element is, if it is one of ours.
pub(super) fn parse_masquerade(element: &Element) -> Option<Masquerade> {
    let key = element.key.bytes();
    let v4 = <[u8; 4]>::try_from(key).map(IpAddr::from);
    let source = v4.or_else(|_| <[u8; 16]>::try_from(key).map(IpAddr::from)).ok()?;
    let Some(Verdict::Jump(chain)) = &element.verdict else { return None };
    Some(Masquerade { source, within: subnet_of(chain)?, mark: mark(element)? })
}

/// The spoof check that an element is, if it is one of ours.
pub(super) fn parse_spoof_check(element: &Element) -> Option<SpoofCheck> {
    let (port, mac) = element.key.bytes().split_at_checked(libc::IFNAMSIZ)?;
    let port = std::str::from_utf8(port.split(|byte| *byte == 0).next()?).ok()?;
    let mac = MacAddr::new(mac.get(..6)?.try_into().ok()?);
    Some(SpoofCheck { port: LinkName::new(port).ok()?, mac, mark: mark(element)? })
}

fn mark(element: &Element) -> Option<Mark> {
    Mark::new(element.comment.as_deref()?).ok()
}

fn subnet(entry: &Entry) -> Option<IpNet> {
    match entry {
        Entry::Masquerade(masquerade) => Some(masquerade.within.trunc()),
        Entry::SpoofCheck(_) => None,
    }
}

fn port(check: &SpoofCheck) -> Key {
    Key::default().interface(&check.port)
}

/// The MAC address that a port was found to be restricted to.
pub(super) fn parse_checked(element: &Element) -> Option<MacAddr> {
    element.comment.as_deref()?.parse().ok()
}

/// What never leaves a link by a router's doing, of a subnet's version (RFC 5771, RFC 4291).
fn multicast(subnet: IpNet) -> IpNet {
    match subnet {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    }
}
