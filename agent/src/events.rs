//! The kernel's word that interfaces of this node, or their addresses, have changed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netops::{Errno, Error, Operation, Place};
use nix::errno::Errno as Raw;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `RTMGRP_LINK`: the group that is told of interfaces.
pub(crate) const LINKS: u32 = nix::libc::RTMGRP_LINK as u32;
/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`: the groups that are told of addresses.
pub(crate) const ADDRESSES: u32 = (nix::libc::RTMGRP_IPV4_IFADDR | nix::libc::RTMGRP_IPV6_IFADDR) as u32;

/// A netlink socket that hears of changes. What it hears is of no interest: whoever listens looks for himself, so that
/// nothing depends on no message's being lost. ([`netops::Watch`] hears of everything, routes of all peers among it, and reads it;
/// nobody is to be woken by that who looks at interfaces only.)
pub(crate) struct Events {
    socket: AsyncFd<OwnedFd>,
}

impl Events {
    /// Listens to groups, in this thread's network namespace.
    pub(crate) fn open(groups: u32) -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .map_err(failed)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed)?;
        Ok(Self { socket: readable(socket).map_err(io_failed)? })
    }

    /// Waits for word of a change.
    pub(crate) async fn changed(&mut self) -> Result<(), Error> {
        loop {
            let mut ready = self.socket.readable().await.map_err(io_failed)?;
            let heard = hear(self.socket.get_ref());
            if heard? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Forgets what has been said until now: who looks after this sees it all.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        while hear(self.socket.get_ref())? {}
        Ok(())
    }
}

/// A descriptor that can be waited for until it is readable.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor is not their own: this one's is"
)]
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Takes one message out, if there is one. That some were lost is word of a change, too.
fn hear(socket: &OwnedFd) -> Result<bool, Error> {
    loop {
        match recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_TRUNC) {
            Ok(_) | Err(Raw::ENOBUFS) => return Ok(true),
            Err(Raw::EAGAIN) => return Ok(false),
            Err(Raw::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

fn failed(errno: Raw) -> Error {
    refused(errno.into())
}

fn io_failed(error: io::Error) -> Error {
    refused(Errno::new(error.raw_os_error().unwrap_or(nix::libc::EIO)))
}

fn refused(errno: Errno) -> Error {
    let object = "word of interfaces' changes".to_owned();
    Error::Refused { operation: Operation::Read, object, place: Place::Host, errno, detail: None }
}
