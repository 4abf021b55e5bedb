//! Executables of plugins, and executions of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

#[cfg(target_arch = "x86_64")]
use crate::faults::Tracer;
use crate::node::{Node, Pod};

/// Longer than any call may take on its own: what takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Whose plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Implementation {
    /// cnikit's: the executable that is all of them.
    Ours(PathBuf),
    /// The reference's: a directory of executables.
    Reference(PathBuf),
}

/// cnikit's plugins, as built for the tests of this package.
#[macro_export]
macro_rules! ours {
    () => {
        $crate::Implementation::Ours(env!("CARGO_BIN_EXE_plugins-under-test").into())
    };
}

impl Implementation {
    /// The reference's plugins, where they are installed. `None` if it was said that one does without them.
    ///
    /// # Panics
    /// If they are not installed, and nothing was said.
    pub fn reference() -> Option<Self> {
        let directory = std::env::var_os("CNIKIT_REFERENCE").unwrap_or_else(|| "/usr/lib/cni".into());
        if Path::new(&directory).join("bridge").exists() {
            return Some(Self::Reference(directory.into()));
        }
        assert!(
            std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some(),
            "no reference plugins in {}: install containernetworking-plugins, or set CNIKIT_WITHOUT_REFERENCE=1 to do \
             without these tests",
            directory.display()
        );
        eprintln!("DID NOT RUN: CNIKIT_WITHOUT_REFERENCE is set, and {} is not there", directory.display());
        None
    }

    /// The plugins that it has.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Ours(_) => plugins::ALL.iter().map(|(name, _)| (*name).to_owned()).collect(),
            Self::Reference(directory) => fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect(),
        }
    }

    /// Where a node has it, each plugin under the name that configurations call it by.
    pub fn directory(&self) -> &'static str {
        match self {
            Self::Ours(_) => "/run/cni/ours",
            Self::Reference(_) => "/run/cni/reference",
        }
    }

    /// The file that is a plugin.
    pub(crate) fn executable(&self, plugin: &str) -> PathBuf {
        match self {
            Self::Ours(executable) => executable.clone(),
            Self::Reference(directory) => directory.join(plugin),
        }
    }
}

/// One execution of a plugin, to be made: the environment and standard input that a runtime would give it.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    node: &'a Node,
    executable: PathBuf,
    env: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    limit: Duration,
}

/// What an execution of a plugin came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed for the runtime.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
    /// What was executed, for people.
    pub command: String,
}

impl<'a> Call<'a> {
    pub(crate) fn new(node: &'a Node, directory: &str, plugin: &str, command: &str, stdin: String) -> Self {
        let executable = Path::new(directory).join(plugin);
        let call =
            Self { node, executable, env: BTreeMap::new(), stdin: stdin.into_bytes(), limit: TIME_LIMIT };
        call.env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", "")
            .env("CNI_PATH", directory)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    }

    /// The container that it is about.
    #[must_use]
    pub fn on(self, pod: &Pod) -> Self {
        self.env("CNI_NETNS", pod.path())
    }

    /// The container's ID.
    #[must_use]
    pub fn container(self, id: &str) -> Self {
        self.env("CNI_CONTAINERID", id)
    }

    /// `CNI_ARGS`.
    #[must_use]
    pub fn args(self, args: &str) -> Self {
        if args.is_empty() { self } else { self.env("CNI_ARGS", args) }
    }

