//! Nodes with a router between them.

use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine, Packet, Router, Tap, everybody_to_everybody};
use serde_json::{Value, json};

use crate::common::{Families, assert_everybody_talks, config, lab, pods};

/// Machines that run, know one another and have subnets: each on the segment that is said.
pub(crate) fn machines(lab: &Lab, router: &Router, segments: &[u8], config: &Value) -> Vec<Machine> {
    let n = u8::try_from(segments.len()).unwrap();
    let mut machines = lab.machines(n, config);
    machines[0].config()["gossip"]["bootstrap"] = json!(true);
    for (machine, segment) in machines.iter_mut().zip(segments) {
        router.moves(lab, machine, *segment);
        machine.start();
    }
    for machine in &machines {
        machine.wait_known(segments.len());
        machine.wait_ready();
    }
    machines
}

/// By which way a machine reaches another, as it says itself, and why.
fn way(from: &Machine, to: &str) -> Option<(Value, String)> {
    let peers = from.ask("/v1/peers")?;
    let peer = peers.as_array()?.iter().find(|peer| peer["name"] == to)?;
    Some((peer["path"]["way"].clone(), peer["path"]["reason"].as_str()?.to_owned()))
}

fn route(gateway: &str) -> Value {
    json!({"kind": "route", "gateway": gateway})
}

fn vxlan(remote: &str) -> Value {
    json!({"kind": "vxlan", "remote": remote})
}

fn wait_way(from: &Machine, to: &str, wanted: &Value) {
    from.wait_long(&format!("{to} by {wanted}"), |from| way(from, to).is_some_and(|(way, _)| way == *wanted));
}

/// The kernel sends what is for a machine's pods so: the way that was told is the one that is taken.
fn wait_leaves_by(from: &Machine, to: &Machine, wanted: &str) {
    let subnet = to.subnets().into_iter().find(|subnet| subnet.contains('.')).unwrap();
    let host = subnet.replace(".0/24", ".77");
    from.wait(&format!("{host} {wanted}"), |from| {
        from.node.shell(&format!("ip -o route get {host}")).contains(wanted)
    });
}

/// Packets with addresses of pods outside of tunnels, and how many went through tunnels.
fn bare_and_wrapped(tap: &Tap) -> (Vec<Packet>, usize) {
    let packets = tap.packets();
    let is_pods =
        |packet: &&Packet| [packet.source(), packet.destination()].iter().any(|a| a.octets()[0] == 10);
    let bare = packets.iter().filter(is_pods).cloned().collect();
    let is_wrapped = |packet: &&Packet| packet.datagram().is_some_and(|(_, to, _)| to.port() == 4789);
    (bare, packets.iter().filter(is_wrapped).count())
}

#[test]
fn the_own_segment_is_reached_by_plain_routes_and_what_is_beyond_a_router_by_tunnels() {
    isolated(|| {
        let lab = lab();
        let router = lab.divided();
        let machines = machines(&lab, &router, &[1, 1, 2, 2], &config("auto", Families::Both));
        let tap = router.tap();
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        let [one, two, three, four] = &machines[..] else { unreachable!() };
        wait_way(one, "n2", &route("192.168.1.12"));
        wait_way(three, "n4", &route("192.168.2.14"));
        for (from, to, remote) in
            [(one, "n3", "192.168.2.13"), (two, "n4", "192.168.2.14"), (four, "n1", "192.168.1.11")]
        {
            assert_eq!(way(from, to), Some((vxlan(remote), "not on one segment".to_owned())));
        }
        wait_leaves_by(one, two, "via 192.168.1.12 dev eth0");
        wait_leaves_by(one, three, "dev cnikit-vxlan");
        assert_everybody_talks(&machines, &voices);
        // To the router, pods' packets are nothing but datagrams between nodes.
        let (bare, wrapped) = bare_and_wrapped(&tap);
        assert_eq!(bare, []);
        assert!(wrapped > 10, "{wrapped}");

        // A machine is carried to the other segment, and gets another address there.
        router.moves(&lab, two, 2);
        wait_way(one, "n2", &vxlan("192.168.2.12"));
        wait_way(three, "n2", &route("192.168.2.12"));
        wait_way(two, "n1", &vxlan("192.168.1.11"));
        wait_way(two, "n4", &route("192.168.2.14"));
        wait_leaves_by(one, two, "dev cnikit-vxlan");
        wait_leaves_by(two, three, "via 192.168.2.13 dev eth0");
        assert_everybody_talks(&machines, &voices);

        // And back.
        router.moves(&lab, two, 1);
        wait_way(one, "n2", &route("192.168.1.12"));
        wait_way(three, "n2", &vxlan("192.168.1.12"));
        wait_way(two, "n1", &route("192.168.1.11"));
        wait_way(two, "n4", &vxlan("192.168.2.14"));
        assert_everybody_talks(&machines, &voices);
        let (bare, _) = bare_and_wrapped(&tap);
        assert_eq!(bare, []);
    });
}

#[test]
fn who_was_told_to_use_plain_routes_says_that_a_router_is_in_the_way() {
    isolated(|| {
        let lab = lab();
        let router = lab.divided();
        let machines = machines(&lab, &router, &[1, 1, 2], &config("route", Families::Both));
        let tap = router.tap();
        let (_pods, voices) = pods(&machines);
        let [one, two, three] = &machines[..] else { unreachable!() };
        let why = "a router is between, and this node was told to use plain routes";
        let complaint = |from: &Machine, to: &str| {
            let wanted = format!("no way to node {to}: {why}");
            let status = from.ask("/v1/status")?;
            let mut problems = status["problems"].as_array()?.iter();
            problems.any(|problem| problem["what"] == wanted && problem["severity"] == "error").then_some(())
        };
        for (from, to) in [(one, "n3"), (two, "n3"), (three, "n1"), (three, "n2")] {
            from.wait("it says why", |from| complaint(from, to).is_some());
            assert_eq!(way(from, to), Some((json!({"kind": "none"}), why.to_owned())));
            assert!(from.log().contains(why), "{}", from.log());
        }
        assert_eq!(complaint(one, "n2"), None);
        // Those on one segment talk. What is for the third goes nowhere, and least of all to the router.
        assert_everybody_talks(&machines[..2], &voices[..2]);
        let all: Vec<_> = voices.iter().collect();
        assert_eq!(everybody_to_everybody(&all, Duration::from_secs(2)).len(), 8);
        assert_eq!(bare_and_wrapped(&tap).0, []);

        router.moves(&lab, three, 1);
        for (from, to, gateway) in [(one, "n3", "192.168.1.13"), (three, "n1", "192.168.1.11")] {
            wait_way(from, to, &route(gateway));
            from.wait("no complaint any more", |from| complaint(from, to).is_none());
        }
        assert_everybody_talks(&machines, &voices);
        router.moves(&lab, three, 2);
        one.wait_long("it says why again", |one| complaint(one, "n3").is_some());
        three.wait_long("it says why again", |three| complaint(three, "n1").is_some());
    });
}
