use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::lease::{Holder, Lease, Owner};
use crate::pool::{Pool, RangeSet};
use crate::store::{LeaseStore, LeaseTable, StoreError};

/// Gives back every lease of `owner`, and tells which addresses that were. None is fine: releasing twice is no error.
///
/// `hint` are the addresses that the owner is believed to have (a DEL's `prevResult`). If each of them is its, and the
/// store does not [know](LeaseTable::known_leases) of more, only those leases are looked at; otherwise, or without a
/// hint, everything that the owner has is searched for ([`LeaseTable::held_by`]).
///
/// # Errors
///
/// If the store cannot be opened, read or written. What could be released is.
pub fn release(store: &dyn LeaseStore, owner: &Owner, hint: &[IpAddr]) -> Result<Vec<IpAddr>, StoreError> {
    let mut table = store.lock()?;
    let hint: BTreeSet<IpAddr> = hint.iter().map(IpAddr::to_canonical).collect();
    let mut leases = Vec::with_capacity(hint.len());
    for address in &hint {
        leases.extend(table.lease(*address)?.filter(|lease| lease.is_held_by(owner)));
    }
    let all_are_its = !leases.is_empty() && leases.len() == hint.len();
    if !all_are_its || table.known_leases(owner) > leases.len() {
        leases = exactly_held_by(&mut *table, owner)?;
    }
    if leases.is_empty() {
        // Somebody may have died on the way to a lease, or from one.
        table.tidy(Some(owner))?;
    }
    table.remove(&leases)?;
    Ok(leases.into_iter().map(|lease| lease.address).collect())
}

/// The leases of `owner`.
///
/// # Errors
///
/// If the store cannot be opened or read.
pub fn find(store: &dyn LeaseStore, owner: &Owner) -> Result<Vec<Lease>, StoreError> {
    exactly_held_by(&mut *store.lock()?, owner)
}

/// A lease of the container as a whole is this interface's only if the interface has none of its own: the rule by
/// which the reference releases leases of before 2018.
fn exactly_held_by(table: &mut dyn LeaseTable, owner: &Owner) -> Result<Vec<Lease>, StoreError> {
    let mut leases = table.held_by(owner)?;
    let exact = |lease: &Lease| matches!(lease.holder, Holder::Attachment(_));
    if leases.iter().any(exact) {
        leases.retain(exact);
    }
    Ok(leases)
}

/// Every lease of the network, by address.
///
/// # Errors
///
/// If the store cannot be opened or read.
pub fn leases(store: &dyn LeaseStore) -> Result<Vec<Lease>, StoreError> {
    let mut leases = store.lock()?.leases()?;
    leases.sort_unstable_by_key(|lease| lease.address);
    Ok(leases)
}

/// Removes every lease that `keep` says no to, and those that [nobody](Holder::Nobody) holds: garbage collection.
/// Returns what was removed.
///
/// # Errors
///
/// If the store cannot be opened, read or written, and [`StoreError::Unreadable`] if there are leases that cannot be read. What
/// could be removed is.
pub fn retain(
    store: &dyn LeaseStore,
    mut keep: impl FnMut(&Lease) -> bool,
) -> Result<Vec<Lease>, StoreError> {
    let mut table = store.lock()?;
    let mut garbage = table.leases()?;
    let mut unreadable = Vec::new();
    garbage.retain(|lease| match lease.holder {
        Holder::Nobody => true,
        // It may be that of a healthy container.
        Holder::Unreadable => {
            unreadable.push(lease.address);
            false
        }
        _ => !keep(lease),
    });
    table.remove(&garbage)?;
    table.tidy(None)?;
    if !unreadable.is_empty() {
        return Err(StoreError::Unreadable { addresses: unreadable });
    }
    Ok(garbage)
}

/// How full each set of the pool is. Reads the names of the leases, not the leases.
///
/// If a set looks full, leases that nobody holds are [reclaimed](LeaseTable::reclaim) first, as an
/// [`acquire`](crate::acquire) would do: a node that says that it is full is not asked for an address again.
///
/// # Errors
///
/// If the store cannot be opened, read or written.
pub fn usage(store: &dyn LeaseStore, pool: &Pool) -> Result<Vec<Usage>, StoreError> {
    let mut table = store.lock()?;
    let usage = count(&table.addresses()?, pool);
    if usage.iter().any(|set| set.free() == 0) && table.reclaim()? > 0 {
        return Ok(count(&table.addresses()?, pool));
    }
    Ok(usage)
}

fn count(addresses: &[IpAddr], pool: &Pool) -> Vec<Usage> {
    let used = |set: &RangeSet| addresses.iter().filter(|address| set.range_of(**address).is_some()).count();
    pool.sets().iter().map(|set| Usage { total: set.capacity(), used: used(set) as u128 }).collect()
}

/// How full one range set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many addresses can be handed out, free or not. Saturates at [`u128::MAX`].
    pub total: u128,
    /// How many of them are taken. Leases outside of the set's ranges are not counted.
    pub used: u128,
}

impl Usage {
    /// How many of them are free.
    #[must_use]
    pub fn free(&self) -> u128 {
        self.total.saturating_sub(self.used)
    }
}
