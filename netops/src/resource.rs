//! What can exist in a network namespace, as values.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::{LinkName, MacAddr, Mark, SysctlKey};
use crate::place::Place;

/// One thing that the kernel can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// A network interface.
    Link(Link),
    /// An interface's being up (`IFF_UP`). Apart from [`Link::up`] for two cases: an interface that is to be raised
    /// only after its addresses and sysctls are set, and one that existed before (`lo`).
    LinkUp(LinkName),
    /// An interface's promiscuous mode (`IFF_PROMISC`), on one that may have existed before.
    Promiscuous(LinkName),
    /// A bridge's MAC address' being its own. One that never was given an address has its ports' lowest, and another
    /// one as ports come and go; the one that it has is made its own. A bridge that carries packets already is left
    /// alone: whoever made it so has ports in it that are not ours, and its neighbours know its address.
    FixedMac(LinkName),
    /// How a bridge treats one of its ports.
    Port(Port),
    /// An address on an interface.
    Address(Address),
    /// An interface's addresses' being usable: IPv6 duplicate address detection is over and found none. Making it so
    /// means to wait, for 10 s at most.
    Settled(LinkName),
    /// A route.
    Route(Route),
    /// A kernel setting.
    Sysctl(Sysctl),
    /// Source NAT for one address, where its packets leave its subnet.
    Masquerade(Masquerade),
    /// A bridge port from which only one source MAC address is let through.
    SpoofCheck(SpoofCheck),
}

/// A network interface to be created (`RTM_NEWLINK`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: LinkName,
    /// What it is.
    pub kind: LinkKind,
    /// MTU in bytes; the kernel's default if absent.
    pub mtu: Option<u32>,
    /// MAC address; one of the kernel's choice if absent.
    pub mac: Option<MacAddr>,
    /// Created up.
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<LinkName>,
    /// Its alias (`ip link show` prints it; `/sys/class/net/LINK/ifalias`).
    pub mark: Option<Mark>,
    /// Ignores IPv6 router advertisements (`accept_ra = 0`), set before anyone can send one: a pod must not be
    /// able to give its node a default route (CVE-2020-10749).
    pub ignore_router_advertisements: bool,
}

impl Link {
    /// An interface of a kind, with everything else left to the kernel.
    pub fn new(name: LinkName, kind: LinkKind) -> Self {
        Self {
            name,
            kind,
            mtu: None,
            mac: None,
            up: false,
            master: None,
            mark: None,
            ignore_router_advertisements: false,
        }
    }
}

impl Link {
    /// The interfaces that it consists of, and where they are: itself, made in a place, and a veth's other end.
    pub(crate) fn ends(&self, place: Place) -> impl Iterator<Item = (Place, &LinkName)> {
        let peer = match &self.kind {
            LinkKind::Veth { peer } => Some((peer.place, &peer.name)),
            _ => None,
        };
        [(place, &self.name)].into_iter().chain(peer)
    }
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// A software bridge. Its MAC address should be given: a bridge without one of its own takes its ports' lowest and
    /// changes it as they come and go.
    Bridge {
        /// 802.1Q filtering of its ports (needs a kernel with `CONFIG_BRIDGE_VLAN_FILTERING`).
        vlan_filtering: bool,
    },
    /// One end of a virtual cable; the other is made in the same message. Removing either removes both.
    Veth {
        /// The other end.
        peer: VethPeer,
    },
    /// An interface that drops what is sent to it.
    Dummy,
}

impl LinkKind {
    /// The kernel's word for it (`IFLA_INFO_KIND`).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bridge { .. } => "bridge",
            Self::Veth { .. } => "veth",
            Self::Dummy => "dummy",
        }
    }
}

/// The other end of a [`LinkKind::Veth`]. It cannot be created up (the kernel answers `ENOTCONN`: the ends are joined
/// after the peer is configured), so raise it with [`Resource::LinkUp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethPeer {
    /// Where it is put.
    pub place: Place,
    /// Its name there.
    pub name: LinkName,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address.
    pub mac: Option<MacAddr>,
}

/// How a bridge treats a port (`IFLA_BRPORT_*`). Goes with its link: never removed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The port's interface.
    pub link: LinkName,
    /// Frames may go back out of the port they came in by: a pod that reaches itself through a published port.
    pub hairpin: bool,
    /// No frames between this and other isolated ports.
    pub isolated: bool,
    /// VLANs; empty leaves the bridge's default.
    pub vlans: Vec<PortVlan>,
    /// Removes the bridge's default VLAN (1) from the port.
    pub drop_default_vlan: bool,
}

/// VLANs `first..=last` of a bridge port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlan {
    /// First VLAN ID, 1 to 4094.
    pub first: u16,
    /// Last VLAN ID, 1 to 4094.
    pub last: u16,
    /// Frames without a tag belong to it (PVID) and leave without one: an access port. Else a trunk's, tagged.
    pub access: bool,
}

/// `100`, `100-200`, and ` (access)` where it is one.
impl fmt::Display for PortVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        f.write_str(if self.access { " (access)" } else { "" })
    }
}

/// An address on an interface (`RTM_NEWADDR`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub link: LinkName,
    /// Address and prefix length; the host bits are kept.
    pub net: IpNet,
    /// The kernel makes the route to the prefix with it. Off (`IFA_F_NOPREFIXROUTE`) where the prefix is reached
    /// another way.
    pub prefix_route: bool,
    /// IPv6 duplicate address detection, which makes the address unusable for a second. Off (`IFA_F_NODAD`) where
    /// an allocator has seen to it that there is no duplicate.
    pub detect_duplicates: bool,
    /// What other addresses on the interface mean.
    pub others: OtherAddresses,
}

