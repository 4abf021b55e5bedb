//! `cnikit completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  cnikit completions bash > /usr/share/bash-completion/completions/cnikit
  cnikit completions zsh  > /usr/share/zsh/site-functions/_cnikit
  cnikit completions fish > /usr/share/fish/vendor_completions.d/cnikit.fish";

/// Print a script that completes cnikit's words in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cnikit", &mut script);
    output.bytes(&script)?;
    Ok(Exit::Done)
}
