//! Neighbours, and the FDB of a VXLAN interface: `RTM_NEWNEIGH`, `RTM_GETNEIGH`, `RTM_DELNEIGH` (`linux/neighbour.h`).
//!
//! The library has them; here they are written attribute by attribute, because there are thousands at a time.

use std::net::IpAddr;

use super::address::parse_ip;
use crate::linux::netlink::{Datagram, attribute, get_u16, get_u32};
use crate::lookup::Reachability;
use crate::name::MacAddr;
use crate::resource::{FdbEntry, NeighbourEntry, NeighbourProxy};

const RTM_NEWNEIGH: u16 = libc::RTM_NEWNEIGH;
const RTM_DELNEIGH: u16 = libc::RTM_DELNEIGH;
const RTM_GETNEIGH: u16 = libc::RTM_GETNEIGH;
/// Length of `struct ndmsg`.
const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
const NDA_PROTOCOL: u16 = 12;
/// `NUD_*`.
const PERMANENT: u16 = 0x80;
const NOARP: u16 = 0x40;
/// `NTF_SELF`: the interface's own table, not that of a bridge which it is a port of.
const SELF: u8 = 0x02;

/// `NTF_PROXY`: this machine answers for it.
const PROXY: u8 = 0x08;

/// Adds a neighbour.
pub(in crate::linux) fn put(datagram: &mut Datagram, flags: i32, index: u32, neighbour: &NeighbourEntry) {
    let header = header(family(neighbour.address), index, PERMANENT, 0);
    datagram.push(RTM_NEWNEIGH, flags, &header, |attributes| {
        attributes.bytes(NDA_PROTOCOL, &[neighbour.protocol]);
        attributes.ip(NDA_DST, neighbour.address);
        attributes.bytes(NDA_LLADDR, &neighbour.mac.bytes());
    });
}

/// Removes a neighbour.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: u32, address: IpAddr) {
    ask(datagram, RTM_DELNEIGH, index, address);
}

/// Asks for a neighbour.
pub(in crate::linux) fn get(datagram: &mut Datagram, index: u32, address: IpAddr) {
    ask(datagram, RTM_GETNEIGH, index, address);
}

fn ask(datagram: &mut Datagram, kind: u16, index: u32, address: IpAddr) {
    datagram.push(kind, 0, &header(family(address), index, 0, 0), |attributes| {
        attributes.ip(NDA_DST, address);
    });
}

/// Asks for all neighbours on an interface.
pub(in crate::linux) fn get_all(datagram: &mut Datagram, index: u32) {
    datagram.push(RTM_GETNEIGH, 0, &header(0, 0, 0, 0), |attributes| {
        attributes.u32(NDA_IFINDEX, index);
    });
}

/// Adds a neighbour that is answered for. The kernel does not mind one that is there.
pub(in crate::linux) fn put_proxy(datagram: &mut Datagram, flags: i32, index: u32, proxy: &NeighbourProxy) {
    let header = header(family(proxy.address), index, PERMANENT, PROXY);
    datagram.push(RTM_NEWNEIGH, flags, &header, |attributes| {
        attributes.bytes(NDA_PROTOCOL, &[proxy.protocol]);
        attributes.ip(NDA_DST, proxy.address);
    });
}

/// Removes a neighbour that is answered for.
pub(in crate::linux) fn delete_proxy(datagram: &mut Datagram, index: u32, address: IpAddr) {
    datagram.push(RTM_DELNEIGH, 0, &header(family(address), index, 0, PROXY), |attributes| {
        attributes.ip(NDA_DST, address);
    });
}

/// Asks for all neighbours that are answered for.
pub(in crate::linux) fn get_proxies(datagram: &mut Datagram) {
    datagram.push(RTM_GETNEIGH, 0, &header(0, 0, 0, PROXY), |_| {});
}

/// Adds an FDB entry.
pub(in crate::linux) fn put_fdb(datagram: &mut Datagram, flags: i32, index: u32, entry: &FdbEntry) {
    let header = header(libc::AF_BRIDGE, index, PERMANENT | NOARP, SELF);
    datagram.push(RTM_NEWNEIGH, flags, &header, |attributes| {
        attributes.bytes(NDA_LLADDR, &entry.mac.bytes());
        attributes.ip(NDA_DST, entry.remote);
    });
}

