//! `cnikit dhcp`

use std::path::PathBuf;
use std::time::Duration;

use dhcp::{DEFAULT_SOCKET, DEFAULT_STATE_DIR, Daemon, DaemonError, Settings};

use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};

/// Run the daemon that acquires and keeps DHCP leases for pods
///
/// Networks with `"ipam": {"type": "dhcp"}` need it. It asks the servers that a pod's own interface reaches, renews what
/// it got, and writes it down, so that it may be stopped and started while pods run. It runs until SIGTERM or SIGINT,
/// and says on stderr what changes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where plugins find it (ipam.daemonSocketPath)
    #[arg(long = "socketpath", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Where leases are kept
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,

    /// Write the process ID to this file, an absolute path
    #[arg(long = "pidfile", value_name = "PATH")]
    pid_file: Option<PathBuf>,

    /// Where the host's root is: put in front of the paths of the socket and of pods' namespaces
    #[arg(long = "hostprefix", value_name = "PATH", default_value = "", hide_default_value = true)]
    host_prefix: PathBuf,

    /// Have servers send their answers to everybody: for ipvlan, whose interfaces share a MAC address
    #[arg(long)]
    broadcast: bool,

    /// How long to listen for an answer to one message
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    timeout: Duration,

    /// The longest wait before a message is sent again, as long as there is no lease
    #[arg(long = "resendmax", value_name = "DURATION", value_parser = duration, default_value = "62s")]
    resend_max: Duration,

    /// How long to look for a server before an ADD fails
    #[arg(long = "resendtimeout", value_name = "DURATION", value_parser = duration, default_value = "208s")]
    resend_timeout: Duration,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = Settings {
        socket: args.socket.clone(),
        state_dir: args.state_dir.clone(),
        pid_file: args.pid_file.clone(),
        host_prefix: args.host_prefix.clone(),
        broadcast: args.broadcast,
        timeout: args.timeout,
        resend_max: args.resend_max,
        resend_timeout: args.resend_timeout,
    };
    Daemon::start(settings).and_then(Daemon::run).map_err(failure)?;
    Ok(Exit::Done)
}

fn failure(error: DaemonError) -> Failure {
    Failure::new(exit_of_io(error.io_error()), error.to_string())
}

/// A duration as the reference's daemon takes it (Go's `time.ParseDuration`): `10s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 10s, 1m30s or 500ms");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let unit = &unit[..unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len())];
        let number: u32 = number.parse().map_err(|_| wrong())?;
        sum += number
            * match unit {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3600),
                _ => return Err(wrong()),
            };
        rest = &rest[digits + unit.len()..];
    }
    if sum.is_zero() { Err(wrong()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_reference_has_them() {
        for (text, milliseconds) in
            [("10s", 10_000), ("1m30s", 90_000), ("500ms", 500), ("1h2m3s4ms", 3_723_004)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "10", "s", "10x", "-1s", "0s", "1 s", "s1", "99999999999s", "é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
