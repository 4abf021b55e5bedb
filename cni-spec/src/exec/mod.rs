//! Executing plugins: the one primitive that delegation and runtimes stand on.

mod process;

use std::{
    error, fmt, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::process::ProcessExec;
use crate::{Env, Error, PluginType};

/// A way to execute plugins: as processes ([`ProcessExec`]), in this process, or in a test's imagination.
pub trait Exec: Send + Sync {
    /// Executes a plugin with exactly this environment and stdin, and waits for its end.
    ///
    /// A plugin that ran and failed is an `Ok` with its [`Output`]; errors are for plugins that could not be run, or
    /// not to their end.
    ///
    /// # Errors
    /// [`ExecError`].
    fn exec(&self, plugin: &Path, env: &Env, stdin: &[u8]) -> Result<Output, ExecError>;

    /// Finds a plugin in the directories of `CNI_PATH`; what it returns is given to [`exec`](Self::exec).
    ///
    /// # Errors
    /// [`ExecError::NotFound`], [`ExecError::NotExecutable`].
    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        find_in_path(plugin, path)
    }
}

/// Finds the first executable file with a plugin's name.
///
/// Directories that do not exist are skipped, and so are files without any executable bit as long as another directory
/// has something better (the reference stops at the first regular file).
///
/// # Errors
/// [`ExecError::NotFound`], [`ExecError::NotExecutable`].
pub fn find_in_path(plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
    let mut not_executable = None;
    // An empty entry is not "here": a plugin must not be picked up from whatever directory a runtime was started in.
    for directory in path.iter().filter(|directory| !directory.as_os_str().is_empty()) {
        let file = directory.join(plugin.as_str());
        match file.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
                return Ok(file);
            }
            Ok(metadata) if metadata.is_file() => {
                not_executable.get_or_insert(file);
            }
            _ => {}
        }
    }
    Err(match not_executable {
        Some(file) => ExecError::NotExecutable { file },
        None => ExecError::NotFound { plugin: plugin.clone(), path: path.to_vec() },
    })
}

/// What a plugin printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to stdout: the result or the error.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr: logs. Bounded; the rest is dropped.
    pub stderr: Vec<u8>,
}

/// How a plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with a status; 0 is success.
    Code(i32),
    /// It was killed by a signal.
    Signal(i32),
}

impl Exit {
    /// Whether it was a success.
    pub const fn success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

impl Output {
    /// The output of a plugin that succeeded, or the error of one that failed.
    ///
    /// # Errors
    /// The error object that the plugin printed; if it printed none, code 999 with its output in the details.
    pub fn check(self, plugin: &Path) -> Result<Self, Error> {
        if self.exit.success() {
            return Ok(self);
        }
        let own = Error::from_json(&self.stdout);
        Err(own.unwrap_or_else(|| self.error(plugin, format_args!("{}, without an error object", self.exit))))
    }

    /// An error about what a plugin printed, with its output in the details.
    pub fn error(&self, plugin: &Path, what: impl fmt::Display) -> Error {
        Error::internal(format!("plugin {}: {what}", plugin.display()))
            .with_details(printed(&self.stdout, &self.stderr))
    }
}

/// What a plugin printed, as text for people.
fn printed(stdout: &[u8], stderr: &[u8]) -> String {
    let streams = [("stdout", stdout), ("stderr", stderr)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
    let lines: Vec<_> = streams.map(|(stream, bytes)| format!("{stream}: {}", excerpt(bytes))).collect();
    lines.join("\n")
}

/// Output as text for people, bounded: an error travels through logs, events and terminals.
fn excerpt(bytes: &[u8]) -> String {
    const LIMIT: usize = 4096;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LIMIT)]);
    let more = if bytes.len() > LIMIT { " […]" } else { "" };
    format!("{}{more}", text.trim_end())
}

/// Why a plugin could not be run, or not to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// None of the directories has such a file: the plugin is not installed, or the path is wrong.
    NotFound {
        /// The plugin that was looked for.
        plugin: PluginType,
        /// The directories.
        path: Vec<PathBuf>,
    },
    /// There is such a file, but nobody may execute it.
    NotExecutable {
        /// The file.
        file: PathBuf,
    },
    /// The plugin could not be started.
    Start {
        /// The plugin's file.
        plugin: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Talking to the running plugin failed; it was killed.
    Talk {
        /// The plugin's file.
        plugin: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The plugin did not end in time; it was killed.
    TimedOut {
        /// The plugin's file.
        plugin: PathBuf,
        /// The time that it had.
        timeout: Duration,
        /// What it had written to stdout.
        stdout: Vec<u8>,
        /// What it had written to stderr.
        stderr: Vec<u8>,
    },
    /// The plugin wrote more to stdout than any result can be; it was killed.
    TooMuchOutput {
        /// The plugin's file.
        plugin: PathBuf,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { plugin, path } => {
                write!(f, "find plugin \"{plugin}\" in {path:?}: no such file")
            }
            Self::NotExecutable { file } => {
                write!(f, "execute plugin {}: no executable bit is set", file.display())
            }
            Self::Start { plugin, source } => write!(f, "execute plugin {}: {source}", plugin.display()),
            Self::Talk { plugin, source } => write!(f, "talk to plugin {}: {source}", plugin.display()),
            Self::TimedOut { plugin, timeout, .. } => {
                write!(f, "plugin {}: no answer after {timeout:?}; killed", plugin.display())
            }
            Self::TooMuchOutput { plugin, limit } => {
                write!(f, "plugin {}: more than {limit} bytes of output; killed", plugin.display())
            }
        }
    }
}

impl error::Error for ExecError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::Talk { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<ExecError> for Error {
    fn from(error: ExecError) -> Self {
        let msg = error.to_string();
        match error {
            ExecError::Talk { .. } => Self::io(msg),
            ExecError::TimedOut { stdout, stderr, .. } => {
                Self::internal(msg).with_details(printed(&stdout, &stderr))
            }
            _ => Self::internal(msg),
        }
    }
}
