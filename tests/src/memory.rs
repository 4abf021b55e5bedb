//! The most memory that a process has had.

use std::fs;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::call::Call;

/// The most memory that a call's process has had when it ends (`VmHWM`), in MiB.
///
/// `getrusage` would tell of this program as well, whose memory the process shares until it executes the plugin.
///
/// # Panics
/// If the process cannot be traced.
pub fn peak_memory(call: &Call<'_>) -> f64 {
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
fn watched(pid: Pid) -> f64 {
    let mut peak = 0.0;
    loop {
        match waitpid(pid, None).expect("wait") {
            WaitStatus::PtraceEvent(..) => {
                peak = high_water_mark(pid);
                ptrace::cont(pid, None).expect("continue");
            }
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).expect("continue"),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return peak,
            _ => {}
        }
    }
}

fn high_water_mark(pid: Pid) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
