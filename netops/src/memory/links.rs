//! The rules of links: names, pairs, bridges and their ports, up and down.

use crate::error::Errno;
use crate::kernel::Created;
use crate::name::{LinkName, MacAddr};
use crate::place::Place;
use crate::resource::{Link, LinkKind, MovedLink};

use super::machine::{Feature, Machine, NamespaceId, Problem, View};
use super::masters::{enslave, follow_ports, join_vrf, takes_port};
use super::namespace::{Interface, Kind, Namespace};
use super::{addresses, overlay, refused, routes, settings, sysctls, uppers};

/// Smallest and largest MTU of a veth and of a bridge (`ETH_MIN_MTU`, `ETH_MAX_MTU`; `linux/if_ether.h`).
pub(super) const ETHERNET_MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// A VRF's MTU: what IPv6 takes, and more than any interface has (`vrf_setup()`).
const VRF_MTU: u32 = 65575;

/// Makes a link, as `RTM_NEWLINK` with `NLM_F_EXCL`.
pub(super) fn create(
    machine: &mut Machine,
    view: View,
    place: Place,
    wanted: &Link,
) -> Result<Created, Problem> {
    let here = view.of(place)?;
    let master = can_be_made(machine, view, here, wanted)?;
    let index = match &wanted.kind {
        LinkKind::Bridge { .. } => {
            add(machine, here, &wanted.name, Kind::Bridge { had_ports: false }, wanted.mac, wanted.mtu)
        }
        LinkKind::Dummy => add(machine, here, &wanted.name, Kind::Dummy, wanted.mac, wanted.mtu),
        LinkKind::Vrf { table } => add(
            machine,
            here,
            &wanted.name,
            Kind::Vrf { table: *table },
            wanted.mac,
            wanted.mtu.or(Some(VRF_MTU)),
        ),
        LinkKind::Ifb => add(machine, here, &wanted.name, Kind::Ifb, wanted.mac, wanted.mtu),
        LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. } | LinkKind::Vlan { .. } => {
            uppers::add(machine, view, here, wanted)?
        }
        LinkKind::Tap(_) | LinkKind::Vxlan(_) | LinkKind::Any => {
            add(machine, here, &wanted.name, Kind::Tap(wanted.kind.clone()), wanted.mac, wanted.mtu)
        }
        LinkKind::Veth { peer } => {
            let there = view.of(peer.place)?;
            // The kernel registers the peer first, so that its index is the lower one.
            let unknown = Kind::Veth { place: here, peer: 0 };
            let peer_index = add(machine, there, &peer.name, unknown, peer.mac, peer.mtu);
            let kind = Kind::Veth { place: there, peer: peer_index };
            let index = add(machine, here, &wanted.name, kind, wanted.mac, wanted.mtu);
            if let Some(link) = link_mut(machine, there, peer_index) {
                link.kind = Kind::Veth { place: here, peer: index };
            }
            index
        }
    };
    let has_vlans = machine.has(Feature::VlanFiltering);
    let Some(namespace) = machine.namespaces.get_mut(&here) else { return Ok(Created::New) };
    if let Some(link) = namespace.links.get_mut(&index) {
        link.alias = wanted.mark.as_ref().map(ToString::to_string);
    }
    if wanted.ignore_router_advertisements {
        sysctls::ignore_router_advertisements(namespace, &wanted.name);
    }
    if let Some(master) = master {
        enslave(namespace, index, master, has_vlans);
    }
    if wanted.up {
        raise(namespace, &wanted.name)?;
    }
    Ok(Created::New)
}

/// Deletes a link, and a veth's other end.
pub(super) fn delete(machine: &mut Machine, place: NamespaceId, index: u32) {
    let Some(namespace) = machine.namespaces.get_mut(&place) else { return };
    let Some(link) = delete_alone(namespace, index) else { return };
    if let Kind::Veth { place, peer } = link.kind {
        delete(machine, place, peer);
    }
    for (place, upper) in uppers::of(machine, place, index) {
        delete(machine, place, upper);
    }
}

