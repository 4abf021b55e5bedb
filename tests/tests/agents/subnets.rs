//! Who has which subnet.

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, Stream};
use serde_json::json;

use crate::common::{
    assert_everybody_talks, assert_nothing_lost, assert_subnets_differ, cluster, lab, logs, pods, talking,
    usual,
};

#[test]
fn a_pool_that_is_exhausted_is_said_to_be() {
    isolated(|| {
        let lab = lab();
        let mut config = usual();
        config["cluster"] = json!(["10.244.0.0/23"]);
        let (machines, _pods, voices) = talking(&lab, 2, &config);
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        let mut third = lab.machine(3, &config);
        third.start();
        third.wait_peers(2);
        third.wait("it says why it has none", |machine| {
            machine
                .ask("/v1/status")
                .is_some_and(|status| status["problems"].to_string().contains("10.244.0.0/23"))
        });
        let outcome = third.try_add("nobody");
        assert_eq!(outcome["code"], 11, "{outcome}");
        assert_subnets_differ(&machines);
        assert_nothing_lost("a prefix exhausted", stream, &machines);
    });
}

#[test]
fn a_full_subnet_is_said_to_be() {
    isolated(|| {
        let lab = lab();
        let mut config = usual();
        config["cluster"] = json!(["10.244.0.0/24"]);
        config["subnetLengthV4"] = json!(29);
        let machines = cluster(&lab, 2, &config);
        // Eight addresses: the network's, the broadcast, the bridge's, five pods'.
        let pods: Vec<_> = (0..5).map(|n| machines[0].pod(&format!("p{n}"))).collect();
        let outcome = machines[0].try_add("one-too-many");
        assert!(outcome["msg"].as_str().is_some_and(|msg| msg.contains("10.244.0.")), "{outcome}");
        machines[0].del(&pods[0].0);
        machines[0].add(&machines[0].node.pod("again"));
    });
}

#[test]
fn a_disk_that_was_copied_is_noticed() {
    isolated(|| {
        let lab = lab();
        let (mut machines, _pods, mut voices) = talking(&lab, 2, &usual());
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        let mut copy = lab.machine(3, &usual());
        copy.clone_disk(&machines[1]);
        copy.start();
        copy.wait_ready();
        machines.push(copy);
        for machine in &machines {
            machine.wait_peers(2);
        }
        let ids: std::collections::BTreeSet<_> =
            machines.iter().map(|machine| machine.ask("/v1/status").unwrap()["node"].to_string()).collect();
        assert_eq!(ids.len(), 3, "{}", logs(&machines));
        assert_subnets_differ(&machines);
        let (_pod, voice) = machines[2].pod("of-the-copy");
        voices.push(voice);
        assert_everybody_talks(&machines, &voices);
        assert_nothing_lost("a disk copied", stream, &machines);
    });
}

#[test]
fn a_machine_that_was_copied_whole_is_told_of_on_both_and_does_as_it_is_advised() {
    isolated(|| {
        let lab = lab();
        let mut machines = cluster(&lab, 2, &usual());
        let mut copy = lab.machine(3, &usual());
        copy.clone_disk(&machines[1]);
        // A virtual machine's image has the machine's own id in it, too.
        copy.node.shell("printf '%032x\\n' 2 > /run/machine-id");
        let id = |machine: &Machine| machine.ask("/v1/status").unwrap()["node"].as_str().unwrap().to_owned();
        let node = id(&machines[1]);
        copy.start();
        copy.wait("an answer", |copy| copy.ask("/v1/status").is_some());
        assert_eq!(id(&copy), node);
        machines.push(copy);
        let what = format!("two machines use the node id {node}");
        let is_told = |machine: &Machine| {
            let status = machine.ask("/v1/status")?;
            let mut problems = status["problems"].as_array()?.iter();
            problems.find(|problem| problem["what"] == what.as_str()).cloned()
        };
        for twin in &machines[1..] {
            twin.wait_long("it is told", |twin| is_told(twin).is_some());
            assert_eq!(is_told(twin).unwrap()["severity"], "error");
            twin.wait("it is in the log", |twin| twin.log().contains(&what));
        }
        // It is not the first one's trouble.
        assert_eq!(is_told(&machines[0]), None);
        assert!(!machines[0].log().contains("two machines"), "{}", machines[0].log());

        let advice = is_told(&machines[2]).unwrap()["advice"].as_str().unwrap().to_owned();
        assert!(advice.contains("remove its state directory"), "{advice}");
        machines[2].stop();
        machines[2].node.shell("rm -r /var/lib/cnikit");
        machines[2].start();
        machines[2].wait_ready();
        for machine in &machines {
            machine.wait_long("all hear one another again", |machine| {
                machine.ask("/v1/status").is_some_and(|status| status["peers"]["alive"] == 2)
            });
        }
        assert_ne!(id(&machines[2]), node);
        machines[1].wait("nobody complains", |twin| is_told(twin).is_none());
        assert_subnets_differ(&machines);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
    });
}
