//! Pinging from inside of one namespace, and watching from inside of another.
//!
//! A socket belongs to the namespace that it was opened in, wherever it is used from: no thread has to stay there.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use netops::Namespace;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::echo::{Echo, Family, Message};

/// How long an answer may take: the kernel asks for a neighbour three times, a second apart, before it gives up. The
/// first of these may be lost if a bridge's port has not got word yet that its cable is in use.
const PATIENCE: Duration = Duration::from_millis(3500);

/// One end of a conversation: sends echo requests out of a namespace.
#[derive(Debug)]
pub(super) struct Pinger {
    socket: UdpSocket,
    family: Family,
    next: Echo,
}

impl Pinger {
    /// A pinger inside of a namespace. `identifier` is to be no other's in there.
    pub(super) fn open(namespace: &Namespace, family: Family, identifier: u16) -> io::Result<Self> {
        let socket = open_in(namespace, family)?;
        Ok(Self { socket, family, next: Echo { identifier, sequence: 1 } })
    }

    /// Sends one request and waits for its reply: the time between the two, or `None` if there was none.
    ///
    /// # Errors
    /// When the kernel does not let it out: there is no route, say.
    pub(super) fn ping(&mut self, target: IpAddr) -> io::Result<Option<Duration>> {
        self.ping_within(PATIENCE, target)
    }

    /// The same, for those who do not wait that long.
    pub(super) fn ping_within(&mut self, patience: Duration, target: IpAddr) -> io::Result<Option<Duration>> {
        let echo = self.next;
        self.next.sequence = echo.sequence.wrapping_add(1);
        let request = echo.request(self.family);
        let start = Instant::now();
        self.socket.send_to(&request, SocketAddr::new(target, 0))?;
        let mut buffer = [0; 2048];
        loop {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let time = start.elapsed();
                    let packet = buffer.get(..length).unwrap_or_default();
                    let message = Message::parse(self.family, packet);
                    if from.ip() == target && message == Some(Message::Reply(echo)) {
                        return Ok(Some(time));
                    }
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sees who sends echo requests to a namespace.
#[derive(Debug)]
pub(super) struct Witness {
    socket: UdpSocket,
    family: Family,
}

impl Witness {
    pub(super) fn open(namespace: &Namespace, family: Family) -> io::Result<Self> {
        let socket = open_in(namespace, family)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, family })
    }

    /// The source addresses of the requests since the last time, each once.
    pub(super) fn sources(&self) -> io::Result<Vec<IpAddr>> {
        let mut sources = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    let is_request = matches!(Message::parse(self.family, packet), Some(Message::Request(_)));
                    if is_request && !sources.contains(&from.ip()) {
                        sources.push(from.ip());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(sources),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A raw ICMP socket. The standard library has no type for it; that for UDP makes the same system calls.
fn open_in(namespace: &Namespace, family: Family) -> io::Result<UdpSocket> {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let opened = namespace.enter(|| socket(domain, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol));
    Ok(UdpSocket::from(opened.map_err(io::Error::other)??))
}

/// Nothing came in time, or a signal did; the caller looks at the clock.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
