//! The most memory that a process has had.

use std::fs;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::call::Call;

/// What a process has of the machine's memory, in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The most that it has had (`VmHWM`). Pages of its executable are among it, which all that run the same one share; the
    /// kernel maps sixteen at a time.
    pub peak: f64,
    /// What is its own at its end (`RssAnon`).
    pub own: f64,
}

/// The memory that a call's process has had when it ends.
///
/// `getrusage` would tell of this program as well, whose memory the process shares until it executes the plugin.
///
/// # Panics
/// If the process cannot be traced.
pub fn memory(call: &Call<'_>) -> Memory {
    // A plugin waits for its configuration: that is when it can be seized.
    let mut child = call.start();
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process ID"));
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).expect("ptrace");
    std::thread::scope(|scope| {
        // It need not read all, nor before it ends.
        scope.spawn(|| call.feed(&mut child));
        watched(pid)
    })
}

/// Waits for the end of a process.
fn watched(pid: Pid) -> Memory {
    let mut memory = Memory::default();
    loop {
        match waitpid(pid, None).expect("wait") {
            WaitStatus::PtraceEvent(..) => {
                memory = Memory::of(pid);
                ptrace::cont(pid, None).expect("continue");
            }
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).expect("continue"),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return memory,
            _ => {}
        }
    }
}

impl Memory {
    fn of(pid: Pid) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let mebibytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line for it");
            let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
            kib / 1024.0
        };
        Self { peak: mebibytes("VmHWM:"), own: mebibytes("RssAnon:") }
    }
}
