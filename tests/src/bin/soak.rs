//! Many calls at once, for a while.
//!
//! ```text
//! cargo build --release -p cnikit --bin cnikit-plugins -p cnikit-tests --bin soak
//! target/…/release/soak [OPTIONS]
//!
//!   --seconds N     32 workers on one network (60)
//!   --workers N     so many of them (32)
//!   --cold N        50 pods at once on a node that had none, N times (100)
//!   --only-ours     do without the reference's host-local in the same directory
//!   --plugins PATH  the executable of cnikit's plugins; else cnikit-plugins beside this program
//! ```
//!
//! Needs root. Everything happens in namespaces of its own. Ends with status 1 if anything went wrong.

#![allow(clippy::expect_used, clippy::panic)] // a tool that cannot run has nothing else to say

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cnikit_tests::Implementation;
use cnikit_tests::soak::{Cold, Soak, Tally, Until};

struct Options {
    seconds: u64,
    workers: usize,
    cold: usize,
    mixed: bool,
    plugins: PathBuf,
}

fn main() -> ExitCode {
    let options = options(std::env::args().skip(1));
    assert!(
        options.plugins.exists(),
        "{} is missing: see the head of this program",
        options.plugins.display()
    );
    let plugins = Implementation::Ours(options.plugins);
    let mut wrong = Vec::new();
    if options.seconds > 0 {
        let reference = if options.mixed { Implementation::reference() } else { None };
        let mixed = if reference.is_some() { ", the reference's host-local among them" } else { "" };
        let soak = Soak { plugins: plugins.clone(), reference, workers: options.workers };
        let tally = soak.run(Until::Over(Duration::from_secs(options.seconds)));
        println!("{} workers{mixed}: {tally}", options.workers);
        wrong.extend(tally.wrong);
    }
    if options.cold > 0 {
        let mut all = Tally::default();
        let cold = Cold::new(&plugins, 50);
        for _ in 0..options.cold {
            all.add(cold.run());
        }
        println!("{} times 50 pods at once on a cold node: {all}", options.cold);
        wrong.extend(all.wrong);
    }
    for wrong in &wrong {
        eprintln!("{wrong}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Options {
    let beside = std::env::current_exe().expect("a path of one's own").with_file_name("cnikit-plugins");
    let mut options = Options { seconds: 60, workers: 32, cold: 100, mixed: true, plugins: beside };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: of what?"));
        let number = |text: String| text.parse().unwrap_or_else(|_| panic!("not a number: {text}"));
        match argument.as_str() {
            "--seconds" => options.seconds = number(value()) as u64,
            "--workers" => options.workers = number(value()),
            "--cold" => options.cold = number(value()),
            "--only-ours" => options.mixed = false,
            "--plugins" => options.plugins = value().into(),
            other => panic!("{other}: see the head of this program"),
        }
    }
    options
}