impl Address {
    /// An address with its prefix route, without duplicate address detection.
    pub fn new(link: LinkName, net: IpNet) -> Self {
        Self { link, net, prefix_route: true, detect_duplicates: false, others: OtherAddresses::Welcome }
    }

    /// The broadcast address that belongs to it: IPv4 only, and not on /31 and /32 (RFC 3021).
    pub fn broadcast(&self) -> Option<IpAddr> {
        match self.net {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(IpAddr::V4(net.broadcast())),
            _ => None,
        }
    }
}

/// What it means that an interface holds addresses other than the wanted one: any of IPv4, or an IPv6 one whose
/// prefix overlaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherAddresses {
    /// Nothing.
    Welcome,
    /// Someone else uses the interface: refuse.
    Refused,
    /// They are stale: remove them.
    Replaced,
}

/// A route (`RTM_NEWROUTE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination; the host bits are masked off.
    pub destination: IpNet,
    /// Next hop; absent for what is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Interface to send from.
    pub link: LinkName,
    /// The source address of what is sent along it by default (`RTA_PREFSRC`).
    pub source: Option<IpAddr>,
    /// The next hop is on the link even if no address says so (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// Metric; lower wins.
    pub metric: Option<u32>,
    /// Routing table; `main` (254) if absent.
    pub table: Option<u32>,
    /// `rtm_scope`; chosen as `ip route` does if absent: `link` without a gateway, else `universe`.
    pub scope: Option<u8>,
    /// Path MTU in bytes (`RTAX_MTU`).
    pub mtu: Option<u32>,
    /// Advertised TCP segment size in bytes (`RTAX_ADVMSS`).
    pub advmss: Option<u32>,
}

impl Route {
    /// A route through an interface, directly or by a gateway.
    pub fn new(destination: IpNet, gateway: Option<IpAddr>, link: LinkName) -> Self {
        Self {
            destination: destination.trunc(),
            gateway,
            link,
            source: None,
            onlink: false,
            metric: None,
            table: None,
            scope: None,
            mtu: None,
            advmss: None,
        }
    }
}

/// A kernel setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Which.
    pub key: SysctlKey,
    /// The value as text, without a newline.
    pub value: String,
    /// That the kernel has no such setting is fine ([`crate::Created::Kept`]): IPv6's, where IPv6 is switched off. So is
    /// another value, later on: it is not compared.
    pub optional: bool,
}

impl Sysctl {
    /// A setting with a value, which the kernel must have.
    pub fn new(key: SysctlKey, value: impl fmt::Display) -> Self {
        Self { key, value: value.to_string(), optional: false }
    }

    /// A setting with a value, if the kernel has it.
    pub fn optional(key: SysctlKey, value: impl fmt::Display) -> Self {
        Self { optional: true, ..Self::new(key, value) }
    }
}

/// Source NAT for packets of one address to anywhere but its own subnet and multicast.
///
/// An element of a verdict map in cnikit's own nf_tables table: one lookup per new connection, however many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// The address; at most one masquerade each.
    pub source: IpAddr,
    /// The subnet within which the address is kept.
    pub within: IpNet,
    /// Who owns it.
    pub mark: Mark,
}

/// Drops what a bridge port sends from any MAC address but one (nf_tables, family bridge).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoofCheck {
    /// The port; at most one check each.
    pub port: LinkName,
    /// The only source address let through.
    pub mac: MacAddr,
    /// Who owns it.
    pub mark: Mark,
}

impl Resource {
    /// The interface, if any, whose removal takes this along.
    pub fn carrier(&self) -> Option<&str> {
        match self {
            Self::Link(_) | Self::Masquerade(_) | Self::SpoofCheck(_) => None,
            Self::LinkUp(link) | Self::Promiscuous(link) | Self::FixedMac(link) | Self::Settled(link) => {
                Some(link.as_str())
            }
            Self::Port(port) => Some(port.link.as_str()),
            Self::Address(address) => Some(address.link.as_str()),
            Self::Route(route) => Some(route.link.as_str()),
            Self::Sysctl(sysctl) => sysctl.key.link(),
        }
    }
}

/// What it is, as errors name it: `veth "eth0"`, `address 10.22.0.5/16 on "eth0"`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "{} \"{}\"", link.kind.name(), link.name),
            Self::LinkUp(link) => write!(f, "state up of \"{link}\""),
            Self::Promiscuous(link) => write!(f, "promiscuous mode of \"{link}\""),
            Self::FixedMac(link) => write!(f, "MAC address of \"{link}\""),
            Self::Port(port) => write!(f, "bridge port \"{}\"", port.link),
            Self::Address(address) => write!(f, "address {} on \"{}\"", address.net, address.link),
            Self::Settled(link) => write!(f, "usable addresses on \"{link}\""),
            Self::Route(route) => {
                write!(f, "route {}", route.destination)?;
                if let Some(gateway) = route.gateway {
                    write!(f, " via {gateway}")?;
                }
                write!(f, " dev \"{}\"", route.link)
            }
            Self::Sysctl(sysctl) => write!(f, "sysctl {} = {}", sysctl.key, sysctl.value),
            Self::Masquerade(masquerade) => write!(f, "masquerade of {}", masquerade.source),
            Self::SpoofCheck(check) => write!(f, "spoof check of port \"{}\"", check.port),
        }
    }
}
