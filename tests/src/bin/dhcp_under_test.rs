//! The daemon of `dhcp`, for the tests of this package: `cnikit dhcp` without a command line.

use std::process::ExitCode;
use std::time::Duration;

use dhcp::{Daemon, Settings};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // Tests do not wait for minutes until an address is refused.
    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(8);
    let mut settings = Settings { resend_timeout: Duration::from_secs(seconds), ..Settings::default() };
    if let Some(directory) = arguments.next() {
        settings.state_dir = directory.into();
    }
    match Daemon::start(settings).and_then(Daemon::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
