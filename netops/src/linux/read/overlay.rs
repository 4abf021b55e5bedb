//! Next hops, neighbours, FDB entries, the routes of a protocol, and the way of one packet.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;

use super::{absent_is_empty, link_by_index};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Query;
use crate::linux::netlink::Datagram;
use crate::linux::rtnetlink::{neighbour, next_hop, route};
use crate::linux::{LinuxKernel, refused};
use crate::lookup::{FoundRoute, NeighbourState, RouteKind, RouteLookup};
use crate::name::{LinkName, MacAddr};
use crate::place::Place;
use crate::resource::{FdbEntry, NeighbourProxy, NextHop, Route};

pub(super) fn routes(
    kernel: &mut LinuxKernel,
    place: Place,
    protocol: Option<u8>,
    table: Option<u32>,
) -> Result<Vec<Route>, Error> {
    let object = Query::RoutesOf { protocol, table }.to_string();
    let mut names = Names::default();
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = Datagram::default();
        route::get_of(&mut request, family, protocol, table);
        let list = match kernel.dump(place, &mut request, &object) {
            // There is no such table: tables come with their first route.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
            other => other?,
        };
        for (mut route, hop) in list.iter().flat_map(|body| route::parse_as_made(body)) {
            // IPv6 does not look at the protocol where there is also a table to look at.
            if protocol.is_some_and(|protocol| route.protocol() != protocol) {
                continue;
            }
            if let Some(hop) = hop {
                let Some(link) = names.of(kernel, place, hop.index)? else { continue };
                route.target = hop.target(&link);
            }
            found.push(route);
        }
    }
    Ok(found)
}

/// The way of a packet: which route decides, and what comes of it, are two questions.
pub(super) fn way(
    kernel: &mut LinuxKernel,
    place: Place,
    lookup: &RouteLookup,
) -> Result<Option<FoundRoute>, Error> {
    let object = Query::RouteTo(lookup.clone()).to_string();
    let input = match &lookup.input {
        Some(name) => match super::link(kernel, place, name)? {
            Some(link) => Some(link.index),
            None => return Ok(None),
        },
        None => None,
    };
    let mut request = Datagram::default();
    route::get_way(&mut request, lookup, input, false);
    route::get_way(&mut request, lookup, input, true);
    let mut replies = kernel.exchange(place, &mut request, Operation::Read, &object)?.into_iter();
    let mut next = || replies.next().unwrap_or_default().accepted();
    let (way, rule) = (next(), next());
    let mut way = match way {
        Ok(answers) => match answers.first().and_then(|body| route::parse_way(body)) {
            // That is of the packet, and not of the route.
            Some((way, index)) => (FoundRoute { destination: None, ..way }, index),
            None => return Ok(None),
        },
        // Of a route to nowhere the kernel tells by the error that a sender would get (`fib_props`).
        Err(refusal) => match refusal.errno {
            Errno::ENETUNREACH => return Ok(None),
            Errno::EINVAL => (FoundRoute::new(RouteKind::Blackhole), None),
            Errno::EHOSTUNREACH => (FoundRoute::new(RouteKind::Unreachable), None),
            errno if errno == Errno::new(libc::EACCES) => (FoundRoute::new(RouteKind::Prohibited), None),
            _ => return Err(refused(Operation::Read, place, &object, refusal)),
        },
    };
    if let Some((rule, _)) = rule.ok().and_then(|answers| route::parse_way(answers.first()?)) {
        way.0 = FoundRoute {
            destination: rule.destination,
            table: rule.table,
            protocol: rule.protocol,
            next_hop: rule.next_hop.or(way.0.next_hop),
            ..way.0
        };
    }
    let (mut way, index) = way;
    way.link = match index {
        Some(index) => Names::default().of(kernel, place, index)?,
        None => None,
    };
    Ok(Some(way))
}

pub(super) fn next_hop(kernel: &mut LinuxKernel, place: Place, id: u32) -> Result<Vec<NextHop>, Error> {
    let mut request = Datagram::default();
    next_hop::get(&mut request, id);
    let bodies = ask(kernel, place, &mut request, &Query::NextHop(id))?;
    named_next_hops(kernel, place, &bodies, |_| true)
}

pub(super) fn next_hops(kernel: &mut LinuxKernel, place: Place, protocol: u8) -> Result<Vec<NextHop>, Error> {
    let mut request = Datagram::default();
    next_hop::get_all(&mut request);
    let bodies = kernel.dump(place, &mut request, &Query::NextHops(protocol).to_string())?;
    named_next_hops(kernel, place, &bodies, |found| found.protocol == protocol)
}

