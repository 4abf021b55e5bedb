//! Two clusters that become one, where nodes of both hold the same.

use std::net::IpAddr;
use std::time::Duration;

use cnikit_tests::lab::{Lab, Machine, Stream, Voice, addresses};
use cnikit_tests::{Pod, isolated};
use serde_json::{Value, json};

use crate::common::{
    Families, assert_everybody_talks, assert_gap, assert_nothing_lost, assert_subnets_differ, config, lab,
    logs,
};
use crate::partitions::split;

/// How long pods of who loses a prefix may be out of its own cluster's reach: for an agent that has just been started, until it
/// has been told of them.
const JOINED: Duration = Duration::from_secs(3);

/// What the first and the third hold, before they know of one another.
const SAME: [&str; 2] = ["10.244.7.0/24", "fd00:244:0:7::/64"];

/// A machine whose agent has been there before: it is of some id, and holds subnets.
fn machine(lab: &Lab, number: u8, config: &Value, subnet: u8) -> Machine {
    let machine = lab.machine(number, config);
    // Of two that hold one prefix, the lower id keeps it.
    let id = format!("{number:02x}").repeat(16);
    let held = [format!("10.244.{subnet}.0/24"), format!("fd00:244:0:{subnet}::/64")]
        .map(|prefix| json!({"prefix": prefix, "state": "held"}));
    let saved = json!({"node": id, "counter": 0, "incarnation": 1, "subnets": held});
    machine.put("/var/lib/cnikit/node.json", &json!({ "id": id }).to_string());
    machine.put("/var/lib/cnikit/gossip-cnikit.json", &saved.to_string());
    machine
}

/// A pod that Kubernetes knows by a name, with the host part of its addresses of the prefix that two have.
fn pod_at(machine: &Machine, name: &str, host: u16) -> (Pod, Value, Voice) {
    let asked: Vec<IpAddr> =
        [format!("10.244.7.{host}"), format!("fd00:244:0:7::{host}")].map(|ip| ip.parse().unwrap()).into();
    let pod = machine.node.pod(name);
    // What the runtime remembers of its call is where the agent has the name from.
    let called = json!({
        "kind": "cniCacheV1", "containerId": name, "config": "", "ifName": "eth0", "networkName": "cnikit",
        "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", name]], "result": {"cniVersion": "1.1.0"},
    });
    machine.put(&format!("/var/lib/cni/results/cnikit-{name}-eth0"), &called.to_string());
    let result = machine.attach(&pod, &asked);
    assert_eq!(addresses(&result), asked);
    let voice = machine.voice(&pod, &asked);
    (pod, result, voice)
}

fn status(machine: &Machine) -> Value {
    machine.ask("/v1/status").unwrap()
}

