//! How fast cnikit's plugins are beside the reference's, in one run.
//!
//! ```text
//! cargo build --release -p cnikit --bin cnikit-plugins -p cnikit-tests --bin compare --bin floor
//! target/…/release/compare [PAIRS]          plugins one by one, and the chain that a node uses: pairs of calls
//! target/…/release/compare chain [PAIRS]    the chain alone
//! target/…/release/compare crowd [ROUNDS]   fifty pods that come at once, and go at once
//! target/…/release/compare memory           what each plugin of the chain has of it
//! target/…/release/compare embedded [ROUNDS] attachments in one process, without executions
//! target/…/release/compare netavark [PAIRS] netavark's setup and teardown beside a chain that does the same
//! target/…/release/compare floor [PAIRS]    `bridge`, and the reference's, beside the netlink messages that it cannot do without
//! target/…/release/compare report FILE [PAIRS]  all of the above, and more pods on the node, as FILE.md and FILE.svg
//! target/…/release/compare growth [ROUNDS]  the chain, with up to 1000 pods on the node
//! target/…/release/compare ports [ROUNDS]   connecting through one of up to 1000 published ports
//! target/…/release/compare overlay [ROUNDS] packets between nodes, beside a path made by hand (needs `cnikit` too)
//! ```
//!
//! Needs root and the reference's plugins. The implementations take turns in going first; between calls the kernel is
//! given time to finish what it does in the background. A ratio's interval contains the median with 95 % (ranks of a
//! sign test).

#![allow(clippy::expect_used)] // a benchmark that cannot run has nothing else to say

mod calls;
mod chain;
mod config;
mod crowd;
mod embedded;
mod floor;
mod growth;
mod memory;
mod netavark;
mod overlay;
mod plot;
mod ports;
mod statistics;
mod table;

use std::fs;
use std::time::Duration;

use cnikit_tests::Implementation;

use crate::table::Table;

/// Between two calls: longer than any grace period that a removal may still be waiting for.
const REST: Duration = Duration::from_millis(60);

/// How many pods are on the node already, where that matters.
const CROWDS: [usize; 3] = [1, 250, 1000];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |text: Option<&String>, otherwise| {
        text.map_or(otherwise, |text| text.parse().expect("a number of pairs or rounds"))
    };
    let implementations = implementations();
    let mut table = Table::default();
    match arguments.first().map(String::as_str) {
        Some("growth") => growth::measure(&implementations, count(arguments.get(1), 20)),
        Some("ports") => ports::measure(&implementations, count(arguments.get(1), 2000)),
        Some("overlay") => overlay::measure(&implementations[1], count(arguments.get(1), 20)),
        Some("chain") => chain::compare(&implementations, count(arguments.get(1), 30), &mut table),
        Some("crowd") => crowd::compare(&implementations, count(arguments.get(1), 10), &mut table),
        Some("memory") => drop(memory::measure(&implementations)),
        Some("netavark") => netavark::compare(&implementations[1], count(arguments.get(1), 30), &mut table),
        Some("embedded") => drop(embedded::measure(count(arguments.get(1), 200))),
        Some("floor") => {
            floor::bound(&implementations[0], count(arguments.get(1), 30), &mut table);
            floor::compare(&implementations[1], count(arguments.get(1), 30), &CROWDS, &mut table);
        }
        Some("report") => {
            let file = arguments.get(1).expect("the name of a file, without its ending");
            report(&implementations, count(arguments.get(2), 30), file);
        }
        _ => {
            let pairs = count(arguments.first(), 30);
            println!("{pairs} pairs; milliseconds are medians (smallest to largest)");
            calls::compare_calls(&implementations, pairs, &mut table);
            chain::compare(&implementations, pairs, &mut table);
        }
    }
}

/// Everything about speed that is compared in pairs, as a page and a plot.
fn report(implementations: &[Implementation; 2], pairs: usize, file: &str) {
    let mut table = Table::default();
    calls::compare_calls(implementations, pairs, &mut table);
    chain::compare(implementations, pairs, &mut table);
    crowd::compare(implementations, pairs.div_ceil(3), &mut table);
    netavark::compare(&implementations[1], pairs, &mut table);
    floor::bound(&implementations[0], pairs, &mut table);
    floor::compare(&implementations[1], pairs, &CROWDS, &mut table);
    growth::compare(implementations, pairs.div_ceil(3), &[0, 250, 1000], &mut table);
    let embedded = embedded::measure(pairs * 5);
    let memory = memory::measure(implementations);
    let plot = format!("{file}.svg");
    let page = format!(
        "# How fast\n\n\
         Made by `compare report` ({pairs} pairs, which take turns in going first) on {}. Times are medians; how many\n\
         times as fast is the median of the pairs' ratios, with its 95 % interval. Against the floor the best is 1:\n\
         it sends the netlink messages that the result cannot do without, and knows everything else beforehand.\n\
         What of all this is the kernel's is in [`README.md`](README.md).\n\n\
         ![How many times as fast]({})\n{}{embedded}{memory}",
        machine(),
        plot.rsplit('/').next().unwrap_or_default(),
        table.markdown()
    );
    fs::write(format!("{file}.md"), page).expect("a page");
    fs::write(plot, plot::draw(&table)).expect("a plot");
}

/// What it ran on, in words.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let guest = if cpuinfo.contains(" hypervisor") { "a virtual machine" } else { "a machine" };
    // What follows the version's numbers is who built it.
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{guest}, {processors} × {}, Linux {kernel}", model.unwrap_or("processor"))
}

/// The reference's plugins, and cnikit's: those that were built beside this program.
fn implementations() -> [Implementation; 2] {
    let reference = Implementation::reference().expect("the reference's plugins, to compare with");
    let own = std::env::current_exe().expect("a path of one's own").with_file_name("cnikit-plugins");
    assert!(
        own.exists(),
        "{} is missing: cargo build --release -p cnikit --bin cnikit-plugins",
        own.display()
    );
    [reference, Implementation::Ours(own)]
}
