//! Conntrack: connections that remember where a port led are forgotten with that (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! A connection's packets go where its first one went. A client that goes on sending UDP from the same port would for ever
//! be led to a pod that is gone, or past a port that has been published since; and one whose pod is gone is of no use.
//!
//! The kernel looks through its whole table, once for each question, which takes milliseconds whatever is in it; so there are
//! as few as can be, and none where no port is concerned.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use super::detached::KEPT;
use super::netlink::{Attributes, Datagram, attribute, attributes};
use super::rtnetlink::address::{self, parse_ip};
use super::{LinuxKernel, aside, failed};
use crate::error::{Error, Operation};
use crate::place::Place;
use crate::port_mapping::{PortMapping, Transport};

/// How long connections through a port that is gone may be remembered.
const HEAD_START: Duration = Duration::from_millis(10);

/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;
const OBJECT: &str = "conntrack";

/// Forgets where UDP ports of the node led before they were mapped.
///
/// # Errors
/// As the kernel's. Nothing is lost by that but time: a connection that is not used is forgotten in a few minutes anyhow.
pub(super) fn mapped(kernel: &mut LinuxKernel, place: Place, mappings: &[&PortMapping]) -> Result<(), Error> {
    let is_udp = |mapping: &&&PortMapping| mapping.port.transport == Transport::Udp;
    let mappings: Vec<_> = mappings.iter().filter(is_udp).copied().collect();
    let mut elsewhere = Vec::new();
    for is_ipv4 in [true, false] {
        let of_version = |mapping: &&&PortMapping| mapping.to.is_ipv4() == is_ipv4;
        let mappings: Vec<_> = mappings.iter().filter(of_version).copied().collect();
        let ports: BTreeSet<_> = mappings.iter().map(|mapping| mapping.port.address.port()).collect();
        let Some(&first) = ports.first() else { continue };
        let filter = Filter::To { is_ipv4, port: (ports.len() == 1).then_some(first) };
        let known = Known::of(mappings);
        let is_concerned = |connection: &Connection| {
            known.of_port(connection).any(|mapping| connection.leads_to != mapping.to)
        };
        elsewhere.extend(connections(kernel, place, &filter, &is_concerned)?);
    }
    if elsewhere.is_empty() {
        return Ok(());
    }
    // Others' connections to the same port somewhere else pass through here too.
    let ours = own_addresses(kernel, place)?;
    elsewhere.retain(|connection| {
        let address = connection.to.ip();
        address.is_loopback() || ours.contains(&address)
    });
    forget(kernel, place, &elsewhere)
}

/// Forgets what goes through mappings that are no more. Where removals are left to somebody else, so is this: nobody has to
/// wait until the kernel has looked through its table.
///
/// # Errors
/// As [`mapped`].
pub(super) fn unmapped(
    kernel: &mut LinuxKernel,
    place: Place,
    mappings: &[PortMapping],
) -> Result<(), Error> {
    if mappings.is_empty() {
        return Ok(());
    }
    if kernel.detached && place == Place::Host && leave_unmapped(kernel, mappings) {
        return Ok(());
    }
    forget_unmapped(kernel, place, mappings)
}

/// Leaves it to somebody else, together with the socket that the mappings were deleted through, and tells whether that works.
fn leave_unmapped(kernel: &mut LinuxKernel, mappings: &[PortMapping]) -> bool {
    let mappings = mappings.to_vec();
    let forget = move || {
        // A socket of its own: what is answered there is nobody else's. It is closed late, as every one is after a deletion.
        let mut kernel = LinuxKernel::new(None);
        // First the caller is to get on, who may have but one processor.
        thread::sleep(HEAD_START);
        let _ = forget_unmapped(&mut kernel, Place::Host, &mappings);
        thread::sleep(KEPT);
    };
    let side = &mut kernel.host;
    let socket: Vec<_> = side.netfilter.iter().filter(|_| side.slow_to_close).map(AsFd::as_fd).collect();
    let left = aside::work(&socket, forget).is_ok();
    side.slow_to_close &= !left;
    left
}

