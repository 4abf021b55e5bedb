//! `cnikit demo`: two containers talk, in front of your eyes.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Attach a few containers, let them talk, show what happened, clean up
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_: &Args, _: &mut Output) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "this version has no `demo`"))
}
