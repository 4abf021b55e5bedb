//! Addresses: `RTM_NEWADDR`, `RTM_GETADDR`, `RTM_DELADDR` (`linux/if_addr.h`).

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::{DelAddress, GetAddress, NewAddress};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};

use crate::linux::netlink::{Datagram, attribute, get_u32};
use crate::name::LinkName;
use crate::resource::{Address, OtherAddresses};

/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;

/// Adds an address.
pub(in crate::linux) fn create(datagram: &mut Datagram, index: u32, address: &Address) {
    let mut message = message(index, address.net);
    if let Some(IpAddr::V4(broadcast)) = address.broadcast() {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, !address.prefix_route);
    flags.set(AddressFlags::Nodad, !address.detect_duplicates && matches!(address.net, IpNet::V6(_)));
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    datagram.request(libc::NLM_F_CREATE | libc::NLM_F_EXCL, &NewAddress(message));
}

/// Removes an address.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: u32, address: &Address) {
    datagram.request(0, &DelAddress(message(index, address.net)));
}

fn message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: family(net.addr()),
        prefix_len: net.prefix_len(),
        flags: AddressHeaderFlags::empty(),
        // The kernel finds out an IPv6 address's scope by itself; of IPv4's it only keeps loopback from being routed.
        scope: match net.addr() {
            IpAddr::V4(address) if address.is_loopback() => AddressScope::Host,
            _ => AddressScope::Universe,
        },
        index,
    };
    // Which of the two is the interface's own differs between the families if they differ.
    message.attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(net.addr())];
    message
}

/// Asks for the addresses of an interface: of the socket's namespace, or of one that it has a number for (Linux 4.20).
pub(in crate::linux) fn get(datagram: &mut Datagram, index: u32, namespace: Option<i32>) {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.attributes.extend(namespace.map(AddressAttribute::TargetNetNsId));
    datagram.request(0, &GetAddress(message));
}

/// An address, if it is on the interface of that index.
pub(in crate::linux) fn parse(body: &[u8], index: u32, link: &LinkName) -> Option<Address> {
    let header = AddressHeader::parse(body).ok()?;
    if header.index != index {
        return None;
    }
    let details = body.get(HEADER..)?;
    let value = attribute(details, libc::IFA_LOCAL).or_else(|| attribute(details, libc::IFA_ADDRESS))?;
    let address = parse_ip(value)?;
    let flags = attribute(details, libc::IFA_FLAGS).and_then(|value| get_u32(value, 0));
    let flags = AddressFlags::from_bits_retain(flags.unwrap_or_else(|| header.flags.bits().into()));
    Some(Address {
        link: link.clone(),
        net: IpNet::new(address, header.prefix_len).ok()?,
        prefix_route: !flags.contains(AddressFlags::Noprefixroute),
        detect_duplicates: address.is_ipv6() && !flags.contains(AddressFlags::Nodad),
        others: OtherAddresses::Welcome,
    })
}

/// An address of whatever interface.
pub(in crate::linux) fn parse_address(body: &[u8]) -> Option<IpAddr> {
    let index = AddressHeader::parse(body).ok()?.index;
    Some(parse(body, index, &LinkName::loopback())?.net.addr())
}

/// How far IPv6 duplicate address detection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum Detection {
    /// Every address can be used.
    Over,
    /// Some cannot yet.
    Running,
    /// An address is someone else's, and cannot be used.
    Found(IpAddr),
}

/// How far duplicate address detection has come with the address in a message.
pub(in crate::linux) fn detection(body: &[u8], index: u32) -> Option<Detection> {
    let address = parse(body, index, &LinkName::loopback())?.net.addr();
    // All of these are in the short field too.
    let flags = AddressHeader::parse(body).ok()?.flags;
    let usable = AddressHeaderFlags::Optimistic;
    Some(if flags.contains(AddressHeaderFlags::Dadfailed) {
        Detection::Found(address)
    } else if flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(usable) {
        Detection::Running
    } else {
        Detection::Over
    })
}

/// The address family.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// An address from its bytes.
pub(in crate::linux) fn parse_ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}
