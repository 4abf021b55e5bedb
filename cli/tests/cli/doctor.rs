//! `doctor`: what it sees of a node, and that it changes nothing.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::node::{Node, Said};
use crate::on_a_node;

/// What was found and is bad, the subject and the words.
fn complaints(said: &Said) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let bad =
        findings.filter(|finding| ["error", "warning"].contains(&finding["severity"].as_str().unwrap()));
    bad.inspect(|finding| assert!(finding["advice"].is_string(), "{finding}"))
        .map(|finding| (text(finding, "subject"), text(finding, "what")))
        .collect()
}

#[track_caller]
fn complains_of(said: &Said, subject: &str, words: &str) {
    let complaints = complaints(said);
    let is_it = |(about, what): &(String, String)| about == subject && what.contains(words);
    assert!(complaints.iter().any(is_it), "{subject}, {words}: {complaints:#?}");
}

fn everything(node: &Node) -> String {
    node.sh("ip -d address; ip route; ip -6 route; nft list ruleset; sysctl -a -r '^net' 2>/dev/null | sort")
}

#[test]
fn a_node_is_seen_as_it_is_and_left_so() {
    on_a_node!(|node| {
        let before = everything(node);
        let alone = node.cnikit("doctor --json --root /");
        assert_eq!(alone.status, 5, "{alone:?}");
        complains_of(&alone, "network", "no interface has an address");
        assert_eq!(everything(node), before);

        node.sh("ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up
             ip address add 192.168.7.1/24 dev eth0; ip route add default via 192.168.7.2");
        let connected = complaints(&node.cnikit("doctor --json"));
        assert!(connected.iter().all(|(subject, _)| subject != "network"), "{connected:#?}");
        let overlaps = node.cnikit("doctor --json --cluster 192.168.0.0/16");
        complains_of(&overlaps, "network", "192.168.7.0/24 dev eth0");
        assert_eq!(overlaps.status, 5);

        let kubelets = TcpListener::bind("0.0.0.0:10250").unwrap();
        let taken = node.cnikit("doctor --json --role worker");
        complains_of(&taken, "ports", "10250/tcp, which the kubelet needs, is held by");
        complains_of(&taken, "ports", &format!("(process {})", std::process::id()));
        drop(kubelets);
        let free = complaints(&node.cnikit("doctor --json --role worker"));
        assert!(free.iter().all(|(subject, _)| subject != "ports"), "{free:#?}");
    });
}

#[test]
fn the_agents_ports_are_those_of_its_configuration() {
    on_a_node!(|node| {
        let root = node.path("host");
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/cnikit/agent.env", "CNIKIT_CONFIG=/etc/other/agent.json\n");
        write("etc/other/agent.json", r#"{"tunnel": {"port": 8472}, "health": {"enabled": false}}"#);
        write("proc/net/tcp", "sl local_address\n");
        let said = node.cnikit(&format!("doctor --json --root {}", root.display())).stdout;
        for port in ["4793/tcp", "4793/udp", "4794/udp", "8472/udp"] {
            assert!(said.contains(port), "{port}: {said}");
        }
        assert!(!said.contains("4789") && !said.contains("4794/tcp"), "{said}");
    });
}

#[test]
fn whom_the_node_needs_is_tried() {
    on_a_node!(|node| {
        // On a node of the test's own, where `/var/lib` is empty; kubeadm's file would come first.
        if Path::new("/etc/kubernetes").exists() {
            node.sh("mount -t tmpfs tmpfs /etc/kubernetes");
        }
        node.sh("mkdir /var/lib/kubelet; echo '    server: https://127.0.0.1:16443' > /var/lib/kubelet/kubeconfig");
        let nobody = node.cnikit("doctor --json");
        complains_of(&nobody, "reach", "API server at 127.0.0.1:16443/tcp is not reached: nobody listens");
        let _server = TcpListener::bind("127.0.0.1:16443").unwrap();
        let said = node.cnikit("doctor --json");
        assert!(complaints(&said).iter().all(|(subject, _)| subject != "reach"), "{said:?}");
        assert!(said.stdout.contains("127.0.0.1:16443/tcp is reached"), "{said:?}");
    });
}

#[test]
fn of_a_node_whose_files_are_elsewhere_they_are_looked_at() {
    on_a_node!(|node| {
        let root = node.path("host");
        node.sh(&format!(
            "mkdir -p {root}/etc/cni/net.d {root}/proc/sys/kernel {root}/proc/net; cd {root}
             echo localhost > proc/sys/kernel/hostname; echo uninitialized > etc/machine-id
             echo 'Filename Type Size' > proc/swaps; echo '/dev/sda2 partition 1' >> proc/swaps
             echo '{{\"cniVersion\": \"1.0.0\", \"name\": \"pods\", \"plugins\": [{{\"type\": \"bridge\"}}]}}' > etc/cni/net.d/10-pods.conflist",
            root = root.display()
        ));
        let said = node.cnikit(&format!("doctor --json --root {}", root.display()));
        assert_eq!(said.status, 5, "{said:?}");
        for (subject, words) in [
            ("identity", "\"localhost\""),
            ("identity", "uninitialized"),
            ("settings", "/dev/sda2"),
            ("runtime", "needs bridge"),
        ] {
            complains_of(&said, subject, words);
        }
        // Whatever its kernel is, it was not asked.
        assert!(complaints(&said).iter().all(|(subject, _)| subject != "kernel" && subject != "network"));
        node.cnikit("doctor --root /nowhere/at/all").fails(2);
    });
}

#[test]
fn people_are_told_the_worst_first_with_what_to_do() {
    on_a_node!(|node| {
        let said = node.cnikit("doctor --quiet");
        assert_eq!(said.status, 5, "{said:?}");
        let mut lines = said.stdout.lines();
        assert!(lines.next().unwrap().starts_with("STATE"), "{said:?}");
        assert!(lines.next().unwrap().starts_with("error"), "{said:?}");
        assert!(said.stdout.contains("=> give one to the interface"), "{said:?}");
        assert!(!said.stdout.contains("\nok ") && said.stderr.contains("error"), "{said:?}");
    });
}
