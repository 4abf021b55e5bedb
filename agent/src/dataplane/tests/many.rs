//! How long it takes from when the data plane is told of many nodes until the kernel has the ways to them: tunnels, for both
//! families, which is seven things for each node.
//!
//! ```text
//! cargo test --release -p cnikit-agent --no-default-features --lib -- --ignored --nocapture many_nodes
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay::{Mode, Node, NodeId, NodeName, Subnet, SubnetState};

use super::lab::Lab;

const ROUNDS: usize = 5;

/// So many nodes that are not there, behind a router, with a subnet of each family.
fn nodes(like: &Node, count: u32) -> Vec<Node> {
    let node = |number: u32| {
        let mut id = [0; 16];
        // As random ids are: nothing is in order.
        id[..8].copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let v4 = Ipv4Addr::from_bits(0x0af4_0000 + (256 + number) * 4);
        let v6 = Ipv6Addr::from_bits((0xfd00_0244 << 96) | (u128::from(0x1000 + number) << 64));
        let held = |net: (IpAddr, u8)| Subnet {
            prefix: IpNet::new(net.0, net.1).unwrap(),
            state: SubnetState::Held,
        };
        Node {
            id: NodeId::from_bytes(id),
            name: NodeName::new(&format!("far-{number}")).unwrap(),
            addresses: vec![IpAddr::from(Ipv4Addr::from_bits(0xac10_0000 + number))],
            subnets: vec![held((v4.into(), 30)), held((v6.into(), 64))],
            ..like.clone()
        }
    };
    (1..=count).map(node).collect()
}

/// Tells of some, and waits until that is done: how long it took, and how much of that on a processor.
fn told_to_done(lab: &Lab, others: &[Node]) -> (Duration, Duration) {
    let machine = &lab.machines[0];
    let view = lab.view_of(0, others);
    let (begin, before) = (Instant::now(), machine.on_processor());
    machine.see(view);
    while machine.ways().paths.len() != others.len() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", machine.state());
        thread::sleep(Duration::from_micros(200));
    }
    (begin.elapsed(), machine.on_processor() - before)
}

#[test]
#[ignore = "a measurement: wants a release build, and is the better the less else runs"]
fn many_nodes_are_programmed() {
    println!("milliseconds from told to done, in brackets those on a processor; the best of {ROUNDS}");
    println!("{:>8}{:>19}{:>19}{:>19}", "nodes", "from nothing", "one more", "all gone");
    // Three times what a machine with nothing else to do is to take at most.
    for (count, limit) in [(1000, Duration::from_millis(150)), (10_000, Duration::from_millis(1500))] {
        let mut best = [(Duration::MAX, Duration::MAX); 3];
        for _ in 0..ROUNDS {
            for (best, took) in best.iter_mut().zip(round(count)) {
                *best = (took.0.min(best.0), took.1.min(best.1));
            }
        }
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        print!("{count:>8}");
        best.iter()
            .for_each(|(time, own)| print!("{:>10.1} ({:>6.1})", milliseconds(*time), milliseconds(*own)));
        println!();
        let is_soon = best[0].0 < limit;
        assert!(
            cfg!(debug_assertions) || is_soon,
            "{count} nodes take {:?}, and not less than {limit:?}",
            best[0].0
        );
    }
}

fn round(count: u32) -> [(Duration, Duration); 3] {
    let lab = Lab::new(1, Mode::Vxlan);
    let machine = &lab.machines[0];
    machine.place.ip("route add 172.16.0.0/12 via 192.168.7.254");
    lab.wait("that it is ready", |lab| lab.machines[0].ways().reconciled);
    // What has been heard of the interfaces is looked at.
    thread::sleep(Duration::from_millis(300));

    let all = nodes(&machine.node, count + 1);
    let from_nothing = told_to_done(&lab, &all[..count as usize]);
    for family in ["-4", "-6"] {
        let routes = machine.place.ip(&format!("{family} route show proto 87 type unicast"));
        assert_eq!(routes.lines().count(), count as usize, "{}", machine.state());
    }
    [from_nothing, told_to_done(&lab, &all), told_to_done(&lab, &[])]
}
