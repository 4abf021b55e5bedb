//! Nodes, what is under way between them, and a clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use gossip::{Random, seal};
use ipnet::IpNet;
use overlay::mesh::{Mesh, Saved, Settings, Shelf};
use overlay::{ClaimSettings, Pod, Pool, Range};

use crate::check::Check;
use crate::machine::{HEADERS, Machine, address, number};
use crate::network::Network;

/// How often one looks whether clusters have met.
const MEETINGS: Duration = Duration::from_millis(100);

/// What a world is like.
#[derive(Debug, Clone)]
pub struct WorldSettings {
    /// What follows from chance follows from this.
    pub seed: u64,
    /// The range of all pods.
    pub cluster: IpNet,
    /// The length of a node's prefix.
    pub subnet_length: u8,
    /// How often, how long, how much.
    pub gossip: gossip::Config,
    /// How long claims take.
    pub claims: ClaimSettings,
    /// What one node has read of another's keys is taken over by all that have heard the same, instead of read by each: for
    /// thousands of nodes.
    pub reads_once: bool,
}

impl Default for WorldSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            cluster: "10.0.0.0/8".parse().unwrap(),
            subnet_length: 24,
            gossip: gossip::Config::default(),
            claims: ClaimSettings::default(),
            reads_once: false,
        }
    }
}

/// Nodes, what is under way between them, and a clock.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Duration,
    /// What lies between nodes.
    pub network: Network,
    /// The nodes.
    pub machines: Vec<Machine>,
    /// What must be so.
    pub check: Check,
    settings: WorldSettings,
    pub(crate) random: Random,
    /// What nodes have said, and whether others have heard the same.
    shelf: Arc<Shelf>,
    /// What will happen, and in which order what happens at one time.
    queue: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    waiting: Vec<Option<Happening>>,
    free: Vec<usize>,
    order: u64,
    steps: u64,
    /// Somebody has a seed in another cluster, or was one of another.
    pub(crate) strangers: bool,
    /// When one looked last whether they have met.
    pub(crate) met: Duration,
}

#[derive(Debug)]
enum Happening {
    Arrives { from: usize, to: usize, payload: Arc<[u8]> },
    Asked { from: usize, to: usize, life: u64, request: Vec<u8> },
    Answered { to: usize, life: u64, answer: Vec<u8> },
    Wakes { node: usize },
}

impl World {
    /// Without anybody in it.
    pub fn new(settings: WorldSettings) -> Self {
        Self {
            now: Duration::from_secs(1),
            network: Network::default(),
            machines: Vec::new(),
            check: Check::default(),
            random: Random::new(settings.seed),
            shelf: Arc::new(if settings.reads_once { Shelf::of_what_is_read() } else { Shelf::default() }),
            settings,
            queue: BinaryHeap::new(),
            waiting: Vec::new(),
            free: Vec::new(),
            order: 0,
            steps: 0,
            strangers: false,
            met: Duration::ZERO,
        }
    }

    /// One more node, whose agent is not running yet. Those without seeds, and those that are their own first seed, may be a
    /// cluster's first.
    pub fn add(&mut self, seeds: &[usize]) -> usize {
        let n = self.machines.len();
        let range = Range { cluster: self.settings.cluster, subnet_length: self.settings.subnet_length };
        let settings = Settings {
            pool: Pool::new(vec![range]).unwrap(),
            gossip: self.settings.gossip.clone(),
            claims: self.settings.claims.clone(),
            bootstrap: seeds.first().is_none_or(|first| *first == n),
        };
        let id = self.random.number();
        self.machines.push(Machine::new(n, id, settings, seeds.to_vec()));
        self.check.history.founds(n);
        n
    }

    /// So many nodes with running agents, the first of which is the seed of all.
    pub fn start_many(&mut self, count: usize) {
        let first = self.machines.len();
        for _ in 0..count {
            self.add(&[first]);
        }
        for n in first..first + count {
            self.start(n);
        }
    }

