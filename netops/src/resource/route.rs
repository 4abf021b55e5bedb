//! Addresses, routes, and the rules that say which routes are looked at.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Resource;
use super::forwarding::IpVersion;
use crate::name::LinkName;

/// An address on an interface (`RTM_NEWADDR`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OtherAddresses {
    /// Nothing.
    Welcome,
    /// Someone else uses the interface: refuse.
    Refused,
    /// They are stale: remove them.
    Replaced,
}

/// A route (`RTM_NEWROUTE`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination; the host bits are masked off.
    pub destination: IpNet,
    /// Where it leads.
    pub target: RouteTarget,
    /// The source address of what is sent along it by default (`RTA_PREFSRC`).
    pub source: Option<IpAddr>,
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
    /// Who made it (`rtm_protocol`); if absent, whoever has no number of his own (`boot`).
    pub protocol: Option<u8>,
}

/// Where a [`Route`] leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// Out of an interface. Of a route that takes a [`NextHop`](crate::NextHop), what that leads to is shown so where the
    /// routes of an interface are asked for.
    Link {
        /// Interface to send from.
        link: LinkName,
        /// Next hop; absent for what is on the link itself.
        gateway: Option<IpAddr>,
        /// The next hop is on the link even if no address says so (`RTNH_F_ONLINK`).
        onlink: bool,
    },
    /// Wherever the [`NextHop`](crate::NextHop) of this number leads (`RTA_NH_ID`).
    NextHop(u32),
    /// Nowhere: packets are dropped without a word (`RTN_BLACKHOLE`).
    Blackhole,
    /// Nowhere: whoever sends a packet is told so (`RTN_UNREACHABLE`).
    Unreachable,
}

impl Route {
    /// A route through an interface, directly or by a gateway.
    pub fn new(destination: IpNet, gateway: Option<IpAddr>, link: LinkName) -> Self {
        Self::to(destination, RouteTarget::Link { link, gateway, onlink: false })
    }

    /// A route that leads anywhere, or nowhere.
    pub fn to(destination: IpNet, target: RouteTarget) -> Self {
        Self {
            destination: destination.trunc(),
            target,
            source: None,
            metric: None,
            table: None,
            scope: None,
            mtu: None,
            advmss: None,
            protocol: None,
        }
    }

    /// The same route by way of a gateway that is on the link even if no address says so. One that does not lead out of an
    /// interface stays as it is.
    #[must_use]
    pub fn onlink(mut self) -> Self {
        if let RouteTarget::Link { onlink, .. } = &mut self.target {
            *onlink = true;
        }
        self
    }

    /// The interface that it names.
    pub fn link(&self) -> Option<&LinkName> {
        match &self.target {
            RouteTarget::Link { link, .. } => Some(link),
            _ => None,
        }
    }

    /// The gateway that it names.
    pub fn gateway(&self) -> Option<IpAddr> {
        match self.target {
            RouteTarget::Link { gateway, .. } => gateway,
            _ => None,
        }
    }

    /// The routing table that it is in.
    pub fn table(&self) -> u32 {
        self.table.unwrap_or(MAIN_TABLE)
    }

    /// Who made it.
    pub fn protocol(&self) -> u8 {
        self.protocol.unwrap_or(BOOT)
    }

    /// Its metric as the kernel keeps it: an IPv6 route always has one (`IP6_RT_PRIO_USER`).
    pub fn metric(&self) -> u32 {
        match (self.destination, self.metric.unwrap_or(0)) {
            (IpNet::V6(_), 0) => V6_METRIC,
            (_, metric) => metric,
        }
    }
}

impl From<Route> for Resource {
    fn from(route: Route) -> Self {
        Self::Route(route)
    }
}

/// `route 10.9.0.0/16 via 10.1.0.1 dev "eth0" table 100`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} {}", self.destination, self.target)?;
        match self.table {
            Some(table) => write!(f, " table {table}"),
            None => Ok(()),
        }
    }
}

/// `via 10.1.0.1 dev "eth0"`.
impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { link, gateway: Some(gateway), .. } => write!(f, "via {gateway} dev \"{link}\""),
            Self::Link { link, gateway: None, .. } => write!(f, "dev \"{link}\""),
            Self::NextHop(id) => write!(f, "by next hop {id}"),
            Self::Blackhole => f.write_str("to nowhere (blackhole)"),
            Self::Unreachable => f.write_str("to nowhere (unreachable)"),
        }
    }
}

/// The routing table of whoever names none (`RT_TABLE_MAIN`).
pub(crate) const MAIN_TABLE: u32 = 254;

/// `RTPROT_BOOT`: whose what is that nobody has put a number on.
pub(crate) const BOOT: u8 = 3;
/// `IP6_RT_PRIO_USER`: the metric of an IPv6 route that was not given one.
pub(crate) const V6_METRIC: u32 = 1024;

/// Some packets are looked up in a routing table of their own, before any other (`RTM_NEWRULE`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Which packets.
    pub selector: Selector,
    /// The table in which they are looked up.
    pub table: u32,
    /// Its place among the rules, lower first; if absent, the kernel's choice: before all but the one for `local`.
    pub priority: Option<u32>,
}

/// Which packets a [`Rule`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Those that come from a prefix; one without length: all of its family. (To remove such a rule is to remove the first
    /// that has the rest: the kernel takes it for a question without a source.)
    From(IpNet),
    /// Those of a version of IP that carry a mark (`FRA_FWMARK`, `FRA_FWMASK`).
    Mark {
        /// The mark.
        mark: u32,
        /// The bits of it that count.
        mask: u32,
        /// The version.
        version: IpVersion,
    },
}

impl Rule {
    /// A rule for what comes from a prefix, wherever the kernel puts it.
    pub fn from(prefix: IpNet, table: u32) -> Self {
        Self { selector: Selector::From(prefix), table, priority: None }
    }

    /// The prefix that packets come from, if that is what it looks at.
    pub fn source(&self) -> Option<IpNet> {
        match self.selector {
            Selector::From(prefix) => Some(prefix),
            Selector::Mark { .. } => None,
        }
    }
}

impl Selector {
    /// The version of IP that it is about.
    pub fn version(&self) -> IpVersion {
        match self {
            Self::From(prefix) => IpVersion::of(prefix.addr()),
            Self::Mark { version, .. } => *version,
        }
    }

    /// As the kernel keeps it.
    #[cfg(feature = "testing")]
    pub(crate) fn kept(self) -> Self {
        match self {
            Self::From(prefix) => Self::From(prefix.trunc()),
            mark @ Self::Mark { .. } => mark,
        }
    }
}

/// `what 10.1.0.5/32 sends`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(prefix) => write!(f, "what {prefix} sends"),
            Self::Mark { mark, mask: u32::MAX, version } => write!(f, "{version} packets of mark {mark:#x}"),
            Self::Mark { mark, mask, version } => write!(f, "{version} packets of mark {mark:#x}/{mask:#x}"),
        }
    }
}
