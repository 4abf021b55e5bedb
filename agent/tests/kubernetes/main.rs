//! The Kubernetes store: the real client, and a double of the API.
#![cfg(feature = "kubernetes")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod nodes;
mod pods;
mod problems;
mod server;

#[path = "../store/agent.rs"]
mod agent_double;

use std::path::Path;

use agent::store::kubernetes::{Config, Kubernetes};
use agent_double::local;
use api::Api;
use overlay::{Node, Pool, Range, SubnetState, View};
use serde_json::{Value, json};

const ANNOTATION: &str = "cnikit.io/node";

fn range(cluster: &str, subnet_length: u8) -> Range {
    Range { cluster: cluster.parse().unwrap(), subnet_length }
}

fn pool() -> Pool {
    Pool::new(vec![range("10.244.0.0/16", 24)]).unwrap()
}

fn dual_stack() -> Pool {
    Pool::new(vec![range("10.244.0.0/16", 24), range("fd00:10::/48", 64)]).unwrap()
}

fn store(api: &Api, state: &Path) -> Box<Kubernetes> {
    store_of(api, state, pool())
}

fn store_of(api: &Api, state: &Path, pool: Pool) -> Box<Kubernetes> {
    let config = Config { kubeconfig: Some(api.kubeconfig()) };
    Box::new(Kubernetes::new(config, "pods", pool, state).unwrap())
}

/// What a kubelet and the controller manager say of the n-th node.
fn register(api: &Api, n: u8) {
    api.put(&format!("node-{n}"), |node| {
        node["spec"] =
            json!({ "podCIDR": format!("10.244.{n}.0/24"), "podCIDRs": [format!("10.244.{n}.0/24")] });
        node["status"] = json!({
            "addresses": [{ "type": "InternalIP", "address": format!("192.168.1.{n}") }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
    });
}

/// The same, with an agent that has said what it is.
fn join(api: &Api, n: u8) {
    register(api, n);
    announce(api, n);
}

fn announce(api: &Api, n: u8) {
    let text = serde_json::to_string(&local(n).with_subnets(vec![])).unwrap();
    api.put(&format!("node-{n}"), |node| node["metadata"]["annotations"][ANNOTATION] = json!(text));
}

fn annotation(node: &Value) -> Option<Node> {
    serde_json::from_str(node["metadata"]["annotations"][ANNOTATION].as_str()?).ok()
}

fn names(view: &View) -> Vec<&str> {
    view.topology.members().map(|member| member.node.name.as_str()).collect()
}

fn held(view: &View) -> Vec<String> {
    let held = view.subnets.iter().filter(|subnet| subnet.state == SubnetState::Held);
    held.map(|subnet| subnet.prefix.to_string()).collect()
}
