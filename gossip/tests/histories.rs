//! Whatever happens to nodes and links: what is seen of a node is what it said at some time, never less than before, and
//! when links work again, all agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gossip::{Event, Gossip};
use proptest::prelude::*;
use support::{Links, Network, address, id, seconds};

const NODES: u64 = 6;

#[derive(Debug, Clone)]
enum Act {
    Set {
        node: u64,
        key: u8,
    },
    Delete {
        node: u64,
        key: u8,
    },
    Run(Duration),
    Links {
        lost: u64,
        doubled: u64,
        slowest: u64,
        has_streams: bool,
    },
    Cut(u8),
    Heal,
    /// Killed, and started with the next incarnation.
    Restart(u64),
    /// Killed, and started with a disk from long ago.
    Rewind(u64),
    Forget {
        by: u64,
        node: u64,
    },
    Move(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..NODES;
    prop_oneof![
        8 => (node(), 0_u8..5).prop_map(|(node, key)| Act::Set { node, key }),
        3 => (node(), 0_u8..5).prop_map(|(node, key)| Act::Delete { node, key }),
        6 => (1_u64..3000).prop_map(|millis| Act::Run(Duration::from_millis(millis))),
        1 => (5_u64..60).prop_map(|count| Act::Run(seconds(count))),
        1 => (0_u64..400, 0_u64..300, 2_u64..400, any::<bool>()).prop_map(|(lost, doubled, slowest, has_streams)| {
            Act::Links { lost, doubled, slowest, has_streams }
        }),
        2 => any::<u8>().prop_map(Act::Cut),
        2 => Just(Act::Heal),
        1 => node().prop_map(Act::Restart),
        1 => node().prop_map(Act::Rewind),
        1 => (node(), node()).prop_map(|(by, node)| Act::Forget { by, node }),
        1 => node().prop_map(Act::Move),
    ]
}

type State = BTreeMap<String, Vec<u8>>;

/// What each node has said, at any time.
struct Story {
    network: Network,
    /// Which process is the node's.
    process: Vec<usize>,
    incarnation: Vec<u64>,
    said: Vec<BTreeSet<State>>,
    writes: u32,
    moves: u64,
}

impl Story {
    fn begin(seed: u64) -> Self {
        let mut network = Network::new(seed);
        network.config.deleted_for = seconds(30);
        let mut said = vec![BTreeSet::new(); NODES as usize];
        said.iter_mut().for_each(|said| said.extend([State::new()]));
        let process = (0..NODES).map(|node| network.start(node, 10, address(node))).collect();
        (0..NODES as usize).for_each(|at| network.join(at, &[address(0), address(1)]));
        Self { network, process, incarnation: vec![10; NODES as usize], said, writes: 0, moves: 100 }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Set { node, key } => {
                self.writes += 1;
                let value = self.writes.to_be_bytes();
                self.write(*node, |gossip| gossip.set(seconds(0), &format!("key {key}"), &value).unwrap());
            }
            Act::Delete { node, key } => {
                self.write(*node, |gossip| gossip.delete(seconds(0), &format!("key {key}")))
            }
            Act::Run(duration) => self.network.run(*duration),
            Act::Links { lost, doubled, slowest, has_streams } => {
                let delay = (Duration::from_millis(1), Duration::from_millis(*slowest));
                self.network.links =
                    Links { lost: *lost, doubled: *doubled, delay, has_streams: *has_streams };
            }
            Act::Cut(sides) => {
                let is_left = |at: &usize| {
                    self.process.iter().position(|p| p == at).is_some_and(|n| sides >> n & 1 == 0)
                };
                let (left, right): (Vec<_>, Vec<_>) = (0..self.network.processes.len()).partition(is_left);
                self.network.cut(&[&left, &right]);
            }
            Act::Heal => self.network.heal(),
            Act::Restart(node) => {
                let next = self.last_incarnation(*node) + 1;
                self.restart(*node, next);
            }
            Act::Rewind(node) => self.restart(*node, 3),
            Act::Forget { by, node } => {
                let (by, now) = (self.process[*by as usize], self.network.now);
                self.network.with(by, |gossip| gossip.forget(now, &id(*node)));
            }
            Act::Move(node) => {
                self.moves += 1;
                let (at, new) = (self.process[*node as usize], address(self.moves));
                self.network.move_to(at, new);
                self.network.with(at, |gossip| gossip.set_addresses(seconds(0), vec![new]));
            }
        }
        self.check();
    }

    fn write(&mut self, node: u64, write: impl FnOnce(&mut Gossip)) {
        let at = self.process[node as usize];
        let said = &mut self.said[node as usize];
        self.network.with(at, |gossip| {
            write(gossip);
            said.insert(state(gossip, node));
        });
    }

    /// What its agent has on disk.
    fn last_incarnation(&self, node: u64) -> u64 {
        let process = &self.network.processes[self.process[node as usize]];
        let told = process.events.iter().rev().find_map(|(_, event)| match event {
            Event::Incarnation { new } => Some(*new),
            _ => None,
        });
        told.unwrap_or(self.incarnation[node as usize])
    }

    fn restart(&mut self, node: u64, incarnation: u64) {
        let old = self.process[node as usize];
        let at_address = self.network.processes[old].address;
        self.network.stop(old);
        self.incarnation[node as usize] = incarnation;
        let at = self.network.start(node, incarnation, at_address);
        self.network.join(at, &[address(0), address(1)]);
        self.process[node as usize] = at;
    }

    /// A node is seen as it was at some time.
    fn check(&self) {
        for (at, process) in self.network.running() {
            for node in 0..NODES {
                let seen = state(&process.gossip, node);
                let is_said = self.said[node as usize].contains(&seen);
                assert!(is_said, "{at} sees of {node} what it never said: {seen:?}");
            }
        }
    }
}

fn state(gossip: &Gossip, node: u64) -> State {
    gossip.entries(&id(node)).map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_node_is_seen_as_it_was_and_in_the_end_as_it_is(
        seed in any::<u64>(),
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut story = Story::begin(seed);
        acts.iter().for_each(|act| story.act(act));
        story.network.heal();
        story.network.links = Links::default();
        // Seeds may have moved: whoever was forgotten everywhere must be told where somebody is.
        let somebody = story.network.processes[story.process[0]].address;
        let running: Vec<_> = story.network.running().map(|(at, _)| at).collect();
        running.iter().for_each(|at| story.network.join(*at, &[somebody]));
        story.network.run_until(seconds(300), Network::has_converged);
        story.check();
    }
}
