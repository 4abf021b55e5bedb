//! Measures worlds of many nodes, and prints a table.
//!
//! ```text
//! cargo run --profile simulation -p cnikit-simulation -- [NODES:PODS[:known] …] [--svg FILE]
//! ```
//!
//! `known`: the first pods are not told, but known to all at once.

#![allow(clippy::expect_used)] // whoever runs it by hand reads it

use simulation::measure::{FirstPods, HEAD, measure};
use simulation::svg;

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.iter().position(|argument| argument == "--svg").map(|at| {
        let file = arguments.get(at + 1).cloned().expect("--svg FILE");
        arguments.drain(at..at + 2);
        file
    });
    if arguments.is_empty() {
        arguments = ["10:100", "100:100", "1000:10", "5000:1"].map(str::to_owned).to_vec();
    }
    println!("{HEAD}");
    let mut rows = Vec::new();
    for argument in arguments {
        let (nodes, pods) = argument.split_once(':').expect("NODES:PODS");
        let (pods, first) = match pods.split_once(':') {
            None => (pods, FirstPods::Told),
            Some((pods, known)) => {
                assert_eq!(known, "known", "NODES:PODS, or NODES:PODS:known");
                (pods, FirstPods::Known)
            }
        };
        let (nodes, pods) = (nodes.parse().expect("a number"), pods.parse().expect("a number"));
        let row = measure(nodes, pods, first, 1);
        println!("{row}");
        eprintln!("{} nodes took {:.1} s to compute", row.nodes, row.took.as_secs_f64());
        rows.push(row);
    }
    if let Some(file) = file {
        std::fs::write(&file, svg::plot(&rows)).expect("a file that can be written");
    }
}