fn forget_unmapped(kernel: &mut LinuxKernel, place: Place, mappings: &[PortMapping]) -> Result<(), Error> {
    let pods: BTreeSet<_> = mappings.iter().map(|mapping| mapping.to.ip()).collect();
    let known = Known::of(mappings);
    let is_stale =
        |connection: &Connection| known.of_port(connection).any(|mapping| connection.leads_to == mapping.to);
    let mut stale = Vec::new();
    for is_ipv4 in [true, false] {
        let mut pods = pods.iter().copied().filter(|pod| pod.is_ipv4() == is_ipv4);
        let filter = match (pods.next(), pods.next()) {
            (None, _) => continue,
            (Some(IpAddr::V4(pod)), None) => Filter::Into(pod),
            // Of many pods, as GC finds them, each question would be a walk. And asked for an IPv6 address, Linux 6.18 tells
            // of all others (`ctnetlink_filter_match_tuple()` takes the outcome of `ipv6_addr_cmp()` for its opposite).
            _ => Filter::Over { is_ipv4 },
        };
        stale.extend(connections(kernel, place, &filter, &is_stale)?);
    }
    forget(kernel, place, &stale)
}

/// Mappings by protocol and port.
struct Known<'a>(HashMap<(u8, u16), Vec<&'a PortMapping>>);

impl<'a> Known<'a> {
    fn of(mappings: impl IntoIterator<Item = &'a PortMapping>) -> Self {
        let mut known: HashMap<_, Vec<_>> = HashMap::new();
        for mapping in mappings {
            let port = (mapping.port.transport.number(), mapping.port.address.port());
            known.entry(port).or_default().push(mapping);
        }
        Self(known)
    }

    /// The mappings of the port that a connection's first packet was sent to.
    fn of_port(&self, connection: &Connection) -> impl Iterator<Item = &'a PortMapping> {
        let address = connection.to.ip();
        let same_port =
            self.0.get(&(connection.transport, connection.to.port())).into_iter().flatten().copied();
        same_port.filter(move |mapping| mapping.port.is_any() || mapping.port.address.ip() == address)
    }
}

