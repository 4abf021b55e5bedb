//! `cnikit-plugins`: every plugin in one executable, each under its name.

mod signature;

fn main() -> std::process::ExitCode {
    // Keeps the linker from leaving it out.
    std::hint::black_box(&signature::SIGNATURE);
    plugins::run(std::env::args_os())
}
