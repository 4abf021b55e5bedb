//! What nobody has to wait for is left to somebody else.
//!
//! Sending a message is left to an orphan (`sys/orphan.rs`), from any process. Other work, in a process that has one thread, which may
//! be about to end, as plugins are, is left to an orphan as well; where there are several threads, to one more, for what the others
//! were holding would be held for ever in a new process (`fork(2)`), and its end waits for that.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;

use nix::errno::Errno;

use super::sys;

/// Leaves some work to somebody else, and to close some descriptors after it.
pub(super) fn work(keep: &[BorrowedFd<'_>], work: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let work = match sys::let_an_orphan(keep, work) {
        Ok(left) => return left,
        Err(work) => work,
    };
    let number = |error: io::Error| error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
    let keep: Vec<OwnedFd> =
        keep.iter().map(BorrowedFd::try_clone_to_owned).collect::<Result<_, _>>().map_err(number)?;
    let worker = thread::Builder::new().name("netops-aside".to_owned());
    let spawned = worker.spawn(move || {
        work();
        drop(keep);
    });
    spawned.map(drop).map_err(number)
}
