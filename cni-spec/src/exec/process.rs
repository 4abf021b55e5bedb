//! Plugins as processes.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Exec, ExecError, Exit, Output};
use crate::Env;

/// The most that a plugin may write to stdout, in bytes. A result with a thousand addresses has about 100 KiB.
const STDOUT_LIMIT: usize = 4 << 20;
/// The most that is kept of stderr, in bytes.
const STDERR_LIMIT: usize = 64 << 10;
/// Every pipe takes this much without a reader, in bytes: one page, the least that the kernel gives a pipe.
const PIPE_LEAST: usize = 4096;
/// How long "text file busy" is waited out: as long as the reference does.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
/// How long after its end the rest of a plugin's output is waited for.
const DRAIN_PATIENCE: Duration = Duration::from_millis(250);
/// How long, as long as nothing came: an `ADD` that has succeeded must not be taken for one that said nothing.
const SILENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a killed plugin is waited for: one that hangs in the kernel is not worth hanging with it.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Executes plugins as processes of this host.
///
/// - stdin is written and stdout and stderr are read at the same time, so that nobody waits for the other.
/// - A plugin that does not end in [time](Self::with_timeout) is killed.
/// - A plugin that ends but leaves a child behind that keeps its stdout open is waited for 250 ms longer, or 5 s if it has
///   said nothing; not for ever.
/// - stdout is bounded to 4 MiB; of stderr the first 64 KiB are kept.
/// - "Text file busy" (`ETXTBSY`: the file is just being written, by an installer for example) is tried again for
///   5 s, or until the timeout.
#[derive(Clone, Debug, Default)]
pub struct ProcessExec {
    timeout: Option<Duration>,
}

impl ProcessExec {
    /// Waits for plugins as long as they take.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kills a plugin that does not end within `timeout`.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Exec for ProcessExec {
    fn exec(&self, plugin: &Path, env: &Env, stdin: &[u8]) -> Result<Output, ExecError> {
        // A timeout beyond what an Instant can hold is no timeout.
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let child = start(plugin, env, deadline)
            .map_err(|source| ExecError::Start { plugin: plugin.to_owned(), source })?;
        let mut running = Running { child, deadline, stdout: Vec::new(), stderr: Vec::new() };
        match running.talk(stdin) {
            Ok(exit) => Ok(Output { exit, stdout: running.stdout, stderr: running.stderr }),
            Err(stop) => {
                running.kill();
                Err(running.error(stop, plugin.to_owned(), self.timeout.unwrap_or_default()))
            }
        }
    }
}

fn start(plugin: &Path, env: &Env, deadline: Option<Instant>) -> io::Result<Child> {
    let mut command = Command::new(plugin);
    command.env_clear().envs(env.iter()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let patience = Instant::now() + BUSY_PATIENCE;
    let patience = deadline.map_or(patience, |deadline| deadline.min(patience));
    let mut pause = Duration::from_millis(5);
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < patience => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            other => return other,
        }
    }
}

/// Why a plugin is not waited for any longer.
enum Stop {
    Deadline,
    TooMuchOutput,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

struct Running {
    child: Child,
    deadline: Option<Instant>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    fn talk(&mut self, stdin: &[u8]) -> Result<Exit, Stop> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        if let Some(pipe) = self.child.stdin.take() {
            write(pipe, stdin)?;
        }
        let status = match self.collect(stdout, stderr)? {
            Some(status) => status,
            None => self.end()?,
        };
        Ok(exit(status))
    }

