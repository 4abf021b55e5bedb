//! Who gets which address: pure range allocators and lease stores, compatible with host-local's.
//!
//! ```
//! use ipam::{BootId, DirStore, Owner, Pool, Range, RangeSet, acquire, release, usage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let data_dir = tempfile::tempdir()?;
//! # let data_dir = data_dir.path();
//! // Dual stack: one address of each set.
//! let v4 = RangeSet::new(vec![Range::new("10.1.2.0/24".parse()?, None, None, None)?])?;
//! let v6 = RangeSet::new(vec![Range::new("fd00:1:2::/64".parse()?, None, None, None)?])?;
//! let pool = Pool::new(vec![v4, v6])?;
//!
//! let store = DirStore::create(data_dir, "blue", &BootId::current()?)?;
//! let pod = Owner::new("3f6bc1", "eth0")?;
//!
//! let reservation = acquire(&store, &pool, &pod, &[])?;
//! // … create links, add addresses. If that fails: drop the reservation, and nothing was leased.
//! let assigned = reservation.commit();
//! assert_eq!(assigned[0].address.to_string(), "10.1.2.2/24");
//! assert_eq!(assigned[1].address.to_string(), "fd00:1:2::2/64");
//!
//! let hint: Vec<_> = assigned.iter().map(|assigned| assigned.address.addr()).collect();
//! release(&store, &pod, &hint)?;
//! assert_eq!(usage(&store, &pool)?[0].free(), 253);
//! # Ok(())
//! # }
//! ```
//!
//! # The layers
//!
//! * **Ranges**, pure: [`Range`], [`RangeSet`], [`Pool`]. What may be handed out, and in which order. No I/O, no clock,
//!   and no cost that grows with the size of a subnet.
//! * **Stores**: a [`LeaseStore`] keeps who has what. [`DirStore`] is host-local's directory, [`MemoryStore`] is for
//!   tests; a [`LeaseTable`] is a store that is locked.
//! * **Operations** on a store and a pool: [`acquire`], [`release`], [`find`], [`leases`], [`retain`], [`usage`].
//!
//! # The directory
//!
//! `<data dir>/<network>/` is host-local's, byte for byte, so that a node can go over to this crate and back while its
//! containers run, and both can run at once:
//!
//! | file | mode | content |
//! | --- | --- | --- |
//! | an address (`10.1.2.3`, `fd00::3`) | 0600 | `<container ID>\r\n<interface>` (before 2018: the ID alone) |
//! | `last_reserved_ip.<N>` | 0600 | the address that set N gave last |
//! | `lock` | 0750 | nothing; an exclusive `flock` on it is held for the time of one operation |
//! | `.cnikit.<boot ID>/<container ID>:<interface>:<N>` | 0600 | ours: a hard link to a lease |
//!
//! The last one is the *index*. It makes the cost of an operation independent of how many leases there are, where
//! host-local reads every lease on every ADD and DEL. A lease is first written under its name in the index, and then
//! linked to its address (`link(2)` fails if that exists), which has four uses:
//!
//! * A lease appears under its address complete or not at all.
//! * **Duplicates.** An ADD whose owner already has a lease is refused, as the specification has it: the owner's entry
//!   exists, and its link count says that the lease stands (if somebody removed the lease by hand, the count is 1).
//!   Leases that host-local wrote are in the index if they were there when it was begun. One that it wrote later is
//!   not noticed by our ADD (it notices ours); a second ADD without a DEL, to another plugin than the first, gets a
//!   second address. Both are found by the DEL.
//! * **Finding an owner's leases** without reading any: by inode number.
//! * **Boots**, see below.
//!
//! host-local walks the directory and everything in it, in the order of names, and on DEL removes each file whose
//! content is the owner's: it comes to the entry first, then to the lease, and removes both. It never takes an entry
//! for a lease, because the entry's name is no address.
//!
//! ## Leases of an earlier boot
//!
//! A network namespace does not survive a reboot, so neither should a lease: a node whose runtime could not say DEL
//! before the power went otherwise runs out of addresses. The question is how to tell an old lease from one that
//! host-local wrote a second ago.
//!
//! Not by its time: the clock of a machine without a battery starts in 1970, or where it stopped, and leaps forward
//! when the network is there. A lease written before that looks decades older than the boot that it is of. Not by a
//! mark in the lease: its content is host-local's. And not by a note that "the directory was seen in boot X", because
//! host-local may have written in this boot before we ran.
//!
//! By the index: **a lease that an index of another boot links to, is of another boot**; it is that very file, whatever
//! its name or content. When the index of this boot is begun (by the first ADD, or when a pool looks full), such
//! leases are removed, and *all others are adopted*, that is, linked into the new index, because they may be in use.
//! So a lease in use is never removed, and one that is not goes with the first boot after the one in whose index it
//! is. That is its own boot if we wrote it, or host-local did before the index was begun; otherwise the next.
//! The price is one `openat`, of the index's directory, which an ADD needs anyway.
//!
//! The [`BootId`] is an argument. Two kernels that share a directory (over NFS, say) would end each other's leases:
//! give each node a directory of its own.
//!
//! ## What a crash leaves
//!
//! host-local creates a lease, then writes it; killed in between it leaves an empty file that no DEL ever matches.
//! Under the lock nobody is writing, so an empty or half-written lease is nobody's ([`Holder::Nobody`]). It is removed
//! when its address is requested, when the index is begun, on [`retain`], and when a pool looks full. We leave none:
//! killed anywhere, an [`acquire`] leaves either nothing, or an entry that is no lease, or a lease; the DEL finds both.
//! (Reserving an address by hand with an empty file does not work, then; write any word into it.)
//!
//! What is no lease at all, a directory, a symbolic link, a large file ([`Holder::Stranger`]), takes its address and
//! is left alone; so is what cannot be read ([`Holder::Unreadable`]), also by [`retain`], which says so. No symbolic link inside the
//! directory is followed, no file is read beyond 256 bytes.
//!
//! ## Power cuts
//!
//! No disk is waited for (`fsync(2)`). A power cut ends the boot, the boot ends all its leases, and with them went those who
//! had the addresses: there is nothing that a disk has to remember. It is enough that whatever it does remember is
//! understood. A lease without its content is nobody's; one whose name in the index is lost is taken for another plugin's, and lives one
//! boot longer; an index that is not whole is of an earlier boot, and goes with it.
//!
//! An ADD would take longer for it, and the longer the more of them start at once: a new file in a directory is several writes to a
//! disk, one after the other, and all ADDs share the disk.
//!
//! # Cost
//!
//! `examples/measure.rs` measures it. On two cores of a virtual machine, ext4 on a virtual disk, in microseconds:
//!
//! | leases | 0 | 1000 | 4092 of 4093 |
//! | --- | --- | --- | --- |
//! | [`acquire`], 15 system calls | 44 | 52 | 1590 |
//! | [`release`] with a hint, 17 | 116 | 124 | 155 |
//! | [`release`] without | 129 | 411 | 1410 |
//!
//! Where one address of 4093 is free, 1100 of the 1590 are the kernel's, for listing the directory. An [`acquire`] that
//! fails because all are taken costs the same, and 80 when it is repeated within a minute and nothing has changed.
//! (host-local: 2300 with no other lease, 11800 with 1000, 178000 to fail on a full /20.)

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

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
