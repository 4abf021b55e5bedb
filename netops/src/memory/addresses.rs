//! The rules of addresses, and what they bring and take along when links go up and down.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Errno;
use crate::kernel::Created;
use crate::resource::{Address, OtherAddresses};

use super::links;
use super::machine::{Machine, NamespaceId, Problem};
use super::namespace::{Interface, Namespace};
use super::routes::{self, Family};
use super::sysctls;

/// An address that a link holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) net: IpNet,
    pub(super) prefix_route: bool,
    pub(super) detect_duplicates: bool,
    /// In the subnet of an earlier IPv4 address, with which it goes (`IFA_F_SECONDARY`).
    pub(super) secondary: bool,
}

impl Held {
    fn of_the_kernel(net: IpNet) -> Self {
        Self { net, prefix_route: true, detect_duplicates: false, secondary: false }
    }

    fn is_v4(&self) -> bool {
        matches!(self.net, IpNet::V4(_))
    }
}

/// Adds an address, as `RTM_NEWADDR` with `NLM_F_EXCL`.
pub(super) fn add(namespace: &mut Namespace, wanted: &Address) -> Result<Created, Problem> {
    let index = namespace.index(&wanted.link)?;
    let held = Held {
        prefix_route: wanted.prefix_route,
        // IPv4 has none (unless a program does it).
        detect_duplicates: wanted.detect_duplicates && matches!(wanted.net, IpNet::V6(_)),
        ..Held::of_the_kernel(wanted.net)
    };
    match wanted.net {
        IpNet::V4(net) => add_v4(namespace, index, net, held)?,
        IpNet::V6(net) => add_v6(namespace, index, net, held)?,
    }
    Ok(Created::New)
}

/// Removes an address, and what goes with it; whether it was there.
pub(super) fn remove(namespace: &mut Namespace, unwanted: &Address) -> bool {
    let Ok(index) = namespace.index(&unwanted.link) else { return false };
    remove_from(namespace, index, unwanted.net)
}

/// What a link holds.
pub(super) fn list(link: &Interface) -> Vec<Address> {
    let address = |held: &Held| Address {
        link: link.name.clone(),
        net: held.net,
        prefix_route: held.prefix_route,
        detect_duplicates: held.detect_duplicates,
        others: OtherAddresses::Welcome,
    };
    link.addresses.iter().map(address).collect()
}

/// Whether duplicate address detection can have ended: it waits for a carrier.
pub(super) fn are_settled(machine: &Machine, place: NamespaceId, index: u32) -> bool {
    let link = machine.namespaces.get(&place).and_then(|namespace| namespace.links.get(&index));
    let pending = link.is_some_and(|link| link.addresses.iter().any(|held| held.detect_duplicates));
    !pending || links::carrier(machine, place, index)
}

/// A link is up: loopback gets its addresses, and each address its route.
pub(super) fn link_raised(namespace: &mut Namespace, index: u32) {
    let Some(link) = namespace.links.get(&index) else { return };
    if link.kind.is_loopback() {
        let ipv4 = Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 8);
        // Refused where it is there from the last time.
        let _ = add_v4(namespace, index, ipv4, Held::of_the_kernel(ipv4.into()));
    }
    let link = namespace.links.get(&index);
    for held in link.map(|link| link.addresses.clone()).unwrap_or_default() {
        routes::add_connected(namespace, index, &held);
    }
}

/// A link is down: its IPv6 addresses go (unless it keeps them), its IPv6 routes with them.
pub(super) fn link_lowered(namespace: &mut Namespace, index: u32) {
    let Some(link) = namespace.links.get(&index) else { return };
    let keeps = sysctls::keeps_ipv6_addresses(namespace, &link.name);
    routes::flush(namespace, index, Family::V6);
    if let Some(link) = namespace.links.get_mut(&index) {
        link.addresses.retain(|held| held.is_v4() || (keeps && !is_kernels(held.net)));
    }
}

/// A link is up and has a carrier: it gets its link-local address.
pub(super) fn link_ready(namespace: &mut Namespace, index: u32) {
    let Some(link) = namespace.links.get_mut(&index) else { return };
    link.ready = true;
    start_ipv6(namespace, index);
}

/// There is no IPv4 on a link any more.
pub(super) fn ipv4_gone(namespace: &mut Namespace, index: u32) {
    let Some(link) = namespace.links.get_mut(&index) else { return };
    let gone: Vec<_> = link.addresses.extract_if(.., |held| held.is_v4()).collect();
    routes::flush(namespace, index, Family::V4);
    for held in gone {
        routes::forget_source(namespace, held.net.addr());
    }
}

/// IPv6 has been switched on or off on a link.
pub(super) fn ipv6_switched(namespace: &mut Namespace, index: u32) {
    let Some(link) = namespace.links.get_mut(&index) else { return };
    if sysctls::is_ipv6_enabled(&namespace.sysctls, &link.name) {
        if link.ready {
            start_ipv6(namespace, index);
        }
    } else {
        link.addresses.retain(Held::is_v4);
        routes::flush(namespace, index, Family::V6);
    }
}

fn start_ipv6(namespace: &mut Namespace, index: u32) {
    let Some(link) = namespace.links.get(&index) else { return };
    let net = if link.kind.is_loopback() {
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)
    } else if sysctls::has_link_local_from_mac(namespace, &link.name) {
        // RFC 4291, appendix A: the MAC address with its universal/local bit turned and ff:fe in the middle.
        let [a, b, c, d, e, f] = link.mac.bytes();
        let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Ipv6Net::new_assert(Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(id)), 64)
    } else {
        return;
    };
    // Refused where IPv6 is switched off, or somebody added it.
    let added = add_v6(namespace, index, net, Held::of_the_kernel(net.into()));
    if added.is_ok() && net.addr().is_loopback() {
        // Only one that somebody added has a route outside the `local` table.
        routes::remove_connected(namespace, index, net.into());
    }
}

