//! Executions under `ptrace(2)`, in which something happens at one system call of all that their threads and children
//! make.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::points::Point;
use super::refusal::Request;
use crate::traced::start_traced;

/// What takes longer hangs, and is killed.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// What happens at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not made, and fails.
    Fail(Errno),
    /// It is made, and the kernel refuses one of the requests that it brings.
    Refuse {
        /// Which, from 0.
        request: usize,
        /// What the kernel says.
        errno: Errno,
    },
    /// Who makes it dies.
    Kill {
        /// Everything that was started dies with it.
        tree: bool,
        /// After the call, which is made; else before it, and it is not made.
        after: bool,
    },
}

/// A tracer: it counts the points of the executions that it is given, one after the other.
#[derive(Debug, Default)]
pub struct Tracer {
    plan: Option<(usize, Fault)>,
    /// The request that the kernel refuses, and with what.
    refused: Option<(Request, Errno)>,
    /// The points so far.
    pub seen: Vec<Arrival>,
    /// Where it happened, for people.
    pub hit: Option<String>,
    /// Whether an execution did not end by itself.
    pub hung: bool,
}

/// A thread's coming to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The point.
    pub point: &'static Point,
    /// How many requests it sends, each of which the kernel may refuse.
    pub requests: usize,
}

/// What a thread is in the middle of.
enum Pending {
    /// Its system call fails.
    Fails(Errno),
    /// One of the requests that it sends is refused.
    Refused(Request),
    /// It dies when the call is over.
    Dies { tree: bool },
}

/// What kind of thing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A system call fails.
    Error,
    /// The kernel refuses a request.
    Refusal,
    /// A process dies.
    Death,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Error, Self::Refusal, Self::Death];

    /// What people call many of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "errors",
            Self::Refusal => "refusals",
            Self::Death => "deaths",
        }
    }
}

impl Fault {
    /// What kind of thing it is.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fail(_) => Kind::Error,
            Self::Refuse { .. } => Kind::Refusal,
            Self::Kill { .. } => Kind::Death,
        }
    }

    /// The four ways to die.
    pub const KILLS: [Self; 4] = [
        Self::Kill { tree: false, after: false },
        Self::Kill { tree: false, after: true },
        Self::Kill { tree: true, after: false },
        Self::Kill { tree: true, after: true },
    ];
}

impl Tracer {
    /// One that only counts.
    pub fn counting() -> Self {
        Self::default()
    }

    /// One that makes something happen at the point of a number, from 0.
    pub fn at(number: usize, fault: Fault) -> Self {
        Self { plan: Some((number, fault)), ..Self::default() }
    }