    /// Any variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Takes a variable out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(std::ffi::OsStr::new(name));
        self
    }

    /// Any standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Gives it another time than 10 seconds, where many others run.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Executes it.
    ///
    /// # Panics
    /// If it takes more than 10 seconds: then it hangs.
    pub fn run(&self) -> Outcome {
        self.run_through(&[])
    }

    /// Executes it as the last arguments of another program, as `strace`.
    ///
    /// # Panics
    /// If it takes more than 10 seconds: then it hangs.
    pub fn run_through(&self, wrapper: &[&str]) -> Outcome {
        let mut program = self.program();
        if let [wrapper, arguments @ ..] = wrapper {
            program = Command::new(wrapper);
            program.args(arguments).arg(&self.executable).env_clear().envs(&self.env);
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let spawned = self.node.inside(|| program.spawn());
        let mut child = spawned.unwrap_or_else(|error| panic!("{:?}: {error}", program.get_program()));
        let (status, stdout, stderr) = self.serve(&mut child);
        Outcome { status, stdout, stderr, command: self.to_string() }
    }

    /// Executes it under a tracer, until everything has ended that it started.
    #[cfg(target_arch = "x86_64")]
    pub fn traced(&self, tracer: &mut Tracer) -> Outcome {
        let (status, stdout, stderr) = self.node.inside(|| tracer.run(&self.program(), &self.stdin));
        Outcome { status, stdout, stderr, command: self.to_string() }
    }

    /// Executes it with as little around it as can be, for its time: until it has ended and nothing holds its output
    /// open any more.
    pub fn timed(&self) -> (Outcome, Duration) {
        self.node.inside(|| {
            let mut program = self.program();
            program.stderr(Stdio::null());
            let started = Instant::now();
            let mut child = program.spawn().unwrap();
            self.feed(&mut child);
            let stdout = read(child.stdout.as_mut().unwrap());
            let status = child.wait().unwrap();
            let took = started.elapsed();
            (Outcome { status, stdout, stderr: String::new(), command: self.to_string() }, took)
        })
    }

    /// Starts it: it will wait for its configuration.
    pub fn start(&self) -> Child {
        self.node.inside(|| self.program().spawn().unwrap())
    }

    /// Gives a process that was started its configuration, of which it need not read all.
    pub fn feed(&self, child: &mut Child) {
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
    }

    fn program(&self) -> Command {
        let mut program = Command::new(&self.executable);
        program.env_clear().envs(&self.env);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    }

    fn serve(&self, child: &mut Child) -> (ExitStatus, String, String) {
        let mut stdin = child.stdin.take().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        thread::scope(|scope| {
            // A plugin need not read all that it is given.
            scope.spawn(move || drop(stdin.write_all(&self.stdin)));
            let out = scope.spawn(move || read(&mut stdout));
            let err = scope.spawn(move || read(&mut stderr));
            let deadline = Instant::now() + self.limit;
            while !(out.is_finished() && err.is_finished() && child.try_wait().unwrap().is_some()) {
                if Instant::now() > deadline {
                    child.kill().unwrap();
                    panic!("{} hangs: {}", self.executable.display(), excerpt(&self.stdin));
                }
                thread::sleep(Duration::from_micros(300));
            }
            (child.wait().unwrap(), out.join().unwrap(), err.join().unwrap())
        })
    }
}

impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.executable.display(), self.env, excerpt(&self.stdin))
    }
}

impl Outcome {
    /// The JSON that it printed, given that it succeeded.
    ///
    /// # Panics
    /// If it failed, or printed none.
    pub fn result(&self) -> Value {
        assert!(self.status.success(), "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// That it succeeded, without having to say anything.
    ///
    /// # Panics
    /// If it failed, or said something.
    pub fn done(&self) {
        assert!(self.status.success() && self.stdout.is_empty(), "{self}");
    }

    /// The error that it printed, given that it failed, in the specification's form.
    ///
    /// # Panics
    /// If it succeeded, or printed none.
    pub fn error(&self) -> Value {
        assert!(!self.status.success(), "should have failed: {self}");
        let error: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"));
        assert!(error["code"].is_u64() && error["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{self}");
        error
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, stdout, stderr, command, .. } = self;
        write!(f, "{command}\n{status}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

fn read(from: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The beginning of what may be long.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]);
    if bytes.len() > 2000 { format!("{text}…") } else { text.into_owned() }
}
