//! What happens to nodes and to the network, as a list: drawn at random, played, and read by people.

use std::fmt;
use std::time::Duration;

use crate::world::{World, WorldSettings};

/// So many nodes there are at most, those that were replaced included: each holds a prefix.
const MOST: usize = 16;
/// How long it takes at most, when all is well again, until everybody agrees.
const LIMIT: Duration = Duration::from_secs(180);
/// Bytes that a node of so few sends in a second, at most.
const BYTES: u64 = 60_000;

/// What happens to some nodes, one thing after the other. When all of it has happened, everything works again.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// What follows from chance follows from this.
    pub seed: u64,
    /// How many nodes there are in the beginning.
    pub nodes: usize,
    /// How many of them are another cluster, which has not heard of the first.
    pub others: usize,
    /// What happens.
    pub acts: Vec<Act>,
}

/// What happens. In a script, a node's number counts modulo how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are called what they are, and Display tells the rest")]
pub enum Act {
    Run {
        millis: u64,
    },
    AddPod {
        node: usize,
    },
    RemovePod {
        node: usize,
    },
    /// Of a thousand datagrams, or streams; the longest time under way in milliseconds.
    Links {
        lost: u32,
        doubled: u32,
        slowest: u64,
        refused: u32,
        broken: u32,
    },
    Cut {
        from: usize,
        to: usize,
    },
    /// A bit for each node: which side it is on.
    Part {
        sides: u16,
    },
    Heal,
    Crash {
        node: usize,
        disk_has_lied: bool,
    },
    Start {
        node: usize,
    },
    Jump {
        node: usize,
        seconds: u64,
    },
    Add {
        seed: usize,
    },
    Replace {
        node: usize,
    },
    Copy {
        from: usize,
        to: usize,
    },
    Forget {
        by: usize,
        node: usize,
    },
    Join {
        node: usize,
        seed: usize,
    },
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { millis } => write!(f, "{}.{:03} s pass", millis / 1000, millis % 1000),
            Self::AddPod { node } => write!(f, "n{node} gets a pod"),
            Self::RemovePod { node } => write!(f, "n{node} loses its last pod"),
            Self::Links { lost, doubled, slowest, refused, broken } => write!(
                f,
                "of 1000 datagrams {lost} are lost, {doubled} doubled, and take up to {slowest} ms; of 1000 streams \
                 {refused} are refused and {broken} break"
            ),
            Self::Cut { from, to } => write!(f, "nothing gets from n{from} to n{to}"),
            Self::Part { sides } => {
                let nodes: Vec<_> =
                    (0..16).filter(|n| sides >> n & 1 == 1).map(|n| format!("n{n}")).collect();
                write!(f, "nothing passes between {} and all others", nodes.join(" "))
            }
            Self::Heal => f.write_str("the network is whole"),
            Self::Crash { node, disk_has_lied: false } => write!(f, "n{node} crashes"),
            Self::Crash { node, .. } => write!(f, "n{node} crashes, and its disk has lost the last write"),
            Self::Start { node } => write!(f, "n{node} is started, if it is dead"),
            Self::Jump { node, seconds } => write!(f, "n{node} was suspended for {seconds} s"),
            Self::Add { seed } => write!(f, "one more node comes, with n{seed} as its seed"),
            Self::Replace { node } => write!(f, "n{node} is replaced: another id, an empty disk"),
            Self::Copy { from, to } => write!(f, "n{to} is replaced by a copy of n{from}"),
            Self::Forget { by, node } => write!(f, "n{by} has n{node} forgotten, if that is down"),
            Self::Join { node, seed } => write!(f, "n{node} is told of n{seed}"),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, others, .. } = self;
        write!(f, "seed {seed}: {nodes} nodes")?;
        if *others > 0 {
            write!(f, ", the last {others} of which are a cluster of their own")?;
        }
        self.plain().iter().try_for_each(|act| write!(f, "\n    {act}"))
    }
}

