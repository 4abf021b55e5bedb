use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::lease::{Holder, Lease, Owner};
use crate::pool::{Pool, RangeSet};
use crate::store::{Claim, LeaseStore, LeaseTable, StoreError};

/// Leases one address of each set of the pool to `owner`, or none at all.
///
/// Without a request, each set gives its first free address in [round-robin order](RangeSet::candidates). An address
/// in `requested` (`CNI_ARGS` `IP=…`, `runtimeConfig.ips`, …) is given in place of that by the set it belongs to.
///
/// An owner that already has a lease is refused ([`AcquireError::Duplicate`]), as far as the store
/// [notices](LeaseTable::claim).
///
/// The addresses are the owner's, and nobody else gets them, as soon as this returns. A reservation that is dropped, and not
/// [committed](Reservation::commit), gives them back.
///
/// ```
/// use ipam::{MemoryStore, Owner, Pool, Range, RangeSet, acquire};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let range = Range::new("10.1.2.0/24".parse()?, None, None, None)?;
/// let pool = Pool::new(vec![RangeSet::new(vec![range])?])?;
/// let store = MemoryStore::new();
///
/// let assigned = acquire(&store, &pool, &Owner::new("blue", "eth0")?, &[])?.commit();
/// assert_eq!(assigned[0].address.to_string(), "10.1.2.2/24");
/// assert_eq!(assigned[0].gateway, Some("10.1.2.1".parse()?));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`AcquireError`]. Nothing is leased then, and the round robin has not moved.
pub fn acquire<'s>(
    store: &'s dyn LeaseStore,
    pool: &Pool,
    owner: &Owner,
    requested: &[IpAddr],
) -> Result<Reservation<'s>, AcquireError> {
    let wanted = match_to_sets(pool, requested)?;
    let mut table = store.lock()?;
    let mut taken: Vec<Lease> = Vec::with_capacity(wanted.len());
    for (index, (set, wanted)) in pool.sets().iter().zip(wanted).enumerate() {
        let outcome = match wanted {
            Some(address) => take_requested(&mut *table, owner, index, address),
            None => take_next(&mut *table, owner, index, set),
        };
        match outcome {
            Ok(address) => taken.push(Lease { address, holder: Holder::Attachment(owner.clone()) }),
            Err(error) => {
                // What cannot be given back is found by the DEL that follows a failed ADD.
                let _ = table.remove(&taken);
                return Err(error);
            }
        }
    }
    for (index, lease) in taken.iter().enumerate() {
        table.set_last_reserved(index, lease.address);
    }
    drop(table);

    let assigned = pool.sets().iter().zip(&taken).enumerate();
    let assigned =
        assigned.filter_map(|(index, (set, lease))| Assigned::new(index, set, lease.address)).collect();
    Ok(Reservation { store, owner: owner.clone(), assigned, settled: false })
}

/// One address that an attachment got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The address, with the prefix length of its subnet: `10.1.2.3/24`, as CNI's result has it.
    pub address: IpNet,
    /// The gateway of its range.
    pub gateway: Option<IpAddr>,
    /// Which set of the pool it is from.
    pub set: usize,
}

impl Assigned {
    fn new(index: usize, set: &RangeSet, address: IpAddr) -> Option<Self> {
        let range = set.range_of(address)?;
        let address = IpNet::new(address, range.subnet().prefix_len()).ok()?;
        Some(Self { address, gateway: range.gateway(), set: index })
    }
}

/// Addresses that are leased, but not yet for good.
///
/// Between [`acquire`] and [`commit`](Self::commit) the caller does the rest of its work. If that fails, dropping the
/// reservation is the whole undo.
#[must_use = "dropping a reservation gives its addresses back"]
pub struct Reservation<'s> {
    store: &'s dyn LeaseStore,
    owner: Owner,
    assigned: Vec<Assigned>,
    settled: bool,
}

impl Reservation<'_> {
    /// The addresses, one per set of the pool and in its order.
    #[must_use]
    pub fn assigned(&self) -> &[Assigned] {
        &self.assigned
    }

    /// Makes the addresses the owner's until they are [released](crate::release).
    #[must_use = "who has the addresses wants to know them"]
    pub fn commit(mut self) -> Vec<Assigned> {
        self.settled = true;
        std::mem::take(&mut self.assigned)
    }

    /// Gives the addresses back, as dropping does, but tells if it could not be done.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened or written.
    pub fn cancel(mut self) -> Result<(), StoreError> {
        self.settled = true;
        self.give_back()
    }

    fn give_back(&self) -> Result<(), StoreError> {
        let mut table = self.store.lock()?;
        let mut ours = Vec::with_capacity(self.assigned.len());
        for assigned in &self.assigned {
            // Somebody may have released it meanwhile, and somebody else have got it.
            let lease = table.lease(assigned.address.addr())?;
            ours.extend(lease.filter(|lease| lease.is_held_by(&self.owner)));
        }
        table.remove(&ours)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.settled {
            // Nobody is left to tell; the DEL that follows a failed ADD finds what stays.
            let _ = self.give_back();
        }
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("owner", &self.owner)
            .field("assigned", &self.assigned)
            .finish_non_exhaustive()
    }
}

