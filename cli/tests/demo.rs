//! `cnikit demo`, from outside: what it prints, and that it leaves nothing.
//!
//! It makes its own namespaces, so these tests need what it needs: root, or the right to make user namespaces. As
//! root, both are tried.

#![cfg(test)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netops::{LinuxKernel, Namespace, Place, read_links};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const NOBODY: u32 = 65534;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// Whoever runs the tests.
    Same,
    Nobody,
}

/// Where nobody may execute the program, and find an empty directory for temporary files.
struct Lab {
    dir: TempDir,
    program: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        let program = dir.path().join("cnikit");
        std::fs::copy(env!("CARGO_BIN_EXE_cnikit"), &program).unwrap();
        wait_until_nobody_writes(&program);
        let tmp = dir.path().join("tmp");
        std::fs::create_dir(&tmp).unwrap();
        open_to_all(&tmp);
        Self { dir, program }
    }

    fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    fn demo(&self, user: User, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", self.tmp())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        if user == User::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs the demo, and looks whether anything is left.
    fn run(&self, user: User, arguments: &[&str]) -> Output {
        let before = interfaces_of_this_host();
        let output = self.demo(user, arguments).output().unwrap();
        assert_eq!(interfaces_of_this_host(), before);
        assert_eq!(std::fs::read_dir(self.tmp()).unwrap().count(), 0, "files are left");
        output
    }

    fn json(&self, user: User, arguments: &[&str]) -> Value {
        let output = self.run(user, &[arguments, &["--json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{:?}: {errors}{said}", output.status);
        assert!(errors.is_empty(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A program that another thread forks while we copy has our descriptor until it executes: "text file busy".
fn wait_until_nobody_writes(program: &Path) {
    while let Err(error) = Command::new(program).arg("--version").output() {
        assert_eq!(error.kind(), std::io::ErrorKind::ExecutableFileBusy, "{error}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn interfaces_of_this_host() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/sys/class/net").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn users() -> Vec<User> {
    if is_root() {
        vec![User::Same, User::Nobody]
    } else {
        eprintln!("not root: the demo is tried in a user namespace only");
        vec![User::Same]
    }
}

#[test]
fn pods_of_one_node_talk_and_nothing_is_left_whoever_runs_it() {
    let lab = Lab::new();
    for user in users() {
        let report = lab.json(user, &["--nodes", "1"]);
        let rights = if user == User::Same && is_root() { "root" } else { "user-namespace" };
        assert_eq!(report["world"]["rights"], rights);
        assert_eq!(report["attached"].as_array().unwrap().len(), 3);
        let talks = report["talks"].as_array().unwrap();
        let families = report["attached"][0]["addresses"].as_array().unwrap().len();
        assert_eq!(talks.len(), 9 * families, "each pod, to a pod, to the gateway, to the outside");
        for talk in talks {
            assert!(talk["thenUs"].is_u64(), "{talk}");
            if talk["to"] == "outside" {
                let seen = talk["seenAs"].as_str().unwrap();
                assert!(["192.0.2.2", "2001:db8::2"].contains(&seen), "{talk}");
            }
        }
        assert_eq!(report["checked"].as_array().unwrap().len(), 3);
        assert_eq!(report["deleted"].as_array().unwrap().len(), 3);
        for (what, left) in report["left"].as_object().unwrap() {
            assert_eq!(left, &Value::Array(Vec::new()), "{what}");
        }
    }
}

#[test]
fn json_has_every_call_of_a_plugin() {
    let report = Lab::new().json(User::Same, &["--nodes", "1", "--pods", "1"]);
    let calls = report["calls"].as_array().unwrap();
    let name = |call: &Value| format!("{} {}", call["env"]["CNI_COMMAND"], call["plugin"]).replace('"', "");
    let names: Vec<_> = calls.iter().map(name).collect();
    let expected =
        ["ADD bridge", "ADD loopback", "CHECK bridge", "CHECK loopback", "DEL loopback", "DEL bridge"];
    assert_eq!(names, expected);
    assert_eq!(calls[0]["stdin"]["name"], "default");
    assert_eq!(calls[0]["stdout"]["ips"][0]["address"], report["attached"][0]["addresses"][0]);
    assert_eq!(calls[1]["stdin"]["prevResult"], calls[0]["stdout"]);
    // One pod has nobody to talk to but the node and the outside.
    assert!(report["talks"].as_array().unwrap().iter().all(|talk| talk["from"] == "pod-1"));
}

#[test]
fn the_story_of_one_node_is_told_in_five_chapters_and_has_no_colours_in_a_pipe() {
    let output = Lab::new().run(User::Same, &["--nodes", "1", "--pods", "2"]);
    assert!(output.status.success());
    let story = String::from_utf8(output.stdout).unwrap();
    let chapters = ["1. A node", "2. ADD", "3. Do they talk?", "4. CHECK", "5. DEL", "Everything worked"];
    let mut rest = story.as_str();
    for chapter in chapters {
        rest = rest.split_once(chapter).unwrap_or_else(|| panic!("no {chapter:?} in\n{story}")).1;
    }
    assert!(story.contains("┤eth0├") && story.contains("CNI_COMMAND=ADD CNI_CONTAINERID=pod-1"), "{story}");
    assert!(!story.contains('\x1b'), "{story}");
    let widest = story.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.contains("CNI_COMMAND") || widest.chars().count() <= 80, "{widest}");
}

#[test]
fn with_ascii_there_is_nothing_else() {
    let lab = Lab::new();
    let asked = lab.run(User::Same, &["--ascii", "--nodes", "1"]);
    let by_locale = lab.demo(User::Same, &["--nodes", "1"]).env("LC_ALL", "POSIX").output().unwrap();
    let of_several = lab.run(User::Same, &["--ascii", "--nodes", "2", "--pods", "1"]);
    for output in [asked, by_locale, of_several] {
        assert!(output.status.success());
        assert!(output.stdout.is_ascii(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn kept_pods_can_be_entered_until_the_demo_is_interrupted() {
    let lab = Lab::new();
    for (user, nodes, last) in
        users().into_iter().flat_map(|user| [(user, "1", "# outside"), (user, "2", "# pod-2b")])
    {
        let mut demo = lab
            .demo(user, &["--keep", "--nodes", nodes])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = read_until(&mut demo.stdout, last);
        // Waiting for it would close this, and an end of input is an Enter.
        let _terminal = demo.stdin.take();
        let pod = if nodes == "1" { "# pod-2" } else { "# pod-2a" };
        let pod = told.lines().find(|line| line.ends_with(pod)).unwrap();
        let path = pod.split_once("--net=").unwrap().1.split(' ').next().unwrap();
        // An ordinary user would have to enter the user namespace first, as the line says.
        if is_root() {
            let mut kernel = LinuxKernel::new(Some(Namespace::open(path).unwrap()));
            let links = read_links(&mut kernel, Place::Container).unwrap();
            assert!(links.iter().any(|link| link.name.as_str() == "eth0" && link.up), "{links:?}");
        }
        let children = children_of(demo.id());
        assert_eq!(children.len(), if nodes == "1" { 0 } else { 2 });
        kill(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(demo.wait().unwrap().signal(), Some(2), "it ends by the signal");
        assert_eq!(std::fs::read_dir(lab.tmp()).unwrap().count(), 0, "files are left");
        assert!(Namespace::open(path).is_err(), "{path} is still there");
        wait_until_gone(&children);
    }
}

#[test]
fn agents_end_with_a_demo_that_is_killed() {
    let lab = Lab::new();
    for user in users() {
        let mut demo =
            lab.demo(user, &["--keep"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        read_until(&mut demo.stdout, "# pod-3b");
        let children = children_of(demo.id());
        assert_eq!(children.len(), 3, "an agent on each node");
        demo.kill().unwrap();
        demo.wait().unwrap();
        wait_until_gone(&children);
        assert_eq!(std::fs::read_dir(lab.tmp()).unwrap().count(), 0, "files are left");
    }
}

#[test]
fn enter_ends_what_was_kept() {
    let lab = Lab::new();
    let mut demo = lab
        .demo(User::Same, &["--keep", "--nodes", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    read_until(&mut demo.stdout, "# outside");
    demo.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(demo.wait().unwrap().success());
}

#[test]
fn three_nodes_become_one_network_whoever_runs_it() {
    let lab = Lab::new();
    for user in users() {
        let report = lab.json(user, &[]);
        let pings = report["pings"].as_array().unwrap();
        assert_eq!(pings.len(), 30, "each of six pods asks each other");
        assert_answered(pings);
        let addresses: Vec<_> =
            report["joined"].as_array().unwrap().iter().map(|node| &node["address"]).collect();
        assert_eq!(addresses, ["192.168.1.11", "192.168.1.12", "192.168.1.13"]);
        assert_answered(report["cut"]["meanwhile"].as_array().unwrap());
        assert!(report["cut"]["newPodUs"].is_u64(), "{}", report["cut"]);
        assert!(report["cut"]["seen"].as_array().unwrap().iter().all(|seen| seen["liveness"] != "alive"));
        assert_answered(report["withoutAgents"].as_array().unwrap());
        assert_eq!(report["deleted"]["left"], serde_json::json!([]));
        assert_eq!(report["topology"].as_array().unwrap().len(), 3, "what each agent knows");
        for node in report["topology"][0]["nodes"].as_array().unwrap() {
            assert_eq!(node["incarnation"], 1, "each agent was started once: {node}");
        }
        // Pings are not wrapped, and what found that out was.
        assert_eq!(kinds(&report["capture"]), ["Ethernet", "IP", "ICMP"]);
        assert_eq!(kinds(&report["probe"]), ["Ethernet", "IP", "UDP", "VXLAN", "Ethernet", "IP", "UDP"]);
        assert_eq!(report["probe"]["from"], "n1", "{}", report["probe"]);
    }
}

/// The headers of what was caught, from the outside in.
fn kinds(capture: &Value) -> Vec<&str> {
    capture["layers"].as_array().unwrap().iter().map(|layer| layer["is"].as_str().unwrap()).collect()
}

#[test]
fn what_is_on_the_wire_follows_from_the_mode() {
    let lab = Lab::new();
    for (mode, wrapped, way) in
        [("vxlan", true, "vxlan"), ("route", false, "route"), ("router", false, "router")]
    {
        let report = lab.json(User::Same, &["--mode", mode, "--nodes", "2", "--pods", "1"]);
        assert_answered(report["pings"].as_array().unwrap());
        let kinds = kinds(&report["capture"]);
        let plain = ["Ethernet", "IP", "ICMP"];
        let tunnel = ["Ethernet", "IP", "UDP", "VXLAN", "Ethernet", "IP", "ICMP"];
        // A router may be reached through a tunnel until it is known that it need not be.
        assert!(report["probe"].is_null() || mode == "router", "{mode}: {}", report["probe"]);
        assert_eq!(kinds, if wrapped { &tunnel[..] } else { &plain[..] }, "{mode}");
        let path = &report["joined"][0]["ways"][0]["path"];
        assert_eq!(path["way"]["kind"], way, "{path}");
        // RFC 7348: what is around a packet takes 50 bytes.
        assert_eq!(path["mtu"], if wrapped { 1450 } else { 1500 }, "{path}");
    }
}

#[test]
fn the_story_of_several_nodes_is_told_in_seven_chapters_and_has_a_picture() {
    let lab = Lab::new();
    let file = lab.dir.path().join("network.svg");
    let output = lab.run(User::Same, &["--nodes", "2", "--svg", file.to_str().unwrap()]);
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{story}\n{}", String::from_utf8_lossy(&output.stderr));
    let chapters = [
        "1. Nodes on a segment",
        "2. ADD",
        "3. Does everybody",
        "4. On the wire",
        "VXLAN     network 4096",
        "5. n2 is cut off",
        "6. Every agent",
        "7. DEL",
        "Everything worked",
    ];
    let mut rest = story.as_str();
    for chapter in chapters {
        rest = rest.split_once(chapter).unwrap_or_else(|| panic!("no {chapter:?} in\n{story}")).1;
    }
    let widest = story.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80 && !story.contains('\x1b'), "{widest}");
    let picture = std::fs::read_to_string(file).unwrap();
    assert!(picture.contains("demo/pod-1a") && picture.contains("class=\"link route\""), "{picture}");
}

/// Every ping was answered, and the one who was asked saw the pod's own address.
fn assert_answered(pings: &[Value]) {
    assert!(!pings.is_empty());
    for ping in pings {
        assert!(ping["thenUs"].is_u64(), "{ping}");
        assert_eq!(ping["seenAs"], ping["source"], "{ping}");
    }
}

fn children_of(process: u32) -> Vec<u32> {
    let file = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(file).unwrap();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// Processes end a moment after their parent.
fn wait_until_gone(processes: &[u32]) {
    for process in processes {
        let path = format!("/proc/{process}/exe");
        let start = std::time::Instant::now();
        // Of one that waits to be reaped there is no program any more.
        while std::fs::read_link(&path).is_ok() {
            assert!(start.elapsed().as_secs() < 20, "process {process} is still there");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Lines up to one that ends in `end`. What is read is lost for others; the pipe stays open.
fn read_until(stdout: &mut Option<std::process::ChildStdout>, end: &str) -> String {
    let mut text = String::new();
    let mut reader = BufReader::new(stdout.as_mut().unwrap());
    while !text.trim_end().ends_with(end) {
        assert!(reader.read_line(&mut text).unwrap() > 0, "no {end:?} in\n{text}");
    }
    text
}
