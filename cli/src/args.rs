//! What can be asked for.

use clap::{Parser, Subcommand};

use crate::commands::{conf, demo};
use crate::exit::Exit;

/// Container networks for people: try, see, explain and check them
#[derive(Debug, Parser)]
#[command(name = "cnikit", version, after_help = Exit::table(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Conf(conf::Args),
    Demo(demo::Args),
}
