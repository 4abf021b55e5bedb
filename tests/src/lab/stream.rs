//! Packets between pods, one after the other: how many are lost, and for how long all are.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use super::Voice;

/// Between two datagrams of a path.
const PACE: Duration = Duration::from_millis(2);

/// What happened last may show only after a while: no stream is shorter.
const SHORTEST: Duration = Duration::from_millis(500);

/// What is on its way for longer than this is lost.
const LATE: Duration = Duration::from_secs(2);

/// Datagrams from pods to others, until it is stopped. Pods may speak by other means meanwhile.
#[derive(Debug)]
pub struct Stream {
    began: Instant,
    stop: Arc<AtomicBool>,
    at_work: Option<JoinHandle<Vec<Path>>>,
}

/// What came of a [`Stream`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How many were sent.
    pub sent: usize,
    /// How many of them were not received.
    pub lost: usize,
    /// The longest time in which all that was sent on a path was lost.
    pub longest_gap: Duration,
    /// On which path.
    pub worst: String,
}

/// From one pod to another, by one family.
#[derive(Debug)]
struct Path {
    name: String,
    speaker: UdpSocket,
    listener: UdpSocket,
    source: SocketAddr,
    target: SocketAddr,
    /// When each datagram was sent, and whether it has come.
    sent: Vec<(Instant, bool)>,
}

impl Stream {
    /// From one pod to another.
    pub fn start(from: &Voice, to: &Voice, ipv6: bool) -> Self {
        Self::of(vec![Path::between(from, to, ipv6).expect("both have an address")])
    }

    /// From each pod to each other, by each family that both have.
    pub fn among(voices: &[&Voice]) -> Self {
        let pairs = voices.iter().enumerate().flat_map(|(n, from)| {
            voices.iter().enumerate().filter(move |(m, _)| *m != n).map(move |(_, to)| (*from, *to))
        });
        Self::of(pairs.flat_map(|(from, to)| Path::both(from, to)).collect())
    }

    /// From each of some pods to each of others, and back.
    pub fn between(ones: &[&Voice], others: &[&Voice]) -> Self {
        let pairs =
            ones.iter().flat_map(|one| others.iter().flat_map(|other| [(*one, *other), (*other, *one)]));
        Self::of(pairs.flat_map(|(from, to)| Path::both(from, to)).collect())
    }

    fn of(mut paths: Vec<Path>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let at_work = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                paths.iter_mut().for_each(Path::say);
                sleep(PACE);
                paths.iter_mut().for_each(Path::hear);
            }
            let late = Instant::now() + LATE;
            while paths.iter().any(|path| path.lost() > 0) && Instant::now() < late {
                sleep(PACE);
                paths.iter_mut().for_each(Path::hear);
            }
            paths
        });
        Self { began: Instant::now(), stop, at_work: Some(at_work) }
    }

    /// Ends it, and says what came of it.
    ///
    /// # Panics
    /// If it did, as where something came from another address than the speaker's own.
    pub fn stop(mut self) -> Lost {
        sleep(SHORTEST.saturating_sub(self.began.elapsed()));
        let stopped = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let paths = self.at_work.take().expect("it is stopped once").join().unwrap();
        let gaps = paths.iter().map(|path| (path.longest_gap(stopped), path.name.clone()));
        let (longest_gap, worst) = gaps.max().unwrap_or_default();
        let sent = paths.iter().map(|path| path.sent.len()).sum();
        Lost { sent, lost: paths.iter().map(Path::lost).sum(), longest_gap, worst }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Path {
    fn both(from: &Voice, to: &Voice) -> impl Iterator<Item = Self> {
        [false, true].into_iter().filter_map(|ipv6| Self::between(from, to, ipv6))
    }

    fn between(from: &Voice, to: &Voice, ipv6: bool) -> Option<Self> {
        let (speaker, listener) = (from.socket(ipv6)?, to.socket(ipv6)?);
        let (source, target) = (speaker.local_addr().unwrap(), listener.local_addr().unwrap());
        let name = format!("{} ({}) to {} ({})", from.name(), source.ip(), to.name(), target.ip());
        Some(Self { name, speaker, listener, source, target, sent: Vec::new() })
    }

    fn say(&mut self) {
        // What the kernel does not take is lost, too.
        let _ = self.speaker.send_to(&u32::try_from(self.sent.len()).unwrap().to_be_bytes(), self.target);
        self.sent.push((Instant::now(), false));
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4];
        while let Ok((4, source)) = self.listener.recv_from(&mut buffer) {
            assert_eq!(source, self.source, "{}", self.name);
            self.sent[u32::from_be_bytes(buffer) as usize].1 = true;
        }
    }

    fn lost(&self) -> usize {
        self.sent.iter().filter(|(_, has_come)| !has_come).count()
    }

    fn longest_gap(&self, stopped: Instant) -> Duration {
        let (mut longest, mut since) = (Duration::ZERO, None);
        for (when, has_come) in &self.sent {
            match (since, has_come) {
                (None, false) => since = Some(*when),
                (Some(began), true) => {
                    longest = longest.max(*when - began);
                    since = None;
                }
                _ => {}
            }
        }
        // What is lost at the end has no end yet.
        longest.max(since.map_or(Duration::ZERO, |began| stopped.saturating_duration_since(began)))
    }
}
