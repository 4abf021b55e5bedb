//! `cnikit-plugins`: every plugin in one executable, each under its name.

#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod signature;
#[cfg(all(target_env = "gnu", not(test)))]
mod start;

#[cfg(not(all(target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    run()
}

fn run() -> std::process::ExitCode {
    // Keeps the linker from leaving it out.
    std::hint::black_box(&signature::SIGNATURE);
    plugins::run(std::env::args_os())
}
