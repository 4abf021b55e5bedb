//! [`Kernel::read`](crate::Kernel::read): what is asked about single links goes into one datagram; lists are filtered
//! by the kernel.

mod overlay;
mod routes;

use std::collections::HashMap;

pub(super) use routes::rules;

use super::netlink::{Datagram, Refusal, Reply};
use super::rtnetlink::address::Detection;
use super::rtnetlink::{address, link, port, tc};
use super::{Known, LinuxKernel, forward_jump, refused, sys, sysctl};
use super::{foreign, nft};
use crate::entry::EntryKey;
use crate::error::{Errno, Error, Operation};
use crate::kernel::{Answer, LinkState, Query};
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::{Address, Port, Qdisc, Redirect};

pub(super) fn read(kernel: &mut LinuxKernel, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
    let found = Found::look_up(kernel, place, queries)?;
    let keys: Vec<_> = queries.iter().filter_map(entry_key).collect();
    let entries = nft::look_up(kernel, place, &keys, Operation::Read, "nf_tables entries")?;
    let mut entries: HashMap<_, _> =
        keys.into_iter().zip(entries).filter_map(|(key, entry)| Some((key, entry?))).collect();
    let mut answers = Vec::with_capacity(queries.len());
    for query in queries {
        answers.push(match query {
            Query::Link(name) => Answer::Links(found.link(name).cloned().into_iter().collect()),
            Query::Links => Answer::Links(links(kernel, place)?),
            Query::Carrier(name) => Answer::Present(carrier(kernel, place, name)?),
            Query::Port(name) => Answer::Port(found.port(kernel, place, name)?),
            Query::Addresses(name) => Answer::Addresses(match found.link(name) {
                Some(link) => addresses(kernel, place, link.index, None, name)?,
                None => Vec::new(),
            }),
            Query::Peer(name) => Answer::Links(match found.link(name) {
                Some(link) => peer(kernel, place, link)?.into_iter().collect(),
                None => Vec::new(),
            }),
            Query::PeerAddresses(name) => Answer::Addresses(match found.link(name) {
                Some(link) => peer_addresses(kernel, place, link)?,
                None => Vec::new(),
            }),
            Query::Routes(name) => Answer::Routes(match found.link(name) {
                Some(link) => routes::routes(kernel, place, link.index, name)?,
                None => Vec::new(),
            }),
            Query::LinkTo(address) => {
                Answer::Links(routes::link_to(kernel, place, *address)?.into_iter().collect())
            }
            Query::Rules => Answer::Rules(rules(kernel, place)?),
            Query::Tables => Answer::Tables(routes::tables(kernel, place)?),
            Query::DefaultRoutes => Answer::Routes(routes::default_routes(kernel, place)?),
            Query::RoutesOf { protocol, table } => {
                Answer::Routes(overlay::routes(kernel, place, *protocol, *table)?)
            }
            Query::RouteTo(lookup) => Answer::Way(overlay::way(kernel, place, lookup)?),
            Query::NextHop(id) => Answer::NextHops(overlay::next_hop(kernel, place, *id)?),
            Query::NextHops(protocol) => Answer::NextHops(overlay::next_hops(kernel, place, *protocol)?),
            Query::NeighbourOf(name, address) => Answer::Neighbours(match index(kernel, place, name)? {
                Some(index) => overlay::neighbour(kernel, place, index, name, *address)?,
                None => Vec::new(),
            }),
            Query::NeighboursOn(name) => Answer::Neighbours(match found.link(name) {
                Some(link) => overlay::neighbours(kernel, place, link.index, name)?,
                None => Vec::new(),
            }),
            Query::Proxies => Answer::Proxies(overlay::proxies(kernel, place)?),
            Query::FdbOf(name, mac) => Answer::Fdb(match found.link(name) {
                Some(link) => overlay::fdb_entry(kernel, place, link.index, name, *mac)?,
                None => Vec::new(),
            }),
            Query::FdbOn(name) => Answer::Fdb(match found.link(name) {
                Some(link) => overlay::fdb(kernel, place, link.index, name)?,
                None => Vec::new(),
            }),
            Query::OverlayRules => Answer::OverlayRules(nft::overlay::look(kernel, place)?),
            Query::Sysctl(key) => {
                let value = kernel.side(place)?.within(|| sysctl::read(key))?;
                let value =
                    value.map_err(|refusal| refused(Operation::Read, place, &query.to_string(), refusal))?;
                Answer::Sysctl(value)
            }
            Query::Qdiscs(name) => Answer::Qdiscs(match found.link(name) {
                Some(link) => qdiscs(kernel, place, link.index, name)?,
                None => Vec::new(),
            }),
            Query::Redirects(name) => Answer::Redirects(match found.link(name) {
                Some(link) => redirects(kernel, place, link.index, name)?,
                None => Vec::new(),
            }),
            Query::Entry(key) => Answer::Entries(entries.remove(key).into_iter().collect()),
            Query::Entries(kind) => Answer::Entries(nft::all(kernel, place, *kind)?),
            Query::Foreign(rules) => Answer::Foreign(foreign::is_in_force(kernel, place, rules)?),
            Query::Comments(chain) => Answer::Comments(foreign::comments(kernel, place, chain)?),
            Query::Droppers => Answer::Chains(nft::droppers::all(kernel, place)?),
            Query::Isolation(isolation) => {
                Answer::Present(nft::isolation::look(kernel, place, isolation, Operation::Read)?)
            }
            Query::ForwardJump(jump) => Answer::Present(forward_jump::look(kernel, place, jump)?),
        });
    }
    Ok(answers)
}

