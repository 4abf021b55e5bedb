//! How fast cnikit's plugins are beside the reference's, in one run.
//!
//! ```text
//! cargo build --release -p cnikit --bin cnikit-plugins -p cnikit-tests --bin compare
//! target/…/release/compare [PAIRS]          plugins one by one, and the chain that a node uses: pairs of calls
//! target/…/release/compare growth [ROUNDS]  the chain, with up to 1000 pods on the node
//! target/…/release/compare ports [ROUNDS]   connecting through one of up to 1000 published ports
//! target/…/release/compare floor [PAIRS]     `bridge` beside the netlink messages that it cannot do without (needs `floor`)
//! target/…/release/compare overlay [ROUNDS] packets between nodes, beside a path made by hand (needs `cnikit` too)
//! ```
//!
//! Needs root and the reference's plugins. The implementations take turns in going first; between calls the kernel is
//! given time to finish what it does in the background. A ratio's interval contains the median with 95 % (ranks of a
//! sign test).

#![allow(clippy::expect_used)] // a benchmark that cannot run has nothing else to say

mod calls;
mod chain;
mod floor;
mod growth;
mod overlay;
mod ports;
mod statistics;

use std::time::Duration;

use cnikit_tests::Implementation;

/// Between two calls: longer than any grace period that a removal may still be waiting for.
const REST: Duration = Duration::from_millis(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = |text: Option<&String>, otherwise| {
        text.map_or(otherwise, |text| text.parse().expect("a number of pairs or rounds"))
    };
    let implementations = implementations();
    match arguments.first().map(String::as_str) {
        Some("growth") => growth::measure(&implementations, count(arguments.get(1), 20)),
        Some("ports") => ports::measure(&implementations, count(arguments.get(1), 2000)),
        Some("floor") => floor::compare(&implementations[1], count(arguments.get(1), 30), &[1, 250, 1000]),
        Some("overlay") => overlay::measure(&implementations[1], count(arguments.get(1), 20)),
        _ => {
            let pairs = count(arguments.first(), 30);
            println!("{pairs} pairs; milliseconds are medians (smallest to largest)\n");
            println!("{:32} {:>26} {:>26}   {:>5} {:>13}", "", "reference", "cnikit", "ratio", "95 %");
            calls::compare_calls(&implementations, pairs);
            chain::compare(&implementations, pairs);
            println!();
            calls::compare_memory(&implementations);
        }
    }
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
