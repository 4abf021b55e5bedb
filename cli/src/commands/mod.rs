//! One module per command: its arguments, and what it does.

pub(crate) mod add;
pub(crate) mod agent;
mod attachment;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod conf;
pub(crate) mod del;
pub(crate) mod demo;
pub(crate) mod dhcp;
pub(crate) mod doctor;
pub(crate) mod explain;
#[cfg(test)]
mod fixtures;
pub(crate) mod gc;
pub(crate) mod install;
pub(crate) mod ipam;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod node;
pub(crate) mod peers;
pub(crate) mod repair;
mod state;
pub(crate) mod status;
pub(crate) mod topology;
pub(crate) mod trace;
pub(crate) mod version;

use crate::args::Command;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Does what was asked for, and prints the answer.
pub(crate) fn run(command: &Command, output: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Add(args) => add::run(args, output),
        Command::Agent(args) => agent::run(args, output),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => completions::run(args, output),
        Command::Conf(args) => conf::run(args, output),
        Command::Del(args) => del::run(args),
        Command::Demo(args) => demo::run(args, output),
        Command::Dhcp(args) => dhcp::run(args),
        Command::Doctor(args) => doctor::run(args, output),
        Command::Explain(args) => explain::run(args, output),
        Command::Gc(args) => gc::run(args, output),
        Command::Install(args) => install::run(args, output),
        Command::Ipam(args) => ipam::run(args, output),
        Command::List(args) => list::run(args, output),
        Command::Man(args) => man::run(args, output),
        Command::Node(args) => node::run(args, output),
        Command::Peers(args) => peers::run(args, output),
        Command::Repair(args) => repair::run(args, output),
        Command::Status(args) => status::run(args, output),
        Command::Topology(args) => topology::run(args, output),
        Command::Trace(args) => trace::run(args, output),
        Command::Version(args) => version::run(args, output),
    }
}
