//! Packets between pods: who gets them, and from which address.

use std::collections::HashSet;
use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// The port that pods listen on.
const PORT: u16 = 7000;

/// Something in a pod that sends and receives datagrams, by each of the pod's addresses.
#[derive(Debug)]
pub struct Voice {
    name: String,
    namespace: File,
    mouths: Vec<(IpAddr, UdpSocket)>,
}

impl Voice {
    /// In a pod with addresses; to be called inside the pod's namespace.
    pub fn new(name: &str, addresses: &[IpAddr]) -> Self {
        let mouth = |address: &IpAddr| {
            let socket = UdpSocket::bind((*address, PORT)).expect("a pod's address is its own");
            socket.set_nonblocking(true).unwrap();
            (*address, socket)
        };
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        Self { name: name.to_owned(), namespace, mouths: addresses.iter().map(mouth).collect() }
    }

    /// Its pod's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pod's address of a family.
    pub fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.mouth(ipv6).map(|(address, _)| *address)
    }

    /// Its pod's addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.mouths.iter().map(|(address, _)| *address)
    }

    /// Another socket of its own, by one of its addresses, if it has one of that family.
    pub(super) fn socket(&self, ipv6: bool) -> Option<UdpSocket> {
        let (address, _) = self.mouth(ipv6)?;
        let entered = || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind((*address, 0)).expect("a pod's address is its own");
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Some(scope(|scope| scope.spawn(entered).join().unwrap()))
    }

    /// By one family.
    fn mouth(&self, ipv6: bool) -> Option<&(IpAddr, UdpSocket)> {
        self.mouths.iter().find(|(address, _)| address.is_ipv6() == ipv6)
    }

    /// Drops what has come.
    fn drain(&self) {
        let mut buffer = [0; 64];
        for (_, socket) in &self.mouths {
            while socket.recv_from(&mut buffer).is_ok() {}
        }
    }
}

/// Lets everybody say something to everybody else, by each family that both have, until all has been heard or the
/// patience is over. Returns who has not been heard by whom.
///
/// # Panics
/// If something was heard from another address than the speaker's own.
pub fn everybody_to_everybody(voices: &[&Voice], patience: Duration) -> Vec<String> {
    talk(voices, |_, _| true, patience)
}

/// The same between one and each of the others.
///
/// # Panics
/// As [`everybody_to_everybody`].
pub fn one_and_everybody(one: &Voice, others: &[Voice], patience: Duration) -> Vec<String> {
    let voices: Vec<&Voice> = [one].into_iter().chain(others).collect();
    talk(&voices, |from, to| from == 0 || to == 0, patience)
}

fn talk(voices: &[&Voice], wanted: impl Fn(usize, usize) -> bool, patience: Duration) -> Vec<String> {
    for voice in voices {
        voice.drain();
    }
    let mut missing = HashSet::new();
    for (from, one) in voices.iter().enumerate() {
        for (to, other) in voices.iter().enumerate() {
            for ipv6 in [false, true] {
                if from != to && wanted(from, to) && one.mouth(ipv6).is_some() && other.mouth(ipv6).is_some()
                {
                    missing.insert((from, to, ipv6));
                }
            }
        }
    }
    let deadline = Instant::now() + patience;
    while !missing.is_empty() && Instant::now() < deadline {
        for (from, to, ipv6) in &missing {
            let (Some((_, socket)), Some((address, _))) =
                (voices[*from].mouth(*ipv6), voices[*to].mouth(*ipv6))
            else {
                continue;
            };
            // No route yet: nothing to hear either.
            let _ = socket.send_to(&u32::try_from(*from).unwrap().to_be_bytes(), (*address, PORT));
        }
        let again = Instant::now() + Duration::from_millis(250);
        while !missing.is_empty() && Instant::now() < again {
            for (to, voice) in voices.iter().enumerate() {
                for (address, socket) in &voice.mouths {
                    let mut buffer = [0; 4];
                    while let Ok((4, source)) = socket.recv_from(&mut buffer) {
                        let from = u32::from_be_bytes(buffer) as usize;
                        let speaker = voices[from].mouth(address.is_ipv6()).expect("it has spoken").0;
                        assert_eq!(source.ip(), speaker, "{} as heard by {}", voices[from].name, voice.name);
                        missing.remove(&(from, to, address.is_ipv6()));
                    }
                }
            }
            sleep(Duration::from_millis(2));
        }
    }
    let mut missing: Vec<_> = missing
        .into_iter()
        .map(|(from, to, ipv6)| {
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            format!("{} to {} by {family}", voices[from].name, voices[to].name)
        })
        .collect();
    missing.sort();
    missing
}
