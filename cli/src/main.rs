//! `cnikit`: shows, tries, explains and checks container networks.
//!
//! This is glue: [`args`] says what can be asked for, [`commands`] calls the crates, [`output`] shows the answer,
//! [`exit`] is how it ends.

mod args;
mod commands;
mod exit;
mod failure;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::output::Output;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let mut output = Output::of_process();
    let outcome = commands::run(&cli.command, &mut output);
    match outcome.and_then(|exit| output.flush().map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::complain(&failure);
            failure.exit().into()
        }
    }
}
