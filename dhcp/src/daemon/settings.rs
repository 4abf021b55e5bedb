//! How a daemon behaves, and why it cannot.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use plugin_kit::ipam::dhcp::protocol::DEFAULT_SOCKET;

/// Where leases are kept unless it is said otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/cni/dhcp";

/// How a daemon behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub socket: PathBuf,
    /// Where it keeps leases.
    pub state_dir: PathBuf,
    /// Where it writes its process ID: an absolute path.
    pub pid_file: Option<PathBuf>,
    /// Put in front of the paths of the socket and of namespaces: where the host's root is, if the daemon has another.
    pub host_prefix: PathBuf,
    /// Servers are to send their answers to everybody.
    pub broadcast: bool,
    /// How long an answer to one message is waited for.
    pub timeout: Duration,
    /// The longest wait between two messages of version 4.
    pub resend_max: Duration,
    /// How long servers are asked for an address before an `ADD` fails.
    pub resend_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            state_dir: DEFAULT_STATE_DIR.into(),
            pid_file: None,
            host_prefix: PathBuf::new(),
            broadcast: false,
            timeout: Duration::from_secs(10),
            resend_max: Duration::from_secs(62),
            resend_timeout: Duration::from_secs(208),
        }
    }
}

/// Why a daemon cannot start, or go on.
#[derive(Debug)]
pub struct DaemonError {
    what: String,
    source: io::Error,
}

impl DaemonError {
    /// The system's own word for it.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for DaemonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

pub(super) fn failed(what: &str, source: io::Error) -> DaemonError {
    DaemonError { what: what.to_owned(), source }
}