fn add_v4(namespace: &mut Namespace, index: u32, net: Ipv4Net, mut held: Held) -> Result<(), Problem> {
    let Some(link) = namespace.links.get_mut(&index) else { return Ok(()) };
    if !sysctls::has_ipv4(&namespace.sysctls, &link.name) {
        return Err(Problem::Refused(Errno::ENOBUFS, None));
    }
    let same_subnet = |other: &&Held| other.is_v4() && other.net.trunc() == net.trunc().into();
    if link.addresses.iter().any(|other| other.net == held.net) {
        return Err(Problem::Refused(Errno::EEXIST, Some("ipv4: Address already assigned")));
    }
    held.secondary = link.addresses.iter().any(|other| same_subnet(&other));
    // Primaries come first.
    let primaries = link.addresses.iter().take_while(|other| other.is_v4() && !other.secondary).count();
    let all = link.addresses.iter().take_while(|other| other.is_v4()).count();
    link.addresses.insert(if held.secondary { all } else { primaries }, held);
    namespace.had_ipv4 = true;
    if link.up {
        routes::add_connected(namespace, index, &held);
    }
    Ok(())
}

fn add_v6(namespace: &mut Namespace, index: u32, net: Ipv6Net, held: Held) -> Result<(), Problem> {
    let Some(link) = namespace.links.get_mut(&index) else { return Ok(()) };
    if !sysctls::has_ipv6(&namespace.sysctls, &link.name) {
        return Err(Problem::Refused(Errno::EINVAL, None));
    }
    if !sysctls::is_ipv6_enabled(&namespace.sysctls, &link.name) {
        let detail = "ipv6: IPv6 is disabled on this device";
        return Err(Problem::Refused(Errno::new(libc::EACCES), Some(detail)));
    }
    let address = net.addr();
    if address.is_multicast() || address.is_unspecified() {
        let detail = "ipv6: Invalid address";
        return Err(Problem::Refused(Errno::EADDRNOTAVAIL, Some(detail)));
    }
    if address.is_loopback() && !link.kind.is_loopback() {
        let detail = "ipv6: Cannot assign loopback address on this device";
        return Err(Problem::Refused(Errno::EADDRNOTAVAIL, Some(detail)));
    }
    // Whatever the length of its prefix.
    if link.addresses.iter().any(|other| other.net.addr() == IpAddr::V6(address)) {
        return Err(Problem::Refused(Errno::EEXIST, Some("ipv6: address already assigned")));
    }
    // Wider scopes first, the newest first among equals.
    let is_wider = |other: &&Held| other.is_v4() || (is_link_local(net.into()) && !is_link_local(other.net));
    let at = link.addresses.iter().take_while(is_wider).count();
    link.addresses.insert(at, held);
    if link.up {
        routes::add_connected(namespace, index, &held);
    }
    Ok(())
}

fn remove_from(namespace: &mut Namespace, index: u32, net: IpNet) -> bool {
    let Some(link) = namespace.links.get_mut(&index) else { return false };
    let Some(at) = link.addresses.iter().position(|held| held.net == net) else { return false };
    let removed = link.addresses.remove(at);
    match net {
        IpNet::V4(_) if removed.secondary => {}
        IpNet::V4(_) => primary_removed(namespace, index, removed),
        IpNet::V6(_) => {
            let shares_route = |other: &Held| of_one_subnet(other, &removed) && other.prefix_route;
            if !link.addresses.iter().any(shares_route) {
                routes::remove_connected(namespace, index, net);
            }
        }
    }
    routes::forget_source(namespace, net.addr());
    true
}

/// The first IPv4 address of a subnet is gone: its route goes, and the subnet's others too, unless one of them is
/// promoted.
fn primary_removed(namespace: &mut Namespace, index: u32, removed: Held) {
    routes::remove_connected(namespace, index, removed.net);
    let Some(link) = namespace.links.get(&index) else { return };
    let promotes = sysctls::promotes(namespace, &link.name);
    let Some(link) = namespace.links.get_mut(&index) else { return };
    if promotes {
        if let Some(heir) = link.addresses.iter_mut().find(|other| of_one_subnet(other, &removed)) {
            heir.secondary = false;
            let heir = *heir;
            routes::add_connected(namespace, index, &heir);
        }
        return;
    }
    let others: Vec<_> = link.addresses.extract_if(.., |other| of_one_subnet(other, &removed)).collect();
    // The last IPv4 address takes all IPv4 routes along (fib_disable_ip()).
    if !link.addresses.iter().any(Held::is_v4) {
        routes::flush(namespace, index, Family::V4);
    }
    for other in others {
        routes::forget_source(namespace, other.net.addr());
    }
}

fn of_one_subnet(a: &Held, b: &Held) -> bool {
    a.net.trunc() == b.net.trunc()
}

/// The kernel's own IPv6 addresses, which go when the link goes down whatever is said about keeping.
fn is_kernels(net: IpNet) -> bool {
    is_link_local(net) || net.addr().is_loopback()
}

fn is_link_local(net: IpNet) -> bool {
    matches!(net.addr(), IpAddr::V6(address) if address.is_unicast_link_local())
}
