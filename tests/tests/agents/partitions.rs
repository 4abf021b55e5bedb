//! Halves of a cluster that do not hear of one another for a while.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use cnikit_tests::lab::{Lab, Machine, Stream, Voice};
use cnikit_tests::{Pod, isolated};
use serde_json::json;

use crate::common::{
    assert_everybody_talks, assert_gap, assert_nothing_lost, assert_subnets_differ, lab, logs, talking, usual,
};

/// How long pods may be out of reach when halves hear one another again. Routes are there: it is neighbours that must be found,
/// and who has not found one asks again after a second.
const HEALED: Duration = Duration::from_secs(3);

pub(crate) fn split(lab: &Lab, one: &[Machine], other: &[Machine]) {
    for from in one {
        for to in other {
            lab.cut(from, to);
            lab.cut(to, from);
        }
    }
}

#[test]
fn halves_that_were_apart_join_again_with_all_that_came_meanwhile() {
    isolated(|| {
        let lab = lab();
        let (mut machines, _pods, mut voices) = talking(&lab, 4, &usual());
        let larger = Stream::among(&[&voices[0], &voices[1], &voices[2]]);
        split(&lab, &machines[..3], &machines[3..]);
        machines[0].wait_peers(2);
        machines[3].wait_peers(0);
        // Pods come on both sides: each node has a subnet.
        let mut kept = Vec::new();
        for machine in &machines {
            let (pod, voice) = machine.pod(&format!("apart-{}", machine.number));
            kept.push(pod);
            voices.push(voice);
        }
        // And a node joins the smaller half.
        let mut config = usual();
        config["gossip"]["seeds"] = json!(["192.168.1.14"]);
        let mut joiner = lab.machine(5, &config);
        split(&lab, &machines[..3], std::slice::from_ref(&joiner));
        joiner.start();
        joiner.wait_ready();
        let (pod, voice) = joiner.pod("joiner");
        kept.push(pod);
        voices.push(voice);
        machines.push(joiner);
        assert_everybody_talks(&machines, &voices[7..]);
        let [v0, v1, v2, v3, .., joined] = &voices.iter().collect::<Vec<_>>()[..] else {
            unreachable!("there are nine")
        };
        let smaller = Stream::among(&[v3, joined]);
        let apart = Stream::between(&[v0, v1, v2], &[v3]);
        lab.heal();
        for machine in &machines {
            machine.wait_peers(4);
        }
        assert_subnets_differ(&machines);
        assert_everybody_talks(&machines, &voices);
        std::thread::sleep(Duration::from_secs(3));
        assert_nothing_lost("partition, within the larger half", larger, &machines);
        assert_nothing_lost("partition, within the smaller half, with a joiner", smaller, &machines);
        assert_gap("partition, healed", apart, HEALED, &machines);
    });
}

#[test]
fn two_hundred_pods_come_while_halves_are_apart() {
    isolated(|| {
        let lab = lab();
        let (machines, _pods, voices) = talking(&lab, 4, &usual());
        let [v0, v1, v2, v3] = &voices.iter().collect::<Vec<_>>()[..] else { unreachable!("there are four") };
        let halves = [Stream::among(&[v0, v1]), Stream::among(&[v2, v3])];
        split(&lab, &machines[..2], &machines[2..]);
        for machine in &machines {
            machine.wait_peers(1);
        }
        // All at once, but for as many as a runtime would begin on a node.
        let mut new = Vec::new();
        thread::scope(|scope| {
            let worker = |machine, first: usize| {
                move || (first..50).step_by(5).map(|n| attached(machine, n)).collect::<Vec<_>>()
            };
            let workers: Vec<_> = machines
                .iter()
                .flat_map(|machine| (0..5).map(move |first| (machine, first)))
                .map(|(machine, first)| scope.spawn(worker(machine, first)))
                .collect();
            new.extend(workers.into_iter().flat_map(|worker| worker.join().unwrap()));
        });
        for machine in &machines {
            machine.wait_peers(1);
        }
        lab.heal();
        for machine in &machines {
            machine.wait("all pods are known", |machine| pods_known(machine).len() == 204);
        }
        for machine in &machines {
            let addresses: BTreeSet<String> = pods_known(machine).into_iter().collect();
            assert_eq!(addresses.len(), 204, "each has its own\n{}", logs(&machines));
        }
        // Some of each node.
        let some: Vec<Voice> = new
            .iter()
            .filter(|(_, pod, _)| pod.name().ends_with('7'))
            .map(|(machine, pod, addresses)| machine.voice(pod, addresses))
            .collect();
        assert_eq!(some.len(), 20);
        assert_everybody_talks(&machines, &some);
        for stream in halves {
            assert_nothing_lost("200 ADDs during a partition, within a half", stream, &machines);
        }
    });
}

fn attached(machine: &Machine, n: usize) -> (&Machine, Pod, Vec<IpAddr>) {
    let pod = machine.node.pod(&format!("p{n}"));
    let addresses = machine.add(&pod);
    (machine, pod, addresses)
}

/// The addresses of all pods that a machine's agent knows of.
fn pods_known(machine: &Machine) -> Vec<String> {
    let map = machine.ask("/v1/topology").unwrap();
    let pods = map["nodes"].as_array().unwrap().iter().flat_map(|node| node["pods"].as_array().unwrap());
    pods.map(|pod| pod["addresses"][0].to_string()).collect()
}
