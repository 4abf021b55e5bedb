//! Why an agent does not start, or ends.

use std::path::PathBuf;
use std::{error, fmt, io};

/// Why an agent does not start, or ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refuses something that it needs.
    Io {
        /// What: `listen at /run/cnikit/agent.sock`.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// It cannot tell which node this is.
    Identity(String),
    /// Its store cannot be used.
    Store {
        /// Which: `gossip`.
        kind: &'static str,
        /// Why not.
        why: String,
    },
    /// It is to be taken off the node, and another is at work, which would make everything again.
    Running {
        /// What the other has taken.
        lock: PathBuf,
    },
    /// What the kernel still holds of a network that was to be taken off the node, and why.
    Left(String),
    /// A part of it has ended, which none does unless it must.
    Ended {
        /// Which part.
        part: &'static str,
        /// Why.
        why: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// The kernel's answer, if it was its fault.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::Identity(why) => f.write_str(why),
            Self::Store { kind, why } => write!(f, "the store {kind}: {why}"),
            Self::Running { lock } => write!(f, "an agent is running: it has {}", lock.display()),
            Self::Left(what) => write!(f, "remove what the agent has made: {what}"),
            Self::Ended { part, why } => write!(f, "{part} has ended: {why}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
