//! Every pod reaches every pod, by its own address, in every mode and family.

use cnikit_tests::isolated;
use serde_json::json;

use crate::common::{
    Families, alone, assert_everybody_talks, assert_subnets_differ, cluster, config, lab, pods, together,
};

fn everybody_talks(n: u8, mode: &str, families: Families) {
    let lab = lab();
    let machines = cluster(&lab, n, &config(mode, families));
    assert_subnets_differ(&machines);
    let (_pods, voices) = pods(&machines);
    assert_everybody_talks(&machines, &voices);
}

#[test]
fn three_nodes_by_tunnels() {
    isolated(|| together(|| everybody_talks(3, "vxlan", Families::Both)));
}

#[test]
fn three_nodes_by_plain_routes() {
    isolated(|| together(|| everybody_talks(3, "route", Families::Both)));
}

#[test]
fn three_nodes_whichever_way_is_best() {
    isolated(|| together(|| everybody_talks(3, "auto", Families::Both)));
}

#[test]
fn three_nodes_with_ipv6_alone() {
    isolated(|| together(|| everybody_talks(3, "vxlan", Families::V6)));
}

#[test]
fn three_nodes_around_a_router() {
    isolated(|| {
        together(|| {
            let lab = lab();
            let config = config("router", Families::Both);
            let mut router = lab.machine(4, &config);
            router.config()["role"] = json!("router");
            router.start();
            let machines = cluster_beside(&lab, &config);
            let (_pods, voices) = pods(&machines);
            assert_everybody_talks(&machines, &voices);
            // It has no pods, and so no subnet.
            assert_eq!(router.subnets(), Vec::<String>::new());
            // Each of the others has one way only, for all there is.
            let routes = machines[0].node.shell("ip route show proto 87 type unicast");
            assert_eq!(routes.lines().count(), 1, "{routes}");
        });
    });
}

/// As [`cluster`], with one more machine that was there before.
fn cluster_beside(
    lab: &cnikit_tests::lab::Lab,
    config: &serde_json::Value,
) -> Vec<cnikit_tests::lab::Machine> {
    let mut machines = lab.machines(3, config);
    machines[0].config()["gossip"]["bootstrap"] = json!(true);
    for machine in &mut machines {
        machine.start();
    }
    for machine in &machines {
        machine.wait_ready();
        machine.wait_peers(3);
    }
    machines
}

#[test]
fn ten_nodes() {
    isolated(|| together(|| everybody_talks(10, "auto", Families::Both)));
}

#[test]
fn fifty_nodes_started_at_once_on_an_empty_cluster() {
    isolated(|| alone(|| everybody_talks(50, "vxlan", Families::V4)));
}
