//! `cnikit man`

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  cnikit man | man -l -
  cnikit man --dir /usr/share/man/man1";

/// Print cnikit's manual page
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write this page and one per command (cnikit-add.1, …) into a directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    match &args.dir {
        Some(dir) => {
            write_all(dir).map_err(|error| {
                Failure::new(
                    exit_of_io(&error),
                    format!("write manual pages into {}: {error}", dir.display()),
                )
            })?;
            note(format_args!("manual pages are in {}", dir.display()));
        }
        None => output.bytes(&page(Cli::command()).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

fn write_all(dir: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), dir)
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut roff = Vec::new();
    Man::new(command).render(&mut roff)?;
    Ok(roff)
}
