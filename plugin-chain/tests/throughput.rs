//! On the real kernel: a container gets what it is given, and no more.

#![allow(clippy::unwrap_used)] // tests

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use cni_spec::plugin::Plugin;
use netops::{LinuxKernel, Place, read_links};
use plugin_bridge::Bridge;
use plugin_chain::Bandwidth;
use plugin_kit::Kit;
use plugin_kit::testing::{Node, TestCall};
use serde_json::json;

/// What is sent, in bytes: a second's worth, and what the bucket holds at first.
const BYTES: usize = 1_250_000 + 20_000;

/// Bits per second from one stream to another.
fn speed(mut from: TcpStream, mut to: TcpStream) -> f64 {
    let started = Instant::now();
    let sender = thread::spawn(move || from.write_all(&vec![0; BYTES]).unwrap());
    to.read_exact(&mut vec![0; BYTES]).unwrap();
    let elapsed = started.elapsed();
    sender.join().unwrap();
    BYTES as f64 * 8.0 / elapsed.as_secs_f64()
}

#[test]
fn ten_megabits_a_second_are_ten_in_either_direction() {
    let (node, leases) = (Node::new(), tempfile::tempdir().unwrap());
    let (bridge, bandwidth) = (Kit::new(Bridge), Kit::new(Bandwidth));
    let config = |plugin: &str| {
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": plugin, "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/24"},
            "ingressRate": 10_000_000, "ingressBurst": 160_000, "egressRate": 10_000_000, "egressBurst": 160_000,
        })
    };
    let before = node.add(&bridge, &TestCall::new(config("bridge"))).unwrap();
    let call = TestCall::new(config("bandwidth"));
    let result = node.add(&bandwidth, &call.clone().previous(&before)).unwrap();
    node.check(&bandwidth, &call.clone().previous(&result)).unwrap();

    let address = before.ips[0].address.addr();
    let server = node.inside("c1", || TcpListener::bind((address, 80)).unwrap());
    let client = node.on_host(|| TcpStream::connect((address, 80)).unwrap());
    let (inside, _) = server.accept().unwrap();
    for (direction, from, to) in [("into", &client, &inside), ("out of", &inside, &client)] {
        // What is lost at the end of a stream is sent again a good while later: the fastest of a few.
        let mut fastest: f64 = 0.0;
        for _ in 0..4 {
            let speed = speed(from.try_clone().unwrap(), to.try_clone().unwrap());
            println!("{direction} the container: {:.2} Mbit/s", speed / 1e6);
            // Headers are counted too: 66 bytes of 1514.
            assert!(speed < 12e6, "{direction}: {speed}");
            fastest = fastest.max(speed);
            if fastest > 8e6 {
                break;
            }
        }
        assert!(fastest > 8e6, "{direction}: {fastest}");
    }

    let captured = node.on_host(|| read_links(&mut LinuxKernel::new(None), Place::Host).unwrap());
    assert!(captured.iter().any(|link| link.kind == "ifb"));
    node.end_container("c1");
    let gone = call.without_netns();
    node.del(&bandwidth as &dyn Plugin, &gone).unwrap();
    let left = node.on_host(|| read_links(&mut LinuxKernel::new(None), Place::Host).unwrap());
    assert!(!left.iter().any(|link| link.kind == "ifb"));
}
