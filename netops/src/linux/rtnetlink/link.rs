//! Links: `RTM_NEWLINK`, `RTM_GETLINK`, `RTM_SETLINK`, `RTM_DELLINK`.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::kernel::LinkState;
use crate::linux::netlink::{Attributes, Datagram, attribute, attributes, get_u16, get_u32};
use crate::name::{LinkName, MacAddr, Mark};
use crate::resource::{Link, LinkKind, VethPeer};

/// Length of `struct ifinfomsg`.
pub(in crate::linux) const HEADER: usize = 16;
/// `VETH_INFO_PEER` (`linux/veth.h`).
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_BR_VLAN_FILTERING` (`linux/if_link.h`).
const IFLA_BR_VLAN_FILTERING: u16 = 7;
/// `ARPHRD_ETHER`: addresses are MAC addresses.
const ETHERNET: u16 = 1;

const UP: u32 = libc::IFF_UP as u32;

/// A flag of a link that can be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum Flag {
    Up,
    Promiscuous,
}

impl Flag {
    fn bit(self) -> u32 {
        match self {
            Self::Up => UP,
            Self::Promiscuous => libc::IFF_PROMISC as u32,
        }
    }

    /// Whether it is on.
    pub(in crate::linux) fn is_on(self, link: &LinkState) -> bool {
        match self {
            Self::Up => link.up,
            Self::Promiscuous => link.promiscuous,
        }
    }
}

/// A link to be made, with the numbers that stand for other things in it.
#[derive(Debug, Clone, Copy)]
pub(in crate::linux) struct Creation<'a> {
    pub(in crate::linux) link: &'a Link,
    /// The index of its bridge.
    pub(in crate::linux) master: Option<u32>,
    /// Where a veth's other end goes, if not to the same namespace.
    pub(in crate::linux) peer_namespace: Option<BorrowedFd<'a>>,
}

/// Makes a link: everything about it that the kernel takes in one message. Its alias is not among that.
pub(in crate::linux) fn create(datagram: &mut Datagram, creation: &Creation<'_>) {
    let Creation { link, master, peer_namespace } = *creation;
    let flags = if link.up { UP } else { 0 };
    let header = ifinfomsg(libc::AF_UNSPEC, 0, flags, flags);
    datagram.push(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &header, |message| {
        basics(message, &link.name, link.mtu, link.mac);
        if let Some(master) = master {
            message.u32(libc::IFLA_MASTER, master);
        }
        if matches!(link.kind, LinkKind::Veth { .. }) {
            one_queue(message);
        }
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, link.kind.name());
            match &link.kind {
                LinkKind::Veth { peer } => {
                    info.nest(libc::IFLA_INFO_DATA, |data| veth_peer(data, peer, peer_namespace));
                }
                LinkKind::Bridge { vlan_filtering: true } => {
                    info.nest(libc::IFLA_INFO_DATA, |data| {
                        data.u8(IFLA_BR_VLAN_FILTERING, 1);
                    });
                }
                LinkKind::Bridge { vlan_filtering: false } | LinkKind::Dummy => {}
            }
        });
    });
}

fn veth_peer(data: &mut Attributes<'_>, peer: &VethPeer, namespace: Option<BorrowedFd<'_>>) {
    data.nest_after(VETH_INFO_PEER, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0), |message| {
        basics(message, &peer.name, peer.mtu, peer.mac);
        one_queue(message);
        if let Some(namespace) = namespace {
            message.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        }
    });
}

fn basics(message: &mut Attributes<'_>, name: &LinkName, mtu: Option<u32>, mac: Option<MacAddr>) {
    message.text(libc::IFLA_IFNAME, name.as_str());
    if let Some(mtu) = mtu {
        message.u32(libc::IFLA_MTU, mtu);
    }
    if let Some(mac) = mac {
        message.bytes(libc::IFLA_ADDRESS, &mac.bytes());
    }
}

/// Without this a veth is made with a queue per possible CPU and then cut back to one, which waits for an RCU grace
/// period under the lock of all of rtnetlink (`veth_init_queues()`): 0.9 ms instead of 0.6.
fn one_queue(message: &mut Attributes<'_>) {
    message.u32(libc::IFLA_NUM_TX_QUEUES, 1).u32(libc::IFLA_NUM_RX_QUEUES, 1);
}

/// Asks about a link. Without the counters, which take the kernel longer than all the rest.
pub(in crate::linux) fn get(datagram: &mut Datagram, name: &LinkName) {
    datagram.push(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0), |message| {
        message.text(libc::IFLA_IFNAME, name.as_str()).u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    });
}

/// Asks about a link by its index.
pub(in crate::linux) fn get_by_index(datagram: &mut Datagram, index: u32) {
    datagram.push(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, index, 0, 0), |message| {
        message.u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    });
}

/// Asks about a link in another namespace, which the socket's own has a number for.
pub(in crate::linux) fn get_elsewhere(datagram: &mut Datagram, index: u32, namespace: i32) {
    datagram.push(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, index, 0, 0), |message| {
        message.u32(libc::IFLA_EXT_MASK, SKIP_STATS).u32(IFLA_TARGET_NETNSID, namespace as u32);
    });
}

/// Asks about every link.
pub(in crate::linux) fn get_all(datagram: &mut Datagram) {
    datagram.push(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0), |message| {
        message.u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    });
}

const SKIP_STATS: u32 = libc::RTEXT_FILTER_SKIP_STATS as u32;
/// `IFLA_TARGET_NETNSID` (Linux 4.20).
const IFLA_TARGET_NETNSID: u16 = 46;

/// Switches a flag of a link, by name.
pub(in crate::linux) fn set_flag(datagram: &mut Datagram, name: &LinkName, flag: Flag, on: bool) {
    let value = if on { flag.bit() } else { 0 };
    datagram.push(libc::RTM_SETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, value, flag.bit()), |message| {
        message.text(libc::IFLA_IFNAME, name.as_str());
    });
}

/// Sets a link's alias.
pub(in crate::linux) fn set_alias(datagram: &mut Datagram, index: u32, alias: &Mark) {
    datagram.push(libc::RTM_SETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, index, 0, 0), |message| {
        message.bytes(libc::IFLA_IFALIAS, alias.as_str().as_bytes());
    });
}

/// Removes a link, by name.
pub(in crate::linux) fn delete(datagram: &mut Datagram, name: &LinkName) {
    datagram.push(libc::RTM_DELLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0), |message| {
        message.text(libc::IFLA_IFNAME, name.as_str());
    });
}

/// A link as the kernel shows it; `None` for bytes that do not, or whose name could not be ours to use.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<LinkState> {
    let hardware = get_u16(body, 2)?;
    let flags = get_u32(body, 8)?;
    let details = body.get(HEADER..)?;
    let name = LinkName::new(text(attribute(details, libc::IFLA_IFNAME)?)?).ok()?;
    let mut link = LinkState::new(get_u32(body, 4)?, name, "");
    link.up = flags & UP != 0;
    link.carrier = flags & libc::IFF_LOWER_UP as u32 != 0;
    link.promiscuous = flags & libc::IFF_PROMISC as u32 != 0;
    for (kind, value) in attributes(details) {
        match kind {
            libc::IFLA_ADDRESS if hardware == ETHERNET => link.mac = value.try_into().ok().map(MacAddr::new),
            libc::IFLA_MTU => link.mtu = get_u32(value, 0)?,
            libc::IFLA_MASTER => link.master = get_u32(value, 0),
            libc::IFLA_IFALIAS => link.alias = text(value).map(str::to_owned),
            libc::IFLA_LINK => link.peer_index = get_u32(value, 0),
            libc::IFLA_LINK_NETNSID => {
                // Negative: that namespace has no number here.
                link.peer_namespace = get_u32(value, 0).map(|number| number as i32);
            }
            libc::IFLA_LINKINFO => {
                let kind = attribute(value, libc::IFLA_INFO_KIND).and_then(text);
                link.kind = kind.unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    Some(link)
}

/// `struct ifinfomsg`.
pub(in crate::linux) fn ifinfomsg(family: i32, index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = family as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Text, with or without a NUL at its end.
pub(in crate::linux) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
}
