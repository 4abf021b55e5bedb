//! `cnikit-plugins`: every plugin in one executable, each under its name.

fn main() -> std::process::ExitCode {
    plugins::run(std::env::args_os())
}
