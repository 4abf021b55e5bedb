//! What real runtimes do to plugins, each of it seen: by containerd 1.6 and 2.4, `ctr`, CRI-O, podman 4.3, the kubelet,
//! Multus, cnitool. Their recorded calls are replayed in `traces.rs`; here is each of their habits by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cnikit_tests::{Call, Implementation, Node, Outcome, Pod, Scene, State, differences, isolated, ours};
use serde_json::{Value, json};

/// A node whose network is the chain that nodes have.
struct Network {
    node: Node,
    ours: Implementation,
    version: &'static str,
}

/// The chain's plugins, in order, each with its capability.
const CHAIN: [(&str, &str); 5] = [
    ("bridge", "ips"),
    ("portmap", "portMappings"),
    ("firewall", ""),
    ("tuning", "mac"),
    ("bandwidth", "bandwidth"),
];

impl Network {
    fn new() -> Self {
        let ours = ours!();
        let node = Node::new(&ours);
        // A link-local address that comes later would be a difference.
        node.shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; ip link set lo up");
        Self { node, ours, version: "1.0.0" }
    }

    /// A plugin's part of the configuration, as a runtime hands it over.
    fn config(&self, (plugin, capability): (&str, &str), runtime: &Value, previous: Option<&Value>) -> Value {
        let mut config = json!({"cniVersion": self.version, "name": "blue", "type": plugin});
        if plugin == "bridge" {
            config["isGateway"] = json!(true);
            config["ipMasq"] = json!(true);
            config["ipam"] = json!({
                "type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
            });
        }
        if let Some(value) = runtime.get(capability) {
            config["runtimeConfig"] = json!({capability: value});
        }
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        config
    }

    /// A call of one of the chain's plugins.
    fn call(
        &self,
        command: &str,
        plugin: (&str, &str),
        runtime: &Value,
        previous: Option<&Value>,
    ) -> Call<'_> {
        self.node.call(&self.ours, command, plugin.0, &self.config(plugin, runtime, previous))
    }

    /// ADD of the whole chain; the last result.
    fn add(&self, pod: &Pod, id: &str, runtime: &Value) -> Value {
        let mut result = None;
        for plugin in CHAIN {
            let call = self.call("ADD", plugin, runtime, result.as_ref()).on(pod).container(id);
            result = Some(call.run().result());
        }
        result.unwrap()
    }

    /// DEL of the whole chain, in reverse, each call changed by somebody.
    fn del<'a>(
        &'a self,
        id: &str,
        runtime: &Value,
        previous: Option<&Value>,
        with: impl Fn(Call<'a>) -> Call<'a>,
    ) {
        for plugin in CHAIN.into_iter().rev() {
            with(self.call("DEL", plugin, runtime, previous).container(id)).run().done();
        }
    }

    /// What there is, but for what all attachments share.
    fn state(&self) -> Scene {
        Scene::owned(&State::of(&self.node))
    }

    /// That there is what there was.
    fn is_as(&self, before: &Scene, what: &str) {
        let after = State::when(&self.node, |state| Scene::owned(state) == *before);
        let found = differences(before, &Scene::owned(&after));
        assert!(found.is_empty(), "{what}: left behind (theirs: before, ours: after):\n{}", found.join("\n"));
    }

    /// Everything that stays once it was there: bridge, tables, settings.
    fn warm_up(&self, pod: &Pod) {
        let runtime = go_fields(18_080);
        let result = self.add(pod, "warm-up", &runtime);
        self.del("warm-up", &runtime, Some(&result), |call| call.on(pod));
        State::when(&self.node, |state| state.links("host").len() == 2);
    }
}

