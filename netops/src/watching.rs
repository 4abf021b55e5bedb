//! What is heard of a kernel that changes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::lookup::Reachability;
use crate::name::{LinkName, MacAddr};

/// Something has come about, or is gone.
///
/// Not of everything does the kernel tell. With an interface that goes down or loses its carrier go its next hops, its IPv4
/// routes and its neighbours, and with an IPv4 address the routes that have it as their source: of these there is no word but the
/// interface's or the address's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// An interface, or its state.
    Link {
        /// Its index.
        index: u32,
        /// Its name, if it is one that an interface of ours could have.
        name: Option<LinkName>,
        /// It is up.
        up: bool,
        /// It could carry packets.
        carrier: bool,
        /// It is gone.
        gone: bool,
    },
    /// An address.
    Address {
        /// The index of its interface.
        link: u32,
        /// The address.
        net: IpNet,
        /// It is gone.
        gone: bool,
    },
    /// A route.
    Route {
        /// Its destination.
        destination: IpNet,
        /// Its table.
        table: u32,
        /// Its metric.
        metric: u32,
        /// Who made it.
        protocol: u8,
        /// It is gone.
        gone: bool,
    },
    /// A next hop.
    NextHop {
        /// Its number.
        id: u32,
        /// Who made it.
        protocol: u8,
        /// It is gone, and its routes with it.
        gone: bool,
    },
    /// A neighbour.
    Neighbour {
        /// The index of the interface that it is on.
        link: u32,
        /// Its address.
        address: IpAddr,
        /// Its MAC address, if that is known.
        mac: Option<MacAddr>,
        /// How it is known.
        reachability: Reachability,
        /// Who made it.
        protocol: u8,
        /// It is gone.
        gone: bool,
    },
    /// An entry of the FDB of a bridge or a tunnel.
    Fdb {
        /// The index of the interface.
        link: u32,
        /// To whom frames are addressed.
        mac: MacAddr,
        /// The machine that has it, of a tunnel's.
        remote: Option<IpAddr>,
        /// It is gone.
        gone: bool,
    },
    /// A rule of the routing policy.
    Rule {
        /// The table that it leads to, if it leads to one.
        table: Option<u32>,
        /// It is gone.
        gone: bool,
    },
    /// A setting of forwarding: `forwarding`, `rp_filter`, `proxy_arp`, `proxy_ndp` and their kind. Of other settings the kernel
    /// does not tell.
    Setting {
        /// The index of the interface that it is of; `None` if it is of all, or of those to come.
        link: Option<u32>,
    },
    /// Something in nf_tables, in whatever table. It is told once for each transaction, and not what it was.
    Ruleset,
    /// There was more than could be kept, and something was lost: anything may have changed.
    Overrun,
}
