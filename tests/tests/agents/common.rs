//! Labs as the tests want them.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cnikit_tests::lab::{Lab, Lost, Machine, PATIENCE, Stream, Voice, everybody_to_everybody};
use cnikit_tests::{Pod, ours};
use serde_json::{Value, json};

/// The families of a network's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    V4,
    V6,
    Both,
}

/// An agent's configuration: gossip without a key, machine 1 as the seed.
pub(crate) fn config(mode: &str, families: Families) -> Value {
    let (v4, v6) = ("10.244.0.0/16", "fd00:244::/48");
    let cluster = match families {
        Families::V4 => json!([v4]),
        Families::V6 => json!([v6]),
        Families::Both => json!([v4, v6]),
    };
    json!({
        "cluster": cluster,
        "mode": mode,
        "store": "gossip",
        "gossip": {"seeds": ["192.168.1.11"], "insecure": true},
        "underlay": {"interface": "eth0"},
        "health": {"enabled": false},
    })
}

/// A configuration that both tests and people would choose.
pub(crate) fn usual() -> Value {
    config("auto", Families::V4)
}

/// A segment, and the right to a part of the machine that all tests run on, or to all of it.
pub(crate) struct Segment {
    lab: Lab,
    _turn: Turn,
}

/// Kept for as long as the segment is there.
#[expect(dead_code, reason = "guards are there to be dropped")]
enum Turn {
    BesideOthers(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

static MACHINE: RwLock<()> = RwLock::new(());

impl Deref for Segment {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// An empty segment.
pub(crate) fn lab() -> Segment {
    segment(Turn::BesideOthers(MACHINE.read().unwrap_or_else(PoisonError::into_inner)))
}

/// An empty segment for so many agents that no other test may run beside them.
pub(crate) fn lab_alone() -> Segment {
    segment(Turn::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
}

fn segment(turn: Turn) -> Segment {
    Segment { lab: Lab::new(ours!(), env!("CARGO_BIN_EXE_agent-under-test")), _turn: turn }
}

/// Machines whose agents run, know one another and have subnets.
pub(crate) fn cluster(lab: &Lab, n: u8, config: &Value) -> Vec<Machine> {
    cluster_beside(lab, n, config, 0)
}

/// The same, where so many others are on the segment already.
pub(crate) fn cluster_beside(lab: &Lab, n: u8, config: &Value, others: usize) -> Vec<Machine> {
    let mut machines = lab.machines(n, config);
    if n > 20 {
        lab.introduce(&machines);
    }
    start(&mut machines, others);
    machines
}

/// Starts agents, and waits until they know one another, and others, and have subnets.
pub(crate) fn start(machines: &mut [Machine], others: usize) {
    // The first is the one that others look for.
    if let Some(first) = machines.first_mut() {
        first.config()["gossip"]["bootstrap"] = json!(true);
    }
    for machine in &mut *machines {
        machine.start();
    }
    for machine in &*machines {
        machine.wait_known(machines.len() + others);
        machine.wait_ready();
    }
}

/// A cluster of so many machines with pods, in some mode; behind them the router, where there is one.
pub(crate) fn cluster_by(lab: &Lab, n: u8, mode: &str, families: Families) -> Vec<Machine> {
    let config = config(mode, families);
    if mode != "router" {
        return cluster(lab, n, &config);
    }
    let mut router = lab.machine(n + 1, &config);
    router.config()["role"] = json!("router");
    router.start();
    let mut machines = cluster_beside(lab, n, &config, 1);
    machines.push(router);
    machines
}

/// A pod on each machine, with what speaks in it.
pub(crate) fn pods(machines: &[Machine]) -> (Vec<Pod>, Vec<Voice>) {
    machines.iter().map(|machine| machine.pod(&format!("pod-{}", machine.number))).unzip()
}

/// A cluster with a pod on each machine, that have all heard one another.
pub(crate) fn talking(lab: &Lab, n: u8, config: &Value) -> (Vec<Machine>, Vec<Pod>, Vec<Voice>) {
    let machines = cluster(lab, n, config);
    let (pods, voices) = pods(&machines);
    assert_everybody_talks(&machines, &voices);
    (machines, pods, voices)
}

/// Every pod is heard by every other, from its own address.
///
/// # Panics
/// If not, with what all agents said.
pub(crate) fn assert_everybody_talks(machines: &[Machine], voices: &[impl Borrow<Voice>]) {
    let voices: Vec<&Voice> = voices.iter().map(Borrow::borrow).collect();
    let missing = everybody_to_everybody(&voices, PATIENCE * 2);
    assert!(missing.is_empty(), "{missing:#?}\n{}\n{}", logs(machines), tables(machines));
}

/// Ends a stream, of which not a packet may be lost: nothing that happened concerns its path.
///
/// # Panics
/// If one is, with what all agents said.
pub(crate) fn assert_nothing_lost(what: &str, stream: Stream, machines: &[Machine]) {
    let lost = ended(what, stream);
    assert_eq!(lost.lost, 0, "{what}: {lost:?}\n{}\n{}", logs(machines), tables(machines));
}

/// Ends a stream, whose path was in the way of what happened: for how long all may be lost.
///
/// # Panics
/// If it was longer, with what all agents said.
pub(crate) fn assert_gap(what: &str, stream: Stream, at_most: Duration, machines: &[Machine]) {
    let lost = ended(what, stream);
    assert!(lost.longest_gap <= at_most, "{what}: {lost:?}\n{}\n{}", logs(machines), tables(machines));
}

fn ended(what: &str, stream: Stream) -> Lost {
    let lost = stream.stop();
    eprintln!("{what}: {lost:?}");
    assert!(lost.sent > 100, "{what}: {lost:?}");
    lost
}

/// What the kernels hold.
fn tables(machines: &[Machine]) -> String {
    let table = |machine: &Machine| {
        let held =
            machine.node.shell("ip -br addr; ip route show table all; ip nexthop; ip neigh; bridge fdb");
        format!("--- n{}\n{held}\n", machine.number)
    };
    machines.iter().take(5).map(table).collect()
}

/// What all agents said.
pub(crate) fn logs(machines: &[Machine]) -> String {
    machines.iter().map(|machine| format!("--- n{}\n{}\n", machine.number, machine.log())).collect()
}

/// No subnet is held twice.
///
/// # Panics
/// If one is.
pub(crate) fn assert_subnets_differ(machines: &[Machine]) {
    let all: Vec<String> = machines.iter().flat_map(Machine::subnets).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:?}\n{}", logs(machines));
    assert!(all.len() >= machines.len(), "{all:?}\n{}", logs(machines));
}
