//! A network on a virtual clock: it loses, doubles, delays and reorders datagrams, and can be cut.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, reason = "what is set here is small, and what is exchanged was just written")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use gossip::seal::OVERHEAD;
use gossip::{Config, Event, Gossip, Liveness, PeerId, Time};

/// How well a network works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    /// Of a thousand datagrams, so many are lost.
    pub(crate) lost: u64,
    /// Of a thousand, so many come twice.
    pub(crate) doubled: u64,
    /// The least and the most a datagram takes.
    pub(crate) delay: (Duration, Duration),
    /// Streams can be opened.
    pub(crate) has_streams: bool,
}

impl Default for Links {
    fn default() -> Self {
        let delay = (Duration::from_micros(200), Duration::from_millis(3));
        Self { lost: 0, doubled: 0, delay, has_streams: true }
    }
}

/// A process that runs.
pub(crate) struct Process {
    pub(crate) gossip: Gossip,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<(Time, Event)>,
    pub(crate) sent: usize,
    pub(crate) sent_bytes: usize,
    pub(crate) received: usize,
    /// Its clock in the queue.
    timer: Time,
}

pub(crate) struct Network {
    pub(crate) now: Time,
    pub(crate) links: Links,
    pub(crate) config: Config,
    pub(crate) processes: Vec<Process>,
    pub(crate) streams: usize,
    /// What processes seal is refused once a later one of the same node was heard.
    pub(crate) sealed: bool,
    latest: BTreeMap<(usize, PeerId), usize>,
    by_address: BTreeMap<SocketAddr, usize>,
    /// Processes that hear nothing and do nothing.
    stopped: BTreeSet<usize>,
    frozen: BTreeMap<usize, Time>,
    /// Which side of a cut each process is on.
    sides: BTreeMap<usize, usize>,
    queue: BinaryHeap<Reverse<(Time, u64, What)>>,
    count: u64,
    random: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives { from: SocketAddr, to: SocketAddr, payload: std::sync::Arc<[u8]> },
    Timer(usize),
}

pub(crate) fn id(number: u64) -> PeerId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

