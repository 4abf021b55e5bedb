//! Next hop objects: `RTM_NEWNEXTHOP`, `RTM_GETNEXTHOP`, `RTM_DELNEXTHOP` (`linux/nexthop.h`, Linux 5.3), which the library
//! does not have.

use std::net::IpAddr;

use super::address::parse_ip;
use crate::linux::netlink::{Datagram, attribute, get_u32};
use crate::name::LinkName;
use crate::resource::{IpVersion, NextHop, Via};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// Length of `struct nhmsg`.
const HEADER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// `RTNH_F_ONLINK`.
const ONLINK: u32 = 4;

/// Adds a next hop that leads out of the interface of an index, or nowhere.
pub(in crate::linux) fn put(datagram: &mut Datagram, flags: i32, index: Option<u32>, hop: &NextHop) {
    let flags_of_hop = match hop.via {
        Via::Gateway { onlink: true, .. } => ONLINK,
        _ => 0,
    };
    let header = header(family(hop.via.version()), hop.protocol, flags_of_hop);
    datagram.push(RTM_NEWNEXTHOP, flags, &header, |attributes| {
        attributes.u32(NHA_ID, hop.id);
        match hop.via {
            Via::Gateway { address, .. } => drop(attributes.ip(NHA_GATEWAY, address)),
            Via::Link { .. } => {}
            Via::Blackhole { .. } => drop(attributes.bytes(NHA_BLACKHOLE, &[])),
        }
        if let Some(index) = index {
            attributes.u32(NHA_OIF, index);
        }
    });
}

/// Removes a next hop. All that is told is its number: the kernel takes nothing else.
pub(in crate::linux) fn delete(datagram: &mut Datagram, id: u32) {
    datagram.push(RTM_DELNEXTHOP, 0, &header(0, 0, 0), |attributes| {
        attributes.u32(NHA_ID, id);
    });
}

/// Asks for the next hop of a number.
pub(in crate::linux) fn get(datagram: &mut Datagram, id: u32) {
    datagram.push(RTM_GETNEXTHOP, 0, &header(0, 0, 0), |attributes| {
        attributes.u32(NHA_ID, id);
    });
}

/// Asks for all next hops. The kernel can leave out what is out of other interfaces, but not what is of other protocols.
pub(in crate::linux) fn get_all(datagram: &mut Datagram) {
    datagram.push(RTM_GETNEXTHOP, 0, &header(0, 0, 0), |_| {});
}

/// `family`, `scope`, `protocol`, a byte of nothing, `flags`.
fn header(family: u8, protocol: u8, flags: u32) -> [u8; HEADER] {
    let [a, b, c, d] = flags.to_ne_bytes();
    [family, 0, protocol, 0, a, b, c, d]
}

fn family(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => libc::AF_INET as u8,
        IpVersion::V6 => libc::AF_INET6 as u8,
    }
}

/// A next hop as the kernel shows it, with the index of its interface instead of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) struct Found {
    pub(in crate::linux) id: u32,
    pub(in crate::linux) protocol: u8,
    pub(in crate::linux) index: Option<u32>,
    version: IpVersion,
    gateway: Option<IpAddr>,
    onlink: bool,
}

impl Found {
    /// The next hop, whose interface has a name.
    pub(in crate::linux) fn named(&self, link: Option<&LinkName>) -> Option<NextHop> {
        let via = match (self.index, self.gateway) {
            (None, _) => Via::Blackhole { version: self.version },
            (Some(_), None) => Via::Link { link: link?.clone(), version: self.version },
            (Some(_), Some(address)) => Via::Gateway { address, link: link?.clone(), onlink: self.onlink },
        };
        Some(NextHop { id: self.id, via, protocol: self.protocol })
    }
}

/// The number and the protocol of the next hop that a message tells of, of whatever kind it is.
pub(in crate::linux) fn identity(body: &[u8]) -> Option<(u32, u8)> {
    let protocol = *body.get(2)?;
    Some((get_u32(attribute(body.get(HEADER..)?, NHA_ID)?, 0)?, protocol))
}

/// The next hop that a message tells of, if it is of a kind that is made here: no group, no encapsulation.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<Found> {
    let (id, protocol) = identity(body)?;
    let (family, flags) = (i32::from(*body.first()?), get_u32(body, 4)?);
    let details = body.get(HEADER..)?;
    let has = |kind| attribute(details, kind).is_some();
    if has(NHA_GROUP) || has(NHA_ENCAP) || has(NHA_FDB) {
        return None;
    }
    let index = match has(NHA_BLACKHOLE) {
        true => None,
        false => Some(get_u32(attribute(details, NHA_OIF)?, 0)?),
    };
    let version = match family {
        libc::AF_INET => IpVersion::V4,
        libc::AF_INET6 => IpVersion::V6,
        _ => return None,
    };
    let gateway = attribute(details, NHA_GATEWAY).map(|value| parse_ip(value).ok_or(())).transpose().ok()?;
    Some(Found { id, protocol, index, version, gateway, onlink: flags & ONLINK != 0 })
}
