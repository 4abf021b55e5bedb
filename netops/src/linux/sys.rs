//! System calls that neither `std` nor `nix` wraps: the only unsafe code here. Each is a function that is safe to call.
#![allow(unsafe_code)]

mod orphan;

pub(super) use orphan::{leave_to_an_orphan, let_an_orphan};

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::mem::size_of_val;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use nix::errno::Errno;

/// The kind of namespace behind a descriptor, as `clone(2)`'s flag for it (`NS_GET_NSTYPE`, `ioctl_ns(2)`).
pub(super) fn namespace_type(namespace: &impl AsFd) -> Result<c_int, Errno> {
    // linux/nsfs.h: _IO(0xb7, 0x3)
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument, and touches no memory of ours.
    Errno::result(unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// The network namespace that a socket is in (`SIOCGSKNS`, Linux 4.9).
pub(super) fn namespace_of(socket: &impl AsFd) -> Result<OwnedFd, Errno> {
    // linux/sockios.h
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: this request takes no argument, and touches no memory of ours.
    let namespace = Errno::result(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS as _) })?;
    // SAFETY: the kernel has just opened it, for whoever asked.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace) })
}

/// The index of an interface in a socket's namespace (`SIOCGIFINDEX`, `netdevice(7)`), which any socket tells. To be asked of one
/// that is there: for a name that is nobody's, the kernel executes `modprobe`, and waits for it (`dev_load()`).
pub(super) fn index_of(socket: &impl AsFd, name: &str) -> Result<u32, Errno> {
    let mut request = about(name)?;
    // SAFETY: the request outlives the call, which reads its name and writes its index.
    Errno::result(unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request)
    })?;
    // SAFETY: the kernel has just written it; any bits are a number.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex }.cast_unsigned())
}

/// Whether there is an interface of an index and a name in a socket's namespace (`SIOCGIFNAME`), which any socket tells. Nothing
/// is waited for.
pub(super) fn has_name(socket: &impl AsFd, index: u32, name: &str) -> Result<bool, Errno> {
    let mut request = about("")?;
    request.ifr_ifru.ifru_ifindex = index.cast_signed();
    // SAFETY: the request outlives the call, which reads its index and writes its name.
    let asked = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFNAME as _, &raw mut request) };
    match Errno::result(asked) {
        Ok(_) => {
            let is = request.ifr_name.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
            Ok(is.eq(name.bytes()))
        }
        Err(Errno::ENODEV) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether an interface in a socket's namespace is up and has a carrier (`ETHTOOL_GLINK`), which any socket tells. To be asked of
/// one that is there, as for its [index](index_of).
pub(super) fn has_carrier(socket: &impl AsFd, name: &str) -> Result<bool, Errno> {
    /// `struct ethtool_value` of `linux/ethtool.h`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const ETHTOOL_GLINK: u32 = 10;
    let mut value = Value { command: ETHTOOL_GLINK, data: 0 };
    let mut request = about(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request, and the value that it points to, outlive the call, which reads the first and writes the second.
    Errno::result(unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request)
    })?;
    Ok(value.data != 0)
}

