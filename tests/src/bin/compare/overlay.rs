//! What a packet between two nodes' pods costs, beside the same path made by hand with `ip`.

use std::array;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cnikit_tests::lab::{Lab, Machine};
use cnikit_tests::{Implementation, Node, Pod};
use serde_json::json;

use crate::statistics::{interval, median, sorted};

/// How long a stream lasts, without its beginning.
const STREAM: Duration = Duration::from_millis(500);
/// How often a byte goes to and fro.
const EXCHANGES: usize = 3000;

/// Measures in turn, by tunnel and by plain routes: ours, by hand with the same masquerade, and by hand without any.
pub(crate) fn measure(ours: &Implementation, rounds: usize) {
    println!("{rounds} rounds; medians; by hand / cnikit is the median of the ratios of rounds (95 %)\n");
    println!("{:34} {:>12} {:>12} {:>22}", "", "by hand", "cnikit", "ratio");
    for mode in ["vxlan", "route"] {
        let agents = ours_between(ours, mode);
        for (how, masquerade) in [("the same masquerade", true), ("none", false)] {
            let hand = by_hand(ours, mode, masquerade);
            let mut streams: [Vec<f64>; 2] = array::from_fn(|_| Vec::new());
            let mut trips: [Vec<f64>; 2] = array::from_fn(|_| Vec::new());
            for round in 0..rounds {
                // Who goes first takes turns.
                for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                    let pair = [&hand, &agents][side];
                    streams[side].push(pair.throughput());
                    trips[side].push(pair.round_trip());
                }
            }
            print(&format!("{mode}, by hand with {how}: Gbit/s"), &streams);
            print(&format!("{mode}, by hand with {how}: us"), &trips);
        }
    }
}

fn print(what: &str, [hand, ours]: &[Vec<f64>; 2]) {
    let ratios = sorted(hand.iter().zip(ours).map(|(hand, ours)| hand / ours).collect());
    let (low, high) = interval(&ratios);
    println!(
        "{what:34} {:>12.2} {:>12.2} {:>22}",
        median(&sorted(hand.clone())),
        median(&sorted(ours.clone())),
        format!("{:.3} ({low:.3} to {high:.3})", median(&ratios))
    );
}

/// Two pods on two nodes.
struct Pair {
    _lab: Lab,
    machines: Vec<Machine>,
    pods: Vec<Pod>,
    addresses: Vec<IpAddr>,
}

fn ours_between(plugins: &Implementation, mode: &str) -> Pair {
    let agent = std::env::current_exe().expect("a path of one's own").with_file_name("cnikit");
    let lab = Lab::new(plugins.clone(), agent);
    let config = json!({
        "mode": mode, "underlay": {"interface": "eth0"}, "health": {"enabled": false},
        "gossip": {"seeds": ["192.168.1.11"], "insecure": true, "bootstrap": true},
    });
    let mut machines = lab.machines(2, &config);
    machines[1].config()["gossip"]["bootstrap"] = json!(false);
    machines.iter_mut().for_each(Machine::start);
    for machine in &machines {
        machine.wait_ready();
        machine.wait_peers(1);
    }
    let pods: Vec<Pod> = machines.iter().map(|machine| machine.node.pod("pod")).collect();
    let addresses = machines.iter().zip(&pods).map(|(machine, pod)| machine.add(pod)[0]).collect();
    Pair { _lab: lab, machines, pods, addresses }.ready()
}

