//! Links that are others': a bridge's ports, a VRF's interfaces.

use crate::error::Errno;
use crate::kernel::Created;
use crate::name::{LinkName, MacAddr};
use crate::resource::{LinkKind, Master, Port, PortVlan, Resource};

use super::links::{has_sane_mtu, lower, raise};
use super::machine::{Feature, Machine, NamespaceId, Problem};
use super::namespace::{Kind, Membership, Namespace};
use super::settings::set_mtu;
use super::{refused, uppers};

/// Makes a link another's, as `RTM_SETLINK` with `IFLA_MASTER`.
pub(super) fn set_master(
    machine: &mut Machine,
    place: NamespaceId,
    wanted: &Master,
) -> Result<Created, Problem> {
    let has_vlans = machine.has(Feature::VlanFiltering);
    let namespace = machine.namespaces.get(&place).ok_or(Problem::NoContainer)?;
    let master = namespace.index(&wanted.master)?;
    let index = namespace.index(&wanted.link)?;
    let Some(link) = namespace.links.get(&index) else { return Ok(Created::Kept) };
    let before = link.bridge().or(link.vrf);
    if before == Some(master) {
        return Ok(Created::Kept);
    }
    let before = before.and_then(|before| namespace.links.get(&before)).map(|before| before.name.clone());
    let into_vrf = namespace.links.get(&master).is_some_and(|master| matches!(master.kind, Kind::Vrf { .. }));
    // The kernel lets go of the old one before it asks the new one.
    let namespace = machine.namespaces.get_mut(&place).ok_or(Problem::NoContainer)?;
    release(namespace, &wanted.link);
    if into_vrf {
        join_vrf(namespace, &wanted.link, Some(master));
    } else {
        let namespace = machine.namespaces.get(&place).ok_or(Problem::NoContainer)?;
        let link = namespace.links.get(&index).ok_or(Problem::NoContainer)?;
        if link.kind.is_loopback() {
            let bridge = namespace.links.get(&master).is_some_and(|m| matches!(m.kind, Kind::Bridge { .. }));
            return Err(Problem::Refused(if bridge { Errno::EINVAL } else { Errno::EOPNOTSUPP }, None));
        }
        let kind = match link.kind {
            Kind::Bridge { .. } => LinkKind::Bridge { vlan_filtering: false },
            _ => LinkKind::Dummy,
        };
        takes_port(machine, place, master, &kind, Some((place, index)))?;
        // Packets that come in have one taker (`netdev_rx_handler_register()`).
        if uppers::take_packets(machine, place, index) {
            return Err(Problem::Refused(Errno::EBUSY, None));
        }
        let namespace = machine.namespaces.get_mut(&place).ok_or(Problem::NoContainer)?;
        enslave(namespace, index, master, has_vlans);
    }
    Ok(before.map_or(Created::New, |before| {
        Created::Changed(Resource::Master(Master { master: before, ..wanted.clone() }))
    }))
}

/// Sets a link free; whether it was anybody's.
pub(super) fn release(namespace: &mut Namespace, name: &LinkName) -> bool {
    let Ok(link) = namespace.link_mut(name) else { return false };
    if let Some(membership) = link.membership.take() {
        follow_ports(namespace, membership.bridge);
        return true;
    }
    let was_in_vrf = link.vrf.is_some();
    if was_in_vrf {
        join_vrf(namespace, name, None);
    }
    was_in_vrf
}

/// Puts a link into a VRF, or takes it out: down and up again (`cycle_netdev()`).
pub(super) fn join_vrf(namespace: &mut Namespace, name: &LinkName, vrf: Option<u32>) {
    let was_up = lower(namespace, name);
    if let Ok(link) = namespace.link_mut(name) {
        link.vrf = vrf;
    }
    if was_up {
        // It is there.
        let _ = raise(namespace, name);
    }
}

