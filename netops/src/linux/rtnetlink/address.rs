//! Addresses: `RTM_NEWADDR`, `RTM_GETADDR`, `RTM_DELADDR` (`linux/if_addr.h`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::linux::netlink::{Attributes, Datagram, attribute, get_u32};
use crate::name::LinkName;
use crate::resource::{Address, OtherAddresses};

/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;
/// `IFA_TARGET_NETNSID` (Linux 4.20).
const IFA_TARGET_NETNSID: u16 = 10;

/// Adds an address.
pub(in crate::linux) fn create(datagram: &mut Datagram, index: u32, address: &Address) {
    let mut flags = 0;
    if !address.prefix_route {
        flags |= libc::IFA_F_NOPREFIXROUTE;
    }
    if !address.detect_duplicates && matches!(address.net, IpNet::V6(_)) {
        flags |= libc::IFA_F_NODAD;
    }
    push(datagram, libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, index, address.net, |message| {
        if let Some(broadcast) = address.broadcast() {
            ip(message, libc::IFA_BROADCAST, broadcast);
        }
        if flags != 0 {
            message.u32(libc::IFA_FLAGS, flags);
        }
    });
}

/// Removes an address.
pub(in crate::linux) fn delete(datagram: &mut Datagram, index: u32, address: &Address) {
    push(datagram, libc::RTM_DELADDR, 0, index, address.net, |_| {});
}

fn push(
    datagram: &mut Datagram,
    kind: u16,
    flags: i32,
    index: u32,
    net: IpNet,
    more: impl FnOnce(&mut Attributes<'_>),
) {
    // The kernel finds out an IPv6 address's scope by itself; of IPv4's it only keeps loopback from being routed.
    let scope = match net.addr() {
        IpAddr::V4(address) if address.is_loopback() => libc::RT_SCOPE_HOST,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    datagram.push(kind, flags, &ifaddrmsg(family(net.addr()), net.prefix_len(), scope, index), |message| {
        // Which of the two is the interface's own differs between the families if they differ.
        ip(message, libc::IFA_LOCAL, net.addr());
        ip(message, libc::IFA_ADDRESS, net.addr());
        more(message);
    });
}

/// Asks for the addresses of an interface: of the socket's namespace, or of one that it has a number for.
pub(in crate::linux) fn get(datagram: &mut Datagram, index: u32, namespace: Option<i32>) {
    datagram.push(libc::RTM_GETADDR, 0, &ifaddrmsg(libc::AF_UNSPEC, 0, 0, index), |message| {
        if let Some(namespace) = namespace {
            message.u32(IFA_TARGET_NETNSID, namespace as u32);
        }
    });
}

/// An address, if it is on the interface of that index.
pub(in crate::linux) fn parse(body: &[u8], index: u32, link: &LinkName) -> Option<Address> {
    if get_u32(body, 4)? != index {
        return None;
    }
    let details = body.get(HEADER..)?;
    let value = attribute(details, libc::IFA_LOCAL).or_else(|| attribute(details, libc::IFA_ADDRESS))?;
    let address = parse_ip(value)?;
    let short_flags = u32::from(*body.get(2)?);
    let flags =
        attribute(details, libc::IFA_FLAGS).and_then(|value| get_u32(value, 0)).unwrap_or(short_flags);
    Some(Address {
        link: link.clone(),
        net: IpNet::new(address, *body.get(1)?).ok()?,
        prefix_route: flags & libc::IFA_F_NOPREFIXROUTE == 0,
        detect_duplicates: address.is_ipv6() && flags & libc::IFA_F_NODAD == 0,
        others: OtherAddresses::Welcome,
    })
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
    // As of all flags up to 0x80, these are in the short field too.
    let flags = u32::from(*body.get(2)?);
    Some(if flags & libc::IFA_F_DADFAILED != 0 {
        Detection::Found(address)
    } else if flags & libc::IFA_F_TENTATIVE != 0 && flags & libc::IFA_F_OPTIMISTIC == 0 {
        Detection::Running
    } else {
        Detection::Over
    })
}

/// The address family's number.
pub(in crate::linux) fn family(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// An attribute of an address.
pub(in crate::linux) fn ip(message: &mut Attributes<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => message.bytes(kind, &address.octets()),
        IpAddr::V6(address) => message.bytes(kind, &address.octets()),
    };
}

/// An address from its bytes.
pub(in crate::linux) fn parse_ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

/// `struct ifaddrmsg`.
fn ifaddrmsg(family: i32, prefix: u8, scope: u8, index: u32) -> [u8; HEADER] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family as u8, prefix, 0, scope, a, b, c, d]
}
