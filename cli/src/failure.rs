//! Why a command failed: what to say, what to advise, what to exit with.

use std::io;

use cni_spec::runtime::RuntimeError;
use cni_spec::{Command, ErrorCode};
use ipam::StoreError;

use crate::exit::Exit;

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// `None`: there is nobody left to tell.
    message: Option<String>,
    advice: Vec<String>,
}

impl Failure {
    /// A failure with what to say about it: a lower-case fragment that names the operation and its object.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()), advice: Vec::new() }
    }

    /// Adds a sentence on what the reader can do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }

    /// The same, of somebody who may not do such things.
    fn of_privilege(self) -> Self {
        Self { exit: Exit::Privilege, ..self }
            .advise("run it as root, or in a user namespace: unshare --user --map-root-user --net --mount")
    }

    /// The failure to print an answer. A reader who went away (`cnikit list | head -1`) has seen enough: a success.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Done, message: None, advice: Vec::new() },
            _ => Self::new(Exit::Failed, format!("write to stdout: {error}")),
        }
    }

    /// What to exit with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What to say.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// What to advise.
    pub(crate) fn advice(&self) -> &[String] {
        &self.advice
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let exit = exit_of(&error);
        let failure = Self::new(exit, error.to_string());
        match &error {
            RuntimeError::AlreadyAttached(_) => {
                failure.advise("`cnikit del` with the same words takes the old attachment away")
            }
            RuntimeError::NotAttached(_) => failure.advise("`cnikit list` shows what is attached"),
            RuntimeError::UnknownToVersion { .. } => {
                failure.advise("write a newer cniVersion into the configuration: 1.1.0 knows every command")
            }
            _ if exit == Exit::TryAgain => {
                failure.advise("try again; `cnikit ipam` shows who has which address")
            }
            _ if matches!(exit, Exit::Plugin | Exit::Namespace) && !is_privileged() => failure.of_privilege(),
            _ => failure,
        }
    }
}

fn exit_of(error: &RuntimeError) -> Exit {
    match error {
        _ if error.is_temporary() => Exit::TryAgain,
        RuntimeError::Plugin { command, error, .. } => match (error.code(), command) {
            (ErrorCode::INVALID_NETNS, _) => Exit::Namespace,
            (code, _) if is_about_configuration(code) => Exit::Configuration,
            (_, Command::Check) => Exit::Differs,
            (_, Command::Status) => Exit::NotReady,
            _ => Exit::Plugin,
        },
        RuntimeError::Add { cause, .. } | RuntimeError::Stale { cause, .. } => exit_of(cause),
        RuntimeError::Several(errors) => errors.first().map_or(Exit::Failed, exit_of),
        RuntimeError::AlreadyAttached(_) | RuntimeError::NameTaken { .. } => Exit::Refused,
        RuntimeError::NotAttached(_) => Exit::Differs,
        RuntimeError::Unsupported { .. }
        | RuntimeError::NoPlugins(_)
        | RuntimeError::UnknownToVersion { .. } => Exit::Configuration,
        RuntimeError::NoTimeLeft { .. } => Exit::TryAgain,
        RuntimeError::Cache(error) => exit_of_io(error.io_error()),
        _ => Exit::Failed,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Io { source, .. } => exit_of_io(source),
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<netops::Error> for Failure {
    fn from(error: netops::Error) -> Self {
        let exit = match &error {
            netops::Error::Namespace { .. } => Exit::Namespace,
            _ => Exit::Failed,
        };
        let failure = Self::new(exit, error.to_string());
        if is_privileged() { failure } else { failure.of_privilege() }
    }
}

impl From<cni_spec::Error> for Failure {
    fn from(error: cni_spec::Error) -> Self {
        let exit = match error.code() {
            ErrorCode::INVALID_NETNS => Exit::Namespace,
            ErrorCode::TRY_AGAIN_LATER => Exit::TryAgain,
            code if is_about_configuration(code) => Exit::Configuration,
            _ => Exit::Plugin,
        };
        Self::new(exit, error.to_string())
    }
}

fn is_about_configuration(code: ErrorCode) -> bool {
    let codes = [ErrorCode::INCOMPATIBLE_VERSION, ErrorCode::UNSUPPORTED_FIELD, ErrorCode::INVALID_CONFIG];
    codes.contains(&code)
}

/// A failed system call's.
pub(crate) fn exit_of_io(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::PermissionDenied { Exit::Privilege } else { Exit::Failed }
}

/// Whether this process may change networks: `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` (linux/capability.h) are effective.
fn is_privileged() -> bool {
    const NEEDED: u64 = 1 << 12 | 1 << 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    // Where nobody can tell, nothing is claimed.
    effective
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_none_or(|set| set & NEEDED == NEEDED)
}
