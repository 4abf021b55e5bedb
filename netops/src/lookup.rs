//! What is asked about single packets and machines, and what the kernel answers.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::{LinkName, MacAddr};

/// A question: which way would a packet go?
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteLookup {
    /// Its destination.
    pub to: IpAddr,
    /// Its source; the kernel's choice if absent.
    pub from: Option<IpAddr>,
    /// Its mark, which rules may look at.
    pub mark: Option<u32>,
    /// The interface that it came in by; absent for what the node itself sends.
    pub input: Option<LinkName>,
}

impl RouteLookup {
    /// The way of what the node itself sends.
    pub fn to(to: IpAddr) -> Self {
        Self { to, from: None, mark: None, input: None }
    }
}

/// The way that a packet would go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundRoute {
    /// What becomes of the packet.
    pub kind: RouteKind,
    /// The destination of the route that decides (`RTM_F_FIB_MATCH`). Of a route to nowhere the kernel tells neither
    /// this nor what follows.
    pub destination: Option<IpNet>,
    /// The table that it is in.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// The number of its next hop object.
    pub next_hop: Option<u32>,
    /// The machine that the packet is handed to; absent if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The interface that it leaves by.
    pub link: Option<LinkName>,
    /// The source address that it gets, if it has none.
    pub source: Option<IpAddr>,
    /// The path MTU, where it is known to differ from the interface's.
    pub mtu: Option<u32>,
}

impl FoundRoute {
    /// A packet of which only this is known.
    pub(crate) fn new(kind: RouteKind) -> Self {
        Self {
            kind,
            destination: None,
            table: 0,
            protocol: 0,
            next_hop: None,
            gateway: None,
            link: None,
            source: None,
            mtu: None,
        }
    }
}

/// What becomes of a packet (`rtm_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteKind {
    /// It is sent to one machine.
    Unicast,
    /// It is for this one.
    Local,
    /// It is for everybody on a link.
    Broadcast,
    /// It is for a group.
    Multicast,
    /// It is dropped without a word.
    Blackhole,
    /// It is dropped, and its sender told: a route says that there is no way there.
    Unreachable,
    /// It is dropped, and its sender told: that is forbidden.
    Prohibited,
    /// Something else.
    Other(u8),
}

/// A neighbour as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeighbourState {
    /// The interface that it is on.
    pub link: LinkName,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, if that is known.
    pub mac: Option<MacAddr>,
    /// How it is known.
    pub reachability: Reachability,
    /// Who made it; 0 is the kernel itself.
    pub protocol: u8,
}

/// How a neighbour is known (`NUD_*`, `linux/neighbour.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reachability {
    /// It is being asked for.
    Incomplete,
    /// It answered a moment ago.
    Reachable,
    /// It answered some time ago.
    Stale,
    /// It is about to be asked again.
    Delay,
    /// It is being asked again.
    Probe,
    /// It did not answer.
    Failed,
    /// It needs no MAC address.
    NoArp,
    /// It was told, and is never asked for.
    Permanent,
    /// Nothing is known.
    Unknown,
}
