//! Spoof checks: the ports that are checked, and the source MAC addresses that each may use.

use super::expression::{Field, Verdict};
use super::message::{Element, Hook, Key, Set, Transaction, Values};
use super::rule::Rule;
use super::ruleset::{BRIDGE, Placed, Whereabouts};
use crate::entry::{EntryKey, SpoofCheck};
use crate::name::{LinkName, MacAddr, Mark};
use crate::ruleset::{self, PREROUTING};

pub(super) const SETS: &[&Set] = &[&ALLOWED];

const CHECKED: Set = Set {
    table: BRIDGE,
    name: ruleset::CHECKED,
    key: &[Field::InputInterface],
    values: Values::None,
    beside: None,
};
const ALLOWED: Set = Set {
    table: BRIDGE,
    name: ruleset::ALLOWED,
    key: &[Field::InputInterface, Field::EthernetSource],
    values: Values::None,
    beside: None,
};

/// First of all, where the reference has it as well (`NF_BR_PRI_NAT_DST_BRIDGED`).
const BRIDGE_ENTRY: Hook = Hook { kind: "filter", number: libc::NF_INET_PRE_ROUTING, priority: -300 };

pub(super) fn elements(check: &SpoofCheck) -> [Placed; 2] {
    let port = Key::default().interface(&check.port);
    let element = |key, comment: String| Element { key, verdict: None, value: None, comment: Some(comment) };
    [
        (&CHECKED, element(port.clone(), check.mac.to_string())),
        (&ALLOWED, element(port.mac(check.mac), check.mark.to_string())),
    ]
}

pub(super) fn whereabouts(port: &LinkName) -> Whereabouts {
    let next = |key: &EntryKey, checked: &Element| match key {
        EntryKey::SpoofCheck(port) => Some((&ALLOWED, Key::default().interface(port).mac(allowed(checked)?))),
        _ => None,
    };
    Whereabouts::SaidBy(&CHECKED, Key::default().interface(port), next)
}

/// The MAC address that a port was found to be restricted to.
fn allowed(checked: &Element) -> Option<MacAddr> {
    checked.comment.as_deref()?.parse().ok()
}

pub(super) fn parse(element: &Element, mark: Mark) -> Option<SpoofCheck> {
    let (port, mac) = element.key.bytes().split_at_checked(libc::IFNAMSIZ)?;
    let port = std::str::from_utf8(port.split(|byte| *byte == 0).next()?).ok()?;
    let mac = MacAddr::new(mac.get(..6)?.try_into().ok()?);
    Some(SpoofCheck { port: LinkName::new(port).ok()?, mac, mark })
}

pub(super) fn lay_out(transaction: &mut Transaction) {
    transaction.table(BRIDGE);
    transaction.set(&CHECKED);
    transaction.set(&ALLOWED);
    transaction.empty_chain(BRIDGE, PREROUTING, Some(BRIDGE_ENTRY));
    let rule = Rule::default().in_set(CHECKED.key, CHECKED.name).not_in_set(ALLOWED.key, ALLOWED.name);
    transaction.rule(BRIDGE, PREROUTING, &rule.verdict(Verdict::Drop));
}
