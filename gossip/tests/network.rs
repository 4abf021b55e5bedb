//! Nodes on a virtual clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::{Network, seconds};

#[test]
fn nodes_that_know_one_seed_come_to_know_one_another() {
    for count in [2, 3, 10, 50] {
        let mut network = Network::of(count, count);
        for at in 0..count as usize {
            network.set(at, "name", format!("node {at}").as_bytes());
        }
        let took = network.run_until(seconds(20), Network::has_converged);
        println!("{count}: {took:?}, {} streams", network.streams);
    }
}

#[test]
fn a_change_is_everywhere_soon() {
    let mut network = Network::of(50, 7);
    network.run_until(seconds(20), Network::has_converged);
    network.run(seconds(20));
    network.set(17, "subnet", b"10.0.17.0/24");
    let took = network.run_until(seconds(3), Network::has_converged);
    println!("{took:?}");
}