pub(crate) fn address(number: u64) -> SocketAddr {
    SocketAddr::from(([10, (number >> 16) as u8, (number >> 8) as u8, number as u8], 7000))
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Duration::from_secs(1000),
            links: Links::default(),
            config: Config::default(),
            processes: Vec::new(),
            streams: 0,
            sealed: false,
            latest: BTreeMap::new(),
            by_address: BTreeMap::new(),
            stopped: BTreeSet::new(),
            frozen: BTreeMap::new(),
            sides: BTreeMap::new(),
            queue: BinaryHeap::new(),
            count: 0,
            random: seed | 1,
        }
    }

    /// So many nodes, with the first as everybody's seed.
    pub(crate) fn of(count: u64, seed: u64) -> Self {
        let mut network = Self::new(seed);
        for number in 0..count {
            network.start(number, 1, address(number));
            network.join(number as usize, &[address(0)]);
        }
        network
    }

    /// Starts a process of a node. Tells which.
    pub(crate) fn start(&mut self, node: u64, incarnation: u64, address: SocketAddr) -> usize {
        self.start_with(node, incarnation, address, |_, _| {})
    }

    /// Starts a process that does something before anything of it is heard.
    pub(crate) fn start_with(
        &mut self,
        node: u64,
        incarnation: u64,
        address: SocketAddr,
        act: impl FnOnce(&mut Gossip, Time),
    ) -> usize {
        let seed = self.draw();
        let mut gossip =
            Gossip::new(id(node), incarnation, vec![address], self.config.clone(), seed, self.now);
        act(&mut gossip, self.now);
        let at = self.processes.len();
        let (events, timer) = (Vec::new(), Time::MAX);
        self.processes.push(Process { gossip, address, events, sent: 0, sent_bytes: 0, received: 0, timer });
        self.by_address.insert(address, at);
        self.settle(at);
        at
    }

    /// Kills a process.
    pub(crate) fn stop(&mut self, at: usize) {
        self.stopped.insert(at);
    }

    /// Only processes of one side reach one another.
    pub(crate) fn cut(&mut self, sides: &[&[usize]]) {
        self.sides.clear();
        for (side, processes) in sides.iter().enumerate() {
            self.sides.extend(processes.iter().map(|at| (*at, side)));
        }
    }

    /// A process has another address from now on.
    pub(crate) fn move_to(&mut self, at: usize, address: SocketAddr) {
        self.by_address.retain(|_, process| *process != at);
        self.by_address.insert(address, at);
        self.processes[at].address = address;
    }

    /// A process is not run for a while; what it is sent meanwhile is lost.
    pub(crate) fn freeze(&mut self, at: usize, duration: Duration) {
        self.frozen.insert(at, self.now + duration);
    }

    pub(crate) fn heal(&mut self) {
        self.sides.clear();
    }

    pub(crate) fn join(&mut self, at: usize, seeds: &[SocketAddr]) {
        let now = self.now;
        self.with(at, |gossip| gossip.join(now, seeds));
    }

    pub(crate) fn set(&mut self, at: usize, key: &str, value: &[u8]) {
        let now = self.now;
        self.with(at, |gossip| gossip.set(now, key, value).unwrap());
    }

    /// Does something with a node, and sends what comes of it.
    pub(crate) fn with<T>(&mut self, at: usize, act: impl FnOnce(&mut Gossip) -> T) -> T {
        let result = act(&mut self.processes[at].gossip);
        self.settle(at);
        result
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(Reverse((time, ..))) = self.queue.peek() {
            if *time > end {
                break;
            }
            self.step();
        }
        self.now = end;
    }

    /// Runs until something is so. Tells how long it took; fails if that is too long.
    pub(crate) fn run_until(&mut self, limit: Duration, mut is_so: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !is_so(self) {
            assert!(self.now < start + limit, "not within {limit:?}");
            self.run(Duration::from_millis(10));
        }
        self.now - start
    }

    fn step(&mut self) {
        let Some(Reverse((time, _, what))) = self.queue.pop() else { return };
        self.now = time;
        match what {
            What::Arrives { from, to, payload } => {
                let Some(at) = self.by_address.get(&to).copied() else { return };
                let is_frozen = self.frozen.get(&at).is_some_and(|until| time < *until);
                if self.stopped.contains(&at) || is_frozen || !self.is_linked(from, at) {
                    return;
                }
                self.processes[at].received += 1;
                match self.refused(from, at) {
                    Some(sender) => self.processes[at].gossip.receive_refused(time, from, &sender),
                    None => self.processes[at].gossip.receive(time, from, &payload),
                }
                self.settle(at);
            }
            What::Timer(at) => {
                if self.processes[at].timer != time || self.stopped.contains(&at) {
                    return;
                }
                if let Some(until) = self.frozen.get(&at).copied().filter(|until| time < *until) {
                    self.processes[at].timer = until;
                    return self.push(until, What::Timer(at));
                }
                self.processes[at].timer = Time::MAX;
                self.processes[at].gossip.advance(time);
                self.settle(at);
            }
        }
    }

    fn is_linked(&self, from: SocketAddr, to: usize) -> bool {
        let side = |at: usize| self.sides.get(&at);
        self.by_address.get(&from).is_none_or(|from| side(*from) == side(to))
    }

    /// Who has sealed what comes to a process, if it is refused.
    fn refused(&mut self, from: SocketAddr, at: usize) -> Option<PeerId> {
        let sender = self.by_address.get(&from).copied().filter(|_| self.sealed)?;
        let id = *self.processes[sender].gossip.id();
        let latest = self.latest.entry((at, id)).or_insert(sender);
        *latest = sender.max(*latest);
        (*latest > sender).then_some(id)
    }

    /// What follows every call.
    fn settle(&mut self, at: usize) {
        while let Some(transmit) = self.processes[at].gossip.transmit() {
            let size = transmit.payload.len() + OVERHEAD;
            assert!(size <= self.config.datagram, "a datagram of {size} bytes");
            self.processes[at].sent += 1;
            self.processes[at].sent_bytes += size;
            let from = self.processes[at].address;
            let copies = if self.chance(self.links.doubled) { 2 } else { 1 };
            for _ in 0..copies {
                if !self.chance(self.links.lost) {
                    let (least, most) = self.links.delay;
                    let extra = self.draw() % (most - least).as_micros().max(1) as u64;
                    let arrives = self.now + least + Duration::from_micros(extra);
                    let payload = transmit.payload.clone();
                    self.push(arrives, What::Arrives { from, to: transmit.to, payload });
                }
            }
        }
        if let Some(with) = self.processes[at].gossip.wants_exchange() {
            self.exchange(at, with);
        }
        while let Some(event) = self.processes[at].gossip.event() {
            self.processes[at].events.push((self.now, event));
        }
        let due = self.processes[at].gossip.timeout().max(self.now);
        if due < self.processes[at].timer {
            self.processes[at].timer = due;
            self.push(due, What::Timer(at));
        }
    }

    fn exchange(&mut self, at: usize, with: SocketAddr) {
        let Some(other) = self.by_address.get(&with).copied() else { return };
        if !self.links.has_streams
            || self.stopped.contains(&other)
            || !self.is_linked(self.processes[at].address, other)
        {
            return;
        }
        self.streams += 1;
        if self.refused(self.processes[at].address, other).is_some() {
            return;
        }
        let request = self.processes[at].gossip.exchange_request(self.now);
        let answer = self.processes[other].gossip.exchange_answer(self.now, &request).unwrap();
        self.processes[at].gossip.exchange_finish(self.now, &answer).unwrap();
        self.settle(at);
    }

    fn push(&mut self, time: Time, what: What) {
        self.count += 1;
        self.queue.push(Reverse((time, self.count, what)));
    }

    fn chance(&mut self, of_thousand: u64) -> bool {
        of_thousand > 0 && self.draw() % 1000 < of_thousand
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// How many datagrams were sent since the last time.
    pub(crate) fn take_sent(&mut self) -> usize {
        self.processes.iter_mut().map(|process| std::mem::take(&mut process.sent)).sum()
    }

    /// Which processes have seen an event.
    pub(crate) fn saw(&self, mut is_it: impl FnMut(&Event) -> bool) -> Vec<usize> {
        let has_seen = |process: &Process, is_it: &mut dyn FnMut(&Event) -> bool| {
            process.events.iter().any(|(_, event)| is_it(event))
        };
        (0..self.processes.len()).filter(|at| has_seen(&self.processes[*at], &mut is_it)).collect()
    }

    pub(crate) fn forget_events(&mut self) {
        self.processes.iter_mut().for_each(|process| process.events.clear());
    }

    pub(crate) fn get(&self, at: usize, node: u64, key: &str) -> Option<&[u8]> {
        self.processes[at].gossip.get(&id(node), key)
    }

    /// How a process sees a node.
    pub(crate) fn liveness(&self, at: usize, node: u64) -> Option<Liveness> {
        self.processes[at].gossip.member(&id(node)).map(|member| member.liveness)
    }

    /// Processes that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.processes.iter().enumerate().filter(|(at, _)| !self.stopped.contains(at))
    }

    /// All that run know the same of one another, and that all are alive.
    pub(crate) fn has_converged(&self) -> bool {
        let is_alive = |at: usize, other: &Process| {
            let member = self.processes[at].gossip.member(other.gossip.id());
            member.is_some_and(|member| member.liveness == Liveness::Alive)
        };
        self.running().all(|(at, _)| self.running().all(|(_, other)| is_alive(at, other))) && self.agrees()
    }

    /// All that run know the same of one another.
    pub(crate) fn agrees(&self) -> bool {
        let running: Vec<_> = self.running().map(|(_, process)| &process.gossip).collect();
        running.iter().all(|gossip| {
            running.iter().all(|other| {
                let is_known = |member: gossip::Member<'_>| member.incarnation == other.incarnation();
                gossip.member(other.id()).is_some_and(is_known)
                    && gossip.entries(other.id()).eq(other.entries(other.id()))
            })
        })
    }
}
