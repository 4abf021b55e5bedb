//! System calls that neither `std` nor `nix` wraps: the only unsafe code here. Each is a function that is safe to call.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Sets a socket option that is an `int`.
pub(super) fn set_socket_option(
    socket: &impl AsFd,
    level: c_int,
    name: c_int,
    value: c_int,
) -> Result<(), Errno> {
    // SAFETY: the pointer is to a local of the length given, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// The kind of namespace behind a descriptor, as `clone(2)`'s flag for it (`NS_GET_NSTYPE`, `ioctl_ns(2)`).
pub(super) fn namespace_type(namespace: &impl AsFd) -> Result<c_int, Errno> {
    // linux/nsfs.h: _IO(0xb7, 0x3)
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument, and touches no memory of ours.
    Errno::result(unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// Locks an open file, for as long as it is open, or says `EWOULDBLOCK` (`flock(2)`). Takes `LOCK_SH` or `LOCK_EX`.
pub(super) fn lock(file: &impl AsFd, how: c_int) -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), how | libc::LOCK_NB) }).map(drop)
}
