//! `install`, with the real executable, while it is being executed.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::node::CNIKIT;

const PLUGINS: &str = env!("CARGO_BIN_EXE_cnikit-plugins");

fn install(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(CNIKIT).arg("install").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What a plugin answers to VERSION.
fn version(plugin: &std::path::Path) -> String {
    let mut child = Command::new(plugin)
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", plugin.display()));
    let output = child.stdout.take().map(|mut out| std::io::read_to_string(&mut out).unwrap());
    assert!(child.wait().unwrap().success());
    output.unwrap()
}

#[test]
fn every_plugin_works_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("opt/cni/bin");
    let (status, stdout, stderr) = install(&["--bin-dir", bin.to_str().unwrap(), "--from", PLUGINS]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    for plugin in [
        "bandwidth",
        "bridge",
        "dummy",
        "host-device",
        "host-local",
        "ipvlan",
        "loopback",
        "macvlan",
        "ptp",
        "static",
        "tap",
        "vlan",
    ] {
        assert!(stdout.contains(&format!("installed  {}", bin.join(plugin).display())), "{stdout}");
        assert!(version(&bin.join(plugin)).contains("supportedVersions"), "{plugin}");
    }
    let (_, stdout, _) = install(&["--bin-dir", bin.to_str().unwrap(), "--json", "--from", PLUGINS]);
    let steps: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    assert!(steps.iter().all(|step| step["action"] == "unchanged"), "{stdout}");
}

#[test]
fn without_words_the_executable_beside_cnikit_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    let (status, _, stderr) = install(&["--bin-dir", dir.path().to_str().unwrap(), "--plugin", "ptp"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn nothing_but_the_plugins_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in [CNIKIT, "/bin/sh"] {
        let (status, _, stderr) = install(&["--bin-dir", dir.path().to_str().unwrap(), "--from", wrong]);
        assert_eq!(status, 2, "{stderr}");
        assert!(stderr.contains("is not cnikit-plugins"), "{stderr}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn plugins_of_others_are_refused_or_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, bridge) = (dir.path().to_str().unwrap(), dir.path().join("bridge"));
    fs::write(&bridge, "another's").unwrap();
    let (status, stdout, stderr) = install(&["--bin-dir", bin, "--from", PLUGINS]);
    assert_eq!((status, stdout.as_str()), (10, ""));
    assert!(stderr.contains("not cnikit's: bridge") && stderr.contains("--replace"), "{stderr}");
    let (status, stdout, _) = install(&["--bin-dir", bin, "--from", PLUGINS, "--replace"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("bridge, kept as bridge.before-cnikit"), "{stdout}");
    assert!(stdout.contains("--restore"), "{stdout}");
    assert!(version(&bridge).contains("supportedVersions"));

    let (status, stdout, _) = install(&["--bin-dir", bin, "--restore"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("bridge, which was bridge.before-cnikit"), "{stdout}");
    assert!(stdout.contains("ptp, which nobody had before"), "{stdout}");
    assert_eq!(fs::read_to_string(&bridge).unwrap(), "another's");
}

#[test]
fn a_node_at_work_never_misses_a_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    // Another build, as far as bytes can tell.
    let other = dir.path().join("other");
    let mut content = fs::read(PLUGINS).unwrap();
    content.push(0);
    fs::copy(PLUGINS, &other).unwrap();
    fs::write(&other, content).unwrap();
    let bin_text = bin.to_str().unwrap();
    assert_eq!(install(&["--bin-dir", bin_text, "--from", PLUGINS]).0, 0);

    let done = AtomicBool::new(false);
    let calls = thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(version(&bin.join("bridge")).contains("supportedVersions"));
                calls += 1;
            }
            calls
        });
        for round in 0..6 {
            let from = if round % 2 == 0 { other.to_str().unwrap() } else { PLUGINS };
            let (status, stdout, stderr) = install(&["--bin-dir", bin_text, "--from", from]);
            assert_eq!((status, stderr.as_str()), (0, ""));
            assert!(stdout.contains("updated    "), "{stdout}");
        }
        done.store(true, Ordering::Relaxed);
        caller.join().unwrap()
    });
    assert!(calls > 3, "{calls}");
}
