//! Advisory locks (`flock(2)`) on files that may be replaced by rename, or removed, while somebody waits for them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

/// Whether others may hold the lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

/// Which file may be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that is there, or a new empty one.
    Any,
    /// Only one that is there; otherwise the error is [`ErrorKind::NotFound`].
    Existing,
}

/// A lock that is held for as long as the value lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Waits until `deadline` for the lock on the file at `path`; then the error is [`ErrorKind::TimedOut`].
    pub(super) fn acquire(path: &Path, which: Which, mode: Mode, deadline: Instant) -> io::Result<Self> {
        loop {
            let file = open(path, which)?;
            wait(&file, mode, deadline)?;
            let lock = Self { file };
            // The holder before us may have put another file in this one's place, or removed it. Its lock is worth
            // nothing then: whoever comes next locks the new file.
            if lock.is_still_at(path)? {
                return Ok(lock);
            }
        }
    }

    /// Locks a file that nobody else can have opened yet.
    pub(super) fn on_new_file(file: File) -> io::Result<Self> {
        wait(&file, Mode::Exclusive, Instant::now())?;
        Ok(Self { file })
    }

    /// The locked file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn is_still_at(&self, path: &Path) -> io::Result<bool> {
        let held = self.file.metadata()?;
        match path.symlink_metadata() {
            Ok(found) => Ok((held.dev(), held.ino()) == (found.dev(), found.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that was forked meanwhile (an in-process plugin may leave one behind to
        // wait for the kernel) shares the open file description, and would keep the lock until it ends.
        let _ = self.file.unlock();
    }
}

/// Opens a file of the runtime's. A symbolic link is not followed: an empty file would be made where a dangling one points
/// to, and one that leads somewhere is never the file that is locked. Nor is a FIFO waited for.
pub(super) fn open(path: &Path, which: Which) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    if which == Which::Any {
        options.write(true).create(true).truncate(false).mode(0o600);
    }
    options.open(path)
}

/// Whether somebody is working on a file, as far as can be told.
pub(super) fn is_held(file: &File) -> bool {
    let attempt = file.try_lock_shared();
    if attempt.is_ok() {
        let _ = file.unlock();
    }
    matches!(attempt, Err(TryLockError::WouldBlock))
}

/// Polls, because `flock(2)` knows no timeout.
fn wait(file: &File, mode: Mode, deadline: Instant) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        let attempt = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match attempt {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(TryLockError::WouldBlock) => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }
}