fn by_hand(plugins: &Implementation, mode: &str, masquerade: bool) -> Pair {
    let lab = Lab::new(plugins.clone(), Path::new("/nobody"));
    let machines = lab.machines(2, &json!({}));
    let mut pods = Vec::new();
    for (own, other) in [(1, 2), (2, 1)] {
        let node: &Node = &machines[own - 1].node;
        let pod = node.pod("pod");
        node.shell(&format!(
            "sysctl -qw net.ipv4.ip_forward=1
             ip link add cni0 type bridge; ip addr add 10.244.{own}.1/24 dev cni0; ip link set cni0 up
             ip link add veth0 type veth peer name eth0 netns pod; ip link set veth0 master cni0 up"
        ));
        let mtu = if mode == "vxlan" { 1450 } else { 1500 };
        node.pod_shell(
            &pod,
            &format!(
                "ip link set eth0 up mtu {mtu}; ip addr add 10.244.{own}.2/24 dev eth0; ip route add default via 10.244.{own}.1"
            ),
        );
        if mode == "vxlan" {
            node.shell(&format!(
                "ip link add vx type vxlan id 1 dstport 4789 local 192.168.1.1{own} nolearning df set
                 ip link set vx address 02:00:00:00:00:0{own} up
                 ip neigh add 10.244.{other}.0 lladdr 02:00:00:00:00:0{other} dev vx
                 bridge fdb add 02:00:00:00:00:0{other} dev vx dst 192.168.1.1{other}
                 ip route add 10.244.{other}.0/24 via 10.244.{other}.0 dev vx onlink"
            ));
        } else {
            node.shell(&format!("ip route add 10.244.{other}.0/24 via 192.168.1.1{other}"));
        }
        if masquerade {
            node.shell(
                "nft 'add table inet hand; add chain inet hand post { type nat hook postrouting priority srcnat; }
                      add rule inet hand post ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade fully-random'",
            );
        }
        pods.push(pod);
    }
    let addresses = vec![IpAddr::from([10, 244, 1, 2]), IpAddr::from([10, 244, 2, 2])];
    Pair { _lab: lab, machines, pods, addresses }.ready()
}

impl Pair {
    /// With a congestion control that does not measure the path, and which every kernel lets a namespace have; and all
    /// neighbours known.
    fn ready(self) -> Self {
        for n in 0..2 {
            self.inside(n, || {
                std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").expect("reno");
            });
        }
        self.wait_for_a_way();
        self
    }

    /// Agents that have met may not have told their kernels yet.
    fn wait_for_a_way(&self) {
        let target = SocketAddr::new(self.addresses[1], 5002);
        let (here, there) = (self.socket(0), self.socket(1));
        there.set_nonblocking(true).expect("it does not block");
        let deadline = Instant::now() + Duration::from_secs(20);
        while there.recv(&mut [0]).is_err() {
            assert!(Instant::now() < deadline, "nothing comes through");
            // Where there is no way yet, it is refused.
            let _ = here.send_to(&[0], target);
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn inside<R: Send>(&self, n: usize, work: impl FnOnce() -> R + Send) -> R {
        self.machines[n].node.inside_pod(&self.pods[n], work)
    }

    /// One stream from the first pod to the second, in Gbit/s.
    fn throughput(&self) -> f64 {
        let target = SocketAddr::new(self.addresses[1], 5001);
        let listener = self.inside(1, || TcpListener::bind(target).expect("a server"));
        let mut out = self.inside(0, || TcpStream::connect(target).expect("the path works"));
        let (mut into, _) = listener.accept().expect("a client");
        let sender = thread::spawn(move || {
            let block = vec![0; 1 << 20];
            while out.write_all(&block).is_ok() {}
        });
        let mut buffer = vec![0; 1 << 20];
        let mut read_until = |deadline: Instant| {
            let mut bytes = 0;
            while Instant::now() < deadline {
                bytes += into.read(&mut buffer).expect("the sender sends");
            }
            bytes
        };
        read_until(Instant::now() + STREAM / 4);
        let began = Instant::now();
        let bytes = read_until(began + STREAM);
        let took = began.elapsed();
        drop(into);
        sender.join().expect("it ends when nobody listens");
        bytes as f64 * 8.0 / took.as_secs_f64() / 1e9
    }

    fn socket(&self, n: usize) -> UdpSocket {
        let socket = self.inside(n, || UdpSocket::bind((self.addresses[n], 5002)).expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        socket
    }

    /// How long a byte takes to the second pod and back, in microseconds: the median.
    fn round_trip(&self) -> f64 {
        let (here, there) = (self.socket(0), self.socket(1));
        let target = SocketAddr::new(self.addresses[1], 5002);
        let echo = thread::spawn(move || {
            let mut byte = [0];
            while let Ok((_, from)) = there.recv_from(&mut byte) {
                if byte == [1] || there.send_to(&byte, from).is_err() {
                    break;
                }
            }
        });
        let mut times = Vec::with_capacity(EXCHANGES);
        let mut byte = [0];
        for _ in 0..EXCHANGES {
            let began = Instant::now();
            here.send_to(&[0], target).expect("it leaves");
            here.recv(&mut byte).expect("it comes back");
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        here.send_to(&[1], target).expect("it leaves");
        echo.join().expect("it ends");
        median(&sorted(times))
    }
}
