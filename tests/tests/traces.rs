//! What real runtimes have asked the reference's plugins on a node, asked of ours: in the same order, with the same
//! environments and configurations, as recorded in `traces.jsonl`.
//!
//! Recorded on Debian 12: containerd 1.6 as pods' runtime, `ctr run --cni`, two nodes of Kubernetes 1.20 on containerd
//! (`k8s-1`, `k8s-2`), podman 4.3. The plugins were the reference's 1.1.1. A line is a call: `runtime`, `plugin`, `env`,
//! `stdin`, and `stdout` if there was any; all succeeded. What `bridge` asked of `host-local` is there as well, before the
//! call of `bridge`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

use std::collections::HashMap;

use cnikit_tests::{Implementation, Node, Pod, isolated, ours};
use serde_json::Value;

const RECORDED: &str = include_str!("traces.jsonl");

#[test]
fn pods_of_containerd_come_and_go_as_recorded() {
    isolated(|| replay("containerd", &["bridge", "loopback", "portmap", "bandwidth", "tuning"], 76));
}

#[test]
fn containers_of_ctr_come_and_go_as_recorded() {
    isolated(|| replay("ctr", &["bridge", "portmap", "bandwidth", "tuning"], 8));
}

#[test]
fn pods_of_kubernetes_come_and_go_as_recorded() {
    isolated(|| {
        replay("k8s-1", &["bridge", "loopback", "portmap"], 18);
        replay("k8s-2", &["bridge", "loopback", "portmap"], 18);
    });
}

#[test]
fn containers_of_podman_come_and_go_as_recorded() {
    isolated(|| replay("podman", &["bridge", "portmap", "firewall", "tuning"], 89));
}

#[test]
fn host_local_gives_addresses_as_recorded() {
    isolated(|| {
        replay("containerd", &["host-local"], 15);
        replay("ctr", &["host-local"], 2);
        replay("k8s-1", &["host-local"], 6);
        replay("k8s-2", &["host-local"], 6);
        replay("podman", &["host-local"], 22);
    });
}

/// Makes the calls that a runtime made of some plugins, on a new node. Each must succeed and say what the reference's
/// plugin has said, but for what is chosen freely. Afterwards nothing may be left, for the runtimes left nothing.
fn replay(runtime: &str, plugins: &[&str], calls: usize) {
    let ours = ours!();
    let mut player = Player { node: Node::new(&ours), ours, pods: HashMap::new(), results: HashMap::new() };
    let recorded = RECORDED.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let wanted =
        |call: &Value| call["runtime"] == runtime && plugins.iter().any(|one| call["plugin"] == *one);
    let made = recorded.filter(wanted).map(|call| player.play(&call)).count();
    assert_eq!(made, calls, "calls of {runtime}");
    assert_eq!(player.node.shell("ip -brief link show type veth"), "", "interfaces left of {runtime}");
    let leases = "find /run /var/lib -type f -path '*/[0-9a-f]*[.:]*' ! -name 'last_reserved_ip.*' ! -path '/run/netns/*'";
    assert_eq!(player.node.shell(leases), "", "leases left of {runtime}");
    // What is for a whole subnet stays.
    let elements = "nft list ruleset | grep elements || true";
    assert_eq!(player.node.shell(elements), "", "in nf_tables, left of {runtime}");
}

struct Player {
    node: Node,
    ours: Implementation,
    /// The namespaces of containers that run.
    pods: HashMap<String, Pod>,
    /// What was said of an attachment last, which a runtime gives back.
    results: HashMap<(String, String), Value>,
}

impl Player {
    fn play(&mut self, recorded: &Value) {
        let env = |name: &str| recorded["env"][name].as_str().unwrap_or_default().to_owned();
        let (command, plugin) = (env("CNI_COMMAND"), recorded["plugin"].as_str().unwrap());
        let container = env("CNI_CONTAINERID");
        let attachment = (container.clone(), env("CNI_IFNAME"));

        let mut config = recorded["stdin"].clone();
        if config["prevResult"].is_object() {
            // The recorded one tells of interfaces and addresses of that node.
            config["prevResult"] = self.results[&attachment].clone();
        }
        let mut call = self.node.call(&self.ours, &command, plugin, &config);
        for (name, value) in recorded["env"].as_object().unwrap() {
            call = call.env(name, value.as_str().unwrap());
        }
        match env("CNI_NETNS").as_str() {
            // The container has ended.
            "" => drop(self.pods.remove(&container).map(|pod| self.node.end(&pod))),
            // VERSION looks at nothing.
            "dummy" => {}
            path => {
                let pod = self.pods.entry(container).or_insert_with(|| {
                    // A path as /proc/PID/ns/net cannot be had again.
                    let name =
                        if path.starts_with("/proc/") { "process" } else { path.rsplit('/').next().unwrap() };
                    self.node.pod(name)
                });
                call = call.on(pod);
            }
        }

        let outcome = call.run();
        let Some(said) = recorded.get("stdout") else { return outcome.done() };
        let result = outcome.result();
        if command == "VERSION" {
            let versions = |of: &Value| of["supportedVersions"].as_array().unwrap().clone();
            let ours = versions(&result);
            assert!(versions(said).iter().all(|version| ours.contains(version)), "{outcome}");
            return;
        }
        assert_eq!(shape(&result), shape(said), "{outcome}");
        // What the runtime chose itself is not free.
        for chosen in env("CNI_ARGS")
            .split(';')
            .filter_map(|arg| arg.strip_prefix("IP=").or_else(|| arg.strip_prefix("MAC=")))
        {
            assert!(
                said.to_string().contains(chosen) == result.to_string().contains(chosen),
                "{chosen}: {outcome}"
            );
        }
        self.results.insert(attachment, result);
    }
}

/// A result without what is chosen freely: MAC addresses, names of cables, namespaces, and which address of a subnet.
fn shape(result: &Value) -> Value {
    let mut result = result.clone();
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        interface["mac"] = "some".into();
        // Told since the specification has a key for it (1.1.0); these runtimes' plugins are older.
        interface.as_object_mut().unwrap().remove("mtu");
        if interface["name"].as_str().unwrap().starts_with("veth") {
            interface["name"] = "veth".into();
        }
        if interface["sandbox"].is_string() {
            interface["sandbox"] = "some".into();
        }
    }
    let loopback = result["interfaces"][0]["name"] == "lo";
    for ip in result["ips"].as_array_mut().into_iter().flatten() {
        if loopback {
            // Before 1.0.0 the specification demands it; the reference's loopback leaves it out.
            ip.as_object_mut().unwrap().remove("version");
        }
        let (address, length) = ip["address"].as_str().unwrap().split_once('/').unwrap();
        let subnet = &address[..=address.rfind(['.', ':']).unwrap()];
        ip["address"] = format!("{subnet}/{length}").into();
    }
    result
}
