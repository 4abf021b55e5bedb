//! Some nodes on a virtual clock: how they come to know one another, hear of a change, and miss one that dies.
//!
//! ```text
//! cargo run -p cnikit-gossip --example converge            10 nodes
//! cargo run -p cnikit-gossip --example converge -- 300     as many as you like
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use gossip::{Liveness, PeerId};
use support::{Network, address, id, seconds};

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(10).clamp(2, 5000);
    let all = 0..count as usize;
    let started = Instant::now();
    println!("{count} nodes; a datagram takes 0.2 to 3 ms");

    let mut network = Network::of(count, 42);
    all.clone()
        .for_each(|at| network.set(at, "subnet", format!("10.{}.{}.0/24", at >> 8, at & 255).as_bytes()));
    let took = until(&mut network, |network| {
        all.clone().all(|at| network.processes[at].gossip.members().count() == count as usize)
    });
    report(&mut network, "every node knows every other one", took);

    network.run(seconds(30));
    network.take_sent();
    network.run(seconds(60));
    report(&mut network, "a minute in which nothing happens", seconds(60));

    network.set(1, "subnet", b"10.99.0.0/24");
    let took = until(&mut network, |network| {
        all.clone().all(|at| network.get(at, 1, "subnet") == Some(b"10.99.0.0/24".as_slice()))
    });
    report(&mut network, "a change is everywhere", took);

    network.stop(1);
    let dead: PeerId = id(1);
    let took = until(&mut network, |network| {
        network.running().all(|(_, process)| {
            process.gossip.member(&dead).is_some_and(|member| member.liveness == Liveness::Down)
        })
    });
    report(&mut network, "a dead node is down everywhere", took);

    let late = network.start(count, 1, address(count));
    network.join(late, &[address(0)]);
    network.set(late, "subnet", b"10.100.0.0/24");
    let took = until(&mut network, |network| {
        network.processes[late].gossip.members().count() == count as usize + 1
            && network.running().all(|(at, _)| network.get(at, count, "subnet").is_some())
    });
    report(&mut network, "one more knows everybody, and everybody knows it", took);
    println!("computed in {:.1?}", started.elapsed());
}

fn until(network: &mut Network, mut is_so: impl FnMut(&Network) -> bool) -> Duration {
    network.run_until(seconds(600), &mut is_so)
}

fn report(network: &mut Network, what: &str, took: Duration) {
    let bytes: usize =
        network.processes.iter_mut().map(|process| std::mem::take(&mut process.sent_bytes)).sum();
    let (sent, nodes) = (network.take_sent() as f64, network.running().count() as f64);
    let streams = std::mem::take(&mut network.streams);
    println!(
        "{:>9.3} s  {what:50} {:>7.1} datagrams and {:>6.1} kB of each node, {streams} streams",
        took.as_secs_f64(),
        sent / nodes,
        bytes as f64 / nodes / 1000.0,
    );
}
