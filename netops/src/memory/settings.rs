//! The rules of settings of links that exist, and what follows from one: IPv6 from an MTU, what is on a link from that.

use crate::error::Errno;
use crate::kernel::Created;
use crate::name::MacAddr;
use crate::resource::{LinkKind, LinkSettings, Resource};

use super::links::{ETHERNET_MTU, has_sane_mtu};
use super::machine::{Machine, NamespaceId, Problem};
use super::masters::follow_ports;
use super::namespace::{Interface, Kind, Namespace};
use super::{addresses, routes, sysctls, uppers};

/// Changes settings of a link: all of them, or none.
pub(super) fn set(
    machine: &mut Machine,
    place: NamespaceId,
    wanted: &LinkSettings,
) -> Result<Created, Problem> {
    let namespace = machine.namespaces.get(&place).ok_or(Problem::NoContainer)?;
    let index = namespace.index(&wanted.link)?;
    let Some(link) = namespace.links.get(&index) else { return Ok(Created::Kept) };
    let before = wanted.as_of(&link.state(place, false));
    let change = wanted.unlike(&before);
    if change.is_none() {
        return Ok(Created::Kept);
    }
    if let Some(mac) = change.mac {
        takes_mac(machine, link, mac)?;
    }
    if let Some(mtu) = change.mtu {
        takes_mtu(machine, link, mtu)?;
    }
    if let Some(mac) = change.mac {
        // Of two that share one it is the lower one's.
        let own = match link.kind.parent() {
            Some(parent) if link.has_parents_mac() => parent,
            _ => (place, index),
        };
        set_mac(machine, own, mac);
    }
    let Some(namespace) = machine.namespaces.get_mut(&place) else { return Ok(Created::Kept) };
    if let Some(mtu) = change.mtu {
        set_mtu(namespace, index, mtu);
    }
    if let Some(link) = namespace.links.get_mut(&index) {
        link.mtu_given |= change.mtu.is_some();
        link.promiscuous = change.promiscuous.unwrap_or(link.promiscuous);
        link.all_multicast = change.all_multicast.unwrap_or(link.all_multicast);
        link.transmit_queue = change.transmit_queue.unwrap_or(link.transmit_queue);
    }
    Ok(Created::Changed(Resource::Settings(before)))
}

/// Whether a link takes another MAC address (`ndo_set_mac_address`).
fn takes_mac(machine: &Machine, link: &Interface, mac: MacAddr) -> Result<(), Problem> {
    match &link.kind {
        Kind::Ifb | Kind::Upper { as_made: LinkKind::Ipvlan { .. }, .. } => {
            Err(Problem::Refused(Errno::EOPNOTSUPP, None))
        }
        _ if !mac.is_unicast() => Err(Problem::Refused(Errno::EADDRNOTAVAIL, None)),
        Kind::Upper { place, parent, .. } if link.has_parents_mac() => {
            let parent = machine.namespaces.get(place).and_then(|there| there.links.get(parent));
            parent.map_or(Ok(()), |parent| takes_mac(machine, parent, mac))
        }
        _ => uppers::is_mac_free(machine, link, mac),
    }
}

/// Whether a link takes another MTU (`ndo_change_mtu`, and the limits that it has given).
fn takes_mtu(machine: &Machine, link: &Interface, mtu: u32) -> Result<(), Problem> {
    match &link.kind {
        Kind::Veth { .. } | Kind::Bridge { .. } | Kind::Tap(LinkKind::Tap(_)) => has_sane_mtu(Some(mtu)),
        Kind::Upper { as_made, place, parent } => {
            let parent = machine.namespaces.get(place).and_then(|there| there.links.get(parent));
            let larger = parent.is_some_and(|parent| mtu > parent.mtu);
            match as_made {
                LinkKind::Macvlan { .. } if larger || mtu < *ETHERNET_MTU.start() => {
                    Err(Problem::Refused(Errno::EINVAL, None))
                }
                LinkKind::Vlan { .. } if larger => Err(Problem::Refused(Errno::new(libc::ERANGE), None)),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn set_mac(machine: &mut Machine, (place, index): (NamespaceId, u32), mac: MacAddr) {
    let Some(namespace) = machine.namespaces.get_mut(&place) else { return };
    let Some(link) = namespace.links.get_mut(&index) else { return };
    (link.mac, link.mac_given) = (mac, true);
    if let Some(bridge) = link.bridge() {
        follow_ports(namespace, bridge);
    }
}

/// Gives a link another MTU. Below the smallest of a version of IP there is none of it (`inetdev_event()`,
/// `addrconf_notify()`).
pub(super) fn set_mtu(namespace: &mut Namespace, index: u32, mtu: u32) {
    let Some(link) = namespace.links.get_mut(&index) else { return };
    let before = std::mem::replace(&mut link.mtu, mtu);
    if before == mtu {
        return;
    }
    let (name, bridge) = (link.name.clone(), link.bridge());
    if mtu < *ETHERNET_MTU.start() {
        sysctls::ipv4_gone(&mut namespace.sysctls, &name);
        addresses::ipv4_gone(namespace, index);
    } else if !sysctls::has_ipv4(&namespace.sysctls, &name) {
        sysctls::ipv4_born(&mut namespace.sysctls, &name);
    }
    match (sysctls::has_ipv6(&namespace.sysctls, &name), mtu >= sysctls::IPV6_MIN_MTU) {
        (true, true) => routes::mtu_changed(namespace, index, before, mtu),
        (true, false) => {
            sysctls::ipv6_gone(&mut namespace.sysctls, &name);
            addresses::ipv6_switched(namespace, index);
        }
        (false, true) => {
            sysctls::ipv6_born(&mut namespace.sysctls, &name);
            addresses::ipv6_switched(namespace, index);
        }
        (false, false) => {}
    }
    if let Some(bridge) = bridge {
        follow_ports(namespace, bridge);
    }
}

/// Has what is on links follow them: a macvlan and a VLAN have no larger MTU (unless that is none for them), and what has
/// no MAC address of its own has theirs. Links are on others anywhere, so this is looked at after everything that was done.
pub(super) fn follow_parents(machine: &mut Machine) {
    while let Some((place, index, mtu, mac)) = follower(machine) {
        let Some(namespace) = machine.namespaces.get_mut(&place) else { return };
        set_mtu(namespace, index, mtu);
        let Some(link) = namespace.links.get_mut(&index) else { return };
        link.mac = mac;
        if let Some(bridge) = link.bridge() {
            follow_ports(namespace, bridge);
        }
    }
}

/// A link that has not yet followed the one that it is on, and what it is going to have.
fn follower(machine: &Machine) -> Option<(NamespaceId, u32, u32, MacAddr)> {
    let all = machine.namespaces.iter();
    let mut all = all.flat_map(|(place, namespace)| namespace.links.values().map(move |link| (*place, link)));
    all.find_map(|(place, link)| {
        let (there, parent) = link.kind.parent()?;
        let parent = machine.namespaces.get(&there)?.links.get(&parent)?;
        let follows = match link.kind.name() {
            "macvlan" => parent.mtu >= *ETHERNET_MTU.start(),
            kind => kind == "vlan",
        };
        let mtu = if follows { link.mtu.min(parent.mtu) } else { link.mtu };
        let mac = if link.has_parents_mac() { parent.mac } else { link.mac };
        ((mtu, mac) != (link.mtu, link.mac)).then_some((place, link.index, mtu, mac))
    })
}
