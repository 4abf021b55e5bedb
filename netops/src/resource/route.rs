//! Addresses, routes, and the rules that say which routes are looked at.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::LinkName;

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
    /// Who made it (`rtm_protocol`); if absent, whoever has no number of his own (`boot`).
    pub protocol: Option<u8>,
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
            protocol: None,
        }
    }

    /// The routing table that it is in.
    pub fn table(&self) -> u32 {
        self.table.unwrap_or(MAIN_TABLE)
    }
}

/// `route 10.9.0.0/16 via 10.1.0.1 dev "eth0" table 100`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev \"{}\"", self.link)?;
        match self.table {
            Some(table) => write!(f, " table {table}"),
            None => Ok(()),
        }
    }
}

/// The routing table of whoever names none (`RT_TABLE_MAIN`).
pub(crate) const MAIN_TABLE: u32 = 254;

/// What an address sends is looked up in a routing table of its own, before any other (`RTM_NEWRULE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where packets come from; a prefix without length: all of its family. (To remove such a rule is to remove the first
    /// that has the rest: the kernel takes it for a question without a source.)
    pub from: IpNet,
    /// The table in which they are looked up.
    pub table: u32,
    /// Its place among the rules, lower first; if absent, the kernel's choice: before all but the one for `local`.
    pub priority: Option<u32>,
}
