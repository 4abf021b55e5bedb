//! What leads to other machines, one machine at a time: next hops that many routes share, and whom a tunnel's frames
//! are for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Resource;
use super::forwarding::IpVersion;
use crate::name::{LinkName, MacAddr};

/// A next hop object (`RTM_NEWNEXTHOP`, Linux 5.3): a way to one machine, which any number of routes take by its number.
///
/// A new way for all of them is one message, and no packet meets a route that leads nowhere in between. And only so does
/// the kernel make 10 000 routes out of one interface in a tenth of a second: a route with a gateway of its own is looked for
/// among all others that leave by the same interface (`fib_info_hashfn()`), one with a next hop by its number.
///
/// It goes when its interface goes down or loses its carrier, and takes its routes along, as it does when it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Its number, unique in the namespace; 0 is nobody's.
    pub id: u32,
    /// Where it leads.
    pub via: Via,
    /// Who made it (`nh_protocol`).
    pub protocol: u8,
}

/// Where a [`NextHop`] leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Via {
    /// To another machine.
    Gateway {
        /// Its address. IPv4 routes may have an IPv6 one (RFC 8950), IPv6 routes no IPv4 one.
        address: IpAddr,
        /// Out of this interface.
        link: LinkName,
        /// The gateway is on the link even if no address says so (`RTNH_F_ONLINK`).
        onlink: bool,
    },
    /// To whoever is on an interface's own link.
    Link {
        /// The interface.
        link: LinkName,
        /// Whose routes may take it: those of this version, and IPv4's also if it is IPv6.
        version: IpVersion,
    },
    /// Nowhere: what is sent there is dropped without a word.
    Blackhole {
        /// As [`Via::Link`]'s.
        version: IpVersion,
    },
}

impl Via {
    /// The interface that it leads out of.
    pub fn link(&self) -> Option<&LinkName> {
        match self {
            Self::Gateway { link, .. } | Self::Link { link, .. } => Some(link),
            Self::Blackhole { .. } => None,
        }
    }

    /// The version of IP that it belongs to.
    pub fn version(&self) -> IpVersion {
        match self {
            Self::Gateway { address, .. } => IpVersion::of(*address),
            Self::Link { version, .. } | Self::Blackhole { version } => *version,
        }
    }
}

/// `via 10.1.0.2 dev "eth0" onlink`.
impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway { address, link, onlink } => {
                write!(f, "via {address} dev \"{link}\"")?;
                f.write_str(if *onlink { " onlink" } else { "" })
            }
            Self::Link { link, .. } => write!(f, "dev \"{link}\""),
            Self::Blackhole { .. } => f.write_str("blackhole"),
        }
    }
}

/// A neighbour whose MAC address is known beforehand and never asked for (`RTM_NEWNEIGH`, `NUD_PERMANENT`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NeighbourEntry {
    /// The interface that it is on.
    pub link: LinkName,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Who made it (`NDA_PROTOCOL`, Linux 5.0).
    pub protocol: u8,
}

/// A neighbour on one interface that is somewhere else, and for which this machine answers who asks there (`RTM_NEWNEIGH` with
/// `NTF_PROXY`; RFC 4389, and RFC 1027 for IPv4): it gets the neighbour's packets, and passes them on.
///
/// For IPv6 it takes the setting `proxy_ndp` of the interface, and forwarding. It goes when its interface goes down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NeighbourProxy {
    /// The interface on which it is asked for.
    pub link: LinkName,
    /// Its address.
    pub address: IpAddr,
    /// Who made it (`NDA_PROTOCOL`).
    pub protocol: u8,
}

/// To which machine a VXLAN interface sends the frames for a MAC address (`RTM_NEWNEIGH` of family `AF_BRIDGE` with
/// `NTF_SELF`). It does not age. The kernel does not remember who made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// The VXLAN interface.
    pub link: LinkName,
    /// To whom frames are addressed.
    pub mac: MacAddr,
    /// The machine that has it: an address of the underlay, of the version that the interface's tunnel is of.
    pub remote: IpAddr,
}

