//! `cnikit`: shows, tries, explains and checks container networks.
//!
//! This is glue: [`args`] says what can be asked for, [`commands`] calls the crates, [`output`] shows the answer,
//! [`exit`] and [`failure`] are how it ends. What takes thinking is elsewhere: [`node`] finds out what is attached
//! and how it is.

mod agent_socket;
mod args;
mod commands;
mod exit;
mod failure;
mod install;
mod netns;
mod network;
mod node;
mod output;
mod places;
mod signature;

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
