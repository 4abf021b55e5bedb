//! A daemon of one's own, with its socket and its leases in a directory of one's own:
//!
//! ```console
//! # cargo run -p cnikit-dhcp --example daemon -- /tmp/dhcp
//! ```
//!
//! `"ipam": {"type": "dhcp", "daemonSocketPath": "/tmp/dhcp/socket"}` uses it.

use std::path::PathBuf;

use dhcp::{Daemon, DaemonError, Settings};

fn main() -> Result<(), DaemonError> {
    let directory: PathBuf = std::env::args_os().nth(1).map_or_else(|| "/tmp/dhcp".into(), PathBuf::from);
    let settings = Settings {
        socket: directory.join("socket"),
        state_dir: directory.join("leases"),
        ..Settings::default()
    };
    eprintln!("listening at {}", settings.socket.display());
    Daemon::start(settings)?.run()
}
