//! What a call asks of the kernel.

use crate::call::{Call, Outcome};
use crate::node::Node;

/// One system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemCall {
    /// Which thread, of the call's process or of those that it has started.
    pub thread: String,
    /// What it is called.
    pub name: String,
    /// What it was told, and what came of it, as far as that is on its line.
    pub rest: String,
}

impl SystemCall {
    /// Whether it reads a plugin's configuration.
    pub fn reads_configuration(&self) -> bool {
        self.name == "read" && self.rest.starts_with("0,")
    }
}

/// Executes a call under `strace(1)`: what it came to, and the system calls that it has made, those of all threads and
/// children in the order in which they were begun.
pub fn system_calls(call: &Call<'_>, node: &Node) -> (Outcome, Vec<SystemCall>) {
    let outcome = call.run_through(&["strace", "-f", "-qq", "-o", "/run/census"]);
    assert!(outcome.status.success(), "{outcome}");
    (outcome, node.shell("cat /run/census").lines().filter_map(begun).collect())
}

/// The system call that begins with a line; there are others: of its end, of a signal, of a thread's end.
fn begun(line: &str) -> Option<SystemCall> {
    let (thread, what) = line.split_once(' ')?;
    let (name, rest) = what.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| SystemCall { thread: thread.into(), name: name.into(), rest: rest.into() })
}
