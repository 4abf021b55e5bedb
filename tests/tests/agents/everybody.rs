//! Every pod reaches every pod, by its own address, in every mode and family.

use cnikit_tests::isolated;
use cnikit_tests::lab::Lab;
use serde_json::json;

use crate::common::{
    Families, assert_everybody_talks, assert_subnets_differ, cluster, cluster_beside, config, lab, lab_alone,
    pods,
};

fn everybody_talks(lab: &Lab, n: u8, mode: &str, families: Families) {
    let machines = cluster(lab, n, &config(mode, families));
    assert_subnets_differ(&machines);
    let (_pods, voices) = pods(&machines);
    assert_everybody_talks(&machines, &voices);
}

#[test]
fn three_nodes_by_tunnels() {
    isolated(|| everybody_talks(&lab(), 3, "vxlan", Families::Both));
}

#[test]
fn three_nodes_by_plain_routes() {
    isolated(|| everybody_talks(&lab(), 3, "route", Families::Both));
}

#[test]
fn three_nodes_whichever_way_is_best() {
    isolated(|| everybody_talks(&lab(), 3, "auto", Families::Both));
}

#[test]
fn three_nodes_with_ipv6_alone() {
    isolated(|| everybody_talks(&lab(), 3, "vxlan", Families::V6));
}

#[test]
fn three_nodes_around_a_router() {
    isolated(|| {
        let lab = lab();
        let config = config("router", Families::Both);
        let mut router = lab.machine(4, &config);
        router.config()["role"] = json!("router");
        router.start();
        let machines = cluster_beside(&lab, 3, &config, 1);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        // It has no pods, and so no subnet.
        assert_eq!(router.subnets(), Vec::<String>::new());
        // Each of the others has one way only, for all there is.
        let routes = machines[0].node.shell("ip route show proto 87 type unicast");
        assert_eq!(routes.lines().count(), 1, "{routes}");
    });
}

#[test]
fn three_nodes_that_a_file_lists() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/examples/three-nodes.json");
    isolated(|| listed(&json!({"store": "static", "static": {"file": file}}), "10.244.2.0/24"));
}

#[test]
fn three_nodes_whose_subnets_follow_from_their_addresses() {
    let nodes = ["192.168.1.11", "192.168.1.12", "192.168.1.13"];
    isolated(|| listed(&json!({"store": "derived", "derived": {"nodes": nodes}}), "10.244.12.0/24"));
}

/// Nodes that are known beforehand: the second has a subnet that is known, too.
fn listed(store: &serde_json::Value, second: &str) {
    let lab = lab();
    let mut config = config("auto", Families::V4);
    for (key, value) in store.as_object().unwrap() {
        config[key] = value.clone();
    }
    let machines = cluster(&lab, 3, &config);
    assert_eq!(machines[1].subnets(), [second]);
    let (_pods, voices) = pods(&machines);
    assert_everybody_talks(&machines, &voices);
}

#[test]
fn ten_nodes() {
    isolated(|| everybody_talks(&lab(), 10, "auto", Families::Both));
}

#[test]
fn fifty_nodes_started_at_once_on_an_empty_cluster() {
    isolated(|| everybody_talks(&lab_alone(), 50, "vxlan", Families::V4));
}
