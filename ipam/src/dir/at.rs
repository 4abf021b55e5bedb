//! A directory as a capability: every name is looked up in it, no symbolic link in it is followed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// `path` itself may be, or lead through, a symbolic link: that is how an administrator says where the state is.
    pub(super) fn open(path: PathBuf) -> Result<Self, StoreError> {
        match openat(AT_FDCWD, &path, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(StoreError::Io { operation: "open", path, source: errno.into() }),
        }
    }

    /// A directory inside; `None` if there is nothing of this name, or something else.
    pub(super) fn directory(&self, name: &str) -> Result<Option<Self>, StoreError> {
        match self.open_raw(name, OFlag::O_DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.path.join(name) })),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(self.error("open", name, errno)),
        }
    }

    pub(super) fn make_directory(&self, name: &str) -> Result<(), StoreError> {
        mkdirat(&self.fd, name, Mode::S_IRWXU).map_err(|errno| self.error("create", name, errno))
    }

    /// A file inside. `O_NONBLOCK`, because a FIFO under this name must not hold us up.
    pub(super) fn file(&self, name: &str, flags: OFlag, mode: Mode) -> Result<File, Errno> {
        self.open_raw(name, flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, mode).map(File::from)
    }

    fn open_raw<P: ?Sized + NixPath>(&self, name: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        openat(&self.fd, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode)
    }

    /// What is under this name (a symbolic link itself, not its target); `None` if there is nothing.
    pub(super) fn stat(&self, name: &str) -> Result<Option<FileStat>, StoreError> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    /// When something was last added to or removed from this directory, to the nanosecond.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        fstat(&self.fd).ok().as_ref().and_then(modified)
    }

    pub(super) fn link(&self, name: &str, to: &Self, to_name: &str) -> Result<(), Errno> {
        linkat(&self.fd, name, &to.fd, to_name, AtFlags::empty())
    }

    pub(super) fn rename(&self, name: &str, to: &str) -> Result<(), StoreError> {
        renameat(&self.fd, name, &self.fd, to).map_err(|errno| self.error("rename", name, errno))
    }

    /// Removes a file. One that is not there is fine.
    pub(super) fn unlink(&self, name: &str) -> Result<(), StoreError> {
        self.remove(name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty directory. One that is not there is fine.
    pub(super) fn remove_directory(&self, name: &str) -> Result<(), StoreError> {
        self.remove(name, UnlinkatFlags::RemoveDir)
    }

    fn remove(&self, name: &str, flags: UnlinkatFlags) -> Result<(), StoreError> {
        match unlinkat(&self.fd, name, flags) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// Calls `visit` with the name and inode number of everything inside. A name that is not UTF-8 is nothing of ours.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&str, u64)) -> Result<(), StoreError> {
        // A descriptor of its own, because reading a directory moves its offset.
        let listed = self.open_raw(".", OFlag::O_DIRECTORY, Mode::empty()).and_then(Dir::from_fd);
        let mut listed = listed.map_err(|errno| self.error("list", "", errno))?;
        for entry in listed.iter() {
            let entry = entry.map_err(|errno| self.error("list", "", errno))?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                visit(name, entry.ino());
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(
        &self,
        operation: &'static str,
        name: &str,
        source: impl Into<io::Error>,
    ) -> StoreError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        StoreError::Io { operation, path, source: source.into() }
    }
}

/// The number that a directory has of a file as well.
pub(super) fn inode(stat: &FileStat) -> u64 {
    #[allow(clippy::unnecessary_cast, reason = "it has 32 bits on some machines")]
    let inode = stat.st_ino as u64;
    inode
}

pub(super) fn modified(stat: &FileStat) -> Option<SystemTime> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}
