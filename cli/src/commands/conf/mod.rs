//! `cnikit conf`: which configuration a runtime would use, and every mistake in it.

mod document;
mod lint;
mod show;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Show and check network configurations
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(show::Args),
    Lint(lint::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    match &args.command {
        Command::Show(args) => show::run(args, output),
        Command::Lint(args) => lint::run(args, output),
    }
}
