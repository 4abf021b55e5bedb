//! The sockets of probes.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::sockopt::{BindToDevice, Mark, SetStruct};
use nix::sys::socket::{ControlMessage, MsgFlags, SetSockOpt, SockaddrStorage, sendmsg, setsockopt};
use nix::{setsockopt_impl, sockopt_impl};
use overlay::fabric::OUTSIDE;
use overlay::path::{By, Probe};
use tokio::net::UdpSocket;

sockopt_impl!(
    /// What becomes of datagrams that are larger than a path takes.
    MtuDiscovery, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::c_int,
    SetStruct<'_, libc::c_int>
);
sockopt_impl!(
    /// The same of IPv6.
    MtuDiscovery6, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::c_int,
    SetStruct<'_, libc::c_int>
);

/// How many datagrams are read at once: whoever sends more of them does not keep the agent from everything else.
const READ_AT_ONCE: usize = 64;

/// The sockets of probes, of both families as far as the kernel has them.
#[derive(Debug)]
pub(super) struct Sockets {
    families: Vec<Family>,
}

/// One family's.
#[derive(Debug)]
struct Family {
    ipv6: bool,
    /// Receives all, and sends answers.
    port: UdpSocket,
    main: std::net::UdpSocket,
    tunnel: std::net::UdpSocket,
}

impl Sockets {
    /// Opens them.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let v4 = Family::open(false, port)?;
        let v6 = match Family::open(true, port) {
            Ok(family) => Some(family),
            // Switched off.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => None,
            Err(error) => return Err(error),
        };
        Ok(Self { families: [Some(v4), v6].into_iter().flatten().collect() })
    }

    /// Sends one. That it is lost, or cannot be sent, is what is to be found out: then no answer comes.
    pub(super) fn send(&self, probe: &Probe) -> io::Result<()> {
        let family = self.families.iter().find(|family| family.ipv6 == probe.to.is_ipv6());
        let family = family.ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        match (probe.whole, &probe.by) {
            (false, _) => send(&family.port, probe),
            (true, By::Main) => send(&family.main, probe),
            (true, By::Tunnel) => send(&family.tunnel, probe),
            (true, By::Direct(link)) => {
                let socket = whole(family.ipv6)?;
                setsockopt(&socket, BindToDevice, &OsString::from(link.as_str()))?;
                send(&socket, probe)
            }
        }
    }

    /// Waits until something has come, and reads it.
    pub(super) async fn receive(&self) -> io::Result<Vec<Vec<u8>>> {
        let [first, rest @ ..] = self.families.as_slice() else { return std::future::pending().await };
        match rest {
            [] => first.port.readable().await?,
            [second, ..] => tokio::select! {
                ready = first.port.readable() => ready?,
                ready = second.port.readable() => ready?,
            },
        }
        let mut received = Vec::new();
        for family in &self.families {
            // A probe's message is at its beginning; what fills it up is of no interest.
            let mut buffer = [0; 512];
            while received.len() < READ_AT_ONCE {
                match family.port.try_recv_from(&mut buffer) {
                    Ok((length, _)) => received.extend(buffer.get(..length).map(<[u8]>::to_vec)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Of an earlier datagram that was sent: no answer will come.
                    Err(_) => {}
                }
            }
        }
        Ok(received)
    }
}

impl Family {
    fn open(ipv6: bool, port: u16) -> io::Result<Self> {
        let tunnel = whole(ipv6)?;
        setsockopt(&tunnel, Mark, &OUTSIDE.mark)?;
        Ok(Self { ipv6, port: UdpSocket::from_std(socket(ipv6, port)?)?, main: whole(ipv6)?, tunnel })
    }
}

fn socket(ipv6: bool, port: u16) -> io::Result<std::net::UdpSocket> {
    use nix::sys::socket::sockopt::Ipv6V6Only;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, socket};
    let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None)?;
    if ipv6 {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port)))?;
    Ok(fd.into())
}

/// A socket of which the size of datagrams is the point: whatever the kernel believes a path to take, they go out whole.
fn whole(ipv6: bool) -> io::Result<std::net::UdpSocket> {
    let socket = socket(ipv6, 0)?;
    if ipv6 {
        MtuDiscovery6.set(&socket, &libc::IPV6_PMTUDISC_PROBE)?;
    } else {
        MtuDiscovery.set(&socket, &libc::IP_PMTUDISC_PROBE)?;
    }
    Ok(socket)
}

fn send(socket: &impl AsRawFd, probe: &Probe) -> io::Result<()> {
    let to = SockaddrStorage::from(probe.to);
    let data = [IoSlice::new(&probe.bytes)];
    let v4;
    let v6;
    let from = match probe.from {
        Some(IpAddr::V4(from)) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(from)) => {
            v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
        None => None,
    };
    sendmsg(socket.as_raw_fd(), &data, from.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}
