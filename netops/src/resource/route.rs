//! Addresses and routes.

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
