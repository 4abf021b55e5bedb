//! A socket that hears of changes (`rtnetlink(7)`, multicast groups).

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeader;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::netlink::{Failure, Message, Socket, attribute, get_u32, messages};
use super::rtnetlink::{address, link, neighbour, next_hop, route, rule};
use super::{Namespace, refused};
use crate::error::{Error, Operation};
use crate::place::Place;
use crate::watching::Change;

/// Hears of what becomes of a namespace's interfaces, addresses, routes, next hops, neighbours, rules, settings of forwarding and
/// nf_tables, whoever does it.
///
/// It never blocks: its descriptor is readable when there is something to read, as `poll(2)` and its kind have it.
///
/// ```no_run
/// use netops::{Change, LinuxKernel, Place, Watch};
///
/// # fn main() -> Result<(), netops::Error> {
/// let mut kernel = LinuxKernel::new(None);
/// let mut watch = Watch::open(None)?;
/// watch.disregard(kernel.port(Place::Host)?);
/// for change in watch.read() {
///     if let Change::NextHop { id, gone: true, .. } = change {
///         println!("somebody has removed next hop {id}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    /// Of nf_tables, if the kernel has them.
    ruleset: Option<Socket>,
    /// Readable when one of the two is.
    ready: Epoll,
    own: Vec<u32>,
}

impl Watch {
    /// Begins to watch a namespace; that of the calling thread, if none is given.
    ///
    /// # Errors
    /// As when a socket cannot be opened.
    pub fn open(namespace: Option<&Namespace>) -> Result<Self, Error> {
        let open = || (Socket::listen(&GROUPS), Socket::hear_of_transactions().ok());
        let ((socket, ruleset), place) = match namespace {
            Some(namespace) => (namespace.enter(open)?, Place::Container),
            None => (open(), Place::Host),
        };
        let socket =
            socket.map_err(|error| refused(Operation::Open, place, "netlink socket", error.into()))?;
        let ready = readiness([Some(&socket), ruleset.as_ref()].into_iter().flatten())
            .map_err(|errno| refused(Operation::Open, place, "epoll", errno.into()))?;
        Ok(Self { socket, ruleset, ready, own: Vec::new() })
    }

    /// What is done through a [kernel value of ours](crate::LinuxKernel::port) is no news, and left out from now on. Of FDB
    /// entries and of nf_tables the kernel does not say who has changed them: those come.
    pub fn disregard(&mut self, port: u32) {
        if port != 0 && !self.own.contains(&port) {
            self.own.push(port);
        }
    }

    /// All that has changed since the last time, as far as it was kept.
    pub fn read(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        // Whoever changes things faster than they are read does not keep the reader here.
        for _ in 0..DATAGRAMS {
            match self.socket.hear() {
                Ok(Some(received)) => {
                    let foreign = messages(received).filter(|message| !self.own.contains(&message.port));
                    changes.extend(foreign.filter_map(|message| change(&message)));
                }
                Ok(None) => break,
                Err(Failure::Lost | Failure::Truncated | Failure::Refused(_) | Failure::TooLong) => {
                    changes.push(Change::Overrun);
                }
            }
        }
        if self.ruleset.as_mut().is_some_and(has_heard) {
            changes.push(Change::Ruleset);
        }
        changes
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }
}

/// What is readable when one of several sockets is.
fn readiness<'a>(sockets: impl Iterator<Item = &'a Socket>) -> Result<Epoll, Errno> {
    let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for socket in sockets {
        ready.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    }
    Ok(ready)
}

/// Whether there was anything; all of it is taken out, or as much as comes while that is done. What was lost counts, too.
fn has_heard(socket: &mut Socket) -> bool {
    let mut any = false;
    for _ in 0..DATAGRAMS {
        match socket.hear() {
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => any = true,
        }
    }
    any
}

