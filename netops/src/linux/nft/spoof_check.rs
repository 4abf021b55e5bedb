//! Spoof checks: the ports that are checked, and the source MAC addresses that each may use.

use super::element::{Element, Key, Set};
use super::expression::{Field, Verdict};
use super::rule::Rule;
use super::ruleset::{BRIDGE, Placed, Whereabouts};
use super::transaction::{Hook, Transaction};
use crate::entry::{EntryKey, SpoofCheck};
use crate::name::{LinkName, MacAddr, Mark};
use crate::ruleset::{self, PREROUTING};

pub(super) const SETS: &[&Set] = &[&ALLOWED];

const CHECKED: Set = Set::new(BRIDGE, ruleset::CHECKED, &[Field::InputInterface]);
const ALLOWED: Set = Set::new(BRIDGE, ruleset::ALLOWED, &[Field::InputInterface, Field::EthernetSource]);

/// First of all, where the reference has it as well (`NF_BR_PRI_NAT_DST_BRIDGED`).
const BRIDGE_ENTRY: Hook = Hook { kind: "filter", number: libc::NF_INET_PRE_ROUTING, priority: -300 };

pub(super) fn elements(check: &SpoofCheck) -> [Placed; 2] {
    let port = Key::default().interface(&check.port);
    let element = |key, comment: String| Element { comment: Some(comment), ..Element::of_key(key) };
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