/// A [`LinkKind::Vxlan`](crate::LinkKind::Vxlan)'s terms: a tunnel for Ethernet frames to any number of machines
/// (RFC 7348). It sends only to those that an [`FdbEntry`] names: nothing is learned and nothing is flooded.
///
/// UDP checksums are as RFC 7348 and RFC 6935 have it: none over IPv4, always over IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Vxlan {
    /// The network's number (VNI), below 2²⁴. A namespace has one interface of each on a port.
    pub vni: u32,
    /// The UDP port, here and there.
    pub port: u16,
    /// The address that it sends from, which also says what the tunnel goes over: IPv6 if it is an IPv6 one, be it `::`, else
    /// IPv4. If absent, it sends over IPv4 from whatever address the route says.
    pub local: Option<IpAddr>,
    /// Whether the outer packets may be fragmented.
    pub dont_fragment: DontFragment,
}

/// The don't-fragment bit of a tunnel's outer IPv4 packets (`IFLA_VXLAN_DF`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DontFragment {
    /// Not set: routers fragment what is too long.
    #[default]
    Unset,
    /// Set: a packet that is too long is dropped, and its sender told, if the way back is not filtered.
    Set,
    /// As the inner packet has it.
    Inherit,
}

/// `ip link`'s word.
impl fmt::Display for DontFragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "unset",
            Self::Set => "set",
            Self::Inherit => "inherit",
        })
    }
}

/// What an overlay has the packet filter do. One in each namespace, in a table of its own (`inet cnikit-overlay`), replaced as a
/// whole in one transaction.
///
/// **Source NAT** for pods, where their packets leave for anywhere but some exceptions. The node's own address is chosen with a
/// random port (`fully-random`): connections that many pods open at once do not collide in the kernel's choice of one. What the
/// tunnel itself sends, and multicast, is left alone.
///
/// **No tunnel of a pod's**: VXLAN does not ask who sends (RFC 7348, section 7), so what a pod sends to a tunnel's end would be taken
/// for a node's. What comes to the node itself, for the tunnel's port, from one of pods' addresses is dropped, and so is what comes for that
/// port by the bridge from any other address, wherever it goes. Pods' own tunnels to one another pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct OverlayRules {
    /// The ranges of all pods' addresses. Those that overlap or touch are kept as one.
    pub sources: Vec<IpNet>,
    /// To whom they keep their address: if nobody is to see the node's, `0.0.0.0/0` and `::/0`.
    pub exceptions: Vec<IpNet>,
    /// The UDP port of the node's end of tunnels, if it has one.
    pub tunnel_port: Option<u16>,
    /// The interface by which this node's pods' packets come, if it has pods.
    pub bridge: Option<LinkName>,
}

impl OverlayRules {
    /// As the kernel keeps it: in order, in as few prefixes as say the same, and with multicast among the exceptions.
    pub(crate) fn kept(&self) -> Self {
        let fewest = |prefixes: Vec<IpNet>| {
            let mut fewest = IpNet::aggregate(&prefixes);
            fewest.sort();
            fewest
        };
        let multicast = [
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
        ];
        Self {
            sources: fewest(self.sources.clone()),
            exceptions: fewest(self.exceptions.iter().copied().chain(multicast).collect()),
            tunnel_port: self.tunnel_port,
            bridge: self.bridge.clone(),
        }
    }

    /// What it says, by name.
    pub(crate) fn properties(&self) -> [(&'static str, String); 4] {
        let list = |prefixes: &[IpNet]| {
            let words: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
            words.join(", ")
        };
        let none = || "none".to_owned();
        [
            ("sources", list(&self.sources)),
            ("exceptions", list(&self.exceptions)),
            ("tunnel port", self.tunnel_port.map_or_else(none, |port| port.to_string())),
            ("pods' bridge", self.bridge.as_ref().map_or_else(none, ToString::to_string)),
        ]
    }
}

impl From<OverlayRules> for Resource {
    fn from(masquerade: OverlayRules) -> Self {
        Self::OverlayRules(masquerade)
    }
}

impl From<NextHop> for Resource {
    fn from(hop: NextHop) -> Self {
        Self::NextHop(hop)
    }
}

impl From<NeighbourEntry> for Resource {
    fn from(neighbour: NeighbourEntry) -> Self {
        Self::Neighbour(neighbour)
    }
}

impl From<NeighbourProxy> for Resource {
    fn from(proxy: NeighbourProxy) -> Self {
        Self::Proxy(proxy)
    }
}

impl From<FdbEntry> for Resource {
    fn from(entry: FdbEntry) -> Self {
        Self::Fdb(entry)
    }
}
