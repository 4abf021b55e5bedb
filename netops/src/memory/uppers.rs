//! The rules of links that are on another one: macvlan, ipvlan, VLAN.

use crate::error::Errno;
use crate::name::{LinkName, MacAddr};
use crate::resource::{Link, LinkKind, MacvlanMode};

use super::links::{self, has_sane_mtu};
use super::machine::{Machine, NamespaceId, Problem, View};
use super::namespace::{Interface, Kind};
use super::refused;

/// What is on a link, anywhere.
pub(super) fn of(machine: &Machine, place: NamespaceId, parent: u32) -> Vec<(NamespaceId, u32)> {
    on(machine, place, parent).map(|(place, upper)| (place, upper.index)).collect()
}

fn on(machine: &Machine, place: NamespaceId, parent: u32) -> impl Iterator<Item = (NamespaceId, &Interface)> {
    let all = machine.namespaces.iter();
    let all = all.flat_map(|(id, namespace)| namespace.links.values().map(move |link| (*id, link)));
    all.filter(move |(_, link)| link.kind.parent() == Some((place, parent)))
}

/// Whether one link is another, or is on it by whatever is between them.
pub(super) fn rests_on(machine: &Machine, top: (NamespaceId, u32), bottom: (NamespaceId, u32)) -> bool {
    let (place, index) = top;
    let Some(namespace) = machine.namespaces.get(&place) else { return false };
    let parent = namespace.links.get(&index).and_then(|link| link.kind.parent());
    let members = namespace.links.values().filter(|link| link.bridge().or(link.vrf) == Some(index));
    let mut below = members.map(|member| (place, member.index)).chain(parent);
    top == bottom || below.any(|link| rests_on(machine, link, bottom))
}

/// Whether what is on a link takes all packets that come in by it: what is a VLAN takes only some.
pub(super) fn take_packets(machine: &Machine, place: NamespaceId, parent: u32) -> bool {
    on(machine, place, parent).any(|(_, link)| !matches!(link.kind.name(), "vlan"))
}

/// Whether a link that is down can be set up: of macvlans on one link each has a MAC address of its own.
pub(super) fn can_be_up(machine: &Machine, place: NamespaceId, name: &LinkName) -> Result<(), Problem> {
    match machine.namespaces.get(&place).and_then(|namespace| namespace.link(name)) {
        Some(link) if !link.up => is_mac_free(machine, link, link.mac),
        _ => Ok(()),
    }
}

/// Whether a macvlan can have a MAC address: its parent does not have it, nor another one that is up
/// (`macvlan_addr_busy()`).
pub(super) fn is_mac_free(machine: &Machine, link: &Interface, mac: MacAddr) -> Result<(), Problem> {
    let Kind::Upper { as_made: LinkKind::Macvlan { .. }, place, parent } = link.kind else { return Ok(()) };
    if link.has_parents_mac() {
        return Ok(());
    }
    let below = machine.namespaces.get(&place).and_then(|there| there.links.get(&parent));
    let beside = on(machine, place, parent).map(|(_, other)| other);
    let beside = beside.filter(|other| other.up && other.kind.name() == link.kind.name());
    match below.into_iter().chain(beside).any(|other| other.mac == mac) {
        true => Err(Problem::Refused(Errno::EADDRINUSE, None)),
        false => Ok(()),
    }
}

/// The link that a wanted one is going to be on, and where that is.
pub(super) fn parent_of<'a>(
    machine: &'a Machine,
    view: View,
    wanted: &Link,
) -> Result<(NamespaceId, &'a Interface), Problem> {
    let gone = || Problem::Refused(Errno::ENODEV, None);
    let parent = wanted.kind.parent().ok_or_else(gone)?;
    let place = view.of(parent.place)?;
    let namespace = machine.namespaces.get(&place).ok_or(Problem::NoContainer)?;
    let parent = namespace.link(&parent.name).ok_or_else(gone)?;
    // A macvlan on a macvlan is beside it, on the same parent, and an ipvlan on an ipvlan.
    let is_beside = !matches!(wanted.kind, LinkKind::Vlan { .. }) && parent.kind.name() == wanted.kind.name();
    let Some((there, index)) = parent.kind.parent().filter(|_| is_beside) else { return Ok((place, parent)) };
    let real = machine.namespaces.get(&there).and_then(|there| there.links.get(&index));
    Ok((there, real.ok_or_else(gone)?))
}

/// What is asked before one is made.
pub(super) fn can_be_made(machine: &Machine, view: View, wanted: &Link) -> Result<(), Problem> {
    let (place, parent) = parent_of(machine, view, wanted)?;
    let others = || on(machine, place, parent.index).map(|(_, link)| &link.kind);
    let made_as = |kind: &Kind| match kind {
        Kind::Upper { as_made, .. } => Some(as_made.clone()),
        _ => None,
    };
    let larger = wanted.mtu.is_some_and(|mtu| mtu > parent.mtu);
    match &wanted.kind {
        LinkKind::Vlan { id, .. } => {
            if *id > 4094 {
                return Err(refused(Errno::new(libc::ERANGE), "Invalid VLAN id"));
            }
            let is_same = |other: LinkKind| matches!(other, LinkKind::Vlan { id: other, .. } if other == *id);
            if others().filter_map(made_as).any(is_same) {
                return Err(refused(Errno::EEXIST, "VLAN device already exists"));
            }
            if larger {
                return Err(Problem::Refused(Errno::EINVAL, None));
            }
        }
        LinkKind::Macvlan { mode, .. } => {
            has_sane_mtu(wanted.mtu)?;
            if larger || parent.kind.is_loopback() {
                return Err(Problem::Refused(Errno::EINVAL, None));
            }
            if parent.bridge().is_some() {
                return Err(Problem::Refused(Errno::EBUSY, None));
            }
            let alone =
                |kind: &LinkKind| matches!(kind, LinkKind::Macvlan { mode: MacvlanMode::Passthru, .. });
            let mut macvlans = others().filter_map(made_as).filter(|kind| kind.name() == "macvlan");
            if macvlans.any(|other| alone(&other) || *mode == MacvlanMode::Passthru) {
                return Err(Problem::Refused(Errno::EINVAL, None));
            }
        }
        _ => {
            if parent.kind.is_loopback() {
                return Err(Problem::Refused(Errno::EINVAL, None));
            }
        }
    }
    Ok(())
}

/// Makes one. It has its parent's MTU unless it is given one.
pub(super) fn add(
    machine: &mut Machine,
    view: View,
    here: NamespaceId,
    wanted: &Link,
) -> Result<u32, Problem> {
    let (place, parent) = parent_of(machine, view, wanted)?;
    let mtu = wanted.mtu.or(Some(parent.mtu));
    let kind = Kind::Upper { as_made: wanted.kind.clone(), place, parent: parent.index };
    Ok(links::add(machine, here, &wanted.name, kind, wanted.mac, mtu))
}
