//! The leases of `dhcp`'s daemon.

use std::fs;
use std::path::Path;

use cnikit_tests::disk::{Cut, Disk};
use cnikit_tests::lan::{LONG_RANGE, Lan, with_server};
use cnikit_tests::{Pod, cases, ours, runner};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// What the daemon is asked for in turn; but first, how it is.
const DEEDS: &[(&str, &str)] = &[("ADD", "one"), ("ADD", "two"), ("DEL", "one"), ("ADD", "three")];
const PODS: [&str; 4] = ["one", "two", "three", "next"];

/// Where the daemon keeps its leases: it makes both directories.
const STATE: &str = "state/dhcp";

/// From now on a node is in a boot of this number.
fn boot(lan: &Lan, number: usize) {
    lan.node.shell(&format!(
        "echo 00000000-0000-4000-8000-{number:012} > /run/boot
         mountpoint -q /proc/sys/kernel/random/boot_id || mount --bind /run/boot /proc/sys/kernel/random/boot_id"
    ));
}

/// A node beside a server.
fn lan(number: usize) -> (Lan, Vec<Pod>) {
    let mut lan = Lan::new(&ours!());
    lan.start_server(&[LONG_RANGE]);
    boot(&lan, number);
    let pods = PODS.iter().map(|pod| lan.node.pod(pod)).collect();
    (lan, pods)
}

/// What the daemon wrote.
fn written() -> Disk {
    let (mut lan, pods) = lan(1);
    let directory = tempfile::tempdir().unwrap();
    lan.state = directory.path().join(STATE);
    let node = lan.node.clone();
    let mut disk = Disk::of(directory.path());
    disk.daemon(&node, |wrapper| {
        lan.start_daemon_through(wrapper);
        for (command, pod) in DEEDS {
            let pod = pods.iter().find(|known| known.name() == *pod).unwrap();
            let outcome = lan.call(command, pod, &lan.config(&json!({}))).run();
            assert!(outcome.status.success(), "{outcome}\n{}", lan.daemon_log());
        }
        lan.stop("daemon", Signal::SIGTERM);
    });
    disk
}

/// Who has an address for sure when so many answers were given, and perhaps the next is half done.
fn attached(answered: usize) -> Vec<&'static str> {
    let mut attached = Vec::new();
    for (number, (command, pod)) in DEEDS.iter().enumerate().take(answered) {
        match *command {
            "ADD" if number + 1 < answered => attached.push(*pod),
            "ADD" => {}
            _ => attached.retain(|known| known != pod),
        }
    }
    attached
}

/// Whose records are whole.
fn recorded(state: &Path) -> Vec<String> {
    let entries = fs::read_dir(state).into_iter().flatten().map(|entry| entry.unwrap().path());
    let records = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let document = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).ok();
    let held = |document: &Value| !document["record"]["leases"][0]["held"].is_null();
    let container = |document: Value| document["record"]["key"]["container"].as_str().unwrap().to_owned();
    records.filter_map(document).filter(held).map(container).collect()
}

/// Everybody who was told of an address is on the disk, as a whole. In the next boot the daemon starts, and gives addresses; what
/// the last one left is in nobody's way, and soon nowhere.
fn is_whole(lan: &mut Lan, pods: &[Pod], cut: &Cut, at: &Path) {
    cut.tree.write(at);
    lan.state = at.join(STATE);
    let recorded = recorded(&lan.state);
    for pod in attached(cut.answered) {
        assert!(recorded.iter().any(|known| known == pod), "{pod} is forgotten: {recorded:?}\n{cut}");
    }
    lan.start_daemon();
    let next = pods.last().unwrap();
    let config = lan.config(&json!({}));
    let outcome = lan.call("ADD", next, &config).run();
    assert!(outcome.status.success(), "{outcome}\n{cut}");
    for pod in pods {
        lan.del(pod, &config);
    }
    lan.stop("daemon", Signal::SIGTERM);
    let names = fs::read_dir(&lan.state).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["lock"], "{}\n{cut}", lan.daemon_log());
}

#[test]
fn whoever_was_told_of_an_address_is_on_the_disk_and_the_next_boot_does_without() {
    with_server(|| {
        let cuts = written().cuts(cases(6) as usize, &mut runner(4));
        eprintln!("{} disks", cuts.len());
        assert_eq!(cuts.last().unwrap().answered, DEEDS.len() + 1);
        let states = tempfile::tempdir_in("/dev/shm").unwrap();
        let (mut lan, pods) = lan(2);
        for (number, cut) in cuts.iter().enumerate() {
            let state = states.path().join(number.to_string());
            is_whole(&mut lan, &pods, cut, &state);
            fs::remove_dir_all(state).unwrap();
        }
    });
}