/// Takes a link out of its namespace, with all that it has there.
fn delete_alone(namespace: &mut Namespace, index: u32) -> Option<Interface> {
    let link = namespace.links.remove(&index)?;
    overlay::link_lost(namespace, index, true);
    routes::flush(namespace, index, routes::Family::V4);
    routes::flush(namespace, index, routes::Family::V6);
    sysctls::link_gone(&mut namespace.sysctls, &link.name);
    if let Some(bridge) = link.bridge() {
        follow_ports(namespace, bridge);
    }
    for port in namespace.links.values_mut().filter(|port| port.bridge() == Some(index)) {
        port.membership = None;
    }
    let of_vrf = namespace.links.values().filter(|member| member.vrf == Some(index));
    for member in of_vrf.map(|member| member.name.clone()).collect::<Vec<_>>() {
        join_vrf(namespace, &member, None);
    }
    Some(link)
}

/// Brings a link from where it is, with its name there as its alias.
pub(super) fn bring(
    machine: &mut Machine,
    view: View,
    place: Place,
    moved: &MovedLink,
) -> Result<Created, Problem> {
    let (from, to) = (view.of(moved.from)?, view.of(place)?);
    is_free(machine, to, &moved.name)?;
    let namespace = machine.namespaces.get(&from).ok_or(Problem::NoContainer)?;
    let index = namespace.index(&moved.original)?;
    relocate(machine, (from, index), to, &moved.name, Some(moved.original.to_string()))?;
    Ok(Created::New)
}

/// Takes a link back to where it came from, if its alias says that it did; whether it was there.
pub(super) fn take_back(
    machine: &mut Machine,
    view: View,
    place: Place,
    moved: &MovedLink,
) -> Result<bool, Problem> {
    let (home, here) = (view.of(moved.from)?, view.of(place)?);
    let namespace = machine.namespaces.get(&here).ok_or(Problem::NoContainer)?;
    let Some(link) = namespace.link(&moved.name) else { return Ok(false) };
    if link.alias.as_deref() != Some(moved.original.as_str()) {
        return Ok(false);
    }
    let index = link.index;
    is_free(machine, home, &moved.original)?;
    relocate(machine, (here, index), home, &moved.original, None)?;
    Ok(true)
}

/// Moves a link between namespaces: it goes down and loses all that it had but what it is and what is on it.
fn relocate(
    machine: &mut Machine,
    (from, index): (NamespaceId, u32),
    to: NamespaceId,
    name: &LinkName,
    alias: Option<String>,
) -> Result<(), Problem> {
    let Some(namespace) = machine.namespaces.get_mut(&from) else { return Err(Problem::NoContainer) };
    let Some(link) = namespace.links.get_mut(&index) else { return Err(Problem::NoContainer) };
    if matches!(link.kind, Kind::Loopback | Kind::Bridge { .. } | Kind::Vrf { .. }) {
        return Err(Problem::Refused(Errno::EINVAL, None));
    }
    let mut moved = Interface::new(name.clone(), Kind::Loopback, None);
    std::mem::swap(&mut moved.kind, &mut link.kind);
    (moved.mac, moved.mac_given, moved.mtu, moved.alias) = (link.mac, link.mac_given, link.mtu, alias);
    (moved.promiscuous, moved.all_multicast) = (link.promiscuous, link.all_multicast);
    moved.transmit_queue = link.transmit_queue;
    delete_alone(namespace, index);
    let Some(there) = machine.namespaces.get_mut(&to) else { return Err(Problem::NoContainer) };
    let new = there.insert(moved);
    // What is tied to it follows it with its eyes.
    for link in machine.namespaces.values_mut().flat_map(|namespace| namespace.links.values_mut()) {
        let (Kind::Veth { place, peer: other } | Kind::Upper { place, parent: other, .. }) = &mut link.kind
        else {
            continue;
        };
        if (*place, *other) == (from, index) {
            (*place, *other) = (to, new);
        }
    }
    Ok(())
}

/// Sets a link up.
pub(super) fn raise(namespace: &mut Namespace, name: &LinkName) -> Result<Created, Problem> {
    let link = namespace.link_mut(name)?;
    if std::mem::replace(&mut link.up, true) {
        return Ok(Created::Kept);
    }
    let index = link.index;
    addresses::link_raised(namespace, index);
    Ok(Created::New)
}

