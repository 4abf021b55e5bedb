//! Nodes that have IPv6 addresses only.

use cnikit_tests::isolated;
use cnikit_tests::lab::Machine;
use serde_json::{Value, json};

use crate::common::{Families, assert_everybody_talks, assert_subnets_differ, config, lab, pods};

fn without_ipv4(mode: &str, seeds: &Value, check: impl Fn(&[Machine])) {
    let lab = lab();
    let mut config = config(mode, Families::Both);
    config["gossip"]["seeds"] = seeds.clone();
    let mut machines = lab.machines(3, &config);
    machines[0].config()["gossip"]["bootstrap"] = json!(true);
    let tap = lab.tap();
    for machine in &mut machines {
        machine.node.shell("ip -4 addr flush dev eth0");
        machine.start();
    }
    for machine in &machines {
        machine.wait_known(3);
        machine.wait_ready();
        machine.wait_peers(2);
        let told = machine.ask("/v1/status").unwrap()["addresses"].clone();
        assert_eq!(told, json!([format!("fd01::{:x}", 10 + machine.number)]));
    }
    assert_subnets_differ(&machines);
    let (_pods, voices) = pods(&machines);
    assert_everybody_talks(&machines, &voices);
    check(&machines);
    assert_everybody_talks(&machines, &voices);
    // Whatever is between nodes is IPv6; only plain routes carry pods' IPv4 packets as they are.
    let packets = tap.packets();
    let foreign = packets.iter().filter(|packet| mode == "vxlan" || packet.destination().octets()[0] != 10);
    assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&_>::new());

    // Who was away comes back, by the seed and by those that it knew.
    machines[0].kill();
    machines[2].kill();
    machines[1].wait_long("both are missed", |machine| {
        machine.ask("/v1/status").is_some_and(|status| status["peers"]["down"] == 2)
    });
    machines[0].start();
    machines[2].start();
    for machine in &machines {
        machine.wait_peers(2);
    }
    assert_everybody_talks(&machines, &voices);
}

/// The ways of a machine to all others, as their kinds.
fn ways(machine: &Machine) -> Vec<String> {
    let peers = machine.ask("/v1/peers").unwrap_or_default();
    let kind = |peer: &Value| peer["path"]["way"]["kind"].as_str().unwrap_or_default().to_owned();
    peers.as_array().into_iter().flatten().map(kind).collect()
}

#[test]
fn nodes_without_ipv4_find_one_another_and_have_tunnels() {
    isolated(|| {
        without_ipv4("vxlan", &json!(["fd01::b"]), |machines| {
            for machine in machines {
                assert_eq!(ways(machine), ["vxlan"; 2]);
                assert!(machine.node.shell("bridge fdb show dev cnikit-vxlan6").contains("dst fd01::"));
            }
        });
    });
}

#[test]
fn nodes_without_ipv4_find_one_another_and_have_plain_routes_for_both_families() {
    isolated(|| {
        without_ipv4("auto", &json!(["[fd01::b]:4793", "fd01::c"]), |machines| {
            for machine in machines {
                machine.wait_long("plain routes", |machine| ways(machine) == ["route"; 2]);
                let routes = machine.node.shell("ip -4 route show proto 87 type unicast");
                assert_eq!(routes.matches("via inet6 fd01::").count(), 2, "{routes}");
            }
        });
    });
}