#[test]
fn two_clusters_that_hold_the_same_subnet_become_one_and_every_pod_stays_reachable() {
    isolated(|| {
        let lab = lab();
        let config = config("auto", Families::Both);
        let one = [machine(&lab, 1, &config, 7), machine(&lab, 2, &config, 8)];
        let other = [machine(&lab, 3, &config, 7), machine(&lab, 4, &config, 9)];
        split(&lab, &one, &other);
        let mut machines: Vec<_> = one.into_iter().chain(other).collect();
        for (n, machine) in machines.iter_mut().enumerate() {
            let seed = if n < 2 { "192.168.1.11" } else { "192.168.1.13" };
            machine.config()["gossip"]["seeds"] = json!([seed]);
            machine.config()["gossip"]["bootstrap"] = json!(n % 2 == 0);
            machine.start();
        }
        for machine in &machines {
            machine.wait_peers(1);
            machine.wait_ready();
        }
        assert_eq!(machines[0].subnets(), SAME);
        assert_eq!(machines[2].subnets(), SAME);

        let (_keeper, _, keeper) = pod_at(&machines[0], "keeper", 50);
        let (_second, second) = machines[1].pod("second");
        let (_loser, _, loser) = pod_at(&machines[2], "loser", 60);
        let (_fourth, fourth) = machines[3].pod("fourth");
        // And one address twice.
        let twins = [pod_at(&machines[0], "twin-1", 100), pod_at(&machines[2], "twin-3", 100)];
        for (machine, (pod, result, _)) in [&machines[0], &machines[2]].into_iter().zip(&twins) {
            machine.check(pod, result).done();
        }
        assert_everybody_talks(&machines[..2], &[&keeper, &second]);
        assert_everybody_talks(&machines[2..], &[&loser, &fourth]);
        let of_winner = Stream::among(&[&keeper, &second]);
        let of_loser = Stream::among(&[&loser, &fourth]);

        lab.heal();
        // Somebody tells the one of the other: one seed is enough.
        machines[3].config()["gossip"]["seeds"] = json!(["192.168.1.11"]);
        machines[3].kill();
        machines[3].start();
        for machine in &machines {
            machine.wait_peers(3);
        }
        // One keeps its prefixes, the other takes new ones.
        machines[2].wait("the loser has other prefixes", |machine| {
            status(machine)["ready"] == true
                && SAME.iter().all(|same| !machine.subnets().contains(&(*same).into()))
        });
        assert_eq!(machines[0].subnets(), SAME, "{}", logs(&machines));
        assert_subnets_differ(&machines);
        let lost: Vec<Value> = SAME.iter().map(|same| json!({"prefix": same, "state": "lost"})).collect();
        let subnets = status(&machines[2])["subnets"].as_array().unwrap().clone();
        assert!(lost.iter().all(|lost| subnets.contains(lost)), "{subnets:?}");

        // New pods get addresses of them; those that were there keep theirs, each with a route of its own, elsewhere.
        let (_newcomer, newcomer) = machines[2].pod("newcomer");
        for address in newcomer.addresses() {
            let old = if address.is_ipv6() { "fd00:244:0:7:" } else { "10.244.7." };
            assert!(!address.to_string().starts_with(old), "{address}");
        }
        for machine in [&machines[0], &machines[1], &machines[3]] {
            machine.wait("routes to the loser's old pod", |machine| {
                let own = machine.node.shell(
                    "ip -4 route show exact 10.244.7.60/32 proto 87
                     ip -6 route show exact fd00:244:0:7::60/128 proto 87",
                );
                own.lines().count() == 2
            });
        }
        assert_everybody_talks(&machines, &[&keeper, &second, &loser, &fourth, &newcomer]);

        // The exact duplicate is told of by the pods' names: by all who are asked, and on both nodes by CHECK and in the log.
        for address in ["10.244.7.100", "fd00:244:0:7::100"] {
            let told = format!("{address} is that of default/twin-1 on n1 and of default/twin-3 on n3");
            for machine in &machines {
                machine.wait(&told, |machine| {
                    let status = status(machine);
                    let problems = status["problems"].as_array().unwrap();
                    problems.iter().any(|problem| problem["what"] == told && problem["severity"] == "error")
                });
            }
            let sides = [
                (&machines[0], &twins[0], "default/twin-3 on node n3"),
                (&machines[2], &twins[1], "default/twin-1 on node n1"),
            ];
            for (machine, (pod, result, _), other) in sides {
                let line =
                    format!("{address} is also the address of pod {other}: delete one of the two pods");
                machine.wait(&line, |machine| machine.log().contains(&line));
                let error = machine.check(pod, result).error();
                assert_eq!(error["code"], 102, "{error}");
                let said = format!("{address} is also pod {other}");
                assert!(error["msg"].as_str().unwrap().contains(&said), "{said}: {error}");
            }
        }
        // Nobody is said to be out of reach, which would be found out by now.
        std::thread::sleep(Duration::from_secs(12));
        for machine in &machines {
            assert!(!machine.log().contains("nothing comes back"), "{}", logs(&machines));
        }
        assert_nothing_lost("clusters joined, the cluster of who keeps the prefix", of_winner, &machines);
        assert_gap("clusters joined, the cluster of who loses it", of_loser, JOINED, &machines);
    });
}
