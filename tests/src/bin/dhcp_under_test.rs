//! The daemon of `dhcp`, for the tests of this package: `cnikit dhcp` without a command line.

use std::process::ExitCode;
use std::time::Duration;

use dhcp::{Daemon, Settings};

fn main() -> ExitCode {
    // Tests do not wait for minutes until an address is refused.
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(8);
    let settings = Settings { resend_timeout: Duration::from_secs(seconds), ..Settings::default() };
    match Daemon::start(settings).and_then(Daemon::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