/// A request about an interface, of which nothing but the name is set.
fn about(name: &str) -> Result<libc::ifreq, Errno> {
    // SAFETY: all of it are numbers and pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays NUL.
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(Errno::ENODEV);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// Locks an open file, for as long as it is open, or says `EWOULDBLOCK` (`flock(2)`). Takes `LOCK_SH` or `LOCK_EX`.
pub(super) fn lock(file: &impl AsFd, how: c_int) -> Result<(), Errno> {
    // SAFETY: only integers are passed.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), how | libc::LOCK_NB) }).map(drop)
}

/// Gives a socket a receive buffer of a size, whatever the limit for those without `CAP_NET_ADMIN` (`SO_RCVBUFFORCE`).
pub(super) fn force_receive_buffer(socket: &impl AsFd, size: c_int) -> Result<(), Errno> {
    // SAFETY: the number outlives the call, which copies it.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Lets only such datagrams into a socket's queue as pass a filter (`SO_ATTACH_FILTER`).
pub(super) fn attach_filter(socket: &impl AsFd, filter: &[libc::sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program and the instructions that it points to outlive the call, which copies and only reads them.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// A socket for the Ethernet frames of one interface that carry a protocol and pass a filter (`packet(7)`). Until it is
/// bound it gets none, so that nothing slips past the filter.
pub(super) fn packet_socket(
    link: u32,
    protocol: u16,
    filter: &[libc::sock_filter],
) -> Result<OwnedFd, Errno> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: only integers are passed.
    let descriptor = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: it was just opened, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    attach_filter(&socket, filter)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: protocol.to_be(),
        sll_ifindex: link.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a whole one of its family, and outlives the call.
    Errno::result(unsafe {
        libc::bind(descriptor, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    })?;
    Ok(socket)
}

/// A tap to be made, by `/dev/net/tun`.
#[derive(Debug)]
pub(super) struct NewTap<'a> {
    pub(super) name: &'a str,
    /// `IFF_TAP` and others.
    pub(super) flags: c_int,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
}

/// Makes a tap that stays (`TUNSETIFF`, `TUNSETOWNER`, `TUNSETGROUP`, `TUNSETPERSIST`). One that has got its name and
/// not the rest goes when the device is closed.
pub(super) fn make_tap(device: &File, wanted: &NewTap<'_>) -> Result<(), Errno> {
    // linux/if_tun.h: _IOW('T', N, int)
    const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
    const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
    const TUNSETGROUP: libc::c_ulong = 0x4004_54ce;
    attach_tap(device, wanted.name, wanted.flags).map_err(|errno| match errno {
        // Another tap has the name, or another interface.
        Errno::EBUSY | Errno::EINVAL => Errno::EEXIST,
        errno => errno,
    })?;
    let numbers = [(TUNSETOWNER, wanted.owner), (TUNSETGROUP, wanted.group), (TUNSETPERSIST, Some(1))];
    for (request, number) in numbers {
        if let Some(number) = number {
            let number = libc::c_ulong::from(number);
            // SAFETY: these requests take an integer.
            Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), request as _, number) })?;
        }
    }
    Ok(())
}

/// Connects an open `/dev/net/tun` with an interface, which is made if there is none (`TUNSETIFF`).
pub(super) fn attach_tap(device: &File, name: &str, flags: c_int) -> Result<(), Errno> {
    // linux/if_tun.h: _IOW('T', 202, int)
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let mut request = about(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: this request reads and writes the structure that it is given.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
    Errno::result(done).map(drop)
}

/// As [`make_tap`], by a process that has taken an SELinux context by writing it to a file: a tap belongs to its maker's
/// context, which a process of several threads cannot change, and no process can change back.
pub(super) fn make_tap_as(
    device: &File,
    wanted: &NewTap<'_>,
    attribute: &CStr,
    context: &str,
) -> Result<(), Errno> {
    // SAFETY: what runs in the new process is nothing but async-signal-safe calls on memory that was prepared above, and
    // ends in _exit(2).
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            let file = libc::open(attribute.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            let taken = file >= 0
                && libc::write(file, context.as_ptr().cast(), context.len()) == context.len().cast_signed();
            let made = if taken { make_tap(device, wanted) } else { Err(Errno::last()) };
            // Error numbers are below 256.
            libc::_exit(made.err().map_or(0, |errno| errno as c_int));
        }
        Errno::result(child)?
    };
    match wait_for(child)? {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw(errno)),
        None => Err(Errno::EINTR),
    }
}

/// Waits for a child to end, of whatever kind; its exit status, or `None` if a signal ended it.
fn wait_for(child: libc::pid_t) -> Result<Option<c_int>, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a local.
        match Errno::result(unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))),
        }
    }
}

/// Asks the legacy variant of `iptables` something: what is asked is in the buffer, and so is the answer.
pub(super) fn xtables(family: c_int, level: c_int, question: c_int, buffer: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: only integers are passed; the descriptor is this function's to own.
    let socket = unsafe {
        let socket = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        OwnedFd::from_raw_fd(Errno::result(socket)?)
    };
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: both pointers are to memory of ours, and the kernel writes no more than the length that it is given.
    let answered = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, question, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    Errno::result(answered).map(drop)
}

/// Has a command's process killed when the thread ends that starts it.
pub(super) fn end_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: only integers are passed, and nothing is allocated: it runs between fork and exec.
    let ask = move || unsafe {
        Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // It may have ended before it was asked about.
        if libc::getppid().cast_unsigned() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: see `ask`.
    unsafe { command.pre_exec(ask) };
}

/// Gives free memory of the heap back to the kernel, where the C library knows how to.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and what is in use stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the kernel map pages of the running program anew when they are touched next (`MADV_DONTNEED`).
pub(super) fn forget_pages(pages: Range<usize>) {
    // SAFETY: the caller names code and constants, which are mapped from a file, and as nobody has ever written to them, what is
    // mapped anew is the same. Where it is not mapped, the kernel refuses.
    unsafe {
        libc::madvise(ptr::with_exposed_provenance_mut(pages.start), pages.len(), libc::MADV_DONTNEED);
    }
}
