//! Datagrams: a socket for each address to listen at, or one of each family for all of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen,
    sendto, setsockopt, socket, sockopt,
};
use tokio::net::UdpSocket;

use crate::log;

/// As much as hundreds of nodes say at once.
const BUFFER: usize = 1 << 20;
/// Longer than any that are for us: what is cut off does not open.
const LARGEST: usize = 2048;
/// How many are read before something is answered.
const BATCH: usize = 256;

/// Sockets for datagrams.
#[derive(Debug, Clone)]
pub(super) struct Sockets(Arc<Vec<UdpSocket>>);

impl Sockets {
    pub(super) fn bind(addresses: &[IpAddr], port: u16) -> Result<Self, String> {
        let sockets = at_each(addresses, port, |address| {
            let socket = open(address, SockType::Datagram)?;
            // As far as net.core.rmem_max allows.
            let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
            UdpSocket::from_std(socket.into())
        })?;
        Ok(Self(Arc::new(sockets)))
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) {
        let waiting = self.0.iter().map(|socket| Box::pin(socket.readable()));
        let _ = futures_util::future::select_all(waiting).await;
    }

    /// Reads what there is.
    pub(super) fn drain(&self, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; LARGEST];
        for socket in self.0.iter() {
            for _ in 0..BATCH {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, from)) => take(from, buffer.get(..length).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What an earlier datagram met on its way (ICMP): nothing to read.
                    Err(_) => {}
                }
            }
        }
    }

    /// Sends. What cannot be sent now is lost, as it could be on its way.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let of_family =
            |socket: &&UdpSocket| socket.local_addr().is_ok_and(|address| address.is_ipv6() == to.is_ipv6());
        let Some(socket) = self.0.iter().find(of_family) else { return };
        // By the system call itself: tokio's socket would refuse the first one, as it has not heard yet that it may write.
        let (socket, to) = (socket.as_raw_fd(), SockaddrStorage::from(to));
        if let Err(errno) = sendto(socket, datagram, &to, MsgFlags::MSG_DONTWAIT) {
            log::debug(|| format!("send to {to}: {errno}"));
        }
    }
}

/// Opens a socket for each address; of the families, those that the kernel has.
pub(super) fn at_each<T>(
    addresses: &[IpAddr],
    port: u16,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, String> {
    let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let told = !addresses.is_empty();
    let mut opened = Vec::new();
    for address in if told { addresses } else { &all } {
        let address = SocketAddr::new(*address, port);
        match open(address) {
            Ok(socket) => opened.push(socket),
            Err(error) if !told && has_no_family(&error) => {}
            Err(error) => return Err(format!("listen at {address}: {error}")),
        }
    }
    Ok(opened)
}

fn has_no_family(error: &io::Error) -> bool {
    [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL].map(Some).contains(&error.raw_os_error())
}

/// A socket that is bound, of one family only: the other one has a socket of its own.
pub(super) fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None::<SockProtocol>)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // Connections of an agent that was there before do not keep it from listening.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        listen(&socket, Backlog::new(64)?)?;
    }
    Ok(socket)
}

/// Whether an address is one of this host's.
pub(super) fn is_own(address: IpAddr) -> bool {
    open(SocketAddr::new(address, 0), SockType::Datagram).is_ok()
}
