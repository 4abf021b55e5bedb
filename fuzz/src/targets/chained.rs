//! Plugins that add to what others have made, executed on a node in memory behind `bridge`; and `overlay`.
//!
//! Input: as an execution's, see `calls`. A configuration without `prevResult` gets that of a bridge.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use cni_spec::plugin::{Outcome, Plugin, Stdio, dispatch};
use cni_spec::{Env, ErrorCode, SpecVersion};
use netops::Snapshot;
use plugin_bridge::Bridge;
use plugin_chain::{Bandwidth, Firewall, Portmap, Sbr, Tuning, Vrf};
use plugin_kit::Kit;
use plugin_kit::testing::{MemoryNode, TestCall};
use plugin_overlay::Overlay;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::calls::{Planner, one_answer, split};

/// ADD, CHECK, DEL and GC of each plugin: a failed ADD leaves nothing, what was made passes CHECK, and DEL and GC work.
pub(crate) fn chained(data: &[u8]) {
    let (env, stdin) = split(data, Env::default());
    let Ok(Value::Object(document)) = serde_json::from_slice(stdin) else { return };
    let scratch = scratch();
    for number in 0..6 {
        let node = MemoryNode::new();
        let plugin: &dyn Plugin = match number {
            0 => &Kit::with_kernels(Portmap, &node),
            1 => &Kit::with_kernels(Firewall::without_firewalld(), &node),
            2 => &Kit::with_kernels(Bandwidth, &node),
            3 => &Kit::with_kernels(Tuning::new().with_allowlist(scratch.nowhere), &node),
            4 => &Kit::with_kernels(Sbr, &node),
            _ => &Kit::with_kernels(Vrf, &node),
        };
        let mut document = document.clone();
        let previous = bridged(&node);
        document.entry("prevResult").or_insert(previous);
        live(plugin, &node, env.clone(), document);
    }
}

/// What `tuning` has on disk: a list of patterns, and what an interface was like before.
pub(crate) fn tuning_files(data: &[u8]) {
    let scratch = scratch();
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Tuning::new().with_allowlist(scratch.allowlist), &node);
    let previous = bridged(&node);
    let written = fs::create_dir_all(scratch.remembered)
        .and_then(|()| fs::write(scratch.allowlist, data))
        .and_then(|()| fs::write(scratch.remembered.join("c1_eth0.json"), data));
    assert!(written.is_ok(), "{written:?}");
    let mut document = Map::new();
    let keys = [
        ("cniVersion", json!("1.1.0")),
        ("name", json!("net")),
        ("type", json!("tuning")),
        ("sysctl", json!({"net.ipv4.conf.eth0.arp_filter": "1"})),
        ("prevResult", previous),
    ];
    document.extend(keys.map(|(key, value)| (key.to_owned(), value)));
    // What is remembered is given back, or is no obstacle; and then whatever is allowed is done.
    let _ = said(&plugin, &environment(Env::default(), "DEL"), &document);
    live(&plugin, &node, Env::default(), document);
}

/// The configuration of `overlay`, on a node whose agent has written down what it should.
pub(crate) fn overlay_config(data: &[u8]) {
    let (env, stdin) = split(data, environment(Env::default(), "ADD"));
    let Ok(Value::Object(mut document)) = serde_json::from_slice(stdin) else { return };
    let scratch = scratch();
    document.retain(|key, _| !key.eq_ignore_ascii_case("agentDirectory"));
    document.insert("agentDirectory".to_owned(), json!(scratch.remembered));
    let node = json!({
        "node": "n1", "bridge": "cnikit0", "mtu": 1450, "cluster": ["10.244.0.0/16", "fd00:244::/48"],
        "subnets": [
            {"subnet": "10.244.1.0/24", "gateway": "10.244.1.1", "first": "10.244.1.20"},
            {"subnet": "fd00:244:0:1::/64", "gateway": "fd00:244:0:1::1", "first": "fd00:244:0:1::20"},
        ],
    });
    // The name that the file has to have is the configuration's, and the plugin decides whether it is one.
    let name = document.iter().find(|(key, _)| key.eq_ignore_ascii_case("name"));
    let name = name.and_then(|(_, name)| name.as_str()).unwrap_or_default().to_owned();
    if name.is_empty() || name.len() > 100 || name.contains(['/', '\0']) {
        return;
    }
    let path = scratch.remembered.join(format!("{name}.json"));
    let written = fs::create_dir_all(scratch.remembered).and_then(|()| fs::write(&path, node.to_string()));
    assert!(written.is_ok(), "{written:?}");
    one_answer(&Planner(&Kit::new(Overlay)), env, Value::Object(document).to_string().as_bytes());
    let _ = fs::remove_file(path);
}

