//! Packets as large as they get, between pods.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use cnikit_tests::Pod;
use cnikit_tests::lab::{Machine, PATIENCE};

/// More than a window of TCP's, and a datagram that takes several packets.
const STREAM: usize = 300_000;
const DATAGRAM: usize = 4000;

/// A pod, and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) pod: &'a Pod,
}

/// What is to be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// As TCP cuts it.
    Stream,
    /// A datagram in fragments.
    Datagram,
}

impl End<'_> {
    fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.machine.node.inside_pod(self.pod, work)
    }

    /// Its own address.
    pub(crate) fn address(&self, ipv6: bool) -> IpAddr {
        let family = if ipv6 { "-6" } else { "-4" };
        let script = format!("ip {family} -o addr show eth0 scope global | sed 's/.*inet6* //; s/[/].*//'");
        self.machine.node.pod_shell(self.pod, &script).trim().parse().unwrap()
    }

    /// What its kernel has been told of the way to an address: `None` if nothing.
    pub(crate) fn was_told(&self, to: IpAddr) -> Option<u32> {
        let said = self.machine.node.pod_shell(self.pod, &format!("ip -o route get {to}"));
        said.split_once("mtu ")?.1.split_whitespace().next()?.parse().ok()
    }
}

/// Carries it from one pod to another, or says what became of it within the patience.
pub(crate) fn carry(
    load: Load,
    from: End<'_>,
    to: End<'_>,
    ipv6: bool,
    patience: Duration,
) -> Result<(), String> {
    let result = match load {
        Load::Stream => stream(from, to, ipv6, patience),
        Load::Datagram => datagram(from, to, ipv6, patience),
    };
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    result
        .map_err(|what| format!("{load:?} by {family} from {} to {}: {what}", from.pod.name(), to.pod.name()))
}

/// Everything is carried, by both families if there are both, in both directions.
///
/// # Panics
/// If not.
pub(crate) fn assert_carried(one: End<'_>, other: End<'_>, families: &[bool]) {
    for ipv6 in families {
        for (from, to) in [(one, other), (other, one)] {
            for load in [Load::Stream, Load::Datagram] {
                let said = carry(load, from, to, *ipv6, PATIENCE);
                assert_eq!(said, Ok(()), "{}\n{}", one.machine.log(), other.machine.log());
            }
        }
    }
}

fn stream(from: End<'_>, to: End<'_>, ipv6: bool, patience: Duration) -> Result<(), String> {
    let address = to.address(ipv6);
    let listener = to.inside(|| TcpListener::bind((address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let text = |error: std::io::Error| error.to_string();
    std::thread::scope(|scope| {
        let hears = scope.spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(patience))?;
            let mut heard = vec![0; STREAM];
            stream.read_exact(&mut heard)?;
            stream.write_all(b"!")
        });
        let mut stream = from.inside(|| TcpStream::connect_timeout(&target, patience)).map_err(|error| {
            // Whoever waits for it is not to wait for ever.
            drop(to.inside(|| TcpStream::connect(target)));
            text(error)
        })?;
        stream.set_read_timeout(Some(patience)).map_err(text)?;
        stream.set_write_timeout(Some(patience)).map_err(text)?;
        stream.write_all(&vec![7; STREAM]).map_err(text)?;
        let mut answer = [0];
        stream.read_exact(&mut answer).map_err(text)?;
        hears.join().unwrap().map_err(text)
    })
}

fn datagram(from: End<'_>, to: End<'_>, ipv6: bool, patience: Duration) -> Result<(), String> {
    let bind = |end: End<'_>| {
        let address = SocketAddr::new(end.address(ipv6), 0);
        end.inside(|| UdpSocket::bind(address).unwrap())
    };
    let (speaks, hears) = (bind(from), bind(to));
    let target = hears.local_addr().unwrap();
    hears.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let deadline = Instant::now() + patience;
    let mut heard = vec![0; DATAGRAM + 1];
    while Instant::now() < deadline {
        // It may be refused once, while the kernel learns.
        let _ = speaks.send_to(&[7; DATAGRAM], target);
        match hears.recv_from(&mut heard) {
            Ok((DATAGRAM, source)) if source.ip() == speaks.local_addr().unwrap().ip() => return Ok(()),
            Ok(other) => return Err(format!("something else came: {other:?}")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("never heard".to_owned())
}