/// The parameters that containerd gives, in Go's names of them.
fn go_fields(port: u16) -> Value {
    json!({
        "portMappings": [{"HostPort": port, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {
            "IngressRate": 10_000_000, "IngressBurst": 4_294_967_295_u64,
            "EgressRate": 20_000_000, "EgressBurst": 4_294_967_295_u64,
        },
    })
}

#[test]
fn parameters_may_have_gos_names_or_the_conventions_and_bursts_of_more_than_32_bits() {
    isolated(|| {
        let network = Network::new();
        let pod = network.node.pod("blue");
        let conventional = |address: Value| {
            let mut mapping = json!({"hostPort": 18_080, "containerPort": 8080, "protocol": "tcp"});
            if !address.is_null() {
                mapping["hostIP"] = address;
            }
            json!({
                "portMappings": [mapping],
                "bandwidth": {
                    "ingressRate": 10_000_000, "ingressBurst": 17_179_869_184_u64,
                    "egressRate": 20_000_000, "egressBurst": 17_179_869_184_u64,
                },
            })
        };
        for runtime in [go_fields(18_080), conventional(Value::Null), conventional(json!(""))] {
            let result = network.add(&pod, "c1", &runtime);
            let server = network.node.inside_pod(&pod, || TcpListener::bind("0.0.0.0:8080").unwrap());
            let connected = network.node.inside(|| TcpStream::connect("127.0.0.1:18080").is_ok());
            assert!(connected, "{runtime}");
            drop(server);
            let rates = network.node.shell("tc qdisc show | grep -o 'rate [^ ]*' | sort | paste -sd ' '");
            assert_eq!(rates.trim(), "rate 10Mbit rate 20Mbit", "{runtime}");
            network.del("c1", &runtime, Some(&result), |call| call.on(&pod));
        }
        // A plugin whose capability nobody asked for.
        network.add(&pod, "c1", &json!({}));
    });
}

#[test]
fn a_del_without_a_namespace_succeeds_with_and_without_a_previous_result_however_often() {
    isolated(|| {
        let network = Network::new();
        let pod = network.node.pod("blue");
        network.warm_up(&pod);
        let before = network.state();
        let runtime = go_fields(18_080);
        for known in [true, false] {
            let result = network.add(&pod, "c1", &runtime);
            for time in 0..3 {
                network
                    .del("c1", &runtime, Some(&result).filter(|_| known), |call| call.env("CNI_NETNS", ""));
                network.is_as(&before, &format!("with a previous result: {known}, time {time}"));
            }
        }
        // One that was never added; and each plugin that there is.
        network.del("nobody", &runtime, None, |call| call.env("CNI_NETNS", ""));
        for plugin in network.ours.names() {
            let config = json!({"cniVersion": "1.0.0", "name": "blue", "type": plugin});
            let call = network.node.call(&network.ours, "DEL", &plugin, &config).env("CNI_NETNS", "");
            let outcome = call.run();
            // An allocator of addresses has to be told which.
            let ipam = outcome.stdout.contains("ipam");
            assert!(outcome.status.success() || ipam, "{outcome}");
        }
    });
}

#[test]
fn adds_at_once_of_many_containers_and_two_interfaces_of_each_all_succeed() {
    isolated(|| {
        let network = Network::new();
        let pods: Vec<_> = (0..12).map(|number| network.node.pod(&format!("pod{number}"))).collect();
        let results: Vec<_> = thread::scope(|scope| {
            let add = |(number, pod)| {
                let (network, loopback) =
                    (&network, json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}));
                let port = 18_000 + u16::try_from(number).unwrap();
                scope.spawn(move || {
                    let call = network
                        .node
                        .call(&network.ours, "ADD", "loopback", &loopback)
                        .env("CNI_IFNAME", "lo");
                    call.on(pod).container(Pod::name(pod)).run().result();
                });
                scope.spawn(move || network.add(pod, pod.name(), &go_fields(port)))
            };
            let running: Vec<_> = pods.iter().enumerate().map(add).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut addresses: Vec<_> =
            results.iter().map(|said| said["ips"][0]["address"].to_string()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), pods.len());
        thread::scope(|scope| {
            for ((number, pod), result) in pods.iter().enumerate().zip(&results) {
                let runtime = go_fields(18_000 + u16::try_from(number).unwrap());
                let network = &network;
                scope.spawn(move || network.del(pod.name(), &runtime, Some(result), |call| call.on(pod)));
            }
        });
        let left = State::when(&network.node, |state| state.links("host").len() == 2);
        assert_eq!(left.links("host").len(), 2, "{:?}", left.links("host"));
        assert_eq!(network.node.shell("nft list ruleset | grep elements || true"), "");
    });
}

#[test]
fn a_question_for_the_version_with_dummies_for_variables_is_answered_by_each_plugin_at_once() {
    isolated(|| {
        let network = Network::new();
        for plugin in network.ours.names() {
            let call = network.node.call(&network.ours, "VERSION", &plugin, &json!({"cniVersion": "1.0.0"}));
            let call = call.env("CNI_CONTAINERID", "").env("CNI_NETNS", "dummy").env("CNI_IFNAME", "dummy");
            let started = Instant::now();
            let answer = call.env("CNI_PATH", "dummy").run().result();
            assert!(started.elapsed() < Duration::from_secs(1), "{plugin}");
            assert_eq!(answer["cniVersion"], "1.0.0", "{plugin}");
            for version in ["0.4.0", "1.0.0", "1.1.0"] {
                assert!(
                    answer["supportedVersions"].as_array().unwrap().contains(&version.into()),
                    "{plugin}: {answer}"
                );
            }
        }
    });
}

#[test]
fn status_and_gc_come_with_empty_variables() {
    isolated(|| {
        let network = Network { version: "1.1.0", ..Network::new() };
        let pods = ["kept", "forgotten"].map(|name| network.node.pod(name));
        let lone = network.add(&pods[0], "kept", &go_fields(18_080));
        let before = network.state();
        network.add(&pods[1], "forgotten", &go_fields(18_081));
        let empty = |call: Call<'_>| {
            call.env("CNI_CONTAINERID", "").env("CNI_NETNS", "").env("CNI_IFNAME", "").run().done();
        };
        for plugin in CHAIN {
            empty(network.call("STATUS", plugin, &json!({}), None));
        }
        for plugin in CHAIN {
            let mut config = network.config(plugin, &json!({}), None);
            // The second key is for plugins that were written before the specification had decided.
            let valid = json!([{"containerID": "kept", "ifname": "eth0"}]);
            config["cni.dev/valid-attachments"] = valid.clone();
            config["cni.dev/attachments"] = valid;
            empty(network.node.call(&network.ours, "GC", plugin.0, &config));
        }
        network.is_as(&before, "GC");
        network.del("kept", &go_fields(18_080), Some(&lone), |call| call.on(&pods[0]));
    });
}

