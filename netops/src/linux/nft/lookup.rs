//! What there is, by key or all of it.

use std::collections::HashMap;

use super::dump;
use super::element::{self, Element, Key, Set};
use super::ruleset::{self, Whereabouts};
use crate::entry::{Entry, EntryKey, EntryKind};
use crate::error::{Errno, Error, Operation};
use crate::linux::netlink::{Datagram, Reply};
use crate::linux::{LinuxKernel, failed, refused};
use crate::place::Place;

/// Looks up entries by key, all of them at once: in two datagrams if some are where others say. One result each.
pub(in crate::linux) fn look_up(
    kernel: &mut LinuxKernel,
    place: Place,
    keys: &[&EntryKey],
    operation: Operation,
    object: &str,
) -> Result<Vec<Option<Entry>>, Error> {
    let whereabouts: Vec<_> = keys.iter().map(|key| ruleset::whereabouts(key)).collect();
    let guides = whereabouts.iter().map(|whereabouts| match whereabouts {
        Whereabouts::SaidBy(set, key, _) => Some((*set, key.clone())),
        Whereabouts::Element(..) => None,
    });
    let guides = get(kernel, place, &guides.collect::<Vec<_>>(), operation, object)?;
    let places =
        keys.iter().zip(whereabouts).zip(guides).map(|((key, whereabouts), guide)| match whereabouts {
            Whereabouts::Element(set, key) => Some((set, key)),
            Whereabouts::SaidBy(_, _, next) => next(key, &guide?),
        });
    let places: Vec<_> = places.collect();
    let beside = places.iter().map(|place| {
        let (set, key) = place.as_ref()?;
        Some((set.beside?, key.clone()))
    });
    let both: Vec<_> = places.iter().cloned().chain(beside).collect();
    let mut elements = get(kernel, place, &both, operation, object)?;
    let others = elements.split_off(places.len());
    let elements = elements.into_iter().zip(others).map(|(element, other)| match other {
        Some(other) => Some(element?.and(other)),
        None => element,
    });
    let entry = |(key, element): (&&EntryKey, Option<Element>)| ruleset::parse(key.kind(), &element?);
    Ok(keys.iter().zip(elements).map(entry).collect())
}

/// Lists every entry of a kind.
pub(in crate::linux) fn all(
    kernel: &mut LinuxKernel,
    place: Place,
    kind: EntryKind,
) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    for set in ruleset::sets(kind) {
        let mut elements = list(kernel, place, set, &kind.to_string())?;
        if let Some(beside) = set.beside
            && !elements.is_empty()
        {
            let others = list(kernel, place, beside, &kind.to_string())?;
            let mut others: HashMap<_, _> = others.into_iter().map(|e| (e.key.clone(), e)).collect();
            let whole = |element: Element| match others.remove(&element.key) {
                Some(other) => element.and(other),
                None => element,
            };
            elements = elements.into_iter().map(whole).collect();
        }
        found.extend(elements.iter().filter_map(|element| ruleset::parse(kind, element)));
    }
    Ok(found)
}

/// Looks for single elements, where there is a key, in one datagram. No set and no table are no element.
pub(super) fn get(
    kernel: &mut LinuxKernel,
    place: Place,
    keys: &[Option<(&Set, Key)>],
    operation: Operation,
    object: &str,
) -> Result<Vec<Option<Element>>, Error> {
    let mut request = Datagram::default();
    for (set, key) in keys.iter().flatten() {
        element::get(&mut request, set, key.clone());
    }
    if request.is_empty() {
        return Ok(vec![None; keys.len()]);
    }
    let replies = kernel.side(place)?.netfilter()?.exchange(&mut request);
    let mut replies = replies.map_err(|failure| failed(operation, place, object, failure))?.into_iter();
    let element = |reply: Option<Reply>| match reply.map(Reply::accepted) {
        None => Ok(None),
        Some(Ok(answers)) => Ok(answers.first().and_then(|body| element::parse(body).next())),
        Some(Err(refusal)) if refusal.errno == Errno::ENOENT => Ok(None),
        Some(Err(refusal)) => Err(refused(operation, place, object, refusal)),
    };
    keys.iter().map(|key| element(key.as_ref().and_then(|_| replies.next()))).collect()
}

/// Lists a set. No set and no table are no elements.
fn list(kernel: &mut LinuxKernel, place: Place, set: &Set, object: &str) -> Result<Vec<Element>, Error> {
    let mut request = Datagram::default();
    element::get_all(&mut request, set);
    let answers = dump(kernel, place, &mut request, object)?;
    Ok(answers.iter().flat_map(|body| element::parse(body)).collect())
}

/// Reads bytes as if they were elements.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::linux) fn read_as_elements(body: &[u8]) {
    let mut before: Option<Element> = None;
    for element in element::parse(body) {
        // By itself, and with what stands beside it.
        let beside = before.replace(element.clone()).map(|before| before.and(element.clone()));
        for element in beside.iter().chain([&element]) {
            for kind in EntryKind::ALL {
                let _ = ruleset::parse(*kind, element);
            }
        }
    }
}
