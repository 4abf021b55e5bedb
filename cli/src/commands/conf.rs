//! `cnikit conf`: which configuration a runtime would use, and every mistake in it.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Show and check network configurations
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_: &Args, _: &mut Output) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "this version has no `conf`"))
}