/// Reads one interface.
pub(super) fn link(
    kernel: &mut LinuxKernel,
    place: Place,
    name: &LinkName,
) -> Result<Option<LinkState>, Error> {
    Ok(Found::look_up(kernel, place, &[Query::Link(name.clone())])?.link(name).cloned())
}

/// The indices of interfaces, asked for in one go; of one that is not there, none.
pub(super) fn indices<'a>(
    kernel: &mut LinuxKernel,
    place: Place,
    names: &[&'a LinkName],
) -> Result<HashMap<&'a LinkName, Option<u32>>, Error> {
    let mut indices = HashMap::with_capacity(names.len());
    for (name, body) in names.iter().copied().zip(messages(kernel, place, names)?) {
        let index = body.and_then(|body| link::parse_index(&body));
        kernel.side(place)?.learn(name, index);
        indices.insert(name, index);
    }
    Ok(indices)
}

/// What rtnetlink says of interfaces, one by one, asked for in one go; of one that is not there, nothing.
fn messages(
    kernel: &mut LinuxKernel,
    place: Place,
    names: &[&LinkName],
) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let mut datagram = Datagram::default();
    for name in names {
        link::get(&mut datagram, name);
    }
    let replies = kernel.exchange(place, &mut datagram, Operation::Read, "interfaces")?;
    let told = |(name, reply): (&&LinkName, Reply)| match reply.accepted() {
        Ok(answers) => Ok(answers.into_iter().next()),
        Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
        Err(refusal) => Err(refused(Operation::Read, place, &format!("interface \"{name}\""), refusal)),
    };
    names.iter().zip(replies).map(told).collect()
}

