//! Who relies on what is shared, and who is about to take what is free: locks on the network namespaces themselves.
//!
//! `flock(2)` on the namespace's own inode needs no file anywhere, means the same to every process in the namespace
//! whatever its file system, and ends with its holder.

use std::ffi::c_int;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::namespace::Namespace;
use super::sys;

/// Nobody has a good reason to exclude others for longer: it takes tens of milliseconds to unmake a bridge. Whoever
/// does must not stop every pod of the node from starting. Anyone in the namespace could: the inode is readable to all.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Holds a lock that others may hold too, until the namespace's descriptor is closed.
pub(super) fn share(namespace: &Namespace) -> Result<(), Errno> {
    wait_for(namespace, libc::LOCK_SH)
}

/// Holds a lock that nobody else may hold, until the namespace's descriptor is closed. It is the one that the reference's
/// `sbr` takes, too.
pub(super) fn claim(namespace: &Namespace) -> Result<(), Errno> {
    wait_for(namespace, libc::LOCK_EX)
}

fn wait_for(namespace: &Namespace, how: c_int) -> Result<(), Errno> {
    let mut began = None;
    loop {
        match sys::lock(namespace, how) {
            Err(Errno::EWOULDBLOCK) if began.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                thread::sleep(PAUSE);
            }
            Err(Errno::EWOULDBLOCK) => return Ok(()),
            result => return result,
        }
    }
}

/// Makes a lock that is held the only one, or, if there are others, gives it up.
pub(super) fn exclude(namespace: &Namespace) -> bool {
    sys::lock(namespace, libc::LOCK_EX).is_ok()
}
