use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::lease::{Lease, Owner};
use crate::pool::RangeSet;

/// Where the leases of one network are kept.
///
/// The functions of this crate ([`acquire`](crate::acquire), [`release`](crate::release), …) work on any store;
/// [`DirStore`](crate::DirStore) is host-local's directory, [`MemoryStore`](crate::MemoryStore) is for tests.
pub trait LeaseStore: Send + Sync {
    /// Waits until nobody else changes this store, and keeps everybody out until the table is dropped.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened.
    fn lock(&self) -> Result<Box<dyn LeaseTable + '_>, StoreError>;
}

/// A [`LeaseStore`] that nobody else can change, while this value lives.
///
/// All methods are steps without policy; which address is tried and what is given back on failure is decided in
/// [`acquire`](crate::acquire) and [`release`](crate::release).
pub trait LeaseTable {
    /// Writes a lease for the first of `candidates` that has none. The store must do it in one indivisible step per
    /// candidate, and not walk its other leases.
    ///
    /// `slot` counts the leases of one owner: slot 0 is its first. A store that notices that this slot's lease is
    /// already there answers [`Claim::Duplicate`] without looking at the candidates; noticing is not its duty.
    ///
    /// # Errors
    ///
    /// If the lease could not be written. Nothing is then left behind.
    fn claim(
        &mut self,
        owner: &Owner,
        slot: usize,
        candidates: &mut dyn Iterator<Item = IpAddr>,
    ) -> Result<Claim, StoreError>;

    /// Removes leases, whoever holds them. One that is already gone is fine.
    ///
    /// # Errors
    ///
    /// If some lease could not be removed. The others are.
    fn remove(&mut self, leases: &[Lease]) -> Result<(), StoreError>;

    /// Removes what a store holds of an owner beside its leases, which somebody left there who died; `None`: of every
    /// owner. [`remove`](Self::remove) does so by itself for the owners of what it removes.
    ///
    /// # Errors
    ///
    /// If something could not be removed.
    fn tidy(&mut self, _owner: Option<&Owner>) -> Result<(), StoreError> {
        Ok(())
    }

    /// The addresses that are taken, each once, in no order. Must not read the leases.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn addresses(&mut self) -> Result<Vec<IpAddr>, StoreError>;

    /// One lease.
    ///
    /// # Errors
    ///
    /// If there is one that cannot be read.
    fn lease(&mut self, address: IpAddr) -> Result<Option<Lease>, StoreError>;

    /// How many leases of this owner the store knows of without reading any: at most as many as there are.
    fn known_leases(&mut self, owner: &Owner) -> usize;

    /// The leases that [are held by](Lease::is_held_by) this owner, in no order. Reads every lease, unless the store
    /// knows better.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn held_by(&mut self, owner: &Owner) -> Result<Vec<Lease>, StoreError> {
        let mut leases = self.leases()?;
        leases.retain(|lease| lease.is_held_by(owner));
        Ok(leases)
    }

    /// Every lease, in no order.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    fn leases(&mut self) -> Result<Vec<Lease>, StoreError> {
        let addresses = self.addresses()?;
        addresses.into_iter().filter_map(|address| self.lease(address).transpose()).collect()
    }

    /// The address that was handed out last by the set with this number. A hint: if it is unknown or lost, the
    /// answer is `None`.
    fn last_reserved(&mut self, set: usize) -> Option<IpAddr>;

    /// Remembers the address that was handed out last by the set with this number. Round robin is a courtesy: if
    /// this cannot be written, it is not worth failing for.
    fn set_last_reserved(&mut self, set: usize, address: IpAddr);

    /// Removes leases that certainly nobody holds: of an earlier boot, or half written by somebody who died. Called
    /// before an [`acquire`](crate::acquire) fails because nothing is free. Tells how many it removed. May do nothing
    /// if it was called a moment ago.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or written.
    fn reclaim(&mut self) -> Result<usize, StoreError>;

    /// Whether the set with this number and these ranges was [found full](Self::set_full) a moment ago, and nothing
    /// has changed since. Spares a node that is full, and is asked again and again, from listing its leases.
    fn is_full(&mut self, _number: usize, _set: &RangeSet) -> bool {
        false
    }

    /// Remembers that this set has no free address.
    fn set_full(&mut self, _number: usize, _set: &RangeSet) {}
}

/// The outcome of [`LeaseTable::claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The lease of this address is written.
    Won(IpAddr),
    /// All candidates have leases.
    AllTaken,
    /// The owner already has a lease in this slot.
    Duplicate,
}

/// Why a store could not do what it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The network's name cannot be the name of a directory.
    NetworkName {
        /// What was given.
        name: String,
    },
    /// A system call failed.
    Io {
        /// What was tried, as a verb: `create`, `lock`, `read`, …
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Leases of which nobody knows whose they are: a garbage collection has left them.
    Unreadable {
        /// Theirs.
        addresses: Vec<IpAddr>,
    },
}

impl StoreError {
    /// Whether the store (a directory) does not exist: nothing was ever leased.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkName { name } => {
                write!(
                    f,
                    "{name:?} cannot name a lease directory: it is empty, \".\", \"..\", or has '/' or NUL in it"
                )
            }
            Self::Io { operation, path, source } => {
                write!(f, "cannot {operation} {}: {source}", path.display())?;
                match source.kind() {
                    io::ErrorKind::PermissionDenied => f.write_str("; it belongs to root, run as root"),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        f.write_str("; free space or inodes on its file system")
                    }
                    io::ErrorKind::ReadOnlyFilesystem => {
                        f.write_str("; remount it read-write, or choose another dataDir")
                    }
                    _ => Ok(()),
                }
            }
            Self::Unreadable { addresses } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "cannot read the leases of {}: nobody knows whose they are, so they stay; see what keeps their files from being \
                     read, or remove those that are no pod's",
                    addresses.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::NetworkName { .. } | Self::Unreadable { .. } => None,
        }
    }
}
