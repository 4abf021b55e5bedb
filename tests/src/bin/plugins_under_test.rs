//! The plugins that the tests of this package execute, under links that bear their names: they start as those do that a runtime
//! executes.

#![cfg_attr(target_env = "gnu", no_main)]

#[cfg(target_env = "gnu")]
#[path = "../../../cli/src/start.rs"]
mod start;

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    run()
}

fn run() -> std::process::ExitCode {
    plugins::run(std::env::args_os())
}
