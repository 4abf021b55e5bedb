//! Halves of a cluster that do not hear of one another for a while.

use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine};
use serde_json::json;

use crate::common::{
    Families, assert_everybody_talks, assert_subnets_differ, cluster, config, lab, logs, talking, usual,
};

fn split(lab: &Lab, one: &[Machine], other: &[Machine]) {
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
        lab.heal();
        for machine in &machines {
            machine.wait_peers(4);
        }
        assert_subnets_differ(&machines);
        assert_everybody_talks(&machines, &voices);
    });
}

#[test]
fn two_hundred_pods_come_while_halves_are_apart() {
    isolated(|| {
        let lab = lab();
        let machines = cluster(&lab, 2, &usual());
        split(&lab, &machines[..1], &machines[1..]);
        machines[0].wait_peers(0);
        let mut kept = Vec::new();
        for machine in &machines {
            for n in 0..100 {
                let pod = machine.node.pod(&format!("p{n}"));
                machine.add(&pod);
                kept.push(pod);
            }
        }
        lab.heal();
        for machine in &machines {
            machine.wait("all pods are known", |machine| {
                let Some(map) = machine.ask("/v1/topology") else { return false };
                let pods = map["nodes"].as_array().unwrap().iter();
                pods.map(|node| node["pods"].as_array().map_or(0, Vec::len)).sum::<usize>() == 200
            });
        }
        let addresses: std::collections::BTreeSet<String> = machines[0].ask("/v1/topology").unwrap()["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|node| node["pods"].as_array().unwrap().clone())
            .map(|pod| pod["addresses"][0].to_string())
            .collect();
        assert_eq!(addresses.len(), 200, "{}", logs(&machines));
    });
}

#[test]
fn two_clusters_that_took_the_same_subnets_become_one_and_every_pod_stays_reachable() {
    isolated(|| {
        let lab = lab();
        // So few subnets that they cannot but take the same.
        let mut config = config("auto", Families::Both);
        config["cluster"] = json!(["10.244.0.0/22", "fd00:244::/62"]);
        let mut one = lab.machines(2, &config);
        let mut other: Vec<_> = (3..=4).map(|n| lab.machine(n, &config)).collect();
        for machine in &mut other {
            machine.config()["gossip"]["seeds"] = json!(["192.168.1.13"]);
        }
        split(&lab, &one, &other);
        for half in [&mut one, &mut other] {
            half[0].config()["gossip"]["bootstrap"] = json!(true);
            half.iter_mut().for_each(Machine::start);
            half.iter().for_each(Machine::wait_ready);
        }
        let mut kept = Vec::new();
        let mut voices = Vec::new();
        for machine in one.iter().chain(&other) {
            let (pod, voice) = machine.pod(&format!("pod-{}", machine.number));
            kept.push(pod);
            voices.push(voice);
        }
        let before: Vec<String> = one.iter().chain(&other).flat_map(Machine::subnets).collect();
        lab.heal();
        // Somebody tells the one of the other: one seed is enough.
        other[1].config()["gossip"]["seeds"] = json!(["192.168.1.11"]);
        other[1].kill();
        other[1].start();
        let machines: Vec<_> = one.into_iter().chain(other).collect();
        for machine in &machines {
            machine.wait_peers(3);
        }
        for machine in &machines {
            machine.wait_ready();
        }
        std::thread::sleep(Duration::from_secs(3));
        assert_subnets_differ(&machines);
        assert_everybody_talks(&machines, &voices);
        drop((kept, before));
    });
}
