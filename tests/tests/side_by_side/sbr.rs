//! `sbr` behind `bridge`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cnikit_tests::{Implementation, Node, Outcome, Pod, isolated};
use serde_json::{Value, json};

use crate::pair::{Case, Pair, Side};

/// A network with source based routing.
struct Network {
    name: &'static str,
    bridge: &'static str,
    interface: &'static str,
    ipam: Value,
    is_gateway: bool,
}

impl Network {
    fn new(ranges: Value, routes: Value) -> Self {
        let ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes});
        Self { name: "blue", bridge: "cni0", interface: "eth0", ipam, is_gateway: false }
    }

    fn call(
        &self,
        side: &Side,
        plugins: &Implementation,
        command: &str,
        kind: &str,
        previous: Option<&Value>,
    ) -> Outcome {
        let mut config = json!({"cniVersion": "1.0.0", "name": self.name, "type": kind});
        if kind == "bridge" {
            config["bridge"] = self.bridge.into();
            config["isGateway"] = self.is_gateway.into();
            config["ipam"] = self.ipam.clone();
        }
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let call = side.node.call(plugins, command, kind, &config).on(&side.pod);
        call.env("CNI_IFNAME", self.interface).run()
    }

    /// The whole chain, by a side's own plugins. Returns what the last of them said.
    fn add(&self, side: &Side) -> Value {
        let said = self.call(side, &side.own, "ADD", "bridge", None).result();
        self.call(side, &side.own, "ADD", "sbr", Some(&said)).result()
    }
}

