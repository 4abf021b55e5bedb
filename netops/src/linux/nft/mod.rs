//! nf_tables, spoken to directly: one atomic transaction per call, no helper program.
//!
//! ```text
//! mod.rs         masquerades and spoof checks: added, removed, read
//! ruleset.rs     the tables, sets, chains and rules that they are elements of
//! expression.rs  rules, from what a person would write to what the kernel executes
//! message.rs     transactions and elements as bytes
//! ```

mod expression;
mod message;
mod ruleset;

use std::net::IpAddr;
use std::ops::Range;

use expression::Version;
use message::{Element, Key, Set, Transaction};
use ruleset::Entry;

use super::netlink::{Datagram, Refusal, Reply};
use super::{LinuxKernel, failed, refused};
use crate::error::{Errno, Error, Operation};
use crate::kernel::{Created, Removed};
use crate::name::LinkName;
use crate::plan::Place;
use crate::resource::{Masquerade, Resource, SpoofCheck};

/// Adds elements in one transaction. If one of them cannot be, those before it are added without it.
pub(super) fn create(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
) -> Vec<Result<Created, Error>> {
    let entries: Vec<_> = run.iter().filter_map(|resource| Entry::of(resource)).collect();
    let mut todo = entries.as_slice();
    let mut failure = None;
    while let Err((number, error)) = add(kernel, place, todo) {
        todo = todo.get(..number).unwrap_or_default();
        failure = Some(Err(error));
    }
    std::iter::repeat_n(Ok(Created::New), todo.len()).chain(failure).collect()
}