#[test]
fn arguments_come_in_any_order_and_some_are_empty_or_for_others() {
    isolated(|| {
        let network = Network::new();
        let mut order = [
            "IgnoreUnknown=1",
            "K8S_POD_NAMESPACE=default",
            "K8S_POD_NAME=web",
            "IP=10.1.0.77",
            "MAC=02:aa:bb:cc:dd:01",
        ];
        for turn in 0..order.len() {
            order.rotate_left(1);
            let multus = "IgnoreUnknown=true;K8S_POD_NAMESPACE=;K8S_POD_NAME=;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=";
            let pod = network.node.pod(&format!("pod{turn}"));
            let mut result = None;
            for plugin in CHAIN {
                let call = network.call("ADD", plugin, &json!({}), result.as_ref());
                result = Some(call.on(&pod).args(&order.join(";")).run().result());
            }
            let result = result.unwrap();
            assert_eq!(result["ips"][0]["address"], "10.1.0.77/24", "{order:?}");
            assert_eq!(result["interfaces"][2]["mac"], "02:aa:bb:cc:dd:01", "{order:?}");
            network.del("c1", &json!({}), Some(&result), |call| call.on(&pod).args(&order.join(";")));
            let mut result = None;
            for plugin in CHAIN {
                let call = network.call("ADD", plugin, &json!({}), result.as_ref());
                result = Some(call.on(&pod).args(multus).run().result());
            }
            network.del("c1", &json!({}), result.as_ref(), |call| call.on(&pod).args(multus));
        }
    });
}

