//! The right to make namespaces.

use std::any::type_name;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Set in the repetition of a test inside a user namespace.
const INSIDE: &str = "CNIKIT_IN_USER_NAMESPACE";

/// Runs a test that makes namespaces. Root does so at once; for an ordinary user the test is executed again inside a
/// user namespace of its own.
///
/// # Panics
/// If the test does, or if this machine allows no user namespaces.
pub fn isolated<T: FnOnce()>(test: T) {
    if may_make_namespaces() {
        return test();
    }
    assert!(std::env::var_os(INSIDE).is_none(), "root in a user namespace may not make a network namespace");
    // side_by_side::keys::some_test::{{closure}}
    let path = type_name::<T>();
    let name =
        path.split("::").skip(1).take_while(|part| !part.starts_with('{')).collect::<Vec<_>>().join("::");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare(1) makes the user namespace that a test needs where it does not run as root");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} in a user namespace ({}):\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn may_make_namespaces() -> bool {
    std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_ok()).join().unwrap()
}