/// Sets a link down; whether it was up.
pub(super) fn lower(namespace: &mut Namespace, name: &LinkName) -> bool {
    let Ok(link) = namespace.link_mut(name) else { return false };
    if !std::mem::replace(&mut link.up, false) {
        return false;
    }
    link.ready = false;
    let index = link.index;
    overlay::link_lost(namespace, index, false);
    routes::flush(namespace, index, routes::Family::V4);
    addresses::link_lowered(namespace, index);
    true
}

/// Whether a link could carry packets (`IFF_LOWER_UP`).
pub(super) fn carrier(machine: &Machine, place: NamespaceId, index: u32) -> bool {
    let Some(namespace) = machine.namespaces.get(&place) else { return false };
    let Some(link) = namespace.links.get(&index).filter(|link| link.up) else { return false };
    match link.kind {
        Kind::Loopback | Kind::Dummy | Kind::Ifb | Kind::Vrf { .. } | Kind::Bridge { had_ports: false } => {
            true
        }
        Kind::Bridge { had_ports: true } => {
            namespace.ports(index).any(|port| carrier(machine, place, port.index))
        }
        Kind::Veth { place, peer } => machine
            .namespaces
            .get(&place)
            .and_then(|there| there.links.get(&peer))
            .is_some_and(|peer| peer.up),
        Kind::Upper { place, parent, .. } => carrier(machine, place, parent),
        Kind::Tap(LinkKind::Vxlan(_)) => true,
        // Nobody has opened it.
        Kind::Tap(_) => false,
    }
}

/// A veth's other end.
pub(super) fn peer<'a>(
    machine: &'a Machine,
    place: NamespaceId,
    name: &LinkName,
) -> Option<(NamespaceId, &'a Interface)> {
    match machine.namespaces.get(&place)?.link(name)?.kind {
        Kind::Veth { place, peer } => Some((place, machine.namespaces.get(&place)?.links.get(&peer)?)),
        _ => None,
    }
}

/// Has links follow those that they are on, and starts IPv6 on every link that has got a carrier since it went up. Carriers
/// come from links anywhere, so this is looked at after everything that was done.
pub(super) fn settle(machine: &mut Machine) {
    settings::follow_parents(machine);
    let places = machine.namespaces.iter();
    let ready: Vec<_> = places
        .flat_map(|(place, namespace)| {
            let waiting = namespace.links.values().filter(|link| link.up && !link.ready);
            waiting.map(|link| (*place, link.index))
        })
        .filter(|(place, index)| carrier(machine, *place, *index))
        .collect();
    for (place, index) in ready {
        if let Some(namespace) = machine.namespaces.get_mut(&place) {
            addresses::link_ready(namespace, index);
        }
    }
}

pub(super) fn add(
    machine: &mut Machine,
    place: NamespaceId,
    name: &LinkName,
    kind: Kind,
    mac: Option<MacAddr>,
    mtu: Option<u32>,
) -> u32 {
    let mut link = Interface::new(name.clone(), kind, mac);
    link.mac = mac.unwrap_or_else(|| machine.next_mac());
    link.mtu = mtu.unwrap_or(link.mtu);
    machine.namespaces.get_mut(&place).map_or(0, |namespace| namespace.insert(link))
}

fn link_mut(machine: &mut Machine, place: NamespaceId, index: u32) -> Option<&mut Interface> {
    machine.namespaces.get_mut(&place)?.links.get_mut(&index)
}

