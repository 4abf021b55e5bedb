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

/// Measures in turn, by IPv4 and IPv6, by tunnel and by plain routes: ours, by hand with the same masquerade, and by hand
/// without any.
pub(crate) fn measure(ours: &Implementation, rounds: usize) {
    println!("{rounds} rounds; medians; by hand / cnikit is the median of the ratios of rounds (95 %)\n");
    println!("{:52} {:>12} {:>12} {:>22}", "", "by hand", "cnikit", "ratio");
    for family in [Family::V4, Family::V6] {
        for mode in ["vxlan", "route"] {
            let agents = ours_between(ours, family, mode);
            for (how, masquerade) in [("the same masquerade", true), ("none", false)] {
                let hand = by_hand(ours, family, mode, masquerade);
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
                let what = format!("{family:?}, {mode}, by hand with {how}");
                print(&format!("{what}: Gbit/s"), &streams);
                print(&format!("{what}: us"), &trips);
            }
        }
    }
}

fn print(what: &str, [hand, ours]: &[Vec<f64>; 2]) {
    let ratios = sorted(hand.iter().zip(ours).map(|(hand, ours)| hand / ours).collect());
    let (low, high) = interval(&ratios);
    println!(
        "{what:52} {:>12.2} {:>12.2} {:>22}",
        median(&sorted(hand.clone())),
        median(&sorted(ours.clone())),
        format!("{:.3} ({low:.3} to {high:.3})", median(&ratios))
    );
}

/// Of pods' addresses, and of nodes': the machines of a lab have both.
#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// What all pods' addresses are in.
    fn cluster(self) -> &'static str {
        match self {
            Self::V4 => "10.244.0.0/16",
            Self::V6 => "fd00:244::/48",
        }
    }

    fn subnet(self, node: usize) -> String {
        match self {
            Self::V4 => format!("10.244.{node}.0/24"),
            Self::V6 => format!("fd00:244:0:{node}::/64"),
        }
    }

    /// With its length, as `ip` takes it.
    fn address(self, node: usize, host: u8) -> String {
        match self {
            Self::V4 => format!("10.244.{node}.{host}/24"),
            Self::V6 => format!("fd00:244:0:{node}::{host}/64"),
        }
    }

    fn node(self, node: usize) -> String {
        match self {
            Self::V4 => format!("192.168.1.{}", 10 + node),
            Self::V6 => format!("fd01::{:x}", 10 + node),
        }
    }

    /// Where a tunnel's other end is, inside of it.
    fn inside_tunnel(self, node: usize) -> String {
        match self {
            Self::V4 => format!("10.244.{node}.0"),
            Self::V6 => format!("fe80::{node}"),
        }
    }

    /// As agents have it: over IPv4 the packets around pods' have no checksum, IPv6 wants one.
    fn tunnel_options(self) -> &'static str {
        match self {
            Self::V4 => "noudpcsum",
            Self::V6 => "udpcsum",
        }
    }

    fn tunnel_mtu(self) -> u16 {
        match self {
            Self::V4 => 1450,
            Self::V6 => 1430,
        }
    }
}

/// Two pods on two nodes.
struct Pair {
    _lab: Lab,
    machines: Vec<Machine>,
    pods: Vec<Pod>,
    addresses: Vec<IpAddr>,
}

fn ours_between(plugins: &Implementation, family: Family, mode: &str) -> Pair {
    let agent = std::env::current_exe().expect("a path of one's own").with_file_name("cnikit");
    let lab = Lab::new(plugins.clone(), agent);
    let config = json!({
        "cluster": [family.cluster()], "mode": mode,
        "underlay": {"interface": "eth0"}, "health": {"enabled": false},
        "gossip": {"seeds": [family.node(1)], "insecure": true, "bootstrap": true},
    });
    let mut machines = lab.machines(2, &config);
    machines[1].config()["gossip"]["bootstrap"] = json!(false);
    for machine in &mut machines {
        if matches!(family, Family::V6) {
            machine.node.shell("ip -4 addr flush dev eth0");
        }
        machine.start();
    }
    for machine in &machines {
        machine.wait_ready();
        machine.wait_peers(1);
    }
    let pods: Vec<Pod> = machines.iter().map(|machine| machine.node.pod("pod")).collect();
    let addresses = machines.iter().zip(&pods).map(|(machine, pod)| machine.add(pod)[0]).collect();
    Pair { _lab: lab, machines, pods, addresses }.ready()
}

fn by_hand(plugins: &Implementation, family: Family, mode: &str, masquerade: bool) -> Pair {
    let lab = Lab::new(plugins.clone(), Path::new("/nobody"));
    let machines = lab.machines(2, &json!({}));
    let mut pods = Vec::new();
    for (own, other) in [(1, 2), (2, 1)] {
        let node: &Node = &machines[own - 1].node;
        let pod = node.pod("pod");
        let [gateway, address] = [1, 2].map(|host| family.address(own, host));
        let to_other = family.subnet(other);
        let nodad = if matches!(family, Family::V6) { "nodad" } else { "" };
        node.shell(&format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip link add cni0 type bridge; ip addr add {gateway} dev cni0 {nodad}; ip link set cni0 up
             ip link add veth0 type veth peer name eth0 netns pod; ip link set veth0 master cni0 up"
        ));
        let mtu = if mode == "vxlan" { family.tunnel_mtu() } else { 1500 };
        let next = address_of(&gateway);
        node.pod_shell(
            &pod,
            &format!("ip link set eth0 up mtu {mtu}; ip addr add {address} dev eth0 {nodad}; ip route add default via {next}"),
        );
        if mode == "vxlan" {
            let (local, remote, options) = (family.node(own), family.node(other), family.tunnel_options());
            let inside = family.inside_tunnel(other);
            node.shell(&format!(
                "ip link add vx type vxlan id 1 dstport 4789 local {local} nolearning {options} df set
                 ip link set vx address 02:00:00:00:00:0{own} up
                 ip neigh add {inside} lladdr 02:00:00:00:00:0{other} dev vx
                 bridge fdb add 02:00:00:00:00:0{other} dev vx dst {remote}
                 ip route add {to_other} via {inside} dev vx onlink"
            ));
        } else {
            node.shell(&format!("ip route add {to_other} via {}", family.node(other)));
        }
        if masquerade {
            let cluster = family.cluster();
            let header = if matches!(family, Family::V6) { "ip6" } else { "ip" };
            node.shell(&format!(
                "nft 'add table inet hand; add chain inet hand post {{ type nat hook postrouting priority srcnat; }}
                      add rule inet hand post {header} saddr {cluster} {header} daddr != {cluster} masquerade fully-random'"
            ));
        }
        pods.push(pod);
    }
    let addresses = (1..=2).map(|node| address_of(&family.address(node, 2))).collect();
    Pair { _lab: lab, machines, pods, addresses }.ready()
}

fn address_of(with_length: &str) -> IpAddr {
    let (address, _) = with_length.split_once('/').expect("a length");
    address.parse().expect("an address")
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
