//! What can go wrong, and who must do something about it.

use std::path::{Path, PathBuf};
use std::{error, fmt, io};

use super::Attachment;
use crate::{AttachmentId, Command, ErrorCode, NetworkName, PluginType, SpecVersion};

/// Why a [`Runtime`](super::Runtime) could not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A plugin refused, misbehaved, or could not be run.
    Plugin {
        /// Which one.
        plugin: PluginType,
        /// What it was asked.
        command: Command,
        /// Its own error, or what is known of its end (a signal, a time-out, output that is no result) with
        /// everything that it wrote.
        error: crate::Error,
    },
    /// `ADD` failed on its way through the chain. Every plugin that had been started was then asked to `DEL`.
    Add {
        /// What failed.
        cause: Box<Self>,
        /// What failed while undoing. If it is empty, nothing is left of the attempt, on the system or in the cache.
        /// Otherwise the attachment stays in the cache, and a later [`del`](super::Runtime::del) or
        /// [`gc`](super::Runtime::gc) goes on from there.
        undo: Vec<Self>,
    },
    /// Several things failed, of the many that were done.
    Several(Vec<Self>),
    /// `ADD` of an attachment that is already there, or whose `ADD` was cut off. The specification demands a `DEL` in
    /// between; after a reboot too, because what plugins keep on disk (leases) is still there.
    AlreadyAttached(Identity),
    /// `CHECK` of an attachment that the cache does not know, or whose `ADD` did not finish.
    NotAttached(Identity),
    /// The attachment's cache file belongs to another attachment, whose names join to the same file name.
    NameTaken {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: Identity,
    },
    /// `GC` found an attachment that is not valid any more, and could not `DEL` it.
    Stale {
        /// The attachment. It stays in the cache.
        who: Identity,
        /// What failed.
        cause: Box<Self>,
    },
    /// A plugin does not speak the list's version.
    Unsupported {
        /// The plugin.
        plugin: PluginType,
        /// The list's version.
        version: SpecVersion,
        /// The versions that the plugin speaks.
        supported: Vec<String>,
    },
    /// The list has no plugins.
    NoPlugins(NetworkName),
    /// The list's version has no such command: `CHECK` came with 0.4.0.
    UnknownToVersion {
        /// The command.
        command: Command,
        /// The list's version.
        version: SpecVersion,
    },
    /// The time for the whole chain was used up before this plugin's turn.
    NoTimeLeft {
        /// The plugin that was not called.
        plugin: PluginType,
        /// What it should have been asked.
        command: Command,
    },
    /// The cache cannot be read or written, or another operation holds it for too long.
    Cache(CacheError),
}

/// What identifies an attachment on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The network.
    pub network: NetworkName,
    /// The container and its interface.
    pub attachment: AttachmentId,
}

impl Identity {
    pub(super) fn new(network: &NetworkName, attachment: &Attachment) -> Self {
        Self { network: network.clone(), attachment: attachment.id() }
    }
}

impl RuntimeError {
    /// The first error that a plugin answered with, for runtimes that pass on its code and its words.
    pub fn plugin_error(&self) -> Option<&crate::Error> {
        match self {
            Self::Plugin { error, .. } => Some(error),
            Self::Add { cause, .. } | Self::Stale { cause, .. } => cause.plugin_error(),
            Self::Several(errors) => errors.iter().find_map(Self::plugin_error),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything: a plugin says so
    /// ([`ErrorCode::TRY_AGAIN_LATER`]), or somebody else is at work on the attachment.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Plugin { error, .. } => error.code() == ErrorCode::TRY_AGAIN_LATER,
            Self::Add { cause, undo } => cause.is_temporary() && undo.is_empty(),
            Self::Several(errors) => errors.iter().all(Self::is_temporary),
            Self::Stale { cause, .. } => cause.is_temporary(),
            Self::Cache(error) => error.is_busy(),
            _ => false,
        }
    }

    /// One error for all that failed, if anything did.
    pub(super) fn collect(mut errors: Vec<Self>) -> Result<(), Self> {
        match (errors.len(), errors.pop()) {
            (_, None) => Ok(()),
            (1, Some(error)) => Err(error),
            (_, Some(last)) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin { plugin, command, error } => write!(f, "{command} by plugin \"{plugin}\": {error}"),
            Self::Add { cause, undo } if undo.is_empty() => write!(f, "{cause}; everything was undone"),
            Self::Add { cause, undo } => {
                write!(f, "{cause}; undoing it failed too, so DEL is still needed: {}", Joined(undo))
            }
            Self::Several(errors) => write!(f, "{} failures: {}", errors.len(), Joined(errors)),
            Self::AlreadyAttached(who) => write!(f, "{who} is attached already, or half; DEL it first"),
            Self::NotAttached(who) => write!(f, "{who} is not attached, or only half"),
            Self::NameTaken { path, owner } => {
                write!(f, "cache file {} belongs to {owner}; choose another container ID", path.display())
            }
            Self::Stale { who, cause } => write!(f, "DEL {who}, which is not valid any more: {cause}"),
            Self::Unsupported { plugin, version, supported } => {
                write!(f, "plugin \"{plugin}\" does not speak CNI {version}, only {}", supported.join(", "))
            }
            Self::NoPlugins(network) => write!(f, "network {network} has no plugins"),
            Self::UnknownToVersion { command, version } => {
                write!(f, "{command} is unknown to CNI {version}, which the configuration asks for")
            }
            Self::NoTimeLeft { plugin, command } => {
                write!(f, "{command} by plugin \"{plugin}\": not started, the time for the chain is used up")
            }
            Self::Cache(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl error::Error for RuntimeError {}

impl From<CacheError> for RuntimeError {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttachmentId { container_id, if_name } = &self.attachment;
        write!(f, "interface {if_name} of container {container_id} on network {}", self.network)
    }
}

struct Joined<'a>(&'a [RuntimeError]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if nth == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// An operation on the result cache that the system refused.
#[derive(Debug)]
pub struct CacheError {
    operation: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl CacheError {
    pub(super) fn new(operation: &'static str, path: &Path, error: io::Error) -> Self {
        Self { operation, path: path.to_owned(), error }
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system said.
    pub fn io_error(&self) -> &io::Error {
        &self.error
    }

    /// Whether there is no such file, or cannot be any because its name would be too long.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename)
    }

    /// Whether another operation held the attachment, or a garbage collection its network, until the time was up.
    pub fn is_busy(&self) -> bool {
        self.error.kind() == io::ErrorKind::TimedOut
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, path, error } = self;
        let path = path.display();
        if self.is_busy() {
            write!(
                f,
                "{operation} {path}: another operation on the same attachment or network is still running"
            )
        } else {
            write!(f, "{operation} {path}: {error}")
        }
    }
}

impl error::Error for CacheError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}
