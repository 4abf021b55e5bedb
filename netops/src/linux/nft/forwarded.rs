//! Forwarded addresses: sets of them, and a bit of the mark that says so to the host's own packet filter.

use std::net::IpAddr;

use super::expression::{Field, Version};
use super::message::{Element, Hook, Key, Set, Transaction, Values};
use super::rule::Rule;
use super::ruleset::{INET, Placed, Whereabouts};
use crate::entry::Forwarded;
use crate::name::Mark;
use crate::ruleset::{self, FORWARD, FORWARDED, PASS};

pub(super) const SETS: &[&Set] = &[&PODS4, &PODS6];

const PODS4: Set = Set {
    table: INET,
    name: ruleset::PODS4,
    key: &[Field::Source(Version::V4)],
    values: Values::None,
    beside: None,
};
const PODS6: Set = Set {
    table: INET,
    name: ruleset::PODS6,
    key: &[Field::Source(Version::V6)],
    values: Values::None,
    beside: None,
};

/// Just before `iptables`' chain `FORWARD` (`NF_IP_PRI_FILTER`), and just behind it.
pub(super) const BEFORE: Hook = Hook { kind: "filter", number: libc::NF_INET_FORWARD, priority: -1 };
const BEHIND: Hook = Hook { kind: "filter", number: libc::NF_INET_FORWARD, priority: 1 };

pub(super) fn element(forwarded: &Forwarded) -> Placed {
    let key = Key::default().address(forwarded.address);
    (
        set(forwarded.address),
        Element { key, verdict: None, value: None, comment: Some(forwarded.mark.to_string()) },
    )
}

pub(super) fn whereabouts(address: IpAddr) -> Whereabouts {
    Whereabouts::Element(set(address), Key::default().address(address))
}

pub(super) fn parse(element: &Element, mark: Mark) -> Option<Forwarded> {
    Some(Forwarded { address: element.key.as_address()?, mark })
}

/// Makes the sets and the two chains. In between nobody but the two has set the bit: what came with it has lost it.
pub(super) fn lay_out(transaction: &mut Transaction) {
    transaction.table(INET);
    transaction.empty_chain(INET, FORWARD, Some(BEFORE));
    transaction.rule(INET, FORWARD, &Rule::default().unmark(PASS));
    for (version, set) in [(Version::V4, &PODS4), (Version::V6, &PODS6)] {
        transaction.set(set);
        let sent = Rule::default().in_set(&[Field::Source(version)], set.name);
        let answered = Rule::default().in_set(&[Field::Destination(version)], set.name).in_connection();
        for rule in [sent, answered] {
            transaction.rule(INET, FORWARD, &rule.mark(PASS));
        }
    }
    transaction.empty_chain(INET, FORWARDED, Some(BEHIND));
    transaction.rule(INET, FORWARDED, &Rule::default().unmark(PASS));
}

fn set(address: IpAddr) -> &'static Set {
    match Version::of(address) {
        Version::V4 => &PODS4,
        Version::V6 => &PODS6,
    }
}
