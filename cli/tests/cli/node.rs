//! A node for a test of its own, and what `cnikit` says on it.
//!
//! Tests need the right to make namespaces. As an ordinary user each test is repeated inside a user namespace
//! (`unshare(1)`). Where that is refused too it fails, unless `CNIKIT_SKIP_KERNEL_TESTS` is set; and so does one that
//! misses a program to look at the kernel with, unless `CNIKIT_WITHOUT_REFERENCE` is set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// `cnikit`, as it was built for these tests.
pub(crate) const CNIKIT: &str = env!("CARGO_BIN_EXE_cnikit");

/// The thread's own namespaces: `/run` and `/var/lib` are empty, `lo` is up, two containers are there.
pub(crate) struct Node {
    work: tempfile::TempDir,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a test on a node of its own, on a thread of its own.
#[macro_export]
macro_rules! on_a_node {
    ($test:expr) => {{
        fn here() {}
        $crate::node::run(std::any::type_name_of_val(&here), $test)
    }};
}

pub(crate) fn run(name: &str, test: impl FnOnce(&Node) + Send) {
    if std::env::var_os("CNIKIT_SKIP_KERNEL_TESTS").is_some() {
        eprintln!("DID NOT RUN: CNIKIT_SKIP_KERNEL_TESTS is set");
        return;
    }
    if !["ip", "nft", "sysctl"].into_iter().all(there_is) {
        return;
    }
    let outcome = thread::scope(|scope| {
        let thread = scope.spawn(|| match unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
            Ok(()) => Some(catch_unwind(AssertUnwindSafe(|| test(&Node::new())))),
            Err(Errno::EPERM) => None,
            Err(errno) => panic!("cannot make namespaces: {errno}"),
        });
        thread.join()
    });
    match outcome {
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(panic))) | Err(panic) => resume_unwind(panic),
        Ok(None) => repeat_in_user_namespace(name),
    }
}

fn repeat_in_user_namespace(name: &str) {
    assert!(std::env::var_os("CNIKIT_IN_USER_NAMESPACE").is_none(), "no namespaces in a user namespace");
    // cli::list::some_test::here
    let test = name.split("::").skip(1).collect::<Vec<_>>().join("::");
    let test = test.trim_end_matches("::here").trim_end_matches("::{{closure}}");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("CNIKIT_IN_USER_NAMESPACE", "1")
        .output()
        .expect("not root, and no unshare(1): set CNIKIT_SKIP_KERNEL_TESTS to do without these tests");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a user namespace ({}):\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Node {
    fn new() -> Self {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        for directory in ["/run", "/var/lib"] {
            mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        }
        let node = Self { work: tempfile::tempdir().unwrap() };
        for directory in ["conf", "bin"] {
            fs::create_dir(node.path(directory)).unwrap();
        }
        node.sh("ip link set lo up; ip netns add blue; ip netns add red");
        node
    }

    /// Something on a second node, on a thread of its own.
    pub(crate) fn another<T: Send>(&self, then: impl FnOnce(&Self) -> T + Send) -> T {
        let new = || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            then(&Self::new())
        };
        thread::scope(|scope| scope.spawn(new).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// A place below the test's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// What `cnikit` says to some words. Its configurations and foreign plugins are the test's own.
    pub(crate) fn cnikit(&self, words: &str) -> Said {
        self.cnikit_with(words, &[])
    }

    /// The same with more environment.
    pub(crate) fn cnikit_with(&self, words: &str, env: &[(&str, &str)]) -> Said {
        let mut command = Command::new(CNIKIT);
        command
            .args(words.split_whitespace())
            .env_remove("CNI_ARGS")
            .env_remove("CAP_ARGS")
            .env_remove("CNI_IFNAME")
            .env("NETCONFPATH", self.path("conf"))
            .env("CNI_PATH", self.path("bin"))
            .env("COLUMNS", "100")
            .envs(env.iter().copied())
            .stdin(Stdio::null());
        Said::by(&mut command)
    }

    /// What a shell says; it must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let said = Said::by(Command::new("sh").args(["-ec", script]));
        assert_eq!(said.status, 0, "{script}: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// Writes a configuration list of these plugins.
    pub(crate) fn configure(&self, name: &str, plugins: &str) {
        let list = format!(r#"{{"cniVersion":"1.1.0","name":"{name}","plugins":{plugins}}}"#);
        fs::write(self.path("conf").join(format!("{name}.conflist")), list).unwrap();
    }

    /// A plugin that writes down its calls in `calls` and then does what the script says.
    pub(crate) fn foreign_plugin(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        let calls = self.path("calls");
        let text = format!("#!/bin/sh\necho \"$CNI_COMMAND {name}\" >> {}\n{script}\n", calls.display());
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The calls of foreign plugins so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// What there is that a network leaves: links, leases, results, nf_tables elements.
    pub(crate) fn remains(&self) -> Vec<String> {
        let links = self.sh("ip -o link | grep -o 'veth[^:@]*' || true");
        let leases = self.sh("cd /var/lib/cni/networks 2>/dev/null && ls */[0-9a-f]*[.:]* || true");
        let results = self.sh("cd /var/lib/cni/results 2>/dev/null && ls || true");
        let elements = self.sh("nft list ruleset | grep comment || true");
        [links, leases, results, elements].join("").lines().map(str::to_owned).collect()
    }
}

impl Said {
    fn by(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Its stdout; it must have succeeded without a word of complaint.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// Its stdout as JSON; it must have succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Its stderr; it must have failed so, and have said nothing on stdout.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{}", self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }

    /// It must have been refused as a wrong command line.
    #[track_caller]
    pub(crate) fn fails_as_usage(self) {
        assert_eq!((self.status, self.stdout.as_str()), (2, ""), "{}", self.stderr);
    }
}

/// Whether a program is there, by name or path. Its absence is a failure, unless somebody has said that it is known.
pub(crate) fn there_is(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|directory| directory.join(Path::new(program)).exists());
    let known = std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some();
    assert!(there || known, "{program} is not installed: ./test does that, or set CNIKIT_WITHOUT_REFERENCE");
    if !there {
        eprintln!("DID NOT RUN: {program} is not installed");
    }
    there
}
