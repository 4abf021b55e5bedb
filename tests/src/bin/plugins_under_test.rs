//! The plugins that the tests of this package execute, under links that bear their names.

fn main() -> std::process::ExitCode {
    plugins::run(std::env::args_os())
}
