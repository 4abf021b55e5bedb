use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lease::{Holder, Lease, Owner};
use crate::store::{Claim, LeaseStore, LeaseTable, StoreError};

/// Leases in memory: for tests, and for networks that live no longer than a process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    leases: BTreeMap<IpAddr, Owner>,
    last_reserved: BTreeMap<usize, IpAddr>,
}

impl MemoryStore {
    /// A store without leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl LeaseStore for MemoryStore {
    fn lock(&self) -> Result<Box<dyn LeaseTable + '_>, StoreError> {
        // A thread that panicked between two steps left what a killed process leaves on disk: a consistent table.
        Ok(Box::new(self.table.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl LeaseTable for MutexGuard<'_, Table> {
    fn claim(
        &mut self,
        owner: &Owner,
        slot: usize,
        candidates: &mut dyn Iterator<Item = IpAddr>,
    ) -> Result<Claim, StoreError> {
        if self.known_leases(owner) > slot {
            return Ok(Claim::Duplicate);
        }
        for address in candidates {
            if let Entry::Vacant(vacant) = self.leases.entry(address) {
                vacant.insert(owner.clone());
                return Ok(Claim::Won(address));
            }
        }
        Ok(Claim::AllTaken)
    }

    fn remove(&mut self, leases: &[Lease]) -> Result<(), StoreError> {
        for lease in leases {
            self.leases.remove(&lease.address);
        }
        Ok(())
    }

    fn addresses(&mut self) -> Result<Vec<IpAddr>, StoreError> {
        Ok(self.leases.keys().copied().collect())
    }

    fn lease(&mut self, address: IpAddr) -> Result<Option<Lease>, StoreError> {
        let owner = self.leases.get(&address).cloned();
        Ok(owner.map(|owner| Lease { address, holder: Holder::Attachment(owner) }))
    }

    fn known_leases(&mut self, owner: &Owner) -> usize {
        self.leases.values().filter(|holder| *holder == owner).count()
    }

    fn last_reserved(&mut self, set: usize) -> Option<IpAddr> {
        self.last_reserved.get(&set).copied()
    }

    fn set_last_reserved(&mut self, set: usize, address: IpAddr) {
        self.last_reserved.insert(set, address);
    }

    fn reclaim(&mut self) -> Result<usize, StoreError> {
        Ok(0)
    }
}