/// A connection, as far as it matters.
struct Connection {
    transport: u8,
    /// Where its first packet was sent.
    to: SocketAddr,
    /// From where it is answered.
    leads_to: SocketAddr,
    /// What it is found by, as the kernel has it.
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

impl Connection {
    fn parse(body: &[u8]) -> Option<Self> {
        let details = body.get(HEADER..)?;
        let original = attribute(details, CTA_TUPLE_ORIG)?;
        let reply = attribute(details, CTA_TUPLE_REPLY)?;
        let transport = *attribute(attribute(original, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?.first()?;
        Some(Self {
            transport,
            to: end(original, [CTA_IP_V4_DST, CTA_IP_V6_DST], CTA_PROTO_DST_PORT)?,
            leads_to: end(reply, [CTA_IP_V4_SRC, CTA_IP_V6_SRC], CTA_PROTO_SRC_PORT)?,
            original: original.to_vec(),
            zone: attribute(details, CTA_ZONE).map(<[u8]>::to_vec),
        })
    }
}

/// One end of a direction of a connection.
fn end(tuple: &[u8], address: [u16; 2], port: u16) -> Option<SocketAddr> {
    let ip = attributes(attribute(tuple, CTA_TUPLE_IP)?).find(|(kind, _)| address.contains(kind))?.1;
    let port = attribute(attribute(tuple, CTA_TUPLE_PROTO)?, port)?;
    Some(SocketAddr::new(parse_ip(ip)?, u16::from_be_bytes(port.try_into().ok()?)))
}

/// Which connections the kernel is to tell of. One that knows no filters (before Linux 5.8) tells of all.
enum Filter {
    /// Those of UDP over a version of IP, to one port or to any.
    To { is_ipv4: bool, port: Option<u16> },
    /// Those that an address answers.
    Into(Ipv4Addr),
    /// Those over a version of IP.
    Over { is_ipv4: bool },
}

impl Filter {
    fn encode(&self, datagram: &mut Datagram) {
        let is_ipv4 = match self {
            Self::To { is_ipv4, .. } | Self::Over { is_ipv4 } => *is_ipv4,
            Self::Into(_) => true,
        };
        datagram.push(message_type(IPCTNL_MSG_CT_GET), 0, &header(is_ipv4), |message| match self {
            Self::To { port, .. } => {
                let flags = CTA_FILTER_F_CTA_PROTO_NUM | port.map_or(0, |_| CTA_FILTER_F_CTA_PROTO_DST_PORT);
                message.nest(CTA_TUPLE_ORIG, |tuple| {
                    tuple.nest(CTA_TUPLE_PROTO, |proto| {
                        proto.bytes(CTA_PROTO_NUM, &[Transport::Udp.number()]);
                        if let Some(port) = port {
                            proto.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                        }
                    });
                });
                filter(message, CTA_FILTER_ORIG_FLAGS, flags);
            }
            Self::Into(pod) => {
                message.nest(CTA_TUPLE_REPLY, |tuple| {
                    tuple.nest(CTA_TUPLE_IP, |ip| {
                        ip.bytes(CTA_IP_V4_SRC, &pod.octets());
                    });
                });
                filter(message, CTA_FILTER_REPLY_FLAGS, CTA_FILTER_F_CTA_IP_SRC);
            }
            Self::Over { .. } => {}
        });
    }
}

/// Says which parts of a tuple count, in the machine's order.
fn filter(message: &mut Attributes<'_>, direction: u16, flags: u32) {
    message.nest(CTA_FILTER, |filter| {
        filter.bytes(direction, &flags.to_ne_bytes());
    });
}

/// Those that matter, of the connections that the kernel tells of: it remembers hundreds of thousands.
fn connections(
    kernel: &mut LinuxKernel,
    place: Place,
    filter: &Filter,
    matters: &dyn Fn(&Connection) -> bool,
) -> Result<Vec<Connection>, Error> {
    let mut request = Datagram::default();
    filter.encode(&mut request);
    let wanted = |body: &[u8]| Connection::parse(body).is_some_and(|connection| matters(&connection));
    let reply = kernel.side(place)?.netfilter()?.dump_those(&mut request, &wanted);
    let reply = reply.map_err(|failure| failed(Operation::Read, place, OBJECT, failure))?;
    // A kernel without conntrack remembers nothing.
    let bodies = reply.accepted().unwrap_or_default();
    Ok(bodies.iter().filter_map(|body| Connection::parse(body)).collect())
}

/// All addresses of a place's interfaces.
fn own_addresses(kernel: &mut LinuxKernel, place: Place) -> Result<HashSet<IpAddr>, Error> {
    let mut request = Datagram::default();
    address::get(&mut request, 0, None);
    let list = kernel.dump(place, &mut request, "addresses")?;
    Ok(list.iter().filter_map(|body| address::parse_address(body)).collect())
}

/// Forgets some connections. That one is gone already is fine.
fn forget(kernel: &mut LinuxKernel, place: Place, connections: &[Connection]) -> Result<(), Error> {
    if connections.is_empty() {
        return Ok(());
    }
    let mut request = Datagram::default();
    for Connection { to, original, zone, .. } in connections {
        request.push(message_type(IPCTNL_MSG_CT_DELETE), 0, &header(to.is_ipv4()), |message| {
            message.bytes(CTA_TUPLE_ORIG, original);
            if let Some(zone) = zone {
                message.bytes(CTA_ZONE, zone);
            }
        });
    }
    let replies = kernel.side(place)?.netfilter()?.exchange(&mut request);
    replies.map(drop).map_err(|failure| failed(Operation::Remove, place, OBJECT, failure))
}

fn message_type(kind: u16) -> u16 {
    (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | kind
}

/// `struct nfgenmsg`.
fn header(is_ipv4: bool) -> [u8; HEADER] {
    let family = if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    [family as u8, libc::NFNETLINK_V0 as u8, 0, 0]
}

/// Reads bytes as if they were about a connection.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_as_connection(body: &[u8]) {
    let _ = Connection::parse(body);
}

const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// What a filter looks at (the kernel's `net/netfilter/nf_internals.h`).
const CTA_FILTER_F_CTA_IP_SRC: u32 = 1;
const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;
const CTA_FILTER_F_CTA_PROTO_DST_PORT: u32 = 1 << 5;
