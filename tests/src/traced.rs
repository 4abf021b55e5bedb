//! Processes that are traced from their first instruction on.

use std::process::{Child, Command};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Starts a program, with its arguments, under `ptrace(2)` of the calling thread, with everything that it starts; all of it dies with
/// that thread. The first process is a shell, which somebody may give surroundings, and becomes the program: before that it
/// has stopped, so that nothing is missed. Variables that are set for the program are set for it after that.
///
/// # Panics
/// If it cannot be started or traced.
#[allow(clippy::zombie_processes)] // whoever traces it waits for it
pub fn start_traced(program: &Command, options: Options, surround: impl FnOnce(&mut Command)) -> Child {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", r#"kill -STOP $$; exec "$0" "$@""#])
        .arg(program.get_program())
        .args(program.get_args());
    surround(&mut shell);
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = shell.spawn().expect("a shell");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process ID"));
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("it stops");
    let family = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options | family).expect("ptrace");
    kill(pid, Signal::SIGCONT).expect("it goes on");
    child
}