/// Removes the FDB entry of a MAC address, wherever it leads.
pub(in crate::linux) fn delete_fdb(datagram: &mut Datagram, index: u32, mac: MacAddr) {
    datagram.push(RTM_DELNEIGH, 0, &header(libc::AF_BRIDGE, index, 0, SELF), |attributes| {
        attributes.bytes(NDA_LLADDR, &mac.bytes());
    });
}

/// Asks for the FDB entry of a MAC address.
pub(in crate::linux) fn get_fdb(datagram: &mut Datagram, index: u32, mac: MacAddr) {
    datagram.push(RTM_GETNEIGH, 0, &header(libc::AF_BRIDGE, index, 0, SELF), |attributes| {
        attributes.bytes(NDA_LLADDR, &mac.bytes());
    });
}

/// Asks for the FDB of an interface.
pub(in crate::linux) fn get_all_fdb(datagram: &mut Datagram, index: u32) {
    datagram.push(RTM_GETNEIGH, 0, &header(libc::AF_BRIDGE, index, 0, 0), |_| {});
}

/// `family`, three bytes of nothing, `ifindex`, `state`, `flags`, `type`.
fn header(family: impl TryInto<u8>, index: u32, state: u16, flags: u8) -> [u8; HEADER] {
    let family = family.try_into().unwrap_or_default();
    let [a, b, c, d] = index.to_ne_bytes();
    let [s, t] = state.to_ne_bytes();
    [family, 0, 0, 0, a, b, c, d, s, t, flags, 0]
}

fn family(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// A neighbour as the kernel shows it, with the index of its interface instead of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) struct Found {
    pub(in crate::linux) index: u32,
    pub(in crate::linux) address: IpAddr,
    pub(in crate::linux) mac: Option<MacAddr>,
    pub(in crate::linux) reachability: Reachability,
    pub(in crate::linux) protocol: u8,
}

/// The neighbour that a message tells of.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<Found> {
    let family = i32::from(*body.first()?);
    if !matches!(family, libc::AF_INET | libc::AF_INET6) {
        return None;
    }
    let details = body.get(HEADER..)?;
    Some(Found {
        index: get_u32(body, 4)?,
        address: parse_ip(attribute(details, NDA_DST)?)?,
        mac: attribute(details, NDA_LLADDR).and_then(|value| Some(MacAddr::new(value.try_into().ok()?))),
        reachability: reachability(get_u16(body, 8)?),
        protocol: attribute(details, NDA_PROTOCOL).and_then(|value| value.first().copied()).unwrap_or(0),
    })
}

fn reachability(state: u16) -> Reachability {
    match state {
        0x01 => Reachability::Incomplete,
        0x02 => Reachability::Reachable,
        0x04 => Reachability::Stale,
        0x08 => Reachability::Delay,
        0x10 => Reachability::Probe,
        0x20 => Reachability::Failed,
        NOARP => Reachability::NoArp,
        PERMANENT => Reachability::Permanent,
        _ => Reachability::Unknown,
    }
}

/// The interface's index, the MAC address and the machine of the FDB entry that a message tells of, if that leads to a
/// machine.
pub(in crate::linux) fn parse_fdb(body: &[u8]) -> Option<(u32, MacAddr, IpAddr)> {
    let (index, mac, remote) = parse_any_fdb(body)?;
    Some((index, mac, remote?))
}

/// The same of one that leads anywhere: a bridge's leads to a port.
pub(in crate::linux) fn parse_any_fdb(body: &[u8]) -> Option<(u32, MacAddr, Option<IpAddr>)> {
    if i32::from(*body.first()?) != libc::AF_BRIDGE {
        return None;
    }
    let details = body.get(HEADER..)?;
    let mac = MacAddr::new(attribute(details, NDA_LLADDR)?.try_into().ok()?);
    Some((get_u32(body, 4)?, mac, attribute(details, NDA_DST).and_then(parse_ip)))
}