    /// Executes a program, in the calling thread's namespaces, until everything has ended that it started. Returns the
    /// status of its first process, and what was printed for the runtime and for people.
    ///
    /// # Panics
    /// If it cannot be started or traced.
    #[allow(clippy::zombie_processes)] // it is waited for among all that is traced
    pub fn run(&mut self, program: &Command, stdin: &[u8]) -> (ExitStatus, String, String) {
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXIT;
        let mut child = start_traced(program, options, |shell| {
            shell.env_clear().process_group(0);
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        });
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let (mut to, mut out, mut err) =
            (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
        thread::scope(|scope| {
            // It need not read all.
            scope.spawn(move || drop(to.write_all(stdin)));
            let out = scope.spawn(move || read(&mut out));
            let err = scope.spawn(move || read(&mut err));
            let (over, wait) = mpsc::channel::<()>();
            let watchdog = scope.spawn(move || {
                let hangs = wait.recv_timeout(TIME_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
                if hangs {
                    let _ = killpg(pid, Signal::SIGKILL);
                }
                hangs
            });
            let status = self.follow(pid);
            drop(over);
            self.hung |= watchdog.join().unwrap();
            (status, out.join().unwrap(), err.join().unwrap())
        })
    }

    /// Sees everything through to its end.
    fn follow(&mut self, first: Pid) -> ExitStatus {
        let mut alive = BTreeSet::from([first]);
        let mut pending = BTreeMap::new();
        let mut executed = false;
        let mut status = None;
        loop {
            // Of this thread's: other tests have children too.
            let stop = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(stop) => stop,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return status.expect("the status of what was executed"),
                Err(error) => panic!("wait: {error}"),
            };
            let Some(pid) = stop.pid() else { continue };
            alive.insert(pid);
            let mut signal = None;
            match stop {
                WaitStatus::Exited(_, code) => {
                    alive.remove(&pid);
                    status = if pid == first { Some(ExitStatus::from_raw(code << 8)) } else { status };
                    continue;
                }
                WaitStatus::Signaled(_, deadly, _) => {
                    alive.remove(&pid);
                    status = if pid == first { Some(ExitStatus::from_raw(deadly as i32)) } else { status };
                    continue;
                }
                WaitStatus::PtraceEvent(_, _, event) => executed |= event == libc::PTRACE_EVENT_EXEC,
                WaitStatus::PtraceSyscall(_) if executed => {
                    // It may have been killed meanwhile.
                    let _ = self.at_call(pid, &mut pending, &alive);
                }
                WaitStatus::Stopped(_, sent) => signal = Some(sent),
                _ => {}
            }
            let _ = ptrace::syscall(pid, signal);
        }
    }

    /// A thread is at the beginning or the end of a system call.
    fn at_call(
        &mut self,
        pid: Pid,
        pending: &mut BTreeMap<Pid, Pending>,
        alive: &BTreeSet<Pid>,
    ) -> nix::Result<()> {
        let is_entry = ptrace::syscall_info(pid)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
        if !is_entry {
            match pending.remove(&pid) {
                Some(Pending::Fails(errno)) => answer(pid, errno)?,
                Some(Pending::Refused(request)) => request.restore(pid),
                Some(Pending::Dies { tree }) => die(pid, tree, alive),
                None => self.correct_answer(pid)?,
            }
            return Ok(());
        }
        let Some((point, arguments)) = point(pid)? else { return Ok(()) };
        let number = self.seen.len();
        let requests = Request::about_to_be_sent(pid, point.call, &arguments);
        self.seen.push(Arrival { point, requests: requests.len() });
        let Some((_, fault)) = self.plan.filter(|(planned, _)| *planned == number) else { return Ok(()) };
        let object = match fault {
            Fault::Refuse { request, .. } => match requests.get(request) {
                Some(request) => request.name(),
                None => return Ok(()),
            },
            _ => object(pid, point, arguments),
        };
        self.hit = Some(format!("{}({object})", point.call));
        match fault {
            Fault::Fail(errno) => {
                // Threads may take turns in another order than when the points were counted.
                let errno = if point.errnos.contains(&errno) { errno } else { point.errnos[0] };
                if !point.loses_its_answer(errno) {
                    skip(pid)?;
                }
                pending.insert(pid, Pending::Fails(errno));
            }
            Fault::Refuse { request, errno } => {
                requests[request].spoil(pid);
                self.refused = Some((requests[request], errno));
                pending.insert(pid, Pending::Refused(requests[request]));
            }
            Fault::Kill { tree, after: true } => drop(pending.insert(pid, Pending::Dies { tree })),
            Fault::Kill { tree, after: false } => {
                skip(pid)?;
                die(pid, tree, alive);
            }
        }
        Ok(())
    }

    /// The system call that ends may have received the refusal.
    fn correct_answer(&self, pid: Pid) -> nix::Result<()> {
        let Some((request, errno)) = self.refused else { return Ok(()) };
        let Some((point, arguments)) = point(pid)? else { return Ok(()) };
        let received = usize::try_from(ptrace::getregs(pid)?.rax.cast_signed()).unwrap_or(0);
        if point.call.starts_with("recv") {
            request.correct_answer(pid, point.call, &arguments, received, errno);
        }
        Ok(())
    }
}

/// The point at whose beginning or end a thread is, with its arguments.
fn point(pid: Pid) -> nix::Result<Option<(&'static Point, [u64; 6])>> {
    let registers = ptrace::getregs(pid)?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
    let found = Point::of(registers.orig_rax.cast_signed());
    Ok(found.filter(|point| concerns_others(pid, point, &arguments)).map(|point| (point, arguments)))
}

/// Whether it is not only the program's own affair: a runtime of a language wakes its threads through files that have no
/// name, and reads what the kernel says of itself.
fn concerns_others(pid: Pid, point: &Point, arguments: &[u64; 6]) -> bool {
    let Some(at) = point.descriptor else { return true };
    let file = file(pid, arguments[at]);
    !(file.starts_with("anon_inode:") || point.call == "read" && file.starts_with("pipe:"))
}

/// The file behind a descriptor.
fn file(pid: Pid, descriptor: u64) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// What a system call is about, for people.
fn object(pid: Pid, point: &Point, arguments: [u64; 6]) -> String {
    match (point.path, point.descriptor) {
        (Some(at), _) => path(pid, arguments[at]),
        (None, Some(at)) => format!("{} {}", arguments[at], file(pid, arguments[at])),
        (None, None) => String::new(),
    }
}

/// A path in a process's memory.
fn path(pid: Pid, address: u64) -> String {
    let mut bytes = [0; 256];
    let read = File::open(format!("/proc/{pid}/mem")).and_then(|memory| memory.read_at(&mut bytes, address));
    let bytes = &bytes[..read.unwrap_or(0)];
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Has the system call that begins not made.
fn skip(pid: Pid) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers)
}

/// Has the system call that ends answer with an error.
fn answer(pid: Pid, errno: Errno) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = (-i64::from(errno as i32)).cast_unsigned();
    ptrace::setregs(pid, registers)
}

fn die(pid: Pid, tree: bool, alive: &BTreeSet<Pid>) {
    let dying = if tree { alive.iter().copied().collect() } else { vec![pid] };
    for pid in dying {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

fn read(from: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