/// The index of an interface alone: of one that was seen before, that is known in a tenth of the time.
fn index(kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<Option<u32>, Error> {
    match seen_before(kernel, place, name)? {
        Some(index) => Ok(Some(index)),
        None => Ok(indices(kernel, place, &[name])?.remove(name).flatten()),
    }
}

/// The index of an interface that was seen before and is still there.
fn seen_before(kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<Option<u32>, Error> {
    let side = kernel.side(place)?;
    let Some(known) = side.links.get(name).copied() else { return Ok(None) };
    let is_there = sys::has_name(side.route()?, known.index, name.as_str()).unwrap_or(false);
    Ok(is_there.then_some(known.index))
}

/// Asks the driver, which costs a third of an answer of rtnetlink's. Not every driver knows.
fn carrier(kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<bool, Error> {
    let asked = match seen_before(kernel, place, name)? {
        Some(_) => sys::has_carrier(kernel.side(place)?.route()?, name.as_str()).ok(),
        None => None,
    };
    match asked {
        Some(carrier) => Ok(carrier),
        None => Ok(link(kernel, place, name)?.is_some_and(|link| link.up && link.carrier)),
    }
}

/// Reads one interface by its index.
pub(super) fn link_by_index(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
) -> Result<Option<LinkState>, Error> {
    let object = format!("interface {index}");
    let mut request = Datagram::default();
    link::get_by_index(&mut request, index);
    let reply = kernel.exchange(place, &mut request, Operation::Read, &object)?.pop().unwrap_or_default();
    match reply.accepted() {
        Ok(answers) => Ok(answers.first().and_then(|body| link::parse(body))),
        Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
        Err(refusal) => Err(refused(Operation::Read, place, &object, refusal)),
    }
}

/// Reads how a bridge treats a port.
pub(super) fn port(kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<Option<Port>, Error> {
    Found::look_up(kernel, place, &[Query::Port(name.clone())])?.port(kernel, place, name)
}

/// Reads how far duplicate address detection has come; `None` if there is no such interface.
pub(super) fn detection(
    kernel: &mut LinuxKernel,
    place: Place,
    name: &LinkName,
) -> Result<Option<Detection>, Error> {
    let Some(link) = link(kernel, place, name)? else { return Ok(None) };
    let mut request = Datagram::default();
    address::get(&mut request, link.index, None);
    let list = kernel.dump(place, &mut request, &Query::Addresses(name.clone()).to_string())?;
    let mut overall = Detection::Over;
    for body in &list {
        match address::detection(body, link.index) {
            Some(Detection::Found(address)) => return Ok(Some(Detection::Found(address))),
            Some(Detection::Running) => overall = Detection::Running,
            Some(Detection::Over) | None => {}
        }
    }
    Ok(Some(overall))
}

/// The links that some queries are about, those that are there, with the messages that say so.
struct Found {
    links: HashMap<LinkName, (LinkState, Vec<u8>)>,
}

impl Found {
    fn look_up(kernel: &mut LinuxKernel, place: Place, queries: &[Query]) -> Result<Self, Error> {
        let mut names: Vec<&LinkName> = queries.iter().filter_map(subject).collect();
        names.sort();
        names.dedup();
        let mut found = Self { links: HashMap::new() };
        for (name, body) in names.iter().copied().zip(messages(kernel, place, &names)?) {
            let link = body.and_then(|body| Some((link::parse(&body)?, body)));
            kernel.side(place)?.learn(name, link.as_ref().map(|(link, _)| link.index));
            found.links.extend(link.map(|link| (name.clone(), link)));
        }
        Ok(found)
    }

    fn link(&self, name: &LinkName) -> Option<&LinkState> {
        self.links.get(name).map(|(link, _)| link)
    }

    fn port(&self, kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<Option<Port>, Error> {
        let Some((link, message)) = self.links.get(name) else { return Ok(None) };
        let Some(mut port) = port::parse(name, message) else { return Ok(None) };
        let mut request = Datagram::default();
        port::get_vlans(&mut request, link.index);
        match kernel.dump(place, &mut request, &format!("VLANs of bridge port \"{name}\"")) {
            Ok(entries) => {
                let ours = entries.iter().filter(|body| port::vlans_index(body) == Some(link.index));
                port.vlans = ours.flat_map(|body| port::parse_vlans(body)).collect();
                port.drop_default_vlan =
                    !port.vlans.is_empty() && !port.vlans.iter().any(|vlan| vlan.first <= 1);
            }
            // A kernel without VLAN filtering.
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
        Ok(Some(port))
    }
}

/// The link that must be looked up for a query.
fn subject(query: &Query) -> Option<&LinkName> {
    match query {
        Query::Link(name)
        | Query::Port(name)
        | Query::Addresses(name)
        | Query::Peer(name)
        | Query::PeerAddresses(name)
        | Query::Routes(name)
        | Query::NeighboursOn(name)
        | Query::FdbOf(name, _)
        | Query::FdbOn(name)
        | Query::Qdiscs(name)
        | Query::Redirects(name) => Some(name),
        // An index is all that it takes.
        Query::NeighbourOf(..)
        | Query::Links
        | Query::Carrier(_)
        | Query::LinkTo(_)
        | Query::Rules
        | Query::Tables
        | Query::DefaultRoutes
        | Query::RoutesOf { .. }
        | Query::RouteTo(_)
        | Query::NextHop(_)
        | Query::NextHops(_)
        | Query::Proxies
        | Query::OverlayRules
        | Query::Sysctl(_)
        | Query::Entry(_)
        | Query::Entries(_)
        | Query::Foreign(_)
        | Query::Comments(_)
        | Query::Droppers
        | Query::Isolation(_)
        | Query::ForwardJump(_) => None,
    }
}

/// The key of the entry that a query is about.
fn entry_key(query: &Query) -> Option<&EntryKey> {
    match query {
        Query::Entry(key) => Some(key),
        _ => None,
    }
}

fn links(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<LinkState>, Error> {
    let mut request = Datagram::default();
    link::get_all(&mut request);
    let list = kernel.dump(place, &mut request, "interfaces")?;
    Ok(list.iter().filter_map(|body| link::parse(body)).collect())
}

fn addresses(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    namespace: Option<i32>,
    name: &LinkName,
) -> Result<Vec<Address>, Error> {
    let mut request = Datagram::default();
    address::get(&mut request, index, namespace);
    let object = format!("addresses of \"{name}\"");
    let list = absent_is_empty(kernel.dump(place, &mut request, &object))?;
    Ok(list.iter().filter_map(|body| address::parse(body, index, name)).collect())
}

/// The addresses of a link's other end.
fn peer_addresses(kernel: &mut LinuxKernel, place: Place, link: &LinkState) -> Result<Vec<Address>, Error> {
    match peer(kernel, place, link)? {
        Some(peer) => addresses(kernel, place, peer.index, link.peer_namespace, &peer.name),
        None => Ok(Vec::new()),
    }
}

/// A link's other end. The namespace that it is in needs no path, only the number that the kernel gave it for us.
fn peer(kernel: &mut LinuxKernel, place: Place, link: &LinkState) -> Result<Option<LinkState>, Error> {
    let Some(index) = link.peer_index.filter(|index| *index != 0 && link.kind == "veth") else {
        return Ok(None);
    };
    let mut request = Datagram::default();
    match link.peer_namespace {
        Some(number) if number < 0 => return Ok(None),
        Some(number) => link::get_elsewhere(&mut request, index, number),
        None => link::get_by_index(&mut request, index),
    }
    let object = format!("other end of \"{}\"", link.name);
    let reply = kernel.exchange(place, &mut request, Operation::Read, &object)?.pop().unwrap_or_default();
    match reply.accepted() {
        Ok(answers) => Ok(answers.first().and_then(|body| link::parse(body))),
        Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
        Err(refusal) => Err(refused(Operation::Read, place, &object, refusal)),
    }
}

fn qdiscs(kernel: &mut LinuxKernel, place: Place, index: u32, name: &LinkName) -> Result<Vec<Qdisc>, Error> {
    let mut request = Datagram::default();
    tc::get(&mut request, index);
    let object = Query::Qdiscs(name.clone()).to_string();
    let mut found = Vec::new();
    for reply in kernel.exchange(place, &mut request, Operation::Read, &object)? {
        match reply.accepted() {
            Ok(answers) => found.extend(answers.iter().find_map(|body| tc::parse(body))),
            Err(refusal) if is_absence_of_qdisc(&refusal) => {}
            Err(refusal) => return Err(refused(Operation::Read, place, &object, refusal)),
        }
    }
    Ok(found.into_iter().map(|discipline| Qdisc { link: name.clone(), discipline }).collect())
}

/// Whether the kernel refused to show a discipline because there is none: `EINVAL` for one that it shows to nobody, as
/// a veth's, `EOPNOTSUPP` without `CONFIG_NET_SCHED`.
fn is_absence_of_qdisc(refusal: &Refusal) -> bool {
    matches!(refusal.errno, Errno::ENOENT | Errno::EINVAL | Errno::ENODEV | Errno::EOPNOTSUPP)
}

fn redirects(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    name: &LinkName,
) -> Result<Vec<Redirect>, Error> {
    let mut request = Datagram::default();
    tc::get_redirects(&mut request, index);
    let object = Query::Redirects(name.clone()).to_string();
    let list = absent_is_empty(kernel.dump(place, &mut request, &object))?;
    let targets: Vec<_> = list.iter().filter_map(|body| tc::parse_redirect(body)).collect();
    let mut request = Datagram::default();
    targets.iter().for_each(|index| link::get_by_index(&mut request, *index));
    let replies = kernel.exchange(place, &mut request, Operation::Read, &object)?;
    // A target that is gone is none.
    let links = replies.into_iter().filter_map(|reply| link::parse(reply.accepted().ok()?.first()?));
    Ok(links.map(|link| Redirect { from: name.clone(), to: link.name }).collect())
}

/// A link that went away between two questions has nothing.
pub(super) fn absent_is_empty(list: Result<Vec<Vec<u8>>, Error>) -> Result<Vec<Vec<u8>>, Error> {
    match list {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(Vec::new()),
        other => other,
    }
}

impl super::Side {
    /// Remembers where a link was found, or that it was not.
    fn learn(&mut self, name: &LinkName, index: Option<u32>) {
        match index {
            Some(index) => {
                let fresh = self.links.get(name).is_some_and(|known| known.fresh && known.index == index);
                self.links.insert(name.clone(), Known { index, fresh });
            }
            None => drop(self.links.remove(name)),
        }
    }
}
