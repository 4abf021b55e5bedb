//! The rules of links that are on another one: macvlan, ipvlan, VLAN.

use crate::error::Errno;
use crate::name::MacAddr;
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

/// Where a wanted link's parent is, and the parent.
fn parent<'a>(
    machine: &'a Machine,
    view: View,
    wanted: &Link,
) -> Result<(NamespaceId, &'a Interface), Problem> {
    let gone = || Problem::Refused(Errno::ENODEV, None);
    let parent = wanted.kind.parent().ok_or_else(gone)?;
    let place = view.of(parent.place)?;
    let namespace = machine.namespaces.get(&place).ok_or(Problem::NoContainer)?;
    Ok((place, namespace.link(&parent.name).ok_or_else(gone)?))
}

/// The link that a wanted one is going to be on.
pub(super) fn parent_of(machine: &Machine, view: View, wanted: &Link) -> Result<(NamespaceId, u32), Problem> {
    let (place, parent) = parent(machine, view, wanted)?;
    // A macvlan on a macvlan is beside it, on the same parent, and an ipvlan on an ipvlan.
    let beside = parent.kind.parent().filter(|_| {
        !matches!(wanted.kind, LinkKind::Vlan { .. }) && parent.kind.name() == wanted.kind.name()
    });
    Ok(beside.unwrap_or((place, parent.index)))
}

/// What is asked before one is made.
pub(super) fn can_be_made(machine: &Machine, view: View, wanted: &Link) -> Result<(), Problem> {
    let (place, parent) = parent(machine, view, wanted)?;
    let others = || on(machine, place, parent.index).map(|(_, link)| &link.kind);
    let made_as = |kind: &Kind| match kind {
        Kind::Upper { as_made, .. } => Some(as_made.clone()),
        _ => None,
    };
    match &wanted.kind {
        LinkKind::Vlan { id, .. } => {
            if *id > 4094 {
                return Err(refused(Errno::new(libc::ERANGE), "Invalid VLAN id"));
            }
            let is_same = |other: LinkKind| matches!(other, LinkKind::Vlan { id: other, .. } if other == *id);
            if others().filter_map(made_as).any(is_same) {
                return Err(refused(Errno::EEXIST, "VLAN device already exists"));
            }
        }
        LinkKind::Macvlan { mode, .. } => {
            has_sane_mtu(wanted.mtu)?;
            if parent.kind.is_loopback() {
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

/// Makes one. It has its parent's MTU unless it is given one, and its parent's MAC address unless it may have its own.
pub(super) fn add(
    machine: &mut Machine,
    view: View,
    here: NamespaceId,
    wanted: &Link,
) -> Result<u32, Problem> {
    let (_, parent) = parent(machine, view, wanted)?;
    let inherited: Option<MacAddr> = match &wanted.kind {
        LinkKind::Macvlan { mode: MacvlanMode::Passthru, .. } | LinkKind::Ipvlan { .. } => Some(parent.mac),
        LinkKind::Vlan { .. } => wanted.mac.or(Some(parent.mac)),
        _ => wanted.mac,
    };
    let mtu = wanted.mtu.or(Some(parent.mtu));
    let (place, parent) = parent_of(machine, view, wanted)?;
    let kind = Kind::Upper { as_made: wanted.kind.clone(), place, parent };
    Ok(links::add(machine, here, &wanted.name, kind, inherited, mtu))
}
