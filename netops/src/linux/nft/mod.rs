//! nf_tables, spoken to directly: one atomic transaction per call, no helper program.
//!
//! ```text
//! mod.rs         entries, added and removed
//! lookup.rs      … and read
//! ruleset.rs     the tables, and what each kind of entry hangs from: masquerade.rs, port_mapping.rs,
//!                spoof_check.rs, forwarded.rs
//! foreign.rs     what other programs have made: chains and rules, looked for and deleted
//! droppers.rs    … and chains that drop what is forwarded
//! isolation.rs   what bridges are said to be
//! overlay.rs     what an overlay has it do, in a table of its own
//! iptables.rs    the way through the tables of `iptables`
//! rule.rs        rules, as a person would write them
//! expression.rs  … and as the kernel executes them
//! element.rs     sets and their elements, as values and as bytes
//! transaction.rs what is changed all at once
//! message.rs     what every message begins with
//! ```

pub(super) mod droppers;
mod element;
mod expression;
pub(super) mod foreign;
mod forwarded;
#[cfg(test)]
pub(super) mod hostile;
pub(super) mod iptables;
pub(super) mod isolation;
mod lookup;
mod masquerade;
mod message;
pub(super) mod overlay;
mod port_mapping;
mod rule;
mod ruleset;
mod spoof_check;
mod transaction;

use std::ops::Range;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use lookup::read_as_elements;
pub(super) use lookup::{all, look_up};
use transaction::Transaction;

use super::netlink::{Datagram, Refusal, Reply};
use super::{LinuxKernel, conntrack, failed, refused};
use crate::entry::Entry;
use crate::error::{Errno, Error, Operation};
use crate::kernel::{Created, Removed};
use crate::place::Place;
use crate::port_mapping::PortMapping;
use crate::resource::Resource;

/// How many entries fit into one transaction, which is one datagram of at most 208 KiB: of the longest kind, a spoof
/// check of 400 bytes.
const TOGETHER: usize = 256;

/// Adds elements in one transaction. If one of them cannot be, those before it are added without it.
pub(super) fn create(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
) -> Vec<Result<Created, Error>> {
    let entries: Vec<_> = run.iter().filter_map(|resource| entry_of(resource)).collect();
    let mut outcomes = Vec::with_capacity(run.len());
    for mut todo in entries.chunks(TOGETHER) {
        let mut failure = None;
        while let Err((number, error)) = add(kernel, place, todo) {
            todo = todo.get(..number).unwrap_or_default();
            failure = Some(Err(error));
        }
        outcomes.extend(std::iter::repeat_n(Ok(Created::New), todo.len()));
        if failure.is_some() {
            outcomes.extend(failure);
            break;
        }
    }
    let made = entries.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
    let mapped: Vec<_> = made.filter_map(|(entry, _)| mapping_of(entry)).collect();
    // What is remembered of earlier connections is no part of the mapping, and is forgotten in time.
    let _ = conntrack::mapped(kernel, place, &mapped);
    outcomes
}

/// Adds all of some entries or, if one cannot be, none; and then says which.
///
/// Where something that they hang from is not there yet, or not any more, the kernel answers `ENOENT`, and a second
/// transaction makes that as well.
fn add(kernel: &mut LinuxKernel, place: Place, entries: &[&Entry]) -> Result<(), (usize, Error)> {
    if entries.is_empty() {
        return Ok(());
    }
    let contradiction = entries.iter().enumerate().find_map(|(n, entry)| Some((n, entry.contradiction()?)));
    if let Some((number, contradiction)) = contradiction {
        let refusal = Refusal { errno: Errno::EINVAL, detail: Some(contradiction.to_owned()) };
        return Err((number, refused(Operation::Create, place, &name(entries, number), refusal)));
    }
    let outcome = match try_add(kernel, place, entries, Transaction::default())? {
        Err((_, refusal)) if refusal.errno == Errno::ENOENT => {
            let mut transaction = Transaction::default();
            ruleset::lay_out(&mut transaction, entries);
            try_add(kernel, place, entries, transaction)?
        }
        outcome => outcome,
    };
    outcome.map_err(|(number, refusal)| {
        let errno = match refusal.errno {
            // What the kernel says of a key that is there with another verdict.
            Errno::EBUSY => Errno::EEXIST,
            other => other,
        };
        (number, refused(Operation::Create, place, &name(entries, number), Refusal { errno, ..refusal }))
    })
}

/// The outer result is whether the kernel said anything, the inner one what.
fn try_add(
    kernel: &mut LinuxKernel,
    place: Place,
    entries: &[&Entry],
    mut transaction: Transaction,
) -> Result<Result<(), (usize, Refusal)>, (usize, Error)> {
    let messages: Vec<_> =
        entries.iter().map(|entry| numbered(&mut transaction, |all| add_elements(all, entry))).collect();
    let replies = send(kernel, place, transaction, Operation::Create, &name(entries, 0));
    Ok(first_refusal(replies.map_err(|error| (0, error))?, &messages))
}

/// Removes the entries that are there and still their owners', in one transaction.
pub(super) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
) -> Vec<Result<Removed, Error>> {
    let mut unmapped = Vec::new();
    let outcomes =
        run.chunks(TOGETHER).flat_map(|run| remove_some(kernel, place, run, &mut unmapped)).collect();
    // As with the beginning of a mapping.
    let _ = conntrack::unmapped(kernel, place, &unmapped);
    outcomes
}

