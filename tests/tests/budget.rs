//! What an ordinary attachment asks of the kernel, to the last system call: who adds one is to know it, and to say here why.
//!
//! Counted is what a plugin does from reading its configuration on, but for what depends on the allocator, and for how often
//! it looks whether a link that is being removed is gone. What it has of the machine's memory is known as well. (How large the
//! executable is that is built for release, `.ci/run` knows.)

use std::collections::BTreeMap;

use cnikit_tests::{Call, Node, isolated, memory, ours, system_calls};
use serde_json::{Value, json};

/// Memory, signals and locks; looking for the end of a link; what only an executable for debugging does (`fcntl`).
const NOT_COUNTED: &[&str] = &[
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "futex",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "rseq",
    "set_robust_list",
    "sched_yield",
    "sched_getaffinity",
    "gettid",
    "ppoll",
    "ioctl",
    "exit",
    "exit_group",
    "fcntl",
];

fn config(previous: Option<&Value>) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "bridge", "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]},
    });
    if let Some(previous) = previous {
        config["prevResult"] = previous.clone();
    }
    config
}

/// The system calls that a call makes, by name.
fn census(call: &Call<'_>, node: &Node) -> (Option<Value>, BTreeMap<String, usize>) {
    let (outcome, made) = system_calls(call, node);
    let mut counts = BTreeMap::new();
    for one in made.into_iter().skip_while(|one| !one.reads_configuration()) {
        if !NOT_COUNTED.contains(&one.name.as_str()) {
            *counts.entry(one.name).or_default() += 1;
        }
    }
    (serde_json::from_str(&outcome.stdout).ok(), counts)
}

fn assert_counts(what: &str, counts: &BTreeMap<String, usize>, expected: &[(&str, usize)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(
        counts, &expected,
        "the system calls of {what}: if this is meant to be, say so in this test, and why"
    );
}

#[test]
fn an_ordinary_attachment_makes_the_system_calls_that_are_known() {
    isolated(|| {
        let plugins = ours!();
        let node = Node::new(&plugins);
        let call = |command, pod, previous: Option<&Value>| {
            node.call(&plugins, command, "bridge", &config(previous)).on(pod).container("c1")
        };
        // The bridge and the directory of leases are there.
        let first = node.pod("first");
        node.call(&plugins, "ADD", "bridge", &config(None)).on(&first).container("c0").run().result();
        let pod = node.pod("second");
        let (result, add) = census(&call("ADD", &pod, None), &node);
        assert_counts("ADD", &add, ADD);
        let (_, del) = census(&call("DEL", &pod, result.as_ref()), &node);
        assert_counts("DEL", &del, DEL);
    });
}

#[test]
fn an_ordinary_attachment_has_the_memory_of_its_own_that_is_known() {
    isolated(|| {
        let plugins = ours!();
        let node = Node::new(&plugins);
        let pod = node.pod("pod");
        for command in ["ADD", "DEL"] {
            let call = node.call(&plugins, command, "bridge", &config(None)).on(&pod);
            let own = memory(&call).own;
            assert!(
                own < OWN_MEMORY,
                "{command}: {own:.2} MiB: if this is meant to be, say so in this test, and why"
            );
        }
    });
}

/// Of a name that is no interface's, the kernel executes `modprobe` for whoever asks by `ioctl(2)`, and waits for it: there might be a
/// module that makes one of that name. (That takes a kernel with modules, which is not to be seen here.)
#[test]
fn nobody_asks_in_a_way_that_has_the_kernel_look_for_a_module() {
    isolated(|| {
        let plugins = ours!();
        let node = Node::new(&plugins);
        let pod = node.pod("one");
        let call = |command, previous: Option<&Value>| {
            node.call(&plugins, command, "bridge", &config(previous)).on(&pod).container("c1")
        };
        let mut asked = 0;
        let mut run = |command, previous: Option<&Value>| {
            let (outcome, made) = system_calls(&call(command, previous), &node);
            let about_interfaces = made.iter().filter(|one| one.name == "ioctl" && one.rest.contains("ifr_"));
            for one in about_interfaces {
                asked += 1;
                // By index, nothing is looked for.
                let by_name = !one.rest.contains("SIOCGIFNAME");
                assert!(!(by_name && one.rest.contains("ENODEV")), "{command}: {one:?}");
            }
            serde_json::from_str::<Value>(&outcome.stdout).ok()
        };
        let first = run("DEL", None);
        assert_eq!(first, None);
        let result = run("ADD", None);
        run("CHECK", result.as_ref());
        run("DEL", result.as_ref());
        run("DEL", result.as_ref());
        run("DEL", None);
        assert!(asked > 0, "strace shows no such calls as these: what is looked for here?");
    });
}

/// In MiB: heap, stack, and what was written to of the executable's data.
const OWN_MEMORY: f64 = 0.5;

/// Of a pod on a bridge that is there, with a lease in a directory that is there.
const ADD: &[(&str, usize)] = &[
    ("close", 11),
    ("flock", 2),
    ("fstatfs", 1),
    ("getpid", 1),
    ("getrandom", 1),
    ("linkat", 1),
    ("openat", 8),
    ("pread64", 1),
    ("pwrite64", 1),
    ("read", 4),
    ("recvfrom", 9),
    ("sendto", 7),
    ("setns", 2),
    ("setsockopt", 6),
    ("socket", 2),
    ("statx", 2),
    ("write", 2),
];

/// With its result. The process between and the orphan, which does the waiting, are in it.
const DEL: &[(&str, usize)] = &[
    ("clone", 2),
    ("close", 11),
    ("close_range", 3),
    ("flock", 1),
    ("getpid", 2),
    ("getrandom", 1),
    ("newfstatat", 4),
    ("openat", 7),
    ("pipe2", 1),
    ("prctl", 1),
    ("pread64", 1),
    ("read", 5),
    ("recvfrom", 9),
    ("sendto", 5),
    ("setsid", 1),
    ("setsockopt", 5),
    ("socket", 2),
    ("statx", 5),
    ("unlinkat", 2),
    ("wait4", 1),
];
