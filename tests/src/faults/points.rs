//! The system calls that can fail, and what each fails with.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::libc::{self, c_long};

/// A system call at which something can be made to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub call: &'static str,
    /// Which of its arguments is a path, if one is.
    pub(super) path: Option<usize>,
    /// Which is a descriptor that is read from or written to.
    pub(super) descriptor: Option<usize>,
    /// What it may fail with, the likeliest first.
    pub errnos: &'static [Errno],
}

/// A full queue of a socket; no memory for a message; a right that is missing.
const MESSAGE: &[Errno] = &[Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM];
const ANSWER: &[Errno] = &[Errno::ENOBUFS, Errno::ENOMEM, Errno::EINTR];
const SOCKET: &[Errno] = &[Errno::EMFILE, Errno::ENOBUFS, Errno::EPERM];
const OPEN: &[Errno] = &[Errno::EMFILE, Errno::EIO, Errno::EPERM, Errno::EINTR, Errno::ENOSPC];
const LOOK: &[Errno] = &[Errno::EIO, Errno::ENOMEM, Errno::EPERM];
const READ: &[Errno] = &[Errno::EIO, Errno::EINTR];
const WRITE: &[Errno] = &[Errno::ENOSPC, Errno::EIO, Errno::EINTR];
const NAME: &[Errno] = &[Errno::ENOSPC, Errno::EIO, Errno::EPERM];
const SYNC: &[Errno] = &[Errno::EIO, Errno::ENOSPC];
const LOCK: &[Errno] = &[Errno::ENOLCK, Errno::EINTR];
const SPACE: &[Errno] = &[Errno::EPERM, Errno::ENOMEM];
const PIPE: &[Errno] = &[Errno::EMFILE, Errno::ENFILE];
const PROCESS: &[Errno] = &[Errno::EAGAIN, Errno::ENOMEM];

/// Number, name, which argument is a path, which is a descriptor, errors.
type Row = (c_long, &'static str, Option<usize>, Option<usize>, &'static [Errno]);

const TABLE: &[Row] = &[
    (libc::SYS_sendto, "sendto", None, None, MESSAGE),
    (libc::SYS_sendmsg, "sendmsg", None, None, MESSAGE),
    (libc::SYS_recvfrom, "recvfrom", None, None, ANSWER),
    (libc::SYS_recvmsg, "recvmsg", None, None, ANSWER),
    (libc::SYS_socket, "socket", None, None, SOCKET),
    (libc::SYS_bind, "bind", None, None, SPACE),
    (libc::SYS_connect, "connect", None, None, SPACE),
    (libc::SYS_getsockname, "getsockname", None, None, SOCKET),
    (libc::SYS_setsockopt, "setsockopt", None, None, SPACE),
    (libc::SYS_ioctl, "ioctl", None, None, SYNC),
    (libc::SYS_open, "open", Some(0), None, OPEN),
    (libc::SYS_openat, "openat", Some(1), None, OPEN),
    (libc::SYS_access, "access", Some(0), None, LOOK),
    (libc::SYS_faccessat, "faccessat", Some(1), None, LOOK),
    (libc::SYS_faccessat2, "faccessat2", Some(1), None, LOOK),
    (libc::SYS_stat, "stat", Some(0), None, LOOK),
    (libc::SYS_lstat, "lstat", Some(0), None, LOOK),
    (libc::SYS_fstat, "fstat", None, Some(0), LOOK),
    (libc::SYS_newfstatat, "newfstatat", Some(1), None, LOOK),
    (libc::SYS_statx, "statx", Some(1), None, LOOK),
    (libc::SYS_statfs, "statfs", Some(0), None, LOOK),
    (libc::SYS_fstatfs, "fstatfs", None, Some(0), LOOK),
    (libc::SYS_readlink, "readlink", Some(0), None, LOOK),
    (libc::SYS_readlinkat, "readlinkat", Some(1), None, LOOK),
    (libc::SYS_read, "read", None, Some(0), READ),
    (libc::SYS_pread64, "pread64", None, Some(0), READ),
    (libc::SYS_getdents64, "getdents64", None, Some(0), READ),
    (libc::SYS_write, "write", None, Some(0), WRITE),
    (libc::SYS_writev, "writev", None, Some(0), WRITE),
    (libc::SYS_pwrite64, "pwrite64", None, Some(0), WRITE),
    (libc::SYS_ftruncate, "ftruncate", None, Some(0), WRITE),
    (libc::SYS_rename, "rename", Some(0), None, NAME),
    (libc::SYS_renameat, "renameat", Some(1), None, NAME),
    (libc::SYS_renameat2, "renameat2", Some(1), None, NAME),
    (libc::SYS_link, "link", Some(0), None, NAME),
    (libc::SYS_linkat, "linkat", Some(1), None, NAME),
    (libc::SYS_symlinkat, "symlinkat", Some(0), None, NAME),
    (libc::SYS_unlink, "unlink", Some(0), None, NAME),
    (libc::SYS_unlinkat, "unlinkat", Some(1), None, NAME),
    (libc::SYS_mkdir, "mkdir", Some(0), None, NAME),
    (libc::SYS_mkdirat, "mkdirat", Some(1), None, NAME),
    (libc::SYS_rmdir, "rmdir", Some(0), None, NAME),
    (libc::SYS_fsync, "fsync", None, Some(0), SYNC),
    (libc::SYS_fdatasync, "fdatasync", None, Some(0), SYNC),
    (libc::SYS_flock, "flock", None, Some(0), LOCK),
    (libc::SYS_setns, "setns", None, Some(0), SPACE),
    (libc::SYS_unshare, "unshare", None, None, SPACE),
    (libc::SYS_mount, "mount", Some(1), None, SPACE),
    (libc::SYS_umount2, "umount2", Some(0), None, SPACE),
    (libc::SYS_pipe2, "pipe2", None, None, PIPE),
    (libc::SYS_fork, "fork", None, None, PROCESS),
    (libc::SYS_vfork, "vfork", None, None, PROCESS),
    (libc::SYS_clone, "clone", None, None, PROCESS),
    (libc::SYS_clone3, "clone3", None, None, PROCESS),
    (libc::SYS_execve, "execve", Some(0), None, PROCESS),
];

static POINTS: LazyLock<BTreeMap<c_long, Point>> = LazyLock::new(|| {
    let point =
        |&(number, call, path, descriptor, errnos): &Row| (number, Point { call, path, descriptor, errnos });
    TABLE.iter().map(point).collect()
});

impl Point {
    /// The point that a system call is, if it is one.
    pub(super) fn of(number: c_long) -> Option<&'static Self> {
        POINTS.get(&number)
    }

    /// Whether it fetches an answer of the kernel's. When that fails for want of memory, the answer is lost: the kernel
    /// has done what it was asked to do.
    pub(super) fn loses_its_answer(&self, errno: Errno) -> bool {
        self.errnos == ANSWER && errno != Errno::EINTR
    }
}
