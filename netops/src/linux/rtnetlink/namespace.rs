//! Numbers for other namespaces: `RTM_NEWNSID`, `RTM_GETNSID` (`linux/net_namespace.h`).

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::linux::netlink::{Datagram, attribute, get_u32};

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// `struct rtgenmsg`, of no family, and what aligns the attributes behind it.
const HEADER: [u8; 4] = [0; 4];

/// Gives a namespace a number here, of the kernel's choice. That it has one already is `EEXIST`.
pub(in crate::linux) fn give_number(datagram: &mut Datagram, namespace: BorrowedFd<'_>) {
    datagram.push(RTM_NEWNSID, 0, &HEADER, |attributes| {
        attributes.bytes(NETNSA_NSID, &(-1_i32).to_ne_bytes());
        attributes.bytes(NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
    });
}

/// Asks what number a namespace has here.
pub(in crate::linux) fn get_number(datagram: &mut Datagram, namespace: BorrowedFd<'_>) {
    datagram.push(RTM_GETNSID, 0, &HEADER, |attributes| {
        attributes.bytes(NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
    });
}

/// A namespace's number; `None` if it has none.
pub(in crate::linux) fn parse_number(body: &[u8]) -> Option<i32> {
    let number = get_u32(attribute(body.get(HEADER.len()..)?, NETNSA_NSID)?, 0)?;
    Some(number.cast_signed()).filter(|number| *number >= 0)
}