    /// Starts a node's agent.
    pub fn start(&mut self, n: usize) {
        let seed = self.random.number();
        let now = self.now;
        let machine = &mut self.machines[n];
        machine.lives += 1;
        let mut mesh = Mesh::new(
            machine.settings.clone(),
            machine.local.clone(),
            vec![address(n)],
            machine.disk.clone(),
            seed,
            now + machine.ahead,
        );
        mesh.share(&self.shelf);
        let seeds: Vec<_> = machine.seeds.iter().map(|seed| address(*seed)).collect();
        mesh.join(now + machine.ahead, &seeds);
        machine.mesh = Some(mesh);
        machine.seen = u64::MAX;
        self.check.history.starts(n, now);
        self.strangers = true;
        let is_known = (0..self.machines.len()).any(|other| other != n && self.knows(other, n));
        if !is_known || self.is_first_again(n) {
            self.check.history.founds(n);
        }
        self.after(n);
    }

    /// A node gets a pod with the `nth` address of its subnet. None, if it has no subnet.
    pub fn add_pod(&mut self, n: usize, nth: usize) -> Option<Pod> {
        let pod = self.machines[n].add_pod(nth)?;
        self.tell(n);
        Some(pod)
    }

    /// A node's last pod goes.
    pub fn remove_pod(&mut self, n: usize) {
        self.machines[n].local.pods.pop();
        self.tell(n);
    }

