//! What nobody has to wait for is left to somebody else.
//!
//! A process that has one thread may be about to end, as plugins are: there it is an orphan, a process of its own. One with
//! several goes on, or else its end waits for what its threads are doing in the kernel: there it is a thread, which costs less,
//! the less the more memory the process has (`fork(2)` copies its page tables), and leaves that process no children.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::sys;

/// Leaves to somebody else to send a datagram, and then to close some descriptors; one of them a while later.
///
/// Whoever has the other end of a pipe among them sees when that is.
pub(super) fn send(
    keep: &[BorrowedFd<'_>],
    message: Option<(BorrowedFd<'_>, &[u8])>,
    late: Option<(BorrowedFd<'_>, Duration)>,
) -> Result<(), Errno> {
    if sys::is_only_thread() {
        return sys::leave_to_an_orphan(keep, message, late);
    }
    let keep = owned(keep)?;
    let message = match message {
        Some((socket, datagram)) => Some((own(socket)?, datagram.to_vec())),
        None => None,
    };
    let late = match late {
        Some((last, time)) => Some((own(last)?, time)),
        None => None,
    };
    spawn(move || {
        if let Some((socket, datagram)) = message {
            sys::send(&socket, &datagram);
        }
        drop(keep);
        if let Some((last, time)) = late {
            thread::sleep(time);
            drop(last);
        }
    })
}

/// Leaves some work to somebody else, and to close some descriptors after it.
pub(super) fn work(keep: &[BorrowedFd<'_>], work: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let work = match sys::let_an_orphan(keep, work) {
        Ok(left) => return left,
        Err(work) => work,
    };
    let keep = owned(keep)?;
    spawn(move || {
        work();
        drop(keep);
    })
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let spawned = thread::Builder::new().name("netops-aside".to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| number(&error))
}

fn owned(descriptors: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Errno> {
    descriptors.iter().map(|descriptor| own(*descriptor)).collect()
}

fn own(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    descriptor.try_clone_to_owned().map_err(|error| number(&error))
}

fn number(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw)
}