/// `RTNLGRP_LINK`, `_NEIGH`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`, `_IPV6_RULE`,
/// `_IPV4_NETCONF`, `_IPV6_NETCONF`, `_NEXTHOP` (`linux/rtnetlink.h`).
const GROUPS: [u32; 11] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25, 32];
/// How many datagrams are read at once.
const DATAGRAMS: usize = 4096;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_NEWNETCONF: u16 = 80;
const NETCONFA_IFINDEX: u16 = 1;
/// Length of `struct netconfmsg`, with what fills it up (`NLMSG_ALIGN`).
const NETCONF_HEADER: usize = 4;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

/// What a message tells of.
fn change(message: &Message<'_>) -> Option<Change> {
    let body = message.body;
    match message.kind {
        kind @ (libc::RTM_NEWLINK | libc::RTM_DELLINK) => link_change(body, kind == libc::RTM_DELLINK),
        kind @ (libc::RTM_NEWADDR | libc::RTM_DELADDR) => address_change(body, kind == libc::RTM_DELADDR),
        kind @ (libc::RTM_NEWROUTE | libc::RTM_DELROUTE) => {
            let (destination, table, metric, protocol) = route::identity(body)?;
            let gone = kind == libc::RTM_DELROUTE;
            Some(Change::Route { destination, table, metric, protocol, gone })
        }
        kind @ (libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) => {
            neighbour_change(body, kind == libc::RTM_DELNEIGH)
        }
        kind @ (RTM_NEWNEXTHOP | RTM_DELNEXTHOP) => {
            let (id, protocol) = next_hop::identity(body)?;
            Some(Change::NextHop { id, protocol, gone: kind == RTM_DELNEXTHOP })
        }
        kind @ (libc::RTM_NEWRULE | libc::RTM_DELRULE) => {
            Some(Change::Rule { table: rule::table(body), gone: kind == libc::RTM_DELRULE })
        }
        RTM_NEWNETCONF => Some(Change::Setting { link: setting_of(body) }),
        _ => None,
    }
}

/// The interface that a message tells settings of. There are negative numbers for all of them, and for those to come.
fn setting_of(body: &[u8]) -> Option<u32> {
    let index = attribute(body.get(NETCONF_HEADER..)?, NETCONFA_IFINDEX)?;
    get_u32(index, 0).filter(|index| i32::try_from(*index).is_ok())
}

fn link_change(body: &[u8], gone: bool) -> Option<Change> {
    let (index, state) = (link::index(body)?, link::parse(body));
    let (up, carrier) = state.as_ref().map_or((false, false), |link| (link.up, link.carrier));
    Some(Change::Link { index, name: state.map(|link| link.name), up, carrier, gone })
}

fn address_change(body: &[u8], gone: bool) -> Option<Change> {
    let header = AddressHeader::parse(body).ok()?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let details = body.get(ADDRESS_HEADER..)?;
    let own = attribute(details, libc::IFA_LOCAL).or_else(|| attribute(details, libc::IFA_ADDRESS))?;
    let net = ipnet::IpNet::new(address::parse_ip(own)?, header.prefix_len).ok()?;
    Some(Change::Address { link: header.index, net, gone })
}

fn neighbour_change(body: &[u8], gone: bool) -> Option<Change> {
    if let Some((link, mac, remote)) = neighbour::parse_any_fdb(body) {
        return Some(Change::Fdb { link, mac, remote, gone });
    }
    let neighbour::Found { index, address, mac, reachability, protocol } = neighbour::parse(body)?;
    Some(Change::Neighbour { link: index, address, mac, reachability, protocol, gone })
}

/// Reads bytes as every change that they could be.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_as_changes(body: &[u8]) {
    for kind in
        (libc::RTM_NEWLINK..=libc::RTM_GETNEIGH).chain([RTM_NEWNEXTHOP, RTM_NEWNETCONF, libc::RTM_NEWRULE])
    {
        let _ = change(&Message { kind, flags: 0, port: 0, sequence: 0, body });
    }
}
