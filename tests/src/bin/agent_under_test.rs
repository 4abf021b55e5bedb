//! The overlay's agent, for the tests of this package: `cnikit agent --config FILE` without the rest of the command line.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::{InForce, Options, Settings};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let file: PathBuf = std::env::args_os().next_back().ok_or("FILE")?.into();
    let InForce { options, .. } = InForce::of(&Options::default(), Some(&file), &Options::defaults())?;
    Ok(agent::run(Settings::new(&options)?, None)?)
}
