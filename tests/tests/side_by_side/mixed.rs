//! One network of both implementations' plugins.

use std::net::{TcpListener, TcpStream};

use cnikit_tests::{Implementation, Node, Outcome, Pod, State, isolated, ours};
use serde_json::{Value, json};

use crate::pair::left;

const MIXED: &str = "/run/cni/mixed";

/// A node on which both implementations are installed, each in its directory.
fn node() -> Option<(Node, Implementation, Implementation)> {
    let (reference, ours) = (Implementation::reference()?, ours!());
    let node = Node::new(&reference);
    node.install(&ours);
    Some((node, reference, ours))
}

fn bridge(ipam_type: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": {"type": ipam_type, "subnet": "10.1.0.0/29", "routes": [{"dst": "0.0.0.0/0"}]},
    })
}

fn leases(node: &Node) -> Vec<String> {
    let state = State::of(node);
    let files = state.json()["files"]["networks"]["blue"].as_object().cloned().unwrap_or_default();
    files.keys().filter(|name| name.starts_with("10.")).cloned().collect()
}

#[test]
fn the_references_bridge_takes_addresses_from_our_host_local_and_gives_them_back() {
    isolated(|| {
        let Some((node, reference, ours)) = node() else { return };
        node.install_as(&ours, "host-local", MIXED, "host-local");
        let pod = node.pod("blue");
        let before = State::of(&node);
        let call =
            |command, config: &Value| node.call(&reference, command, "bridge", config).env("CNI_PATH", MIXED);
        let mut config = bridge("host-local");
        let said = call("ADD", &config).on(&pod).run().result();
        assert_eq!(said["ips"], json!([{"address": "10.1.0.2/29", "gateway": "10.1.0.1", "interface": 2}]));
        config["prevResult"] = said.clone();
        call("CHECK", &config).on(&pod).run().done();
        call("DEL", &config).on(&pod).run().done();
        assert_eq!(left(&State::of(&node), &before, &said, false), [""; 0]);
    });
}

#[test]
fn our_bridge_takes_addresses_from_the_references_host_local_by_executing_it() {
    isolated(|| {
        let Some((node, reference, ours)) = node() else { return };
        node.install_as(&reference, "host-local", MIXED, "their-host-local");
        let (pod, other) = (node.pod("blue"), node.pod("other"));
        let before = State::of(&node);
        let call =
            |command, config: &Value| node.call(&ours, command, "bridge", config).env("CNI_PATH", MIXED);
        let mut config = bridge("their-host-local");
        let said = call("ADD", &config).on(&pod).run().result();
        assert_eq!(said["ips"], json!([{"address": "10.1.0.2/29", "gateway": "10.1.0.1", "interface": 2}]));
        // An ADD that fails after the addresses were given gives them back.
        node.pod_shell(&other, "ip link add eth0 type bridge");
        call("ADD", &config).on(&other).container("other").run().error();
        assert_eq!(leases(&node), ["10.1.0.2"]);
        config["prevResult"] = said.clone();
        call("CHECK", &config).on(&pod).run().done();
        call("DEL", &config).on(&pod).run().done();
        node.pod_shell(&other, "ip link del eth0");
        let gone = |state: &State| left(state, &before, &said, false).is_empty();
        let state = State::when(&node, gone);
        assert_eq!(left(&state, &before, &said, false), [""; 0]);
    });
}

#[test]
fn no_address_is_given_twice_by_the_two_and_each_releases_the_others() {
    isolated(|| {
        let Some((node, reference, ours)) = node() else { return };
        let config = json!({
            "cniVersion": "1.0.0", "name": "blue", "type": "bridge",
            "ipam": {"type": "host-local", "subnet": "10.1.0.0/29"},
        });
        let both = [&reference, &ours];
        let call = |plugins: &Implementation, command: &str, id: usize| {
            let call = node.call(plugins, command, "host-local", &config).container(&format!("c{id}"));
            call.env("CNI_NETNS", "/run/netns/none").run()
        };
        // Five addresses beside the gateway's.
        let given: Vec<Value> =
            (0..5).map(|id| call(both[id % 2], "ADD", id).result()["ips"][0]["address"].clone()).collect();
        assert_eq!(given, ["10.1.0.2/29", "10.1.0.3/29", "10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29"]);
        for plugins in both {
            call(plugins, "ADD", 5).error();
        }
        for id in 0..5 {
            call(both[(id + 1) % 2], "CHECK", id).done();
            call(both[(id + 1) % 2], "DEL", id).done();
            assert_eq!(leases(&node).len(), 4 - id);
        }
        // And goes on where the other stopped.
        let next: Vec<Value> =
            (6..8).map(|id| call(both[id % 2], "ADD", id).result()["ips"][0]["address"].clone()).collect();
        assert_eq!(next, ["10.1.0.2/29", "10.1.0.3/29"]);
    });
}

