//! Forwarded addresses: sets of them, and a bit of the mark that says so to the host's own packet filter.

use std::net::IpAddr;

use super::element::{Element, Key, Set};
use super::expression::{Field, Version};
use super::rule::Rule;
use super::ruleset::{INET, Placed, Whereabouts};
use super::transaction::{Hook, Transaction};
use crate::entry::Forwarded;
use crate::name::Mark;
use crate::ruleset::{self, FORWARD, FORWARDED, PASS};

pub(super) const SETS: &[&Set] = &[&PODS4, &PODS6];

const PODS4: Set = Set::new(INET, ruleset::PODS4, &[Field::Source(Version::V4)]);
const PODS6: Set = Set::new(INET, ruleset::PODS6, &[Field::Source(Version::V6)]);

/// Just before `iptables`' chain `FORWARD` (`NF_IP_PRI_FILTER`), and just behind it.
pub(super) const BEFORE: Hook = Hook { kind: "filter", number: libc::NF_INET_FORWARD, priority: -1 };
const BEHIND: Hook = Hook { kind: "filter", number: libc::NF_INET_FORWARD, priority: 1 };

pub(super) fn element(forwarded: &Forwarded) -> Placed {
    let element = Element::of_key(Key::default().address(forwarded.address));
    (set(forwarded.address), Element { comment: Some(forwarded.mark.to_string()), ..element })
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
