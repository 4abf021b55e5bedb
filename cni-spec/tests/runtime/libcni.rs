//! What real runtimes on libcni sent to their plugins and kept in their cache, against what we would.
//!
//! `tests/data/libcni/calls.json` was recorded from containerd, ctr, kubelet and podman with the reference's plugins;
//! `tests/data/libcni/results` is what ctr and podman left in `/var/lib/cni/results`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cni_spec::NetworkList;
use cni_spec::runtime::{Attachment, Progress, Runtime};
use serde_json::{Map, Value, json};

use crate::support::{World, success, works};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/libcni");

fn recorded() -> Vec<Value> {
    serde_json::from_slice(&fs::read(Path::new(DATA).join("calls.json")).unwrap()).unwrap()
}

/// The attachment of one run: parameters may change between `ADD` and `DEL`.
fn attachment(attachment: &Value, run: &Value) -> Attachment {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let id = text(&attachment["containerId"]).parse().unwrap();
    let mut result =
        Attachment::new(id, text(&attachment["ifname"]).parse().unwrap()).with_netns(text(&run["netns"]));
    for pair in run["args"].as_array().unwrap() {
        result = result.with_arg(text(&pair[0]), text(&pair[1]));
    }
    for (name, value) in run["capabilityArgs"].as_object().unwrap() {
        result = result.with_capability(name.clone(), value.clone());
    }
    result
}

fn run(runtime: &Runtime, command: &str, list: &NetworkList, attachment: &Attachment) {
    match command {
        "ADD" => runtime.add(list, attachment).map(drop).unwrap(),
        "DEL" => runtime.del(list, attachment).unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn plugins_get_from_us_what_they_got_from_real_runtimes() {
    let mut compared = 0;
    for recording in recorded() {
        let what = format!("{}: {}", recording["source"], recording["what"]);
        let world = World::new();
        let runtime = world.runtime();
        let list = NetworkList::from_json(recording["list"].to_string().as_bytes()).unwrap();
        for recorded in recording["runs"].as_array().unwrap() {
            let calls = recorded["calls"].as_array().unwrap().clone();
            let answers: HashMap<String, Value> = calls
                .iter()
                .map(|call| (call["plugin"].as_str().unwrap().to_owned(), call["stdout"].clone()))
                .collect();
            world.plugins.set_script(move |call| match &answers[&call.plugin] {
                Value::Null => works(call),
                stdout => success(stdout),
            });
            run(&runtime, recorded["command"].as_str().unwrap(), &list, &attachment(&recording, recorded));

            let ours = world.plugins.take_calls();
            assert_eq!(ours.len(), calls.len(), "{what}");
            for (ours, theirs) in ours.iter().zip(&calls) {
                assert_eq!(
                    (ours.plugin.as_str(), ours.command()),
                    (theirs["plugin"].as_str().unwrap(), recorded["command"].as_str().unwrap())
                );
                assert_eq!(ours.stdin, theirs["stdin"], "{what}: {}", ours.name());
                assert_eq!(ours.env["CNI_NETNS"], recorded["netns"].as_str().unwrap(), "{what}");
                compared += 1;
            }
        }
        assert!(world.cached().is_empty(), "{what}");
    }
    assert_eq!(compared, 42);
}

#[test]
fn what_libcni_cached_is_read_and_would_be_written_alike() {
    let world = World::new();
    fs::create_dir(world.results()).unwrap();
    for entry in fs::read_dir(Path::new(DATA).join("results")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), world.results().join(entry.file_name())).unwrap();
    }
    let runtime = world.runtime();
    let found = runtime.attachments().unwrap();
    assert!(found.unattributed.is_empty());
    assert_eq!(found.attachments.len(), 4);
    for cached in found.attachments {
        let (list, who) = (cached.network_list().unwrap(), cached.identity());
        assert_eq!((&list.name, cached.progress), (&cached.network, Progress::Complete), "{who}");
        let name = format!("{}-{}-{}", who.network, who.attachment.container_id, who.attachment.if_name);
        let theirs = fs::read(world.results().join(&name)).unwrap();

        // Attach it anew with the same parameters and the same result.
        world.plugins.take_calls();
        runtime.del(&list, &cached.attachment).unwrap();
        let result = cached.result.clone().unwrap();
        let dels = world.plugins.take_calls();
        assert!(dels.iter().all(|del| del.stdin["prevResult"] == result.to_value(list.cni_version)), "{who}");
        let stdout = result.to_value(list.cni_version);
        world
            .plugins
            .set_script(move |call| if call.command() == "ADD" { success(&stdout) } else { works(call) });
        runtime.add(&list, &cached.attachment).unwrap();
        let ours = fs::read(world.results().join(&name)).unwrap();

        let (mut ours_json, mut theirs_json) = (parse(&ours), parse(&theirs));
        // The list's text is the file's as an administrator wrote it, against ours; what it says must be the same.
        assert_eq!(decode(ours_json.remove("config")), decode(theirs_json.remove("config")), "{who}");
        assert_eq!(ours_json, theirs_json, "{who}");
        assert_eq!(keys(&ours), keys(&theirs), "{who}");
        assert!(!ours.contains(&b'\n'), "{who}");
    }
}

fn parse(file: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(file).unwrap()
}

fn decode(config: Option<Value>) -> Value {
    use base64::Engine as _;
    let text = config.unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The fields of a cache file in the order in which they stand there.
fn keys(file: &[u8]) -> Vec<&'static str> {
    let text = std::str::from_utf8(file).unwrap();
    let all = [
        "kind",
        "containerId",
        "config",
        "ifName",
        "networkName",
        "netns",
        "cniArgs",
        "capabilityArgs",
        "result",
    ];
    let mut found: Vec<_> =
        all.iter().filter_map(|key| Some((text.find(&format!("\"{key}\":"))?, *key))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, key)| key).collect()
}

#[test]
fn a_bare_result_of_the_oldest_libcni_serves_check_and_del() {
    let world = World::new();
    let list = crate::support::blue();
    fs::create_dir(world.results()).unwrap();
    let old = json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.5/16"}], "dns": {}});
    fs::write(world.results().join("blue-web-1-eth0"), old.to_string()).unwrap();
    let runtime = world.runtime();
    let web = crate::support::web();
    assert_eq!(runtime.attachments().unwrap().unattributed.len(), 1);
    assert!(runtime.add(&list, &web).unwrap_err().to_string().contains("attached already"));
    runtime.check(&list, &web).unwrap();
    runtime.del(&list, &web).unwrap();
    let prev = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/16"}], "dns": {}});
    let calls = world.plugins.take_calls();
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|call| call.stdin["prevResult"] == prev));
    assert!(world.cached().is_empty());
}