#[test]
fn a_namespace_may_be_that_of_a_process_and_some_directories_of_plugins_missing() {
    isolated(|| {
        let network = Network::new();
        let mut process = network.node.inside(namespaced);
        let namespace = format!("/proc/{}/ns/net", process.id());
        let path = format!("/opt/nowhere:{}:/usr/nowhere/cni", network.ours.directory());
        let mut result = None;
        for plugin in CHAIN {
            let call = network.call("ADD", plugin, &json!({}), result.as_ref());
            result = Some(call.env("CNI_NETNS", &namespace).env("CNI_PATH", &path).run().result());
        }
        let result = result.unwrap();
        assert_eq!(result["interfaces"][2]["sandbox"], namespace.as_str());
        // The runtime deletes when the process has ended.
        process.kill().unwrap();
        process.wait().unwrap();
        network.del("c1", &json!({}), Some(&result), |call| call.env("CNI_NETNS", "").env("CNI_PATH", &path));
    });
}

/// A process in a network namespace of its own.
fn namespaced() -> Child {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "echo ready; exec sleep 60"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut ready)
        .unwrap();
    child
}

#[test]
fn every_version_in_use_is_spoken_and_a_plugin_may_be_told_it_twice() {
    isolated(|| {
        let pod = "blue";
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            let network = Network { version, ..Network::new() };
            let pod = network.node.pod(pod);
            let result = network.add(&pod, "c1", &go_fields(18_080));
            assert_eq!(result["cniVersion"], version);
            network.del("c1", &go_fields(18_080), Some(&result), |call| call.on(&pod));
        }
        // CRI-O's tests: keys of the list once more inside the plugin, a route whose destination has host bits.
        let network = Network::new();
        let pod = network.node.pod(pod);
        let mut config = network.config(CHAIN[0], &json!({}), None);
        config["ipam"] = json!({
            "type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "1100:200::1/24"}],
            "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "1100:200::/24"}]],
        });
        network.node.shell("echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
        let result = network.node.call(&network.ours, "ADD", "bridge", &config).on(&pod).run().result();
        assert_eq!(result["ips"][1]["address"], "1100:200::2/24");
    });
}

#[test]
fn a_lease_is_a_file_that_others_read() {
    isolated(|| {
        let network = Network::new();
        let pod = network.node.pod("blue");
        let result = network.add(&pod, "c1", &json!({}));
        let lease = "/var/lib/cni/networks/blue/10.1.0.2";
        assert_eq!(network.node.shell(&format!("cat {lease}")), "c1\r\neth0");
        network.del("c1", &json!({}), Some(&result), |call| call.on(&pod));
        assert_eq!(network.node.shell(&format!("ls {lease} 2>/dev/null || true")), "");
    });
}

#[test]
fn whatever_goes_wrong_is_said_as_an_error_object_by_each_plugin() {
    isolated(|| {
        let network = Network::new();
        let pod = network.node.pod("blue");
        for plugin in network.ours.names() {
            let call = |config: Value| network.node.call(&network.ours, "ADD", &plugin, &config).on(&pod);
            let honest = json!({"cniVersion": "1.0.0", "name": "blue", "type": plugin});
            let outcomes: [Outcome; 4] = [
                call(honest.clone()).stdin("{").run(),
                call(json!({"cniVersion": "9.9.9", "name": "blue", "type": plugin})).run(),
                call(honest.clone()).env("CNI_NETNS", "/nowhere").run(),
                call(honest).env("CNI_CONTAINERID", "../..").run(),
            ];
            for outcome in outcomes {
                // An allocator of addresses does not look at the namespace.
                if !outcome.command.contains("/nowhere") || !outcome.status.success() {
                    outcome.error();
                }
            }
        }
    });
}