/// A chain as a runtime runs it.
struct Chain<'a> {
    node: &'a Node,
    pod: Pod,
    plugins: Vec<(&'a Implementation, Value)>,
}

impl Chain<'_> {
    fn call(&self, command: &str, position: usize, previous: Option<&Value>) -> Outcome {
        let (plugins, keys) = &self.plugins[position];
        let mut config = keys.clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("blue");
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let plugin = config["type"].as_str().unwrap().to_owned();
        self.node.call(plugins, command, &plugin, &config).on(&self.pod).run()
    }

    fn add(&self) -> Value {
        let mut result = None;
        for position in 0..self.plugins.len() {
            result = Some(self.call("ADD", position, result.as_ref()).result());
        }
        result.unwrap()
    }

    fn del(&self, result: &Value) {
        for position in (0..self.plugins.len()).rev() {
            self.call("DEL", position, Some(result)).done();
        }
    }
}

/// The rest of a chain that real runtimes have behind `bridge`.
fn others() -> Vec<Value> {
    vec![
        json!({"type": "portmap", "runtimeConfig": {"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
        json!({"type": "firewall", "backend": "iptables"}),
        json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1400}),
        json!({"type": "bandwidth", "ingressRate": 1_000_000, "ingressBurst": 80_000}),
    ]
}

#[test]
fn the_references_portmap_firewall_tuning_and_bandwidth_work_behind_our_bridge() {
    isolated(|| {
        let Some((node, reference, ours)) = node() else { return };
        let mut plugins = vec![(&ours, bridge("host-local"))];
        plugins.extend(others().into_iter().map(|config| (&reference, config)));
        let chain = Chain { node: &node, pod: node.pod("blue"), plugins };
        let before = State::of(&node);

        let result = chain.add();
        // Ours alone: the reference's portmap misses its IPv6 chains where there is no IPv6.
        chain.call("CHECK", 0, Some(&result)).done();
        let mtu = State::of(&node).json()["blue"]["links"]["eth0"]["mtu"].clone();
        assert_eq!(mtu, 1400, "tuning found the interface");
        // Somebody listens at the published port.
        let server = node.inside_pod(&chain.pod, || TcpListener::bind("10.1.0.2:80").unwrap());
        node.shell("ip link set lo up");
        node.inside(|| TcpStream::connect("10.1.0.1:8080").unwrap());
        server.accept().unwrap();

        chain.del(&result);
        let left = |state: &State| left(state, &before, &result, false);
        let state = State::when(&node, |state| left(state).iter().all(|left| left.contains("\"lo\"")));
        assert!(left(&state).iter().all(|left| left.contains("\"lo\"")), "{:#?}", left(&state));
    });
}

#[test]
fn our_loopback_passes_on_what_the_references_bridge_said_and_is_passed_on() {
    isolated(|| {
        let Some((node, reference, ours)) = node() else { return };
        let plugins = vec![
            (&reference, bridge("host-local")),
            (&ours, json!({"type": "loopback"})),
            (&reference, json!({"type": "tuning", "mtu": 1300})),
        ];
        let chain = Chain { node: &node, pod: node.pod("blue"), plugins };
        let result = chain.add();
        assert_eq!(result["ips"][0]["address"], "10.1.0.2/29");
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        chain.del(&result);
    });
}

#[test]
fn pods_of_both_implementations_share_a_bridge_and_reach_each_other() {
    isolated(|| {
        let Some((node, reference, ours)) = node() else { return };
        for (number, [first, second]) in [[&reference, &ours], [&ours, &reference]].into_iter().enumerate() {
            let pods = [format!("first-{number}"), format!("second-{number}")].map(|name| node.pod(&name));
            let config = bridge("host-local");
            let call = |plugins, command, pod: &Pod, config: &Value| {
                node.call(plugins, command, "bridge", config).on(pod).container(pod.name()).run()
            };
            let [_, said] = [(first, &pods[0]), (second, &pods[1])]
                .map(|(plugins, pod)| call(plugins, "ADD", pod, &config).result());
            let address = said["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
            let server = node.inside_pod(&pods[1], || TcpListener::bind((address.as_str(), 80)).unwrap());
            let client = node.inside_pod(&pods[0], || TcpStream::connect((address.as_str(), 80)).unwrap());
            let (_, source) = server.accept().unwrap();
            assert_eq!(source, client.local_addr().unwrap());
            for pod in &pods {
                call(first, "DEL", pod, &config).done();
            }
        }
    });
}

#[test]
fn a_network_with_two_ranges_of_one_family_takes_more_than_one_pod() {
    isolated(|| {
        let (node, ours) = (Node::new(&ours!()), ours!());
        let mut config = bridge("host-local");
        config["ipam"] = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]});
        for name in ["a", "b", "c"] {
            let said =
                node.call(&ours, "ADD", "bridge", &config).on(&node.pod(name)).container(name).run().result();
            assert_eq!(said["ips"].as_array().unwrap().len(), 2);
        }
    });
}