/// Adds all of some entries or, if one cannot be, none; and then says which.
///
/// Where something that they hang from is not there yet, or not any more, the kernel answers `ENOENT`, and a second
/// transaction makes that as well.
fn add(kernel: &mut LinuxKernel, place: Place, entries: &[Entry<'_>]) -> Result<(), (usize, Error)> {
    if entries.is_empty() {
        return Ok(());
    }
    if let Some(number) = entries.iter().position(|entry| !entry.is_of_one_version()) {
        let detail = Some("the address and the subnet are of different versions of IP".to_owned());
        let refusal = Refusal { errno: Errno::EINVAL, detail };
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
    entries: &[Entry<'_>],
    mut transaction: Transaction,
) -> Result<Result<(), (usize, Refusal)>, (usize, Error)> {
    let messages: Vec<_> =
        entries.iter().map(|entry| numbered(&mut transaction, |all| entry.add(all))).collect();
    let replies = send(kernel, place, transaction, Operation::Create, &name(entries, 0));
    Ok(first_refusal(replies.map_err(|error| (0, error))?, &messages))
}

/// Removes the elements that are still their owners', in one transaction.
pub(super) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    run: &[&Resource],
) -> Vec<Result<Removed, Error>> {
    let entries: Vec<_> = run.iter().filter_map(|resource| Entry::of(resource)).collect();
    let mut outcomes = match owned(kernel, place, &entries) {
        Ok(owned) => owned,
        Err(error) => return vec![Err(error); run.len()],
    };
    loop {
        let still = |number: &usize| outcomes.get(*number) == Some(&Ok(Removed::Now));
        let todo: Vec<usize> = (0..entries.len()).filter(still).collect();
        if todo.is_empty() {
            return outcomes;
        }
        // Each time round there is one fewer.
        let Err((number, outcome)) = delete(kernel, place, &entries, &todo) else { return outcomes };
        match outcomes.get_mut(number) {
            Some(place) => *place = outcome,
            None => return outcomes,
        }
    }
}

/// Deletes all of some entries or, if one cannot be, none; and then says which, and what has become of that.
fn delete(
    kernel: &mut LinuxKernel,
    place: Place,
    entries: &[Entry<'_>],
    todo: &[usize],
) -> Result<(), (usize, Result<Removed, Error>)> {
    let mut transaction = Transaction::default();
    let entry = |number: &usize| entries.get(*number);
    let messages: Vec<_> = todo
        .iter()
        .filter_map(entry)
        .map(|entry| numbered(&mut transaction, |all| entry.delete(all)))
        .collect();
    let number = |which: usize| todo.get(which).copied().unwrap_or_default();
    let replies = send(kernel, place, transaction, Operation::Remove, &name(entries, number(0)))
        .map_err(|error| (number(0), Err(error)))?;
    first_refusal(replies, &messages).map_err(|(which, refusal)| {
        let number = number(which);
        let outcome = match refusal.errno {
            // Somebody else removed it just now.
            Errno::ENOENT => Ok(Removed::Before),
            _ => Err(refused(Operation::Remove, place, &name(entries, number), refusal)),
        };
        (number, outcome)
    })
}

/// Which entries are there and still have their owners' marks: those are to be removed now.
fn owned(
    kernel: &mut LinuxKernel,
    place: Place,
    entries: &[Entry<'_>],
) -> Result<Vec<Result<Removed, Error>>, Error> {
    let questions: Vec<_> = entries.iter().map(|entry| (entry.set(), entry.key())).collect();
    let found = get(kernel, place, &questions, Operation::Remove, &name(entries, 0))?;
    let is_owned = |(entry, element): (&Entry<'_>, Option<Element>)| {
        element.is_some_and(|element| element.comment.as_deref() == Some(entry.mark().as_str()))
    };
    Ok(entries
        .iter()
        .zip(found)
        .map(is_owned)
        .map(|owned| Ok(if owned { Removed::Now } else { Removed::Before }))
        .collect())
}

/// Reads the masquerade of an address.
pub(super) fn masquerade(
    kernel: &mut LinuxKernel,
    place: Place,
    source: IpAddr,
    object: &str,
) -> Result<Vec<Masquerade>, Error> {
    let question = (ruleset::masquerades(Version::of(source)), Key::default().address(source));
    let found = get(kernel, place, &[question], Operation::Read, object)?;
    Ok(found.iter().flatten().filter_map(ruleset::parse_masquerade).collect())
}

/// Reads every masquerade.
pub(super) fn masquerades(
    kernel: &mut LinuxKernel,
    place: Place,
    object: &str,
) -> Result<Vec<Masquerade>, Error> {
    let mut all = list(kernel, place, &ruleset::MASQUERADE4, object)?;
    all.extend(list(kernel, place, &ruleset::MASQUERADE6, object)?);
    Ok(all.iter().filter_map(ruleset::parse_masquerade).collect())
}

/// Reads the spoof checks, of one port or of all. There is no way to ask for one: the key has the MAC address in it.
pub(super) fn spoof_checks(
    kernel: &mut LinuxKernel,
    place: Place,
    port: Option<&LinkName>,
    object: &str,
) -> Result<Vec<SpoofCheck>, Error> {
    let all = list(kernel, place, &ruleset::ALLOWED, object)?;
    let is_wanted = |check: &SpoofCheck| port.is_none_or(|port| check.port == *port);
    Ok(all.iter().filter_map(ruleset::parse_spoof_check).filter(is_wanted).collect())
}

/// Looks for single elements, in one datagram. No set and no table are no element.
fn get(
    kernel: &mut LinuxKernel,
    place: Place,
    questions: &[(&'static Set, Key)],
    operation: Operation,
    object: &str,
) -> Result<Vec<Option<Element>>, Error> {
    let mut datagram = Datagram::default();
    for (set, key) in questions {
        message::get(&mut datagram, set, key.clone());
    }
    let replies = kernel.room(place)?.netfilter()?.exchange(&mut datagram);
    let replies = replies.map_err(|failure| failed(operation, place, object, failure))?;
    let element = |reply: Reply| match reply.accepted() {
        Ok(answers) => Ok(answers.first().and_then(|body| message::parse(body).next())),
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(None),
        Err(refusal) => Err(refused(operation, place, object, refusal)),
    };
    replies.into_iter().map(element).collect()
}

/// Lists a set.
fn list(
    kernel: &mut LinuxKernel,
    place: Place,
    set: &'static Set,
    object: &str,
) -> Result<Vec<Element>, Error> {
    let mut request = Datagram::default();
    message::get_all(&mut request, set);
    let reply = kernel.room(place)?.netfilter()?.dump(&mut request);
    let reply = reply.map_err(|failure| failed(Operation::Read, place, object, failure))?;
    match reply.accepted() {
        Ok(answers) => Ok(answers.iter().flat_map(|body| message::parse(body)).collect()),
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(Vec::new()),
        Err(refusal) => Err(refused(Operation::Read, place, object, refusal)),
    }
}

fn send(
    kernel: &mut LinuxKernel,
    place: Place,
    transaction: Transaction,
    operation: Operation,
    object: &str,
) -> Result<Vec<Reply>, Error> {
    let room = kernel.room(place)?;
    room.slow_to_close |= transaction.deletes();
    let replies = transaction.send(room.netfilter()?);
    replies.map_err(|failure| failed(operation, place, object, failure))
}

/// Writes some messages, and says which those are.
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

/// What an entry is called.
fn name(entries: &[Entry<'_>], number: usize) -> String {
    entries.get(number).map(ToString::to_string).unwrap_or_default()
}