/// Sets how a bridge treats a port.
pub(super) fn set_port(
    namespace: &mut Namespace,
    wanted: &Port,
    has_vlans: bool,
) -> Result<Created, Problem> {
    let link = namespace.link_mut(&wanted.link)?;
    let Some(membership) = &mut link.membership else {
        return Err(Problem::Refused(Errno::EOPNOTSUPP, None));
    };
    if !wanted.vlans.is_empty() && !has_vlans {
        return Err(Problem::Refused(Errno::EOPNOTSUPP, None));
    }
    let valid = |vlan: &PortVlan| vlan.first >= 1 && vlan.first <= vlan.last && vlan.last <= 4094;
    if !wanted.vlans.iter().all(valid) {
        return Err(Problem::Refused(Errno::EINVAL, None));
    }
    let before = membership.port.clone();
    let mut vlans = before.vlans.clone();
    if wanted.drop_default_vlan {
        vlans.retain(|vlan| (vlan.first, vlan.last) != (1, 1));
    }
    for vlan in &wanted.vlans {
        vlans.retain(|old| (old.first, old.last) != (vlan.first, vlan.last));
        vlans.push(*vlan);
    }
    membership.port =
        Port { hairpin: wanted.hairpin, isolated: wanted.isolated, vlans, ..membership.port.clone() };
    Ok(if membership.port == before { Created::Kept } else { Created::Changed(Resource::Port(before)) })
}

/// Whether a link can be the master of another, of which one is told what it is, and the link itself or, of one that is
/// yet to be made, the link that it is on.
pub(super) fn takes_port(
    machine: &Machine,
    place: NamespaceId,
    master: u32,
    port: &LinkKind,
    rests_on: Option<(NamespaceId, u32)>,
) -> Result<(), Problem> {
    let link = machine.namespaces.get(&place).and_then(|namespace| namespace.links.get(&master));
    if !link.is_some_and(|link| matches!(link.kind, Kind::Bridge { .. })) {
        return Err(Problem::Refused(Errno::EOPNOTSUPP, None));
    }
    if matches!(port, LinkKind::Bridge { .. }) {
        return Err(refused(Errno::new(libc::ELOOP), "Can not enslave a bridge to a bridge"));
    }
    // What is on the bridge cannot be below it too (`__netdev_upper_dev_link()`).
    if rests_on.is_some_and(|below| uppers::rests_on(machine, below, (place, master))) {
        return Err(Problem::Refused(Errno::EBUSY, None));
    }
    Ok(())
}

pub(super) fn enslave(namespace: &mut Namespace, index: u32, bridge: u32, has_vlans: bool) {
    if let Some(link) = namespace.links.get_mut(&index) {
        let default_vlan = PortVlan { first: 1, last: 1, access: true };
        let port = Port {
            link: link.name.clone(),
            hairpin: false,
            isolated: false,
            vlans: if has_vlans { vec![default_vlan] } else { Vec::new() },
            drop_default_vlan: false,
        };
        link.membership = Some(Membership { bridge, port });
    }
    if let Some(bridge) = namespace.links.get_mut(&bridge) {
        bridge.kind = Kind::Bridge { had_ports: true };
    }
    follow_ports(namespace, bridge);
}

/// A bridge takes its ports' smallest MTU (unless somebody set one after its creation) and, if it was not given a MAC
/// address, the lowest of theirs, which without ports is none at all.
pub(super) fn follow_ports(namespace: &mut Namespace, bridge: u32) {
    let mtu = namespace.ports(bridge).map(|port| port.mtu).min().unwrap_or(1500);
    let own_mtu = namespace.links.get(&bridge).is_some_and(|bridge| bridge.mtu_given);
    // One that it cannot have it does not take.
    if !own_mtu && has_sane_mtu(Some(mtu)).is_ok() {
        set_mtu(namespace, bridge, mtu);
    }
    let mac = namespace.ports(bridge).map(|port| port.mac).min().unwrap_or(MacAddr::new([0; 6]));
    if let Some(bridge) = namespace.links.get_mut(&bridge).filter(|bridge| !bridge.mac_given) {
        bridge.mac = mac;
    }
}
