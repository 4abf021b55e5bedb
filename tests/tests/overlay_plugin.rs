//! The executable `overlay`: in a chain with others, and with node files that no agent wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Outcome, Pod, Scene, State, isolated, ours};
use serde_json::{Value, json};

const NODE_FILE: &str = "/run/cnikit/blue.json";

/// A node whose agent is a test.
struct Lab {
    node: Node,
    plugins: Implementation,
}

impl Lab {
    fn new() -> Self {
        let plugins = ours!();
        let node = Node::new(&plugins);
        node.shell("ip link set lo up; mkdir /run/cnikit");
        Self { node, plugins }
    }

    fn serve(&self, file: &Value) {
        self.node.inside(|| std::fs::write(NODE_FILE, file.to_string()).unwrap());
    }

    /// Calls the plugins of a list, as a runtime does, until one fails; for a `DEL` in reverse.
    fn chain(&self, command: &str, pod: &Pod, plugins: &[Value], result: &Value) -> Result<Value, Outcome> {
        let mut previous = result.clone();
        let forward: Vec<_> = plugins.iter().collect();
        let backward: Vec<_> = plugins.iter().rev().collect();
        for plugin in if command == "DEL" { backward } else { forward } {
            let mut config = json!({"cniVersion": "1.1.0", "name": "blue"});
            for (key, value) in plugin.as_object().unwrap() {
                config[key] = value.clone();
            }
            if !previous.is_null() {
                config["prevResult"] = previous.clone();
            }
            let kind = plugin["type"].as_str().unwrap();
            let call = self.node.call(&self.plugins, command, kind, &config).on(pod).container(pod.name());
            let outcome = call.run();
            if !outcome.status.success() {
                return Err(outcome);
            }
            if command == "ADD" {
                previous = outcome.result();
            }
        }
        Ok(previous)
    }
}

fn node_file() -> Value {
    json!({
        "node": "n1", "bridge": "cnikit0", "mtu": 1450, "cluster": ["10.244.0.0/16"],
        "subnets": [{"subnet": "10.244.3.0/24", "gateway": "10.244.3.1", "first": "10.244.3.77"}],
    })
}

/// A program that another test starts holds what this process listens to from its birth until it is executed.
fn listen(port: u16) -> TcpListener {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(("0.0.0.0", port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            listener => return listener.unwrap(),
        }
    }
}

