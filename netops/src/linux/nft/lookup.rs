//! What there is, by key or all of it.

use super::expression::Version;
use super::message::{self, Element, Key, Set};
use super::ruleset::{self, Entry};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Query;
use crate::linux::netlink::{Datagram, Reply};
use crate::linux::{LinuxKernel, failed, refused};
use crate::place::Place;
use crate::resource::{Masquerade, SpoofCheck};

/// Looks up what queries ask for by key, all of it at once: in two datagrams if ports are among it, whose MAC addresses
/// come first. One result each; none for a query that asks for something else.
pub(in crate::linux) fn look_up(
    kernel: &mut LinuxKernel,
    place: Place,
    queries: &[Query],
    operation: Operation,
    object: &str,
) -> Result<Vec<Option<Entry>>, Error> {
    let port = |query: &Query| match query {
        Query::SpoofCheck(port) => Some((&ruleset::CHECKED, Key::default().interface(port))),
        _ => None,
    };
    let ports: Vec<_> = queries.iter().map(port).collect();
    let ports = get(kernel, place, &ports, operation, object)?;
    let key = |(query, checked): (&Query, Option<Element>)| match query {
        Query::Masquerade(source) => {
            Some((ruleset::masquerades(Version::of(*source)), Key::default().address(*source)))
        }
        Query::SpoofCheck(port) => {
            let mac = ruleset::parse_checked(&checked?)?;
            Some((&ruleset::ALLOWED, Key::default().interface(port).mac(mac)))
        }
        _ => None,
    };
    let keys: Vec<_> = queries.iter().zip(ports).map(key).collect();
    let elements = get(kernel, place, &keys, operation, object)?;
    let entry = |(query, element): (&Query, Option<Element>)| match query {
        Query::Masquerade(_) => ruleset::parse_masquerade(&element?).map(Entry::Masquerade),
        _ => ruleset::parse_spoof_check(&element?).map(Entry::SpoofCheck),
    };
    Ok(queries.iter().zip(elements).map(entry).collect())
}

/// Lists every masquerade.
pub(in crate::linux) fn masquerades(
    kernel: &mut LinuxKernel,
    place: Place,
    object: &str,
) -> Result<Vec<Masquerade>, Error> {
    let mut all = list(kernel, place, &ruleset::MASQUERADE4, object)?;
    all.extend(list(kernel, place, &ruleset::MASQUERADE6, object)?);
    Ok(all.iter().filter_map(ruleset::parse_masquerade).collect())
}

/// Lists every spoof check.
pub(in crate::linux) fn spoof_checks(
    kernel: &mut LinuxKernel,
    place: Place,
    object: &str,
) -> Result<Vec<SpoofCheck>, Error> {
    let all = list(kernel, place, &ruleset::ALLOWED, object)?;
    Ok(all.iter().filter_map(ruleset::parse_spoof_check).collect())
}

/// Looks for single elements, where there is a key, in one datagram. No set and no table are no element.
fn get(
    kernel: &mut LinuxKernel,
    place: Place,
    keys: &[Option<(&Set, Key)>],
    operation: Operation,
    object: &str,
) -> Result<Vec<Option<Element>>, Error> {
    let mut request = Datagram::default();
    for (set, key) in keys.iter().flatten() {
        message::get(&mut request, set, key.clone());
    }
    if request.is_empty() {
        return Ok(vec![None; keys.len()]);
    }
    let replies = kernel.side(place)?.netfilter()?.exchange(&mut request);
    let mut replies = replies.map_err(|failure| failed(operation, place, object, failure))?.into_iter();
    let element = |reply: Option<Reply>| match reply.map(Reply::accepted) {
        None => Ok(None),
        Some(Ok(answers)) => Ok(answers.first().and_then(|body| message::parse(body).next())),
        Some(Err(refusal)) if refusal.errno == Errno::ENOENT => Ok(None),
        Some(Err(refusal)) => Err(refused(operation, place, object, refusal)),
    };
    keys.iter().map(|key| element(key.as_ref().and_then(|_| replies.next()))).collect()
}

/// Lists a set. No set and no table are no elements.
fn list(kernel: &mut LinuxKernel, place: Place, set: &Set, object: &str) -> Result<Vec<Element>, Error> {
    let mut request = Datagram::default();
    message::get_all(&mut request, set);
    let reply = kernel.side(place)?.netfilter()?.dump(&mut request);
    let reply = reply.map_err(|failure| failed(Operation::Read, place, object, failure))?;
    match reply.accepted() {
        Ok(answers) => Ok(answers.iter().flat_map(|body| message::parse(body)).collect()),
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(Vec::new()),
        Err(refusal) => Err(refused(Operation::Read, place, object, refusal)),
    }
}

/// Reads bytes as if they were elements.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::linux) fn read_as_elements(body: &[u8]) {
    for element in message::parse(body) {
        let _ = ruleset::parse_masquerade(&element);
        let _ = ruleset::parse_spoof_check(&element);
        let _ = ruleset::parse_checked(&element);
    }
}
