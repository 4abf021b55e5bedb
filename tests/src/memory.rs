//! The most memory that a process has had, and for how long it has had a processor.

use std::sync::mpsc;
use std::time::Duration;
use std::{fs, io};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
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
    /// How long it has had a processor, whoever else wanted one.
    pub busy: Duration,
}

/// What takes longer on its own, however busy the machine is, hangs.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The memory that a call's process has had when it ends.
///
/// `getrusage` would tell of this program as well, whose memory the process shares until it executes the plugin.
///
/// # Panics
/// If the process cannot be traced, or does not end.
pub fn memory(call: &Call<'_>) -> Memory {
    // A plugin waits for its configuration: that is when it can be seized.
    let mut child = call.start();
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process ID"));
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).expect("ptrace");
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    std::thread::scope(|scope| {
        // It need not read all, nor before it ends; and it may have more to say than a pipe holds.
        scope.spawn(|| call.feed(&mut child));
        scope.spawn(move || io::copy(&mut stdout, &mut io::sink()));
        scope.spawn(move || io::copy(&mut stderr, &mut io::sink()));
        let (ended, end) = mpsc::channel::<()>();
        let hangs = scope.spawn(move || {
            let hangs = end.recv_timeout(TIME_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            hangs && kill(pid, Signal::SIGKILL).is_ok()
        });
        let memory = watched(pid);
        drop(ended);
        assert!(!hangs.join().expect("a thread that waits"), "hangs: {call}");
        memory
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
        Self { peak: mebibytes("VmHWM:"), own: mebibytes("RssAnon:"), busy: busy(pid) }
    }
}

/// `utime` and `stime` (`proc_pid_stat(5)`), in hundredths of a second.
fn busy(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("what it has had");
    // The name before them may have blanks in it.
    let (_, stat) = stat.rsplit_once(')').expect("its name in parentheses");
    let fields = stat.split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|field| field.parse::<u64>().expect("a number") * 10).sum())
}
