//! The container's interface: what every plugin that makes one does with it once it is there.

use std::net::IpAddr;

use cni_spec::{AddResult, Error, IpConfig};
use ipnet::IpNet;
use netops::{
    Address, LinkName, Masquerade, OtherAddresses, Place, Plan, Resource, Route, Sysctl, SysctlKey,
};
use serde::Deserialize;

use crate::owner::Owner;

/// Whether IPv6 addresses in a container are tried out before they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateDetection {
    /// No: the allocator hands out each address once. A pod can use its address at once, not a second later.
    Skipped,
    /// Yes (`enabledad`), and the attachment waits for the outcome.
    Done,
    /// As the kernel does by itself, and the attachment waits for IPv6 addresses of its own: for an interface on a segment
    /// that other machines are on, whose allocators know nothing of this one's.
    Usual,
}

impl DuplicateDetection {
    /// None, for addresses of an allocator's. Without IPv6 addresses there is nothing to be switched off: the interface's
    /// link-local address is nobody's concern.
    pub fn needed_by(result: &AddResult) -> Self {
        if has_ipv6(result) { Self::Skipped } else { Self::Usual }
    }
}

/// Who makes the routes to the prefixes of a container's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixRoutes {
    /// The kernel, as usual: all of the prefix is on the link.
    Kernel,
    /// The plugin: the prefix is not on the link.
    Plugin,
}

/// Plans the settings and addresses of a container's interface, and raises it. The interface itself is the caller's
/// to plan, before this; its routes after, with [`plan_routes`]; and with [`plan_readiness`], that it is waited for.
pub fn plan_addresses(
    plan: &mut Plan,
    link: &LinkName,
    result: &AddResult,
    detection: DuplicateDetection,
    prefix_routes: PrefixRoutes,
) {
    let mut set = |key: SysctlKey, value: u8| {
        plan.own(Place::Container, Resource::Sysctl(Sysctl::optional(key, value)));
    };
    match detection {
        DuplicateDetection::Skipped => set(SysctlKey::ipv6(link, "accept_dad"), 0),
        DuplicateDetection::Usual => {}
        DuplicateDetection::Done => {
            set(SysctlKey::ipv6(link, "enhanced_dad"), 1);
            set(SysctlKey::ipv6(link, "accept_dad"), 1);
        }
    }
    // The kernel announces the addresses: neighbours that remember an earlier owner of one learn the new one at once.
    set(SysctlKey::ipv4(link, "arp_notify"), 1);
    if has_ipv6(result) {
        // Runtimes switch IPv6 off in namespaces that they do not expect to need it.
        set(SysctlKey::ipv6(&LinkName::loopback(), "disable_ipv6"), 0);
        set(SysctlKey::ipv6(link, "disable_ipv6"), 0);
        set(SysctlKey::ipv6(link, "keep_addr_on_down"), 1);
    }
    for ip in &result.ips {
        plan.own(
            Place::Container,
            Resource::Address(Address {
                link: link.clone(),
                net: ip.address,
                prefix_route: prefix_routes == PrefixRoutes::Kernel,
                detect_duplicates: detection != DuplicateDetection::Skipped,
                others: OtherAddresses::Welcome,
            }),
        );
    }
    plan.own(Place::Container, Resource::LinkUp(link.clone()));
}

/// Plans to wait until the addresses of a container's interface can be used, once it can carry packets.
pub fn plan_readiness(plan: &mut Plan, link: &LinkName, result: &AddResult, detection: DuplicateDetection) {
    // Also without detection the kernel takes a moment, in the background, before it answers for an IPv6 address.
    if has_ipv6(result) || detection == DuplicateDetection::Done {
        plan.own(Place::Container, Resource::Settled(link.clone()));
    }
}

fn has_ipv6(result: &AddResult) -> bool {
    result.ips.iter().any(|ip| ip.address.addr().is_ipv6())
}

/// Plans a result's routes through an interface of the container. One without a gateway goes through the gateway of
/// the first address of its family, if that has one.
pub fn plan_routes(plan: &mut Plan, link: &LinkName, result: &AddResult) {
    for route in &result.routes {
        let gateway = route.gw.or_else(|| gateway_of_family(result, route.dst));
        plan.own(
            Place::Container,
            Resource::Route(Route {
                metric: route.priority,
                table: route.table,
                scope: route.scope,
                mtu: route.mtu,
                advmss: route.advmss,
                ..Route::new(route.dst, gateway, link.clone())
            }),
        );
    }
}

fn gateway_of_family(result: &AddResult, destination: IpNet) -> Option<IpAddr> {
    let same_family = |gateway: &IpAddr| gateway.is_ipv4() == destination.addr().is_ipv4();
    result.ips.iter().filter_map(|ip| ip.gateway).find(same_family)
}

/// The gateway of an address, if it has one.
///
/// # Errors
/// When it is of another family, or the address itself.
pub fn gateway_of(ip: &IpConfig) -> Result<Option<IpAddr>, Error> {
    let address = ip.address.addr();
    match ip.gateway {
        Some(gateway) if gateway.is_ipv4() != address.is_ipv4() => {
            Err(Error::config(format!("gateway {gateway} is not of the family of {}", ip.address)))
        }
        Some(gateway) if gateway == address => {
            Err(Error::config(format!("ipam gave {}, but that is the gateway's address", ip.address)))
        }
        gateway => Ok(gateway),
    }
}

/// The default route of a family: `0.0.0.0/0` or `::/0`.
pub fn default_route(family_of: IpAddr) -> IpNet {
    match family_of {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

/// The first address after a subnet's own, which is its gateway's where nobody says otherwise.
pub fn first_address(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) => IpAddr::V4((u32::from(net.network()).wrapping_add(1)).into()),
        IpNet::V6(net) => IpAddr::V6((u128::from(net.network()).wrapping_add(1)).into()),
    }
}

/// The reference's `ipMasqBackend`. It is understood, and makes no difference: cnikit masquerades in an nf_tables table
/// of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MasqueradeBackend {
    /// `""`, or the key is missing.
    #[default]
    #[serde(rename = "")]
    Unsaid,
    /// `"iptables"`.
    Iptables,
    /// `"nftables"`.
    Nftables,
}

/// Plans that what an attachment's addresses send out of their subnets takes the node's address.
pub fn plan_masquerade(plan: &mut Plan, owner: &Owner, result: &AddResult) {
    for ip in &result.ips {
        let (source, within) = (ip.address.addr(), ip.address.trunc());
        plan.own(Place::Host, Resource::from(Masquerade { source, within, mark: owner.mark() }));
    }
}
