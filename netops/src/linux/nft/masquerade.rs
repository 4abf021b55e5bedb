//! Masquerades: verdict maps from sources to their subnet's chain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::element::{Element, Key, Set, Values};
use super::expression::{Field, Verdict, Version};
use super::rule::Rule;
use super::ruleset::{INET, Placed, Whereabouts};
use super::transaction::{Hook, Transaction};
use crate::entry::{Entry, Masquerade};
use crate::name::Mark;
use crate::ruleset::{self, POSTROUTING, chain_of, subnet_of};

pub(super) const SETS: &[&Set] = &[&MASQUERADE4, &MASQUERADE6];

const MASQUERADE4: Set = verdicts(ruleset::MASQUERADE4, &[Field::Source(Version::V4)]);
const MASQUERADE6: Set = verdicts(ruleset::MASQUERADE6, &[Field::Source(Version::V6)]);

const fn verdicts(name: &'static str, key: &'static [Field]) -> Set {
    Set { values: Values::Verdicts, ..Set::new(INET, name, key) }
}

/// `srcnat`: after everything that looks at a packet's own addresses (`NF_IP_PRI_NAT_SRC`).
pub(super) const SOURCE_NAT: Hook = Hook { kind: "nat", number: libc::NF_INET_POST_ROUTING, priority: 100 };

pub(super) fn element(masquerade: &Masquerade) -> Placed {
    let element = Element {
        verdict: Some(Verdict::Jump(chain_of(masquerade.within))),
        comment: Some(masquerade.mark.to_string()),
        ..Element::of_key(Key::default().address(masquerade.source))
    };
    (map(Version::of(masquerade.source)), element)
}

pub(super) fn whereabouts(source: IpAddr) -> Whereabouts {
    Whereabouts::Element(map(Version::of(source)), Key::default().address(source))
}

pub(super) fn parse(element: &Element, mark: Mark) -> Option<Masquerade> {
    let source = element.key.as_address()?;
    let Some(Verdict::Jump(chain)) = &element.verdict else { return None };
    Some(Masquerade { source, within: subnet_of(chain)?, mark })
}

/// Makes the maps, the rules that look into them, and the chain of each subnet.
pub(super) fn lay_out(transaction: &mut Transaction, entries: &[&Entry]) {
    transaction.table(INET);
    transaction.empty_chain(INET, POSTROUTING, Some(SOURCE_NAT));
    for version in [Version::V4, Version::V6] {
        let map = map(version);
        transaction.set(map);
        transaction.rule(INET, POSTROUTING, &Rule::default().verdict_map(map.key, map.name));
    }
    let mut subnets: Vec<IpNet> = entries.iter().filter_map(|entry| subnet(entry)).collect();
    subnets.sort();
    subnets.dedup();
    for subnet in subnets {
        let chain = chain_of(subnet);
        transaction.empty_chain(INET, &chain, None);
        let stays = Rule::default().within(Field::Destination, subnet).verdict(Verdict::Return);
        transaction.rule(INET, &chain, &stays);
        let leaves = Rule::default().outside(Field::Destination, multicast(subnet)).masquerade();
        transaction.rule(INET, &chain, &leaves);
    }
}

fn map(version: Version) -> &'static Set {
    match version {
        Version::V4 => &MASQUERADE4,
        Version::V6 => &MASQUERADE6,
    }
}

fn subnet(entry: &Entry) -> Option<IpNet> {
    match entry {
        Entry::Masquerade(masquerade) => Some(masquerade.within.trunc()),
        _ => None,
    }
}

/// What never leaves a link by a router's doing, of a subnet's version (RFC 5771, RFC 4291).
fn multicast(subnet: IpNet) -> IpNet {
    match subnet {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    }
}