/// What is asked before a link is made, in the kernel's order; the index of its master.
fn can_be_made(
    machine: &Machine,
    view: View,
    here: NamespaceId,
    wanted: &Link,
) -> Result<Option<u32>, Problem> {
    let namespace = machine.namespaces.get(&here).ok_or(Problem::NoContainer)?;
    // Its index has to be known before anything can be asked for.
    let master = wanted.master.as_ref().map(|master| namespace.index(master)).transpose()?;
    let feature = match &wanted.kind {
        LinkKind::Bridge { .. } => Feature::Bridge,
        LinkKind::Veth { .. } => Feature::Veth,
        LinkKind::Dummy => Feature::Dummy,
        LinkKind::Ifb => Feature::Ifb,
        LinkKind::Macvlan { .. } => Feature::Macvlan,
        LinkKind::Ipvlan { .. } => Feature::Ipvlan,
        LinkKind::Vlan { .. } => Feature::Vlan,
        LinkKind::Tap(_) => Feature::Tun,
        LinkKind::Any => return Err(refused(Errno::EOPNOTSUPP, "Unknown device type")),
        LinkKind::Vrf { .. } => Feature::Vrf,
        LinkKind::Vxlan(_) => Feature::Vxlan,
    };
    if let Some(parent) = wanted.kind.parent() {
        let there = machine.namespaces.get(&view.of(parent.place)?).ok_or(Problem::NoContainer)?;
        there.index(&parent.name)?;
    }
    if machine.has(feature) {
        is_valid(&wanted.kind, wanted.mtu, wanted.mac)?;
        if let LinkKind::Veth { peer } = &wanted.kind {
            is_valid(&wanted.kind, peer.mtu, peer.mac)?;
        }
    }
    is_free(machine, here, &wanted.name)?;
    if !machine.has(feature) {
        return Err(refused(Errno::EOPNOTSUPP, "Unknown device type"));
    }
    match &wanted.kind {
        LinkKind::Bridge { vlan_filtering } => {
            if *vlan_filtering && !machine.has(Feature::VlanFiltering) {
                return Err(Problem::Refused(Errno::EOPNOTSUPP, None));
            }
            has_sane_mtu(wanted.mtu)?;
        }
        LinkKind::Veth { peer } => {
            let there = view.of(peer.place)?;
            is_free(machine, there, &peer.name)?;
            if there == here && peer.name == wanted.name {
                return Err(Problem::Refused(Errno::EEXIST, None));
            }
        }
        LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. } | LinkKind::Vlan { .. } => {
            uppers::can_be_made(machine, view, wanted)?;
        }
        LinkKind::Tap(_) => has_sane_mtu(wanted.mtu)?,
        LinkKind::Vxlan(vxlan) => overlay::can_be_vxlan(namespace, vxlan)?,
        // Their MTU has no limits.
        LinkKind::Dummy | LinkKind::Ifb | LinkKind::Vrf { .. } | LinkKind::Any => {}
    }
    if let Some(master) = master {
        let parent = wanted.kind.parent().map(|_| uppers::parent_of(machine, view, wanted)).transpose()?;
        let parent = parent.map(|(place, parent)| (place, parent.index));
        takes_port(machine, here, master, &wanted.kind, parent)?;
    }
    Ok(master)
}

fn is_free(machine: &Machine, place: NamespaceId, name: &LinkName) -> Result<(), Problem> {
    match machine.namespaces.get(&place).ok_or(Problem::NoContainer)?.link(name) {
        Some(_) => Err(Problem::Refused(Errno::EEXIST, None)),
        None => Ok(()),
    }
}

/// What a kind of link looks at first (`rtnl_link_ops::validate`): MAC addresses, and a veth its MTU.
fn is_valid(kind: &LinkKind, mtu: Option<u32>, mac: Option<MacAddr>) -> Result<(), Problem> {
    if mac.is_some_and(|mac| !mac.is_unicast()) {
        return Err(Problem::Refused(Errno::EADDRNOTAVAIL, None));
    }
    if matches!(kind, LinkKind::Veth { .. } | LinkKind::Vxlan(_)) {
        has_sane_mtu(mtu)?;
    }
    match kind {
        LinkKind::Vxlan(vxlan) if vxlan.vni >= 1 << 24 => {
            Err(Problem::Refused(Errno::new(libc::ERANGE), None))
        }
        _ => Ok(()),
    }
}

pub(super) fn has_sane_mtu(mtu: Option<u32>) -> Result<(), Problem> {
    match mtu {
        Some(mtu) if !ETHERNET_MTU.contains(&mtu) => Err(Problem::Refused(Errno::EINVAL, None)),
        _ => Ok(()),
    }
}