fn named_next_hops(
    kernel: &mut LinuxKernel,
    place: Place,
    bodies: &[Vec<u8>],
    wanted: impl Fn(&next_hop::Found) -> bool,
) -> Result<Vec<NextHop>, Error> {
    let mut names = Names::default();
    let mut hops = Vec::with_capacity(bodies.len());
    for found in bodies.iter().filter_map(|body| next_hop::parse(body)).filter(wanted) {
        let link = match found.index {
            Some(index) => names.of(kernel, place, index)?,
            None => None,
        };
        hops.extend(found.named(link.as_ref()));
    }
    Ok(hops)
}

pub(super) fn neighbour(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    name: &LinkName,
    address: IpAddr,
) -> Result<Vec<NeighbourState>, Error> {
    let mut request = Datagram::default();
    neighbour::get(&mut request, index, address);
    let bodies = ask(kernel, place, &mut request, &Query::NeighbourOf(name.clone(), address))?;
    Ok(named_neighbours(&bodies, index, name))
}

pub(super) fn neighbours(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    name: &LinkName,
) -> Result<Vec<NeighbourState>, Error> {
    let mut request = Datagram::default();
    neighbour::get_all(&mut request, index);
    let object = Query::NeighboursOn(name.clone()).to_string();
    let bodies = absent_is_empty(kernel.dump(place, &mut request, &object))?;
    Ok(named_neighbours(&bodies, index, name))
}

fn named_neighbours(bodies: &[Vec<u8>], index: u32, name: &LinkName) -> Vec<NeighbourState> {
    let found = bodies.iter().filter_map(|body| neighbour::parse(body)).filter(|found| found.index == index);
    let named = |found: neighbour::Found| NeighbourState {
        link: name.clone(),
        address: found.address,
        mac: found.mac,
        reachability: found.reachability,
        protocol: found.protocol,
    };
    found.map(named).collect()
}

pub(super) fn proxies(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<NeighbourProxy>, Error> {
    let mut request = Datagram::default();
    neighbour::get_proxies(&mut request);
    let bodies = kernel.dump(place, &mut request, &Query::Proxies.to_string())?;
    let mut names = Names::default();
    let mut proxies = Vec::with_capacity(bodies.len());
    for neighbour::Found { index, address, protocol, .. } in
        bodies.iter().filter_map(|body| neighbour::parse(body))
    {
        let link = names.of(kernel, place, index)?;
        proxies.extend(link.map(|link| NeighbourProxy { link, address, protocol }));
    }
    Ok(proxies)
}

pub(super) fn fdb_entry(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    name: &LinkName,
    mac: MacAddr,
) -> Result<Vec<FdbEntry>, Error> {
    let mut request = Datagram::default();
    neighbour::get_fdb(&mut request, index, mac);
    let bodies = ask(kernel, place, &mut request, &Query::FdbOf(name.clone(), mac))?;
    Ok(named_entries(&bodies, index, name))
}

pub(super) fn fdb(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    name: &LinkName,
) -> Result<Vec<FdbEntry>, Error> {
    let mut request = Datagram::default();
    neighbour::get_all_fdb(&mut request, index);
    let object = Query::FdbOn(name.clone()).to_string();
    let bodies = absent_is_empty(kernel.dump(place, &mut request, &object))?;
    Ok(named_entries(&bodies, index, name))
}

fn named_entries(bodies: &[Vec<u8>], index: u32, name: &LinkName) -> Vec<FdbEntry> {
    let found = bodies.iter().filter_map(|body| neighbour::parse_fdb(body));
    let found = found.filter(|(at, _, _)| *at == index);
    found.map(|(_, mac, remote)| FdbEntry { link: name.clone(), mac, remote }).collect()
}

/// Asks about one thing, which may not be there.
fn ask(
    kernel: &mut LinuxKernel,
    place: Place,
    request: &mut Datagram,
    query: &Query,
) -> Result<Vec<Vec<u8>>, Error> {
    let object = query.to_string();
    let reply = kernel.exchange(place, request, Operation::Read, &object)?.pop().unwrap_or_default();
    match reply.accepted() {
        Ok(answers) => Ok(answers),
        Err(refusal) if matches!(refusal.errno, Errno::ENOENT | Errno::ENODEV) => Ok(Vec::new()),
        Err(refusal) => Err(refused(Operation::Read, place, &object, refusal)),
    }
}

/// The names of interfaces, each asked for once.
#[derive(Default)]
struct Names {
    known: HashMap<u32, Option<LinkName>>,
}

impl Names {
    fn of(&mut self, kernel: &mut LinuxKernel, place: Place, index: u32) -> Result<Option<LinkName>, Error> {
        if let Some(name) = self.known.get(&index) {
            return Ok(name.clone());
        }
        let name = link_by_index(kernel, place, index)?.map(|link| link.name);
        Ok(self.known.entry(index).or_insert(name).clone())
    }
}
