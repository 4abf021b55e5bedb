//! Routes out of interfaces, and the rules and tables that they are looked for by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;

use super::absent_is_empty;
use crate::error::{Errno, Error, Operation};
use crate::kernel::{LinkState, Query};
use crate::linux::netlink::Datagram;
use crate::linux::rtnetlink::{link, route, rule};
use crate::linux::{LinuxKernel, refused};
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::{Route, Rule};

pub(super) fn routes(
    kernel: &mut LinuxKernel,
    place: Place,
    index: u32,
    name: &LinkName,
) -> Result<Vec<Route>, Error> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = Datagram::default();
        route::get(&mut request, family, Some(index));
        let object = format!("routes out of \"{name}\"");
        let list = absent_is_empty(kernel.dump(place, &mut request, &object))?;
        found.extend(list.iter().flat_map(|body| route::parse(body, index, name)));
    }
    Ok(found)
}

/// The link that an address is on, as the routes have it.
pub(super) fn link_to(
    kernel: &mut LinuxKernel,
    place: Place,
    address: IpAddr,
) -> Result<Option<LinkState>, Error> {
    let object = Query::LinkTo(address).to_string();
    let mut ask = |write: &dyn Fn(&mut Datagram)| {
        let mut request = Datagram::default();
        write(&mut request);
        let reply = kernel.exchange(place, &mut request, Operation::Read, &object)?.pop().unwrap_or_default();
        match reply.accepted() {
            Ok(answers) => Ok(answers.into_iter().next()),
            // There is no way there, or it was there a moment ago.
            Err(refusal)
                if matches!(refusal.errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENODEV) =>
            {
                Ok(None)
            }
            Err(refusal) => Err(refused(Operation::Read, place, &object, refusal)),
        }
    };
    let route = ask(&|request| route::get_to(request, address))?;
    let Some(index) = route.and_then(|body| route::parse_direct(&body)) else { return Ok(None) };
    Ok(ask(&|request| link::get_by_index(request, index))?.and_then(|body| link::parse(&body)))
}

/// The rules that look at nothing but where a packet comes from.
pub(in crate::linux) fn rules(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<Rule>, Error> {
    Ok(all_rules(kernel, place)?.iter().filter_map(|body| rule::parse(body)).collect())
}

fn all_rules(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<Vec<u8>>, Error> {
    let mut request = Datagram::default();
    rule::get(&mut request);
    kernel.dump(place, &mut request, "routing rules")
}

pub(super) fn tables(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<u32>, Error> {
    let mut tables: BTreeSet<_> =
        all_rules(kernel, place)?.iter().filter_map(|body| rule::table(body)).collect();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = Datagram::default();
        route::get(&mut request, family, None);
        let list = kernel.dump(place, &mut request, "routing tables")?;
        tables.extend(list.iter().filter_map(|body| route::table(body)));
    }
    Ok(tables.into_iter().collect())
}

/// The default routes, which takes a look at all of the main table: the kernel can be asked for one route only by an
/// address that it leads to.
pub(super) fn default_routes(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<Route>, Error> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = Datagram::default();
        route::get_table(&mut request, family);
        let object = Query::DefaultRoutes.to_string();
        let list = kernel.dump(place, &mut request, &object)?;
        let mut indices: Vec<_> = list.iter().flat_map(|body| route::default_of(body)).collect();
        indices.sort_by_key(|(metric, _)| *metric);
        indices.dedup();
        for (_, index) in indices {
            let mut request = Datagram::default();
            link::get_by_index(&mut request, index);
            let reply = kernel.exchange(place, &mut request, Operation::Read, &object)?.pop();
            let answers = reply.unwrap_or_default().accepted().unwrap_or_default();
            let Some(link) = answers.first().and_then(|body| link::parse(body)) else { continue };
            let routes = list.iter().flat_map(|body| route::parse(body, index, &link.name));
            let is_default = |route: &Route| route.destination.prefix_len() == 0 && route.table.is_none();
            found.extend(routes.filter(is_default));
        }
    }
    Ok(found)
}
