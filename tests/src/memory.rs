//! The most memory that a process has had.

use std::fs;

use cnikit_tests::Call;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// `VmHWM` of a call's process at its end, in MiB.
///
/// `getrusage` would tell of this program as well, whose memory the process shares until it is another program.
pub(crate) fn peak(call: &Call<'_>) -> f64 {
    // A plugin waits for its configuration: that is when it can be seized.
    let mut child = call.start();
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process ID"));
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).expect("ptrace");
    call.feed(&mut child);
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
