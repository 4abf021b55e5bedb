//! Who has which subnet.

use cnikit_tests::isolated;
use serde_json::json;

use crate::common::{assert_everybody_talks, assert_subnets_differ, cluster, lab, logs, pods, usual};

#[test]
fn a_pool_that_is_exhausted_is_said_to_be() {
    isolated(|| {
        let lab = lab();
        let mut config = usual();
        config["cluster"] = json!(["10.244.0.0/23"]);
        let machines = cluster(&lab, 2, &config);
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
        let mut machines = cluster(&lab, 2, &usual());
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
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
    });
}
