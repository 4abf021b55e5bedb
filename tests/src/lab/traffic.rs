//! Packets between pods: who gets them, from which address, and how many are lost.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// The port that pods listen on.
const PORT: u16 = 7000;

/// Between two datagrams of a stream.
const PACE: Duration = Duration::from_millis(2);

/// Something in a pod that sends and receives datagrams, by each of the pod's addresses.
#[derive(Debug)]
pub struct Voice {
    name: String,
    mouths: Vec<(IpAddr, UdpSocket)>,
}

impl Voice {
    /// In a pod with addresses; to be called inside the pod's namespace.
    pub(super) fn new(name: &str, addresses: &[IpAddr]) -> Self {
        let mouth = |address: &IpAddr| {
            let socket = UdpSocket::bind((*address, PORT)).expect("a pod's address is its own");
            socket.set_nonblocking(true).unwrap();
            (*address, socket)
        };
        Self { name: name.to_owned(), mouths: addresses.iter().map(mouth).collect() }
    }

    /// Its pod's name.
    pub fn name(&self) -> &str {
        &self.name
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

/// Datagrams from one pod to another, one after the other, until it is stopped.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    at_work: JoinHandle<Lost>,
}

/// What came of a [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// How many were sent.
    pub sent: u32,
    /// How many of them were not received.
    pub lost: u32,
    /// The longest time between two that were received.
    pub longest_gap: Duration,
}

impl Stream {
    /// Begins to send.
    pub fn start(from: Voice, to: Voice, ipv6: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let at_work = std::thread::spawn(move || {
            let (_, speaker) = from.mouth(ipv6).expect("it has an address");
            let (address, listener) = to.mouth(ipv6).expect("it has an address");
            let target = SocketAddr::from((*address, PORT));
            to.drain();
            let (mut sent, mut received) = (0_u32, HashSet::new());
            let (mut last, mut longest_gap) = (Instant::now(), Duration::ZERO);
            let mut hear = |received: &mut HashSet<u32>| {
                let mut buffer = [0; 4];
                while let Ok((4, _)) = listener.recv_from(&mut buffer) {
                    received.insert(u32::from_be_bytes(buffer));
                    longest_gap = longest_gap.max(last.elapsed());
                    last = Instant::now();
                }
            };
            while !stopped.load(Ordering::Relaxed) {
                let _ = speaker.send_to(&sent.to_be_bytes(), target);
                sent += 1;
                sleep(PACE);
                hear(&mut received);
            }
            let late = Instant::now() + Duration::from_secs(2);
            while received.len() < sent as usize && Instant::now() < late {
                sleep(PACE);
                hear(&mut received);
            }
            Lost { sent, lost: sent - u32::try_from(received.len()).unwrap(), longest_gap }
        });
        Self { stop, at_work }
    }

    /// Ends it, and says what came of it.
    ///
    /// # Panics
    /// If it did.
    pub fn stop(self) -> Lost {
        self.stop.store(true, Ordering::Relaxed);
        self.at_work.join().unwrap()
    }
}
