//! One module per command: its arguments, and what it does.

pub(crate) mod conf;
pub(crate) mod demo;

use crate::args::Command;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Does what was asked for, and prints the answer.
pub(crate) fn run(command: &Command, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Conf(args) => conf::run(args, output),
        Command::Demo(args) => demo::run(args, output),
    }
}