/// The life of an attachment.
fn live(plugin: &dyn Plugin, node: &MemoryNode, env: Env, mut document: Map<String, Value>) {
    // Files of this machine are none of a fuzzer's business.
    document.retain(|key, _| !["ipam", "dataDir"].iter().any(|k| key.eq_ignore_ascii_case(k)));
    document.insert("dataDir".to_owned(), json!(scratch().remembered));
    let env = |command| environment(env.clone(), command);

    let before = node.snapshot();
    let (outcome, stdout) = said(plugin, &env("ADD"), &document);
    match outcome {
        Outcome::Done => {
            let Ok(result) = serde_json::from_slice::<Value>(&stdout) else { unreachable!("a result") };
            document.insert("prevResult".to_owned(), result);
            let (outcome, _) = said(plugin, &env("CHECK"), &document);
            // Earlier versions have no CHECK; and a result that was made up may say anything.
            let excused = |code| [ErrorCode::INCOMPATIBLE_VERSION, ErrorCode::INVALID_CONFIG].contains(&code);
            if let Outcome::Failed(error) = outcome {
                assert!(excused(error.code()), "CHECK after ADD: {error}");
            }
        }
        Outcome::Failed(_) => assert_eq!(own(&before), own(&node.snapshot())),
        Outcome::About => return,
    }
    for _ in 0..2 {
        let _ = said(plugin, &env("DEL"), &document);
    }
    document.insert("cniVersion".to_owned(), json!("1.1.0"));
    document.insert("cni.dev/valid-attachments".to_owned(), json!([]));
    for command in ["GC", "STATUS"] {
        let _ = said(plugin, &env(command), &document);
    }
}

/// What one execution says; an error of ours is never the kind that is a mistake of ours.
fn said(plugin: &dyn Plugin, env: &Env, document: &Map<String, Value>) -> (Outcome, Vec<u8>) {
    let stdin = Value::Object(document.clone()).to_string();
    let mut stdout = Vec::new();
    let stdio = Stdio { stdin: &mut stdin.as_bytes(), stdout: &mut stdout, stderr: &mut std::io::sink() };
    let outcome = dispatch(plugin, env.clone(), stdio);
    if let Outcome::Failed(error) = &outcome {
        assert!(error.code() != ErrorCode::INTERNAL, "{error}");
    }
    (outcome, stdout)
}

fn environment(mut env: Env, command: &str) -> Env {
    for (name, value) in [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_PATH", "/nowhere"),
    ] {
        env.set(name, value);
    }
    env
}

/// What a bridge says that has attached a container with addresses of both families.
fn bridged(node: &MemoryNode) -> Value {
    let call = TestCall::new(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true,
        "ipam": {
            "type": "static", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            "addresses": [
                {"address": "10.22.0.5/16", "gateway": "10.22.0.1"},
                {"address": "fd00:22::5/64", "gateway": "fd00:22::1"},
            ],
        },
    }));
    match Kit::with_kernels(Bridge, node).add(&call.request()) {
        Ok(result) => result.to_value(SpecVersion::V1_1_0),
        Err(error) => unreachable!("a plain bridge: {error}"),
    }
}

/// What an attachment has for itself: what others may rely on by now stays.
fn own(snapshot: &Snapshot) -> Vec<&String> {
    let is_shared = |line: &str| line.contains("route_localnet") || line.contains("isolation");
    snapshot.lines().iter().filter(|line| !is_shared(line)).collect()
}

/// Paths in a directory of this thread's own.
#[derive(Clone, Copy)]
struct Scratch {
    remembered: &'static Path,
    allowlist: &'static str,
    nowhere: &'static str,
}

fn scratch() -> Scratch {
    thread_local! {
        static SCRATCH: Cell<Option<Scratch>> = const { Cell::new(None) };
        static DIR: Option<TempDir> = TempDir::new().ok();
    }
    let made = || {
        // Once for each thread: plugins take paths that live as long as the process.
        let dir = DIR.with(|dir| dir.as_ref().map(|dir| dir.path().to_owned()));
        let Some(dir) = dir else { unreachable!("no temporary directory") };
        let text = |name: &str| -> &'static str { dir.join(name).display().to_string().leak() };
        let remembered: &'static mut PathBuf = Box::leak(Box::new(dir.join("remembered")));
        Scratch { remembered, allowlist: text("allowlist"), nowhere: text("nowhere") }
    };
    SCRATCH.with(|scratch| {
        let it = scratch.get().unwrap_or_else(made);
        scratch.set(Some(it));
        it
    })
}
