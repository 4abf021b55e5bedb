//! How soon fifty nodes know, and reach, what is new.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, PATIENCE, Voice, one_and_everybody};

use crate::common::{Families, cluster, config, lab_alone, logs, pods};

/// A second is what is promised of a release build on an idle machine; this is for a test build, with fifty agents on a busy
/// one. The figures are printed.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_new_pod_and_a_new_node_are_known_and_reached_by_fifty_nodes_at_once() {
    isolated(|| {
        let lab = lab_alone();
        let config = config("vxlan", Families::V4);
        let mut machines = cluster(&lab, 50, &config);
        let (_pods, voices) = pods(&machines);

        let (_pod, new) = machines[0].pod("new-pod");
        assert_soon("a new pod", Instant::now(), &machines, "new-pod", &new, &voices);

        let newcomer = lab.machine(51, &config);
        machines.push(newcomer);
        lab.introduce(&machines);
        let newcomer = machines.last_mut().unwrap();
        let started = Instant::now();
        newcomer.start();
        newcomer.wait_ready();
        let ready = Instant::now();
        eprintln!("a new node: ready {:?} after its start", ready - started);
        let (_pod, new) = machines[50].pod("newcomer");
        assert_soon("a new node", ready, &machines, "n51", &new, &voices);
    });
}

/// All agents know a name, and all pods hear the new one and are heard by it, soon after something has happened.
fn assert_soon(what: &str, since: Instant, machines: &[Machine], name: &str, new: &Voice, voices: &[Voice]) {
    // Whoever asks agents takes time from them: packets are first.
    let missing = one_and_everybody(new, voices, PATIENCE);
    let reached = since.elapsed();
    assert!(missing.is_empty(), "{what}: {missing:#?}\n{}", logs(machines));
    let name = format!("\"{name}\"");
    for machine in machines {
        machine.wait(what, |machine| {
            machine.ask("/v1/topology").is_some_and(|map| map.to_string().contains(&name))
        });
    }
    let known = since.elapsed();
    eprintln!("{what}: reached by all after {reached:?}, known to all after {known:?} at the latest");
    assert!(reached < SOON && known < SOON, "{what}: {reached:?}, {known:?}\n{}", logs(machines));
}