/// As people read it: what fails is printed by this.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Script {
    /// What happens in fact: with the numbers of nodes that there are, without what does nothing.
    fn plain(&self) -> Vec<Act> {
        let (mut count, mut ids) = (self.nodes, self.nodes);
        let mut plain: Vec<Act> = Vec::new();
        for act in &self.acts {
            let mut act = act.clone();
            act.nodes().into_iter().for_each(|node| *node %= count);
            match (&mut act, plain.last_mut()) {
                (Act::Run { millis }, Some(Act::Run { millis: before })) => {
                    *before += *millis;
                    continue;
                }
                (Act::Cut { from, to } | Act::Copy { from, to }, _) if from == to => continue,
                (Act::Join { node, seed }, _) if node == seed => continue,
                (Act::Add { .. } | Act::Replace { .. } | Act::Copy { .. }, _) if ids >= MOST => continue,
                (Act::Part { sides }, _) => *sides &= (1 << count) - 1,
                (Act::Add { .. }, _) => (count, ids) = (count + 1, ids + 1),
                (Act::Replace { .. } | Act::Copy { .. }, _) => ids += 1,
                _ => {}
            }
            plain.push(act);
        }
        plain
    }

    /// Plays it, and has everything work again. How long it took after that until everybody agreed.
    ///
    /// # Panics
    /// When anything is as it must not be, or nobody agrees.
    pub fn play(&self) -> Duration {
        let cluster = "10.0.0.0/19".parse().unwrap();
        let mut world = World::new(WorldSettings { seed: self.seed, cluster, ..WorldSettings::default() });
        world.check.limit = BYTES;
        let first_of_others = self.nodes - self.others;
        for n in 0..self.nodes {
            let first = if n < first_of_others { 0 } else { first_of_others };
            world.add(&[first, (first + 1).min(self.nodes - 1)]);
        }
        (0..self.nodes).for_each(|n| world.start(n));
        let mut pods = 0;
        for act in self.plain() {
            world.act(&act, &mut pods);
        }
        world.mend();
        let took = world.run_until(LIMIT, Duration::from_millis(500), |world| {
            world.is_settled() && world.everybody_is_alive()
        });
        took.unwrap_or_else(|| panic!("after {LIMIT:?} they do not agree: {}", world.disagreement()))
    }
}

impl Act {
    /// The numbers of nodes in it.
    fn nodes(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Run { .. } | Self::Links { .. } | Self::Part { .. } | Self::Heal => Vec::new(),
            Self::AddPod { node } | Self::RemovePod { node } | Self::Crash { node, .. } => vec![node],
            Self::Start { node } | Self::Jump { node, .. } | Self::Replace { node } => vec![node],
            Self::Add { seed } => vec![seed],
            Self::Cut { from, to } | Self::Copy { from, to } => vec![from, to],
            Self::Forget { by, node } => vec![by, node],
            Self::Join { node, seed } => vec![node, seed],
        }
    }
}

impl World {
    fn act(&mut self, act: &Act, pods: &mut usize) {
        match act {
            Act::Run { millis } => self.run(Duration::from_millis(*millis)),
            Act::AddPod { node } => {
                // Some address of the subnet, as IPAM has it: none twice.
                *pods += 1;
                let _ = self.add_pod(*node, 1 + *pods % 200);
            }
            Act::RemovePod { node } => self.remove_pod(*node),
            Act::Links { lost, doubled, slowest, refused, broken } => {
                let network = &mut self.network;
                (network.loss, network.doubled) = (*lost, *doubled);
                (network.refused, network.broken) = (*refused, *broken);
                network.jitter = Duration::from_millis(*slowest);
            }
            Act::Cut { from, to } => self.network.cut(*from, *to),
            Act::Part { sides } => {
                (0..self.machines.len()).for_each(|n| self.network.part(n, (sides >> n & 1) as u8));
            }
            Act::Heal => self.network.heal(),
            Act::Crash { node, disk_has_lied } => self.crash(*node, *disk_has_lied),
            Act::Start { node } if self.machines[*node].mesh.is_none() => self.start(*node),
            Act::Start { .. } => {}
            Act::Jump { node, seconds } => self.jump(*node, Duration::from_secs(*seconds)),
            Act::Add { seed } => {
                let n = self.add(&[*seed]);
                self.start(n);
            }
            Act::Replace { node } => self.replace(*node),
            Act::Copy { from, to } => self.copy(*from, *to),
            // It says why not, if it does not.
            Act::Forget { by, node } => drop(self.forget(*by, *node)),
            Act::Join { node, seed } => {
                let mut seeds = self.machines[*node].seeds.clone();
                seeds.push(*seed);
                self.join(*node, &seeds);
            }
        }
    }

    /// Everything works again: the network, all agents; whoever is a copy becomes another node, and all clusters hear of the first.
    fn mend(&mut self) {
        self.network.mend();
        for n in 0..self.machines.len() {
            let id = self.machines[n].local.id;
            if self.machines[..n].iter().any(|machine| machine.local.id == id) {
                self.replace(n);
            } else if self.machines[n].mesh.is_none() {
                self.start(n);
            }
        }
        for n in 1..self.machines.len() {
            if self.cluster(n) != self.cluster(0) {
                let mut seeds = self.machines[n].seeds.clone();
                seeds.push(0);
                self.join(n, &seeds);
            }
        }
    }
}