/// Which address, if any, is requested of each set.
fn match_to_sets(pool: &Pool, requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, AcquireError> {
    let mut wanted = vec![None; pool.sets().len()];
    for address in requested.iter().map(IpAddr::to_canonical) {
        let Some(index) = pool.sets().iter().position(|set| set.range_of(address).is_some()) else {
            return Err(if pool.sets().iter().any(|set| set.is_gateway(address)) {
                AcquireError::Gateway { address }
            } else {
                AcquireError::NotInPool { address }
            });
        };
        match wanted[index].replace(address) {
            Some(other) if other != address => {
                return Err(AcquireError::TwoOfOneSet { addresses: [other, address], set: index });
            }
            _ => {}
        }
    }
    Ok(wanted)
}

fn take_requested(
    table: &mut dyn LeaseTable,
    owner: &Owner,
    slot: usize,
    address: IpAddr,
) -> Result<IpAddr, AcquireError> {
    for _ in 0..2 {
        match table.claim(owner, slot, &mut std::iter::once(address))? {
            Claim::Won(address) => return Ok(address),
            Claim::Duplicate => return Err(duplicate(table, owner)),
            Claim::AllTaken => {}
        }
        match table.lease(address)? {
            // We have the lock, so whoever was writing this has died.
            Some(lease) if lease.holder == Holder::Nobody => table.remove(&[lease])?,
            Some(lease) if lease.is_held_by(owner) => return Err(duplicate(table, owner)),
            Some(lease) => return Err(AcquireError::Taken { address, holder: lease.holder }),
            None => {}
        }
    }
    Err(AcquireError::Taken { address, holder: Holder::Nobody })
}

/// How many addresses are tried before all leases are listed. A try that meets a lease costs 2 µs, a list of 4000
/// leases 1.5 ms; and a set that is not nearly full rarely has so many leases in a row.
const TRIES: usize = 16;

fn take_next(
    table: &mut dyn LeaseTable,
    owner: &Owner,
    index: usize,
    set: &RangeSet,
) -> Result<IpAddr, AcquireError> {
    let last = table.last_reserved(index);
    match table.claim(owner, index, &mut set.candidates(last).take(TRIES))? {
        Claim::Won(address) => return Ok(address),
        Claim::Duplicate => return Err(duplicate(table, owner)),
        Claim::AllTaken => {}
    }

    let exhausted =
        || AcquireError::Exhausted { set: index, ranges: set.to_string(), capacity: set.capacity() };
    if table.is_full(index, set) {
        return Err(exhausted());
    }
    let mut taken = sorted_addresses(table)?;
    loop {
        let Some(free) = set.first_free(last, &taken) else {
            if table.reclaim()? == 0 {
                table.set_full(index, set);
                return Err(exhausted());
            }
            taken = sorted_addresses(table)?;
            continue;
        };
        match table.claim(owner, index, &mut std::iter::once(free))? {
            Claim::Won(address) => return Ok(address),
            Claim::Duplicate => return Err(duplicate(table, owner)),
            // Made by somebody without the lock, after we had listed: go on from there.
            Claim::AllTaken => taken.insert(taken.partition_point(|address| *address < free), free),
        }
    }
}

fn sorted_addresses(table: &mut dyn LeaseTable) -> Result<Vec<IpAddr>, StoreError> {
    let mut addresses = table.addresses()?;
    addresses.sort_unstable();
    Ok(addresses)
}

fn duplicate(table: &mut dyn LeaseTable, owner: &Owner) -> AcquireError {
    let leases = table.held_by(owner).unwrap_or_default();
    let addresses = leases.into_iter().map(|lease| lease.address).collect();
    AcquireError::Duplicate { owner: owner.clone(), addresses }
}

/// Why [`acquire`] leased nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// Every address of a set is taken. The node can take no more attachments to this network.
    Exhausted {
        /// Which set of the pool.
        set: usize,
        /// Its ranges.
        ranges: String,
        /// How many addresses it has.
        capacity: u128,
    },
    /// The owner already has leases in this store: its caller asked twice without releasing in between, which the
    /// CNI specification forbids.
    Duplicate {
        /// The owner.
        owner: Owner,
        /// What it has.
        addresses: Vec<IpAddr>,
    },
    /// The requested address is somebody else's.
    Taken {
        /// The requested address.
        address: IpAddr,
        /// Who has it.
        holder: Holder,
    },
    /// The requested address is in no range of the pool.
    NotInPool {
        /// The requested address.
        address: IpAddr,
    },
    /// The requested address is a gateway.
    Gateway {
        /// The requested address.
        address: IpAddr,
    },
    /// Two requested addresses belong to one set, which gives only one.
    TwoOfOneSet {
        /// The requested addresses.
        addresses: [IpAddr; 2],
        /// Which set of the pool.
        set: usize,
    },
    /// The leases could not be read or written.
    Store(StoreError),
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { set, ranges, capacity } => write!(
                f,
                "all {capacity} addresses of range set {set} ({ranges}) are taken; \
                 release what is no longer used, or widen the range"
            ),
            Self::Duplicate { owner, addresses } => {
                write!(f, "{owner} already has")?;
                for (index, address) in addresses.iter().enumerate() {
                    write!(f, "{} {address}", if index == 0 { "" } else { " and" })?;
                }
                if addresses.is_empty() {
                    f.write_str(" an address")?;
                }
                f.write_str("; a second ADD needs a DEL before it")
            }
            Self::Taken { address, holder } => write!(f, "requested address {address} is taken by {holder}"),
            Self::NotInPool { address } => {
                write!(f, "requested address {address} is in no range of this network")
            }
            Self::Gateway { address } => write!(f, "requested address {address} is a gateway"),
            Self::TwoOfOneSet { addresses: [one, two], set } => {
                write!(f, "requested addresses {one} and {two} are both of range set {set}, which gives one")
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AcquireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl From<StoreError> for AcquireError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
