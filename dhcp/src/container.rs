//! A container's interface, reached from outside: found again, listened on, configured.
//!
//! Nothing of it is held open for longer than an exchange with a server takes: an open namespace, or a socket in it,
//! would keep a container's network alive that everybody else has done with.

use std::io;
use std::net::{IpAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use netops::{
    Address, Errno, Kernel, LinkName, LinuxKernel, MacAddr, Namespace, NamespaceProblem, PacketSocket, Place,
    Resource, Route, read_link,
};
use nix::sys::socket::sockopt::{BindToDevice, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, setsockopt, socket,
};
use serde::{Deserialize, Serialize};

use crate::lease::Lease;
use crate::wishes::Family;
use crate::{v4, v6};

/// An interface in a container's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    netns: PathBuf,
    /// Device and inode number of the namespace: its path may lead elsewhere later on.
    namespace: (u64, u64),
    interface: String,
    index: u32,
}

/// The interface, as it is there now.
#[derive(Debug)]
pub(crate) struct Present {
    namespace: Namespace,
    link: LinkName,
    index: u32,
    pub(crate) mac: MacAddr,
}

impl Container {
    /// Looks for an interface, and raises it: nothing can be asked through one that is down.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(netns: &Path, interface: &str) -> Result<(Self, Present), netops::Error> {
        let namespace = Namespace::open(netns)?;
        let identity = namespace.identity()?;
        let present = Present::find(namespace, interface)?;
        let container = Self {
            netns: netns.to_owned(),
            namespace: identity,
            interface: interface.to_owned(),
            index: present.index,
        };
        Ok((container, present))
    }

    /// The interface, if it is still there; `None` if it is gone, or another one has taken its place.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn reach(&self) -> Result<Option<Present>, netops::Error> {
        let namespace = match Namespace::open(&self.netns) {
            Ok(namespace) => namespace,
            Err(netops::Error::Namespace {
                problem: NamespaceProblem::Gone | NamespaceProblem::NotANamespace,
                ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if namespace.identity()? != self.namespace {
            return Ok(None);
        }
        match Present::find(namespace, &self.interface) {
            Ok(present) if present.index == self.index => Ok(Some(present)),
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Present {
    fn find(namespace: Namespace, interface: &str) -> Result<Self, netops::Error> {
        let link = LinkName::new(interface)?;
        let mut kernel = LinuxKernel::new(Some(namespace.try_clone()?));
        let missing = || netops::Error::Refused {
            operation: netops::Operation::Read,
            object: format!("interface \"{link}\""),
            place: Place::Container,
            errno: Errno::ENODEV,
            detail: None,
        };
        let state = read_link(&mut kernel, Place::Container, &link)?.ok_or_else(missing)?;
        if !state.up {
            first_error(kernel.create(Place::Container, &[&Resource::LinkUp(link.clone())]))?;
            // Who asks for it makes the kernel notice at once that it carries packets now.
            read_link(&mut kernel, Place::Container, &link)?;
        }
        let mac = state.mac.ok_or_else(|| netops::Error::Conflict {
            object: "an interface with a MAC address".to_owned(),
            place: Place::Container,
            found: format!("\"{link}\" without one"),
        })?;
        Ok(Self { namespace, link, index: state.index, mac })
    }

    /// Opens a socket to listen and speak.
    ///
    /// # Errors
    /// As the kernel's.
    pub(crate) fn socket(&self, family: Family) -> io::Result<Socket> {
        match family {
            Family::V4 => {
                let socket = PacketSocket::open_udp4(&self.namespace, self.index, v4::CLIENT_PORT);
                socket.map(Socket::V4).map_err(io::Error::other)
            }
            Family::V6 => {
                let socket = self.namespace.enter(|| udp6(&self.link)).map_err(io::Error::other)??;
                Ok(Socket::V6 { socket, link: self.index })
            }
        }
    }

    /// Gives the interface what a lease says, in place of what another one said.
    ///
    /// # Errors
    /// The first; as much as possible has been done then.
    pub(crate) fn configure(&self, old: Option<&Lease>, new: Option<&Lease>) -> Result<(), netops::Error> {
        let (old, new) = (self.resources(old), self.resources(new));
        let stale: Vec<_> = old.iter().filter(|resource| !new.contains(resource)).rev().collect();
        let mut kernel = LinuxKernel::new(Some(self.namespace.try_clone()?));
        let removed = kernel.remove(Place::Container, &stale).into_iter().find_map(Result::err);
        let mut failed = removed;
        // The kernel takes routes along with the address that they depend on: all are made, and may be there.
        for resource in &new {
            let made = first_error(kernel.create(Place::Container, &[resource]));
            let made = made.or_else(|error| match error.errno() {
                Some(Errno::EEXIST) => Ok(()),
                _ => Err(error),
            });
            failed = failed.or_else(|| made.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// An address and its routes, in the order in which they can be made.
    fn resources(&self, lease: Option<&Lease>) -> Vec<Resource> {
        let Some(lease) = lease else { return Vec::new() };
        let address = Resource::Address(Address::new(self.link.clone(), lease.address));
        let routes = lease.facts.routes.iter().map(|route| {
            let gateway: Option<IpAddr> = route.gw;
            let metric = route.priority;
            Resource::Route(Route { metric, ..Route::new(route.dst, gateway, self.link.clone()) })
        });
        // What is on the link comes first: a gateway may be.
        let (direct, distant): (Vec<_>, Vec<_>) =
            routes.partition(|route| matches!(route, Resource::Route(route) if route.gateway().is_none()));
        [address].into_iter().chain(direct).chain(distant).collect()
    }
}

fn first_error<T>(results: Vec<Result<T, netops::Error>>) -> Result<(), netops::Error> {
    results.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

/// Where a client listens and speaks.
#[derive(Debug)]
pub(crate) enum Socket {
    V4(PacketSocket),
    V6 { socket: UdpSocket, link: u32 },
}

impl Socket {
    /// Sends a client's message.
    ///
    /// # Errors
    /// As the kernel's.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::V4(socket) => socket.send(message),
            Self::V6 { socket, link } => {
                let servers = SocketAddrV6::new(v6::ALL_SERVERS, v6::SERVER_PORT, 0, *link);
                socket.send_to(message, servers).map(drop)
            }
        }
    }

    /// Receives something, cut off where the buffer ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is nothing; else as the kernel's.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::V4(socket) => socket.receive(buffer),
            Self::V6 { socket, .. } => socket.recv(buffer),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V4(socket) => socket.as_fd(),
            Self::V6 { socket, .. } => socket.as_fd(),
        }
    }
}

/// Listens for servers of DHCPv6 on one interface of the calling thread's namespace, beside whoever else does.
fn udp6(link: &LinkName) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet6, SockType::Datagram, flags, SockProtocol::Udp)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    setsockopt(&socket, Ipv6V6Only, &true)?;
    setsockopt(&socket, BindToDevice, &link.as_str().into())?;
    let any = SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, v6::CLIENT_PORT, 0, 0);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn6::from(any))?;
    Ok(socket.into())
}
