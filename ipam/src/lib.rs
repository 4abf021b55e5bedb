//! Who gets which address: pure range allocators and durable lease stores, compatible with host-local's.

mod acquire;
mod boot;
mod dir;
mod lease;
mod memory;
mod operations;
mod pool;
mod range;
mod store;

pub use acquire::{AcquireError, Assigned, Reservation, acquire};
pub use boot::{BootId, BootIdError};
pub use dir::DirStore;
pub use lease::{Holder, Lease, Owner, OwnerError};
pub use memory::MemoryStore;
pub use operations::{Usage, find, leases, release, retain, usage};
pub use pool::{Pool, PoolError, RangeSet};
pub use range::{Range, RangeError, Role};
pub use store::{Claim, LeaseStore, LeaseTable, StoreError};
