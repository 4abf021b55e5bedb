//! `status`, `peers`, `topology` and `node forget`, with somebody at the socket who answers as an agent does.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::double::Agent;
use crate::node::CNIKIT;

fn id(node: u8) -> String {
    format!("{node:02x}").repeat(16)
}

fn subnet(node: u8) -> Value {
    json!({"prefix": format!("10.244.{node}.0/24"), "state": "held"})
}

fn path() -> Value {
    json!({
        "way": {"kind": "vxlan", "remote": "192.168.1.12"}, "reason": "told to", "mtu": 1450,
        "mtuConfirmed": true, "roundTrip": 310, "answered": 1,
    })
}

fn peer() -> Value {
    json!({
        "id": id(2), "name": "n2", "liveness": "suspect", "addresses": ["192.168.1.12"],
        "subnets": [subnet(2)], "pods": 1, "path": path(),
    })
}

fn status() -> Value {
    json!({
        "node": id(1), "name": "n1", "version": "0.1.0", "uptime": 5, "network": "podnet", "bridge": "cni-podnet",
        "addresses": ["192.168.1.11"], "subnets": [subnet(1)], "mode": "auto",
        "store": {"kind": "static", "endpoints": ["/etc/cnikit/nodes.json"], "cutOff": null},
        "peers": {"alive": 0, "suspect": 1, "down": 0, "unknown": 0}, "pods": 1, "ready": true,
        "problems": [{"severity": "error", "what": "n2 does not answer", "advice": "look at n2"}],
    })
}

fn topology() -> Value {
    let node = |node: u8, path: Value| {
        json!({
            "id": id(node), "name": format!("n{node}"), "addresses": [format!("192.168.1.1{node}")],
            "subnets": [subnet(node)], "role": "worker", "mode": "auto", "mtu": 1500, "liveness": "alive",
            "pods": [{"container": "c", "interface": "eth0", "addresses": [format!("10.244.{node}.2")]}],
            "path": path,
        })
    };
    json!({
        "node": id(1), "network": "podnet", "bridge": "cni-podnet", "conflicts": [],
        "nodes": [node(1, Value::Null), node(2, path())],
    })
}

#[test]
fn status_without_a_network_is_the_agents_and_its_exit_status_tells_of_problems() {
    let agent = Agent::new(status(), peer(), topology());
    let output = agent.cnikit("status");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.starts_with("node       n1, ready\n"), "{text}");
    assert!(text.ends_with("\nerror: n2 does not answer\nhint: look at n2\n"), "{text}");
    let json: Value = serde_json::from_slice(&agent.cnikit("status --json").stdout).unwrap();
    assert_eq!(json["store"]["kind"], "static");
    assert_eq!(json["ways"], json!({"tunnels": 1, "routes": 0, "router": 0, "none": 0}));
}

#[test]
fn peers_are_a_table_or_what_the_agent_says() {
    let agent = Agent::new(status(), peer(), topology());
    let text = agent.text("peers");
    assert!(
        text.contains("n2    suspect   192.168.1.12  10.244.2.0/24  vxlan  1450  310 µs     1  told to"),
        "{text}"
    );
    assert_eq!(agent.json("peers --json"), json!([peer()]));
}

#[test]
fn the_topology_is_a_tree_a_graph_a_picture_or_json() {
    let agent = Agent::new(status(), peer(), topology());
    assert!(
        agent.text("topology").contains("├─ n1  192.168.1.11  this node\n│  └─ cni-podnet  10.244.1.0/24\n")
    );
    assert!(agent.text("topology --dot").contains("n0 -- n1 [style=dashed"));
    assert!(agent.text("topology --svg -").starts_with("<svg "));
    let file = agent.path("picture.svg");
    assert_eq!(agent.text(&format!("topology --svg {}", file.display())), "");
    assert!(std::fs::read_to_string(file).unwrap().ends_with("</svg>\n"));
    assert_eq!(agent.json("topology --json")["nodes"][1]["path"], path());
}

#[test]
fn that_pods_are_missing_in_the_topology_is_said_beside_it() {
    let map = json!({ "lackingPods": "list pods: pods is forbidden\u{1b}" });
    let mut whole = topology();
    whole.as_object_mut().unwrap().extend(map.as_object().unwrap().clone());
    let told = Agent::new(status(), peer(), whole).cnikit("topology");
    assert!(told.status.success() && String::from_utf8_lossy(&told.stdout).contains("├─ n1"), "{told:?}");
    assert_eq!(
        String::from_utf8_lossy(&told.stderr),
        "pods of other nodes are missing: list pods: pods is forbidden\\u{1b}\n"
    );
}

#[test]
fn a_node_is_forgotten_if_somebody_says_yes() {
    let agent = Agent::new(status(), peer(), topology());
    let asked = agent.cnikit("node forget n2");
    assert_eq!(asked.status.code(), Some(10), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("--yes"), "{asked:?}");
    let done = agent.text("node forget n2 --yes");
    assert_eq!(done, format!("forgotten: n2 ({}), with subnet 10.244.2.0/24\n", id(2)));
    let refused = agent.cnikit("node forget n9 --yes");
    assert_eq!(refused.status.code(), Some(11), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no node is called so"), "{refused:?}");
}

#[test]
fn where_no_agent_runs_that_is_said_with_what_to_do() {
    for words in ["status", "peers", "topology", "node forget n2"] {
        let output = Command::new(CNIKIT)
            .args(words.split_whitespace())
            .args(["--agent", "/nonexistent/agent.sock"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(11), "{words}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("/nonexistent/agent.sock") && said.contains("cnikit agent"), "{words}: {said}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}
