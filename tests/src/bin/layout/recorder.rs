//! Executions in which each function says once that it begins: a breakpoint stands at each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use cnikit_tests::start_traced;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::map::Map;

/// `int3`.
const BREAKPOINT: u8 = 0xcc;

/// Executes a program, whose configuration comes on standard input, with everything that it starts, and writes down behind a file's end
/// which functions began.
#[allow(clippy::zombie_processes)] // it is waited for among all that is traced
pub(crate) fn record(map: &Map, seen: &Path, program: &str) -> ExitCode {
    let wanted = fs::canonicalize(program).expect("the program");
    let child = start_traced(&Command::new(program), Options::empty(), |_| ());
    let first = Pid::from_raw(i32::try_from(child.id()).expect("a process ID"));
    let mut seen = File::options().create(true).append(true).open(seen).expect("a file");
    // What stands where breakpoints are.
    let mut code = BTreeMap::new();
    let mut status = ExitCode::FAILURE;
    while let Ok(stop) = waitpid(None, Some(WaitPidFlag::__WALL)) {
        let mut signal = None;
        match stop {
            WaitStatus::Exited(pid, code) if pid == first => {
                status = u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from);
            }
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC)
                if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|is| is == wanted) =>
            {
                code = set(map, pid);
            }
            WaitStatus::Stopped(pid, Signal::SIGTRAP) => match begun(pid, &code) {
                Some(function) => writeln!(seen, "{function:x}").expect("a line"),
                None => signal = Some(Signal::SIGTRAP),
            },
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            _ => {}
        }
        if let Some(pid) = stop.pid() {
            // It may be one that has just ended.
            let _ = ptrace::cont(pid, signal);
        }
    }
    status
}

/// Sets all breakpoints.
fn set(map: &Map, pid: Pid) -> BTreeMap<u64, u8> {
    let memory = memory(pid);
    let place = |function: &u64| {
        let mut byte = [0];
        memory.read_exact_at(&mut byte, *function).expect("code");
        memory.write_all_at(&[BREAKPOINT], *function).expect("a breakpoint");
        (*function, byte[0])
    };
    map.functions().iter().map(place).collect()
}

/// The function at whose breakpoint a process is: it goes on as if there had been none.
fn begun(pid: Pid, code: &BTreeMap<u64, u8>) -> Option<u64> {
    let mut registers = ptrace::getregs(pid).ok()?;
    let function = registers.rip - 1;
    let byte = code.get(&function)?;
    memory(pid).write_all_at(&[*byte], function).ok()?;
    registers.rip = function;
    ptrace::setregs(pid, registers).ok()?;
    Some(function)
}

fn memory(pid: Pid) -> File {
    File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).expect("its memory")
}