    /// Takes what comes until both streams end, or the plugin has ended and its streams do not.
    fn collect(
        &mut self,
        mut stdout: Option<ChildStdout>,
        mut stderr: Option<ChildStderr>,
    ) -> Result<Option<ExitStatus>, Stop> {
        let mut ended: Option<(ExitStatus, Instant)> = None;
        let mut pause = Duration::from_millis(1);
        let mut buffer = vec![0; 16 << 10];
        while stdout.is_some() || stderr.is_some() {
            let streams = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
            let ready = readable(streams, self.within_deadline(pause))?;
            if ready == [false; 2] {
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            if ready[0] {
                self.receive(&mut stdout, Stream::Stdout, &mut buffer)?;
            }
            if ready[1] {
                self.receive(&mut stderr, Stream::Stderr, &mut buffer)?;
            }
            match ended {
                Some((status, when)) if when.elapsed() > self.drain_patience() => return Ok(Some(status)),
                Some(_) => {}
                None => {
                    self.check_deadline()?;
                    ended = self.child.try_wait()?.map(|status| (status, Instant::now()));
                }
            }
        }
        Ok(ended.map(|(status, _)| status))
    }

    /// Takes what is there, if that is not a stream's end.
    fn receive(
        &mut self,
        pipe: &mut Option<impl Read>,
        stream: Stream,
        buffer: &mut [u8],
    ) -> Result<(), Stop> {
        match pipe.as_mut().map(|pipe| pipe.read(buffer)) {
            Some(Ok(0)) | None => *pipe = None,
            Some(Ok(length)) => self.take(stream, &buffer[..length])?,
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Some(Err(_)) => *pipe = None,
        }
        Ok(())
    }

    fn drain_patience(&self) -> Duration {
        if self.stdout.is_empty() { SILENCE_PATIENCE } else { DRAIN_PATIENCE }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Stop> {
        match stream {
            Stream::Stdout if self.stdout.len() + bytes.len() > STDOUT_LIMIT => {
                return Err(Stop::TooMuchOutput);
            }
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => {
                let room = STDERR_LIMIT - self.stderr.len();
                self.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
        Ok(())
    }

    /// Waits for the end of a plugin that has closed its streams, which nearly all do by ending.
    fn end(&mut self) -> Result<ExitStatus, Stop> {
        if self.deadline.is_none() {
            return Ok(self.child.wait()?);
        }
        let mut pause = Duration::from_micros(50);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            self.check_deadline()?;
            thread::sleep(self.within_deadline(pause));
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn within_deadline(&self, pause: Duration) -> Duration {
        self.deadline.map_or(pause, |deadline| pause.min(deadline.saturating_duration_since(Instant::now())))
    }

    fn check_deadline(&self) -> Result<(), Stop> {
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Stop::Deadline),
            _ => Ok(()),
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself; there is nothing to be done about any other error.
        let _ = self.child.kill();
        self.deadline = Instant::now().checked_add(KILL_PATIENCE);
        let _ = self.end();
    }

    fn error(self, stop: Stop, plugin: PathBuf, timeout: Duration) -> ExecError {
        match stop {
            Stop::Deadline => {
                ExecError::TimedOut { plugin, timeout, stdout: self.stdout, stderr: self.stderr }
            }
            Stop::TooMuchOutput => ExecError::TooMuchOutput { plugin, limit: STDOUT_LIMIT },
            Stop::Io(source) => ExecError::Talk { plugin, source },
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// Waits until there is something to read, or a stream's end; says where.
fn readable(streams: [Option<BorrowedFd<'_>>; 2], patience: Duration) -> io::Result<[bool; 2]> {
    let mut polled: Vec<_> =
        streams.iter().flatten().map(|stream| PollFd::new(*stream, PollFlags::POLLIN)).collect();
    let milliseconds = patience.as_micros().div_ceil(1000);
    match poll(&mut polled, PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = polled.iter().map(|polled| polled.any().unwrap_or_default());
    Ok(streams.map(|stream| stream.is_some() && ready.next().unwrap_or_default()))
}

/// Writes stdin. A plugin that does not read it (`VERSION` needs none) is no error.
fn write(mut pipe: ChildStdin, stdin: &[u8]) -> io::Result<()> {
    if stdin.len() <= PIPE_LEAST {
        let _ = pipe.write_all(stdin);
        return Ok(());
    }
    let stdin = stdin.to_vec();
    let run = move || {
        let _ = pipe.write_all(&stdin);
    };
    thread::Builder::new().name("cni plugin input".to_owned()).spawn(run).map(drop)
}
