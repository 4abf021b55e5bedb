//! How long it takes to connect to a pod through a published port, with one and with a thousand of them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;
use std::{array, thread};

use cnikit_tests::{Implementation, Pod};

use crate::chain::{Chained, SERVED};
use crate::statistics::{median, sorted};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FIRST: u16 = 20_000;

/// Connects in turn on four nodes, each implementation's with one and with a thousand published ports, and prints a line
/// for each.
pub(crate) fn measure(implementations: &[Implementation; 2], rounds: usize) {
    let [reference, ours] = implementations;
    let nodes = [(reference, 1), (reference, 1000), (ours, 1), (ours, 1000)];
    let nodes = nodes.map(|(plugins, ports)| Publishing::new(plugins, ports));
    let mut times: [Vec<f64>; 4] = array::from_fn(|_| Vec::new());
    // The first ones are for the caches.
    for round in 0..rounds + 20 {
        for (node, times) in nodes.iter().zip(&mut times) {
            let time = node.connect(round);
            if round >= 20 {
                times.push(time);
            }
        }
    }
    println!(
        "{rounds} connections; microseconds are medians (a tenth is faster than, a tenth is slower than)\n"
    );
    println!("{:10} {:>24} {:>24}", "", "1 port", "1000 ports");
    for (name, times) in ["reference", "cnikit"].iter().zip(times.chunks(2)) {
        let cell = |times: &[f64]| {
            let times = sorted(times.to_vec());
            let part = |tenths: usize| times[times.len() * tenths / 10];
            format!("{:.1} ({:.1} to {:.1})", median(&times), part(1), part(9))
        };
        println!("{name:10} {:>24} {:>24}", cell(&times[0]), cell(&times[1]));
    }
}

/// A node with a pod that serves, and a machine outside.
struct Publishing {
    chained: Chained,
    outside: Pod,
    ports: u16,
}

impl Publishing {
    fn new(plugins: &Implementation, ports: u16) -> Self {
        let chained = Chained::new(plugins);
        let (outside, pod) = (chained.node.pod("outside"), chained.node.pod("pod"));
        chained.node.shell(&format!(
            "ip link add uplink type veth peer name eth0 netns outside; ip address add {NODE}/24 dev uplink
             ip link set uplink up"
        ));
        chained.node.pod_shell(&outside, "ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up");
        chained.add(&chained.attachment(&pod, FIRST, ports));
        let listener = chained.node.inside_pod(&pod, || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVED)).expect("a server in the pod")
        });
        thread::spawn(move || listener.incoming().for_each(drop));
        Self { chained, outside, ports }
    }

    /// Connects to one port, each time another, and says how long that took, in microseconds.
    fn connect(&self, round: usize) -> f64 {
        // A step that is prime to any number of ports.
        let port = FIRST + u16::try_from(round * 7919 % usize::from(self.ports)).expect("a port");
        self.chained.node.inside_pod(&self.outside, || {
            let started = Instant::now();
            let connection = TcpStream::connect(SocketAddr::from((NODE, port)));
            let took = started.elapsed();
            assert!(connection.is_ok(), "port {port}: {connection:?}");
            took.as_secs_f64() * 1e6
        })
    }
}
