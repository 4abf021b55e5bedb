//! Errors of the kernel.

use std::os::unix::process::ExitStatusExt;

use cnikit_tests::isolated;
use serde_json::json;

use crate::scene::{Ward, step};

const SIGABRT: i32 = 6;

/// What may fail, and how.
const FAULTS: &[(&str, &str)] = &[
    ("sendto", "ENOBUFS"),
    ("sendto", "ENOMEM"),
    ("recvfrom", "ENOBUFS"),
    ("socket", "EMFILE"),
    ("setsockopt", "ENOMEM"),
    ("openat", "EIO"),
    ("openat", "ENFILE"),
    ("read", "EIO"),
    ("write", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("linkat", "EIO"),
    ("fsync", "EIO"),
    ("flock", "ENOLCK"),
    ("setns", "EPERM"),
    ("clone", "EAGAIN"),
    ("clone3", "EAGAIN"),
    ("unlinkat", "EIO"),
    ("statx", "EIO"),
    ("ioctl", "EIO"),
    ("fstatfs", "EIO"),
    ("pread64", "EIO"),
];

fn ward() -> Ward {
    Ward::warm("bridge", json!({"isGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true}))
}

#[test]
fn an_add_that_fails_anywhere_says_so_and_leaves_nothing() {
    isolated(|| {
        let ward = ward();
        let counted = ward.node.pod("counted");
        let census = ward.census(&ward.call("ADD", &counted));
        ward.call("DEL", &counted).run().done();
        ward.node.end(&counted);
        let points = FAULTS.iter().flat_map(|(call, errno)| {
            let count = census.names.get(*call).copied().unwrap_or(0);
            (1..=count).map(move |point| format!("{call}:error={errno}:when={point}"))
        });
        for (number, fault) in points.enumerate().filter(|(number, _)| number % step() == 0) {
            let pod = ward.node.pod(&format!("victim-{number}"));
            let outcome = ward.injected(&ward.call("ADD", &pod), &fault);
            if outcome.status.signal() == Some(SIGABRT) {
                // Who cannot leave a container's namespace must do nothing more.
                assert!(fault.starts_with("setns:"), "{fault}: {outcome}");
                ward.call("DEL", &pod).run().done();
            } else if outcome.status.success() {
                let said = outcome.result();
                ward.call_with("CHECK", &pod, &said).run().done();
                ward.call_with("DEL", &pod, &said).run().done();
            } else if fault.starts_with("write:") && !outcome.stdout.contains("\"code\"") {
                // An answer that cannot be written is one that nobody reads.
                ward.call("DEL", &pod).run().done();
            } else {
                let error = outcome.error();
                assert!(!error["msg"].as_str().unwrap().contains("panic"), "{fault}: {outcome}");
            }
            ward.node.end(&pod);
            ward.is_healthy(&format!("{fault}: {outcome}"));
        }
    });
}

#[test]
fn a_del_that_fails_anywhere_is_completed_by_the_next() {
    isolated(|| {
        let ward = ward();
        let counted = ward.node.pod("counted");
        let said = ward.call("ADD", &counted).run().result();
        let census = ward.census(&ward.call_with("DEL", &counted, &said));
        ward.node.end(&counted);
        let points = FAULTS.iter().flat_map(|(call, errno)| {
            let count = census.names.get(*call).copied().unwrap_or(0);
            (1..=count).map(move |point| format!("{call}:error={errno}:when={point}"))
        });
        for (number, fault) in points.enumerate().filter(|(number, _)| number % step() == 0) {
            let pod = ward.node.pod(&format!("victim-{number}"));
            let said = ward.call("ADD", &pod).run().result();
            let outcome = ward.injected(&ward.call_with("DEL", &pod, &said), &fault);
            if !outcome.status.success() {
                outcome.error();
                ward.call("DEL", &pod).run().done();
            } else if fault.starts_with("unlinkat:") {
                // What is left in the index of leases without one is found by whoever has the name next.
                ward.call("ADD", &pod).run().result();
                ward.call("DEL", &pod).run().done();
            }
            ward.node.end(&pod);
            ward.is_healthy(&format!("{fault}: {outcome}"));
        }
    });
}