    /// A node's agent is told what its node says of itself.
    pub fn tell(&mut self, n: usize) {
        let machine = &mut self.machines[n];
        let (now, local) = (self.now + machine.ahead, machine.local.clone());
        if let Some(mesh) = &mut machine.mesh {
            mesh.set_local(now, local);
        }
        self.after(n);
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something is so, which is looked at so often; how long that took. `None`, if it did not become so.
    pub fn run_until(
        &mut self,
        limit: Duration,
        every: Duration,
        mut is_so: impl FnMut(&mut Self) -> bool,
    ) -> Option<Duration> {
        let began = self.now;
        while !is_so(self) {
            if self.now >= began + limit {
                return None;
            }
            self.run(every);
        }
        Some(self.now - began)
    }

    /// What all nodes together have sent.
    pub fn traffic(&self) -> (u64, u64) {
        self.machines.iter().fold((0, 0), |(messages, bytes), machine| {
            (messages + machine.traffic.messages, bytes + machine.traffic.bytes)
        })
    }

    /// How many things have happened.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The next thing that happens before a time. Whether there was one.
    fn step(&mut self, end: Duration) -> bool {
        match self.queue.peek() {
            Some(Reverse((when, _, _))) if *when <= end => {}
            _ => return false,
        }
        let Some(Reverse((when, _, slot))) = self.queue.pop() else { return false };
        self.now = self.now.max(when);
        if self.strangers && self.now >= self.met + MEETINGS {
            self.acquaint();
        }
        self.free.push(slot);
        self.steps += 1;
        match self.waiting[slot].take() {
            Some(Happening::Arrives { from, to, payload }) => self.arrives(from, to, &payload),
            Some(Happening::Asked { from, to, life, request }) => self.asked(from, to, life, &request),
            Some(Happening::Answered { to, life, answer }) => {
                let now = self.now + self.machines[to].ahead;
                let machine = &mut self.machines[to];
                if machine.lives == life
                    && let Some(mesh) = &mut machine.mesh
                {
                    mesh.exchange_finish(now, &answer).expect("what nodes answer is an answer");
                    self.after(to);
                }
            }
            Some(Happening::Wakes { node }) if self.machines[node].wakes == when => self.wake(node),
            // It has asked for an earlier one since.
            Some(Happening::Wakes { .. }) | None => {}
        }
        true
    }

    fn arrives(&mut self, from: usize, to: usize, payload: &[u8]) {
        let now = self.now + self.machines[to].ahead;
        if let Some(mesh) = &mut self.machines[to].mesh {
            mesh.receive(now, address(from), payload);
            self.after(to);
        }
    }

    fn asked(&mut self, from: usize, to: usize, life: u64, request: &[u8]) {
        let now = self.now + self.machines[to].ahead;
        let Some(mesh) = &mut self.machines[to].mesh else { return };
        let answer = mesh.exchange_answer(now, request).expect("what nodes ask is a request");
        self.machines[to].traffic.bytes += answer.len() as u64;
        self.after(to);
        if self.network.passes(to, from) && !self.happens(self.network.broken) {
            // There and back, and there and back again: a connection is made first.
            let time = self.network.time(&mut self.random) * 3;
            self.later(time, Happening::Answered { to: from, life, answer });
        }
    }

    pub(crate) fn wake(&mut self, n: usize) {
        let now = self.now + self.machines[n].ahead;
        self.machines[n].wakes = Duration::MAX;
        if let Some(mesh) = &mut self.machines[n].mesh {
            mesh.advance(now);
            self.after(n);
        }
    }

    /// What follows from whatever a node was told.
    pub(crate) fn after(&mut self, n: usize) {
        let now = self.now + self.machines[n].ahead;
        let nodes = self.machines.len();
        let machine = &mut self.machines[n];
        let Some(mesh) = &mut machine.mesh else { return };
        while let Some(saved) = mesh.unsaved() {
            machine.disk_before = std::mem::replace(&mut machine.disk, Saved::clone(&saved));
            mesh.saved(now, saved);
        }
        self.check.history.network(&self.network, nodes, self.now);
        let fault = self.shelf.fault();
        assert!(fault.is_none(), "n{n} at {:?}: {}", self.now, fault.unwrap());
        let life = machine.lives;
        let mut letters = Vec::new();
        while let Some(letter) = mesh.transmit() {
            assert!(
                letter.payload.len() + seal::OVERHEAD <= 1200,
                "a datagram of {} bytes",
                letter.payload.len()
            );
            machine.traffic.messages += 1;
            machine.traffic.bytes += (letter.payload.len() + seal::OVERHEAD) as u64 + HEADERS;
            letters.push(letter);
        }
        let stream = mesh.wants_exchange().map(|to| (to, mesh.exchange_request(now)));
        let due = mesh.timeout().saturating_sub(machine.ahead).max(self.now + Duration::from_micros(100));
        if mesh.revision() != machine.seen {
            machine.seen = mesh.revision();
            self.check.subnets(n, &mesh.subnets(), self.now);
        }
        self.check.traffic(n, machine.traffic, self.now);
        if due < machine.wakes {
            machine.wakes = due;
            self.at(due, Happening::Wakes { node: n });
        }
        for letter in letters {
            if let Some(to) =
                number(letter.to).filter(|to| self.network.passes(n, *to) && *to < self.machines.len())
            {
                let twice = self.happens(self.network.doubled);
                for _ in 0..1 + u32::from(twice) {
                    if !self.happens(self.network.loss) {
                        let time = self.network.time(&mut self.random);
                        let payload = Arc::clone(&letter.payload);
                        self.later(time, Happening::Arrives { from: n, to, payload });
                    }
                }
            }
        }
        if let Some((to, request)) = stream {
            self.machines[n].traffic.bytes += request.len() as u64;
            let to = number(to).filter(|to| *to < self.machines.len() && self.network.passes(n, *to));
            if let Some(to) = to
                && !self.happens(self.network.refused)
                && !self.happens(self.network.broken)
            {
                let time = self.network.time(&mut self.random) * 3;
                self.later(time, Happening::Asked { from: n, to, life, request });
            }
        }
    }

    /// Whether something happens that happens so often of a thousand times.
    fn happens(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.random.below(1000) < u64::from(of_thousand)
    }

    fn later(&mut self, time: Duration, what: Happening) {
        self.at(self.now + time, what);
    }

    fn at(&mut self, when: Duration, what: Happening) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.waiting[slot] = Some(what);
                slot
            }
            None => {
                self.waiting.push(Some(what));
                self.waiting.len() - 1
            }
        };
        self.order += 1;
        self.queue.push(Reverse((when, self.order, slot)));
    }
}