fn remove_some(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
    unmapped: &mut Vec<PortMapping>,
) -> Vec<Result<Removed, Error>> {
    let wanted: Vec<_> = run.iter().filter_map(|resource| entry_of(resource)).collect();
    let keys: Vec<_> = wanted.iter().map(|entry| entry.key()).collect();
    let keys: Vec<_> = keys.iter().collect();
    let found = match look_up(kernel, place, &keys, Operation::Remove, &name(&wanted, 0)) {
        Ok(found) => found,
        Err(error) => return vec![Err(error); run.len()],
    };
    let mut outcomes: Vec<Result<Removed, Error>> = vec![Ok(Removed::Before); run.len()];
    let mut doomed = Vec::new();
    for (number, (found, wanted)) in found.into_iter().zip(&wanted).enumerate() {
        doomed.extend(found.filter(|found| found.mark() == wanted.mark()).map(|found| (number, found)));
    }
    while !doomed.is_empty() {
        let (numbers, entries): (Vec<usize>, Vec<&Entry>) =
            doomed.iter().map(|(n, entry)| (*n, entry)).unzip();
        let (concerned, outcome) = match delete(kernel, place, &entries) {
            Ok(()) => {
                unmapped.extend(entries.iter().filter_map(|entry| mapping_of(entry)).cloned());
                (0..doomed.len(), Ok(Removed::Now))
            }
            // The others are tried again without it.
            Err((which, outcome)) => (which..which + 1, outcome),
        };
        for number in numbers.get(concerned.clone()).unwrap_or_default() {
            if let Some(place) = outcomes.get_mut(*number) {
                place.clone_from(&outcome);
            }
        }
        doomed.drain(concerned);
    }
    outcomes
}

/// Deletes all of some entries or, if one cannot be, none; and then says which, and what has become of that.
fn delete(
    kernel: &mut LinuxKernel,
    place: Place,
    entries: &[&Entry],
) -> Result<(), (usize, Result<Removed, Error>)> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut transaction = Transaction::default();
    let messages: Vec<_> =
        entries.iter().map(|entry| numbered(&mut transaction, |all| delete_elements(all, entry))).collect();
    let replies = send(kernel, place, transaction, Operation::Remove, &name(entries, 0))
        .map_err(|error| (0, Err(error)))?;
    first_refusal(replies, &messages).map_err(|(which, refusal)| {
        let outcome = match refusal.errno {
            // Somebody else removed it just now.
            Errno::ENOENT => Ok(Removed::Before),
            _ => Err(refused(Operation::Remove, place, &name(entries, which), refusal)),
        };
        (which, outcome)
    })
}

fn send(
    kernel: &mut LinuxKernel,
    place: Place,
    transaction: Transaction,
    operation: Operation,
    object: &str,
) -> Result<Vec<Reply>, Error> {
    let side = kernel.side(place)?;
    side.slow_to_close |= transaction.deletes();
    let replies = transaction.send(side.netfilter()?);
    replies.map_err(|failure| failed(operation, place, object, failure))
}

/// Writes some messages, and says which those are.
/// Asks for a list. Where what it would be of is not there, it is empty.
fn dump(
    kernel: &mut LinuxKernel,
    place: Place,
    request: &mut Datagram,
    object: &str,
) -> Result<Vec<Vec<u8>>, Error> {
    let reply = kernel.side(place)?.netfilter()?.dump(request);
    match reply.map_err(|failure| failed(Operation::Read, place, object, failure))?.accepted() {
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(Vec::new()),
        answers => answers.map_err(|refusal| refused(Operation::Read, place, object, refusal)),
    }
}

fn numbered(transaction: &mut Transaction, write: impl FnOnce(&mut Transaction)) -> Range<usize> {
    let first = transaction.len();
    write(transaction);
    first..transaction.len()
}

/// What was refused first, and whose message that was. What is nobody's own stands in everybody's way.
fn first_refusal(replies: Vec<Reply>, messages: &[Range<usize>]) -> Result<(), (usize, Refusal)> {
    let refused = replies.into_iter().enumerate().find_map(|(number, reply)| Some((number, reply.refusal?)));
    match refused {
        None => Ok(()),
        Some((message, refusal)) => {
            let whose = messages.iter().position(|range| range.contains(&message));
            Err((whose.unwrap_or_default(), refusal))
        }
    }
}

fn entry_of(resource: &Resource) -> Option<&Entry> {
    match resource {
        Resource::Entry(entry) => Some(entry),
        _ => None,
    }
}

fn mapping_of(entry: &Entry) -> Option<&PortMapping> {
    match entry {
        Entry::PortMapping(mapping) => Some(mapping),
        _ => None,
    }
}

fn add_elements(transaction: &mut Transaction, entry: &Entry) {
    for (set, element) in ruleset::elements(entry) {
        transaction.add(set, &element);
    }
}

fn delete_elements(transaction: &mut Transaction, entry: &Entry) {
    for (set, element) in ruleset::elements(entry) {
        transaction.delete(set, element.key);
    }
}

/// What an entry is called.
fn name(entries: &[&Entry], number: usize) -> String {
    entries.get(number).map(ToString::to_string).unwrap_or_default()
}
