//! Isolated bridges: pairs of them that nothing is forwarded between.
//!
//! What a bridge is said to be is no entry with an owner: it is set by whoever comes first, like a sysctl.

use super::element::{Element, Key, Set};
use super::expression::{Field, Verdict};
use super::forwarded::BEFORE;
use super::lookup::get;
use super::rule::Rule;
use super::ruleset::{INET, Placed};
use super::transaction::Transaction;
use super::{first_refusal, send};
use crate::error::{Errno, Error, Operation};
use crate::kernel::{Created, Removed};
use crate::linux::{LinuxKernel, refused};
use crate::place::Place;
use crate::resource::{Isolation, Neighbours};
use crate::ruleset::{self, ISOLATION};

const PAIR: &[Field] = &[Field::InputInterface, Field::OutputInterface];

const CLOSED: Set = Set::new(INET, ruleset::CLOSED, &[Field::InputInterface]);
const WITHIN: Set = Set::new(INET, ruleset::WITHIN_BRIDGE, PAIR);
const ISOLATED: Set = Set::new(INET, ruleset::ISOLATED, PAIR);

/// Whether all of an isolation is there.
pub(in crate::linux) fn look(
    kernel: &mut LinuxKernel,
    place: Place,
    isolation: &Isolation,
    operation: Operation,
) -> Result<bool, Error> {
    let there = present(kernel, place, elements(isolation).into(), operation, isolation)?;
    Ok(there.len() == elements(isolation).len())
}

/// Those of some elements that are there.
fn present(
    kernel: &mut LinuxKernel,
    place: Place,
    elements: Vec<Placed>,
    operation: Operation,
    isolation: &Isolation,
) -> Result<Vec<Placed>, Error> {
    let keys: Vec<_> = elements.iter().map(|(set, element)| Some((*set, element.key.clone()))).collect();
    let found = get(kernel, place, &keys, operation, &isolation.to_string())?;
    Ok(elements.into_iter().zip(found).filter_map(|(element, found)| found.map(|_| element)).collect())
}

pub(in crate::linux) fn create(
    kernel: &mut LinuxKernel,
    place: Place,
    isolation: &Isolation,
) -> Result<Created, Error> {
    if look(kernel, place, isolation, Operation::Create)? {
        return Ok(Created::Kept);
    }
    let object = isolation.to_string();
    let mut add = |mut transaction: Transaction| {
        for (set, element) in elements(isolation) {
            transaction.keep(set, &element);
        }
        let replies = send(kernel, place, transaction, Operation::Create, &object)?;
        Ok::<_, Error>(first_refusal(replies, &[]).map_err(|(_, refusal)| refusal))
    };
    let outcome = match add(Transaction::default())? {
        Err(refusal) if refusal.errno == Errno::ENOENT => {
            let mut transaction = Transaction::default();
            lay_out(&mut transaction);
            add(transaction)?
        }
        outcome => outcome,
    };
    outcome.map(|()| Created::New).map_err(|refusal| refused(Operation::Create, place, &object, refusal))
}

pub(in crate::linux) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    isolation: &Isolation,
) -> Result<Removed, Error> {
    let neighbours = match isolation.neighbours {
        Neighbours::Reachable => Neighbours::Unreachable,
        Neighbours::Unreachable => Neighbours::Reachable,
    };
    let other = Isolation { neighbours, ..isolation.clone() };
    let mut doomed = elements(isolation).to_vec();
    if look(kernel, place, &other, Operation::Remove)? {
        // By that the bridge stays closed.
        doomed.retain(|(set, _)| **set != CLOSED);
    }
    let doomed = present(kernel, place, doomed, Operation::Remove, isolation)?;
    if doomed.is_empty() {
        return Ok(Removed::Before);
    }
    let mut transaction = Transaction::default();
    doomed.into_iter().for_each(|(set, element)| transaction.delete(set, element.key));
    let object = isolation.to_string();
    let replies = send(kernel, place, transaction, Operation::Remove, &object)?;
    match first_refusal(replies, &[]) {
        Ok(()) => Ok(Removed::Now),
        // Somebody else removed it just now.
        Err((_, refusal)) if refusal.errno == Errno::ENOENT => Ok(Removed::Before),
        Err((_, refusal)) => Err(refused(Operation::Remove, place, &object, refusal)),
    }
}

fn elements(isolation: &Isolation) -> [Placed; 2] {
    let bridge = Key::default().interface(&isolation.bridge);
    let pairs = match isolation.neighbours {
        Neighbours::Reachable => &WITHIN,
        Neighbours::Unreachable => &ISOLATED,
    };
    let both = bridge.clone().interface(&isolation.bridge);
    [(&CLOSED, Element::of_key(bridge)), (pairs, Element::of_key(both))]
}

fn lay_out(transaction: &mut Transaction) {
    transaction.table(INET);
    for set in [&CLOSED, &WITHIN, &ISOLATED] {
        transaction.set(set);
    }
    transaction.empty_chain(INET, ISOLATION, Some(BEFORE));
    let isolated = Rule::default().in_set(PAIR, ISOLATED.name).verdict(Verdict::Drop);
    transaction.rule(INET, ISOLATION, &isolated);
    let across = Rule::default()
        .in_set(&[Field::InputInterface], CLOSED.name)
        .in_set(&[Field::OutputInterface], CLOSED.name)
        .not_in_set(PAIR, WITHIN.name);
    transaction.rule(INET, ISOLATION, &across.verdict(Verdict::Drop));
}