/// An answer of a pod's port, as somebody on the node gets it.
fn answer(lab: &Lab, pod: &Pod, port: u16, at: SocketAddr) -> String {
    let listener = lab.node.inside_pod(pod, || listen(port));
    std::thread::scope(|scope| {
        scope.spawn(|| listener.accept().unwrap().0.write_all(b"here").unwrap());
        lab.node.inside(|| {
            let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    })
}

#[test]
fn it_stands_in_a_chain_before_portmap_bandwidth_and_firewall() {
    isolated(|| {
        let lab = Lab::new();
        lab.serve(&node_file());
        let pod = lab.node.pod("web");
        let plugins = [
            json!({"type": "overlay"}),
            json!({"type": "bandwidth", "ingressRate": 100_000_000, "ingressBurst": 1_000_000}),
            json!({"type": "firewall"}),
            json!({"type": "portmap", "runtimeConfig":
                {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
        ];
        let before = Scene::owned(&State::of(&lab.node));
        let result = lab.chain("ADD", &pod, &plugins, &Value::Null).unwrap();
        assert_eq!(result["ips"][0]["address"], "10.244.3.77/24");
        assert_eq!(answer(&lab, &pod, 80, "10.244.3.77:80".parse().unwrap()), "here");
        // By the node's own address.
        assert_eq!(answer(&lab, &pod, 80, "10.244.3.1:8080".parse().unwrap()), "here");
        lab.chain("CHECK", &pod, &plugins, &result).unwrap();
        // The agent is gone meanwhile.
        lab.node.inside(|| std::fs::remove_file(NODE_FILE).unwrap());
        lab.chain("CHECK", &pod, &plugins, &result).unwrap();
        lab.chain("DEL", &pod, &plugins, &result).unwrap();
        lab.node.shell("ip link delete cnikit0; sysctl -qw net.ipv4.ip_forward=0");
        let after = Scene::owned(&State::of(&lab.node));
        assert_eq!(after.json()["files"], before.json()["files"]);
        assert_eq!(after.json()["host"]["links"], before.json()["host"]["links"]);
    });
}

#[test]
fn a_node_file_that_no_agent_wrote_is_refused_at_once_and_attachments_end_all_the_same() {
    isolated(|| {
        for (make, code) in [
            ("true", 11),
            ("ln -s /etc/passwd $F", 5),
            ("ln -s $F $F", 5),
            ("ln -s /dev/zero $F", 5),
            ("mkfifo $F", 5),
            ("mkdir $F", 5),
            ("mknod $F c 1 5 || ln -s /dev/zero $F", 5),
            ("truncate -s 1T $F", 5),
            ("head -c 9000000 /dev/zero > $F", 5),
            ("head -c 1000000 /dev/urandom > $F", 6),
            ("printf '%0.s[' $(seq 20000) > $F", 6),
            (
                "printf '{\"node\":\"\\u0000\",\"bridge\":\"\\u0007;reboot\",\"mtu\":1450,\"cluster\":[],\"subnets\":[]}' > $F",
                11,
            ),
            ("echo '{\"node\": {}, \"subnets\": 7}' > $F", 6),
        ] {
            let lab = Lab::new();
            let pod = lab.node.pod("web");
            lab.serve(&node_file());
            let overlay = [json!({"type": "overlay"})];
            let result = lab.chain("ADD", &pod, &overlay, &Value::Null).unwrap();
            lab.node.shell(&format!("F={NODE_FILE}; rm $F; {make}"));

            let other = lab.node.pod("other");
            let refused = lab.chain("ADD", &other, &overlay, &Value::Null).unwrap_err();
            assert_eq!(refused.error()["code"], code, "{make}: {refused}");
            assert!(!refused.stdout.contains('\u{7}'), "{make}: {refused}");
            let status = lab.chain("STATUS", &other, &overlay, &Value::Null).unwrap_err();
            assert_eq!(status.error()["code"], 50, "{make}: {status}");

            lab.chain("CHECK", &pod, &overlay, &result).unwrap();
            lab.chain("DEL", &pod, &overlay, &result).unwrap();
            let leases = lab.node.shell("ls /var/lib/cni/networks/blue");
            assert!(!leases.contains("10.244"), "{make}: {leases}");
        }
    });
}

#[test]
fn fifty_pods_at_once_get_fifty_addresses_while_the_agent_writes_its_file_again_and_again() {
    isolated(|| {
        let lab = Lab::new();
        lab.serve(&node_file());
        let pods: Vec<_> = (0..50).map(|n| lab.node.pod(&format!("p{n}"))).collect();
        let overlay = [json!({"type": "overlay"})];
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut addresses: Vec<String> = std::thread::scope(|scope| {
            let (lab, overlay, done) = (&lab, &overlay, &done);
            let agent = scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    lab.node.inside(|| {
                        let new = format!("{NODE_FILE}.new");
                        std::fs::write(&new, node_file().to_string()).unwrap();
                        std::fs::rename(&new, NODE_FILE).unwrap();
                    });
                }
            });
            let adds: Vec<_> = pods
                .chunks(13)
                .map(|pods| {
                    scope.spawn(move || {
                        let add = |pod| lab.chain("ADD", pod, overlay, &Value::Null).unwrap();
                        let address =
                            |result: Value| result["ips"][0]["address"].as_str().unwrap().to_owned();
                        pods.iter().map(|pod| address(add(pod))).collect::<Vec<_>>()
                    })
                })
                .collect();
            let addresses = adds.into_iter().flat_map(|add| add.join().unwrap()).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            agent.join().unwrap();
            addresses
        });
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 50);
        let bridge = lab.node.shell("ip -o link show master cnikit0 | wc -l");
        assert_eq!(bridge.trim(), "50");
    });
}

#[test]
fn several_attachments_of_one_container_end_one_by_one_also_when_its_namespace_is_gone() {
    isolated(|| {
        let lab = Lab::new();
        let of_red = json!({
            "node": "n1", "bridge": "cnikit1", "mtu": 1450, "cluster": ["10.245.0.0/16"],
            "subnets": [{"subnet": "10.245.3.0/24", "gateway": "10.245.3.1", "first": "10.245.3.77"}],
        });
        lab.serve(&node_file());
        lab.node.inside(|| std::fs::write("/run/cnikit/red.json", of_red.to_string()).unwrap());
        // A runtime's name for a container is longer than an interface's may be.
        let (pod, container) = (lab.node.pod("web"), "c".repeat(64));
        let call = |command: &str, network: &str, interface: &str| {
            let config = json!({
                "cniVersion": "1.1.0", "name": network, "type": "overlay", "isDefaultGateway": false,
            });
            let call = lab.node.call(&lab.plugins, command, "overlay", &config);
            call.container(&container).env("CNI_IFNAME", interface)
        };
        let attachments = [("blue", "eth0"), ("red", "net1"), ("blue", "net2")];
        for (network, interface) in attachments {
            let added = call("ADD", network, interface).on(&pod).run();
            assert!(added.status.success(), "{network}, {interface}: {added}");
        }
        let left = || {
            let leases = lab.node.shell("cd /var/lib/cni/networks; ls blue red | grep '^10' || true");
            let ports = lab.node.shell("ip -o link show type veth | wc -l");
            (leases.lines().count(), ports.trim().parse::<usize>().unwrap())
        };
        assert_eq!(left(), (3, 3));
        assert!(call("DEL", "blue", "eth0").on(&pod).run().status.success());
        assert_eq!(left(), (2, 2), "the others are as they were");
        // Without a namespace, as after a crash of the container: what a DEL finds, it finds by name.
        assert!(call("DEL", "red", "net1").run().status.success());
        assert_eq!(left(), (1, 1));
        lab.node.end(&pod);
        assert!(call("DEL", "blue", "net2").on(&pod).run().status.success());
        assert_eq!(left(), (0, 0));
    });
}
