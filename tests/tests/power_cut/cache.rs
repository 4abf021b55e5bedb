//! What a runtime remembers of its attachments, with the leases of its plugin.

use std::path::{Path, PathBuf};

use cni_spec::runtime::{Attachment, Progress, Runtime};
use cni_spec::{Env, NetworkList};
use cnikit_tests::disk::{Cut, Disk};
use cnikit_tests::{Implementation, Node, cases, isolated, ours, runner};
use serde_json::json;

use crate::history::{leases, reboot};

/// The words with which this executable is a runtime.
const RUNTIME: &str = "cache::a_runtime --exact --ignored --nocapture --test-threads=1";

/// What a runtime does in turn, and who is attached when it has done it.
const DEEDS: &[(&str, &[&str])] = &[
    ("add one", &["one"]),
    ("add two", &["one", "two"]),
    ("del one", &["two"]),
    ("add three", &["two", "three"]),
    ("gc three", &["three"]),
];

/// A runtime with its cache in a directory, whose plugin has its leases there.
fn runtime(directory: &Path, plugins: &str, plugin: &str) -> (Runtime, NetworkList) {
    let list = json!({
        "cniVersion": "1.1.0", "name": "blue",
        "plugins": [{"type": plugin, "isGateway": true, "ipMasq": true, "ipam": {
            "type": "host-local", "dataDir": directory.join("networks"), "subnet": "10.1.0.0/29",
        }}],
    });
    let runtime = Runtime::new(Env::from_process());
    let runtime = runtime.with_plugin_dirs([plugins]).with_cache_dir(directory.join("cache"));
    (runtime, NetworkList::from_json(list.to_string().as_bytes()).unwrap())
}

fn attachment(pod: &str) -> Attachment {
    Attachment::new(pod.parse().unwrap(), "eth0".parse().unwrap()).with_netns(format!("/run/netns/{pod}"))
}

/// Not a test, but what the tests below watch: a process of a runtime.
#[test]
#[ignore = "is run, in a process of its own, by the others"]
fn a_runtime() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let directory = PathBuf::from(variable("CUT_DIRECTORY"));
    let (runtime, list) = runtime(&directory, &variable("CUT_PLUGINS"), &variable("CUT_PLUGIN"));
    match variable("CUT_DEED").split_once(' ').unwrap() {
        ("add", pod) => drop(runtime.add(&list, &attachment(pod)).unwrap()),
        ("del", pod) => runtime.del(&list, &attachment(pod)).unwrap(),
        ("gc", pod) => runtime.gc(&list, &[attachment(pod).id()]).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the deeds wrote.
fn written(node: &Node, plugins: &Implementation, plugin: &str) -> Disk {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::of(directory.path());
    for (deed, _) in DEEDS {
        let (at, plugins) = (directory.path().display(), plugins.directory());
        let this = std::env::current_exe().unwrap();
        let environment =
            format!("CUT_DIRECTORY={at} CUT_PLUGINS={plugins} CUT_PLUGIN={plugin} 'CUT_DEED={deed}'");
        disk.shell(node, &format!("env {environment} {} {RUNTIME}", this.display()));
    }
    disk
}

/// Who is attached for sure when so many deeds are done, and perhaps the next is half done.
fn attached(answered: usize) -> Vec<&'static str> {
    let after = |count: usize| count.checked_sub(1).map_or(&[][..], |last| DEEDS[last].1);
    let next = if answered == DEEDS.len() { after(answered) } else { after(answered + 1) };
    after(answered).iter().copied().filter(|pod| next.contains(pod)).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("cache/results")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Everybody who was told that he is attached is in the cache, as a whole; after the reboot GC ends all of them, and what
/// says nothing of whose it is goes with its DEL.
fn is_whole(plugins: &str, plugin: &str, cut: &Cut, at: &Path) {
    cut.tree.write(at);
    let (runtime, list) = runtime(at, plugins, plugin);
    let cached = runtime.attachments().unwrap_or_else(|error| panic!("{error}\n{cut}")).attachments;
    for pod in attached(cut.answered) {
        let found = cached.iter().find(|cached| cached.attachment == attachment(pod));
        let found = found.unwrap_or_else(|| panic!("{pod} is forgotten: {:?}\n{cut}", files(at)));
        assert!(found.progress == Progress::Complete && found.result.is_some(), "{pod}\n{cut}");
    }
    reboot(at, "earlier");
    runtime.status(&list).unwrap_or_else(|error| panic!("{error}\n{cut}"));
    runtime.gc(&list, &[]).unwrap_or_else(|error| panic!("{error}\n{cut}"));
    let left = runtime.attachments().unwrap().attachments;
    assert!(left.is_empty() && leases(at).is_empty(), "{left:?}, {:?}\n{cut}", leases(at));
    for pod in ["one", "two", "three"] {
        runtime.del(&list, &attachment(pod)).unwrap_or_else(|error| panic!("DEL of {pod}: {error}\n{cut}"));
        runtime.add(&list, &attachment(pod)).unwrap_or_else(|error| panic!("ADD of {pod}: {error}\n{cut}"));
        runtime.del(&list, &attachment(pod)).unwrap_or_else(|error| panic!("DEL of {pod}: {error}\n{cut}"));
    }
    assert_eq!(files(at), [".blue.lock"], "{cut}");
    assert!(leases(at).is_empty(), "{:?}\n{cut}", leases(at));
}

/// Tries every n-th disk that a history of a plugin may leave, each after a reboot.
fn every_cut(plugin: &str, step: usize, mut check: impl FnMut(&Node, &Cut)) {
    let plugins = ours!();
    let node = |plugins| {
        let node = Node::new(plugins);
        if plugin != "host-local" {
            for pod in ["one", "two", "three"] {
                node.pod(pod);
            }
        }
        node
    };
    let cuts = written(&node(&plugins), &plugins, plugin).cuts(cases(2) as usize, &mut runner(2));
    let rebooted = node(&plugins);
    let states = tempfile::tempdir_in("/dev/shm").unwrap();
    eprintln!("{} disks", cuts.len().div_ceil(step));
    for (number, cut) in cuts.iter().enumerate().step_by(step) {
        let state = states.path().join(number.to_string());
        rebooted.inside(|| is_whole(plugins.directory(), plugin, cut, &state));
        std::fs::remove_dir_all(state).unwrap();
        check(&rebooted, cut);
    }
}

#[test]
fn whoever_was_told_that_he_is_attached_is_remembered() {
    isolated(|| every_cut("host-local", 1, |_, _| ()));
}

/// Whatever the disk says of them, ends of pods that went with the power take nothing from others, and leave nothing.
#[test]
fn whoever_was_attached_to_a_bridge_is_remembered_and_leaves_nothing() {
    isolated(|| {
        every_cut("bridge", 8, |node, cut| {
            let left = node.shell("ip -brief link show type veth; nft list ruleset | grep comment || true");
            assert_eq!(left, "", "{cut}");
        });
    });
}