fn networks() -> Vec<Network> {
    let (v4, v6) = (json!([{"subnet": "10.1.0.0/24"}]), json!([{"subnet": "fd00:1::/64"}]));
    let second = json!([{"subnet": "10.2.0.0/24"}]);
    let (default4, default6) = (json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"}));
    vec![
        Network::new(json!([v4]), json!([])),
        Network::new(json!([v4]), json!([default4])),
        Network::new(json!([v6]), json!([default6])),
        Network::new(json!([v4, v6]), json!([default4, default6])),
        Network::new(json!([v4, second]), json!([default4])),
        Network::new(
            json!([v4, v6]),
            json!([
                {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}, {"dst": "fd09::/64", "gw": "fd00:1::9"}, default4,
            ]),
        ),
    ]
}

fn rules(node: &Node, pod: &Pod) -> String {
    let rules = node.pod_shell(pod, "ip rule; ip -6 rule");
    rules.lines().filter(|line| !line.contains("from all")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_same_rules_and_routes_behind_bridge() {
    isolated(|| {
        for network in networks() {
            let Some(pair) = Pair::new() else { return };
            let said = [&pair.theirs, &pair.ours].map(|side| network.add(side));
            let case = Case::new("sbr", json!({}));
            let found = pair.differences(&case, &said[0], &said[1]);
            assert!(found.is_empty(), "{}:\n{}", network.ipam, found.join("\n"));
            for (side, said) in [&pair.theirs, &pair.ours].into_iter().zip(&said) {
                network.call(side, &pair.ours.own, "CHECK", "sbr", Some(said)).done();
                network.call(side, &pair.theirs.own, "CHECK", "sbr", Some(said)).done();
            }
        }
    });
}

#[test]
fn each_removes_the_others_rules() {
    isolated(|| {
        for network in networks() {
            let Some(pair) = Pair::new() else { return };
            for side in [&pair.theirs, &pair.ours] {
                let before = rules(&side.node, &side.pod);
                let said = network.add(side);
                assert_ne!(rules(&side.node, &side.pod), before);
                network.call(side, &side.other, "DEL", "sbr", Some(&said)).done();
                assert_eq!(rules(&side.node, &side.pod), before, "{:?}'s", side.own);
                network.call(side, &side.other, "DEL", "bridge", Some(&said)).done();
            }
        }
    });
}

#[test]
fn tables_are_shared_out_among_interfaces_of_both() {
    isolated(|| {
        let Some(pair) = Pair::new() else { return };
        let side = &pair.ours;
        let mut expected = Vec::new();
        for (n, interface) in ["net0", "net1", "net2", "net3"].into_iter().enumerate() {
            let network = Network {
                interface,
                ..Network::new(json!([[{"subnet": format!("10.{n}.0.0/24")}]]), json!([]))
            };
            let said = network.call(side, &side.own, "ADD", "bridge", None).result();
            let plugins = if n % 2 == 0 { &side.own } else { &side.other };
            network.call(side, plugins, "ADD", "sbr", Some(&said)).result();
            expected.push(format!("from 10.{n}.0.2 lookup {}", 100 + n));
        }
        let rules = rules(&side.node, &side.pod);
        for rule in expected {
            assert!(rules.contains(&rule), "{rule} is not in\n{rules}");
        }
    });
}

#[test]
fn calls_at_the_same_time_in_one_pod_take_different_tables() {
    isolated(|| {
        let Some(pair) = Pair::new() else { return };
        let side = &pair.ours;
        let names = ["net0", "net1", "net2", "net3", "net4", "net5"];
        let networks: Vec<_> = names
            .into_iter()
            .enumerate()
            .map(|(n, interface)| Network {
                interface,
                ..Network::new(json!([[{"subnet": format!("10.{n}.0.0/24")}]]), json!([]))
            })
            .collect();
        let said: Vec<_> =
            networks.iter().map(|n| n.call(side, &side.own, "ADD", "bridge", None).result()).collect();
        std::thread::scope(|scope| {
            for (n, (network, said)) in networks.iter().zip(&said).enumerate() {
                // The two implementations wait for one another too.
                let plugins = if n % 3 == 2 { &side.other } else { &side.own };
                scope.spawn(move || network.call(side, plugins, "ADD", "sbr", Some(said)).result());
            }
        });
        let rules = rules(&side.node, &side.pod);
        for table in 100..106 {
            assert_eq!(rules.matches(&format!("lookup {table}\n")).count(), 1, "{rules}");
        }
    });
}

#[test]
fn del_without_a_namespace_succeeds_and_makes_no_file() {
    isolated(|| {
        let Some(pair) = Pair::new() else { return };
        let side = &pair.ours;
        let network = &networks()[1];
        let said = network.add(side);
        side.node.end(&side.pod);
        network.call(side, &side.own, "DEL", "sbr", Some(&said)).done();
        assert_eq!(side.node.shell("ls /run/netns"), "");
        let config = json!({"cniVersion": "1.0.0", "name": "blue", "type": "sbr", "prevResult": said});
        side.node.call(&side.own, "DEL", "sbr", &config).run().done();
        network.call(side, &side.own, "DEL", "bridge", Some(&said)).done();
    });
}

/// The bridge by which a pod's packets from an address reach somebody outside, who answers them.
fn way_of(side: &Side, outside: &Pod, source: &str, to: &str) -> String {
    let received = |bridge: &str| {
        let said = side.node.shell(&format!("ip -s -j link show {bridge}"));
        let link: Value = serde_json::from_str(&said).unwrap();
        link[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    };
    let (source, to): (IpAddr, IpAddr) = (source.parse().unwrap(), to.parse().unwrap());
    let server = side.node.inside_pod(outside, || UdpSocket::bind((to, 0)).unwrap());
    let client = side.node.inside_pod(&side.pod, || UdpSocket::bind((source, 0)).unwrap());
    let port = server.local_addr().unwrap().port();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    }
    let round_trip = || {
        client.send_to(b"hello", SocketAddr::new(to, port)).ok()?;
        let (_, from) = server.recv_from(&mut [0; 16]).ok()?;
        server.send_to(b"hello", from).ok()?;
        client.recv_from(&mut [0; 16]).ok()
    };
    // Neighbours have to be found first.
    assert!((0..20).any(|_| round_trip().is_some()), "no answer to {source}");
    let before = ["cni0", "cni1"].map(received);
    for _ in 0..20 {
        round_trip().unwrap();
    }
    let grown = ["cni0", "cni1"].into_iter().zip(before).filter(|(bridge, old)| received(bridge) >= old + 20);
    grown.map(|(bridge, _)| bridge).collect()
}

#[test]
fn a_pod_with_two_interfaces_answers_each_source_by_the_right_one() {
    isolated(|| {
        let Some(pair) = Pair::new() else { return };
        for side in [&pair.theirs, &pair.ours] {
            let outside = side.node.pod("outside");
            side.node.shell(
                "ip link add out0 type veth peer name out1 netns outside; ip link set out0 up
                 ip addr add 192.0.2.1/24 dev out0; ip addr add 2001:db8::1/64 dev out0 nodad",
            );
            side.node.pod_shell(
                &outside,
                "ip link set out1 up; ip addr add 192.0.2.2/24 dev out1
                 ip addr add 2001:db8::2/64 dev out1 nodad
                 ip route add default via 192.0.2.1; ip route add default via 2001:db8::1",
            );
            let network = |n: u8, name, bridge, interface| Network {
                is_gateway: true,
                name,
                bridge,
                interface,
                ..Network::new(
                    json!([[{"subnet": format!("10.{n}.0.0/24")}], [{"subnet": format!("fd00:{n}::/64")}]]),
                    json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]),
                )
            };
            let (first, second) = (network(1, "blue", "cni0", "eth0"), network(2, "green", "cni1", "net1"));
            // As with Multus: the second interface's default route is moved away before it is in the first's way.
            first.call(side, &side.own, "ADD", "bridge", None).result();
            second.add(side);
            let way = |source: &str, to| way_of(side, &outside, source, to);
            for (source, to, bridge) in [
                ("10.1.0.2", "192.0.2.2", "cni0"),
                ("10.2.0.2", "192.0.2.2", "cni1"),
                ("0.0.0.0", "192.0.2.2", "cni0"),
                ("fd00:1::2", "2001:db8::2", "cni0"),
                ("fd00:2::2", "2001:db8::2", "cni1"),
            ] {
                let way = way(source, to);
                // The reference leaves the second's IPv6 default route beside the first's, and the kernel takes one of them, by a
                // number that it draws when it is started.
                if side.own != pair.theirs.own || source != "fd00:1::2" {
                    assert_eq!(way, bridge, "from {source} with {:?}", side.own);
                }
            }
        }
    });
}
