//! What leaves a node for the world, and from which address.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use cnikit_tests::Pod;
use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine};
use serde_json::json;

use crate::common::{Families, config, lab};
use crate::routed::machines;

/// Addresses of nobody's: in the cluster's ranges, and outside of them.
const NOBODY: [&str; 2] = ["10.244.255.77", "fd00:244:0:ffff::77"];
const ELSEWHERE: [&str; 2] = ["198.51.100.7", "2001:db8::7"];

/// Counts packets on all cables that go to an address, whoever is to pass them on.
fn count(lab: &Lab, address: &str) {
    let family = if address.contains(':') { "ip6" } else { "ip" };
    lab.switch.shell(&format!(
        "nft 'add table bridge seen; add chain bridge seen cables {{ type filter hook prerouting priority -400; }}
              add rule bridge seen cables {family} daddr {address} counter'"
    ));
}

fn counted(lab: &Lab, address: &str) -> u32 {
    let seen = lab.switch.shell("nft list table bridge seen");
    let line = seen.lines().find(|line| line.contains(&format!("daddr {address} "))).unwrap();
    line.split_once("packets ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends a few datagrams from a pod and from the node itself.
fn speak(machine: &Machine, pod: &Pod, address: &str) {
    let to = SocketAddr::new(address.parse().unwrap(), 9);
    let speak = || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        for _ in 0..5 {
            // The kernel may say at once that there is no way.
            let _ = socket.send_to(b"anybody?", to);
        }
    };
    machine.node.inside_pod(pod, speak);
    machine.node.inside(speak);
}

#[test]
fn what_the_clusters_range_has_no_node_for_does_not_leave_by_the_default_route() {
    isolated(|| {
        let lab = lab();
        let router = lab.divided();
        let mut machines = machines(&lab, &router, &[1, 1], &config("auto", Families::Both));
        let (pod, _voice) = machines[0].pod("talkative");
        for address in NOBODY.into_iter().chain(ELSEWHERE) {
            count(&lab, address);
        }
        for is_agent_alive in [true, false] {
            for address in NOBODY.into_iter().chain(ELSEWHERE) {
                speak(&machines[0], &pod, address);
            }
            for address in ELSEWHERE {
                let seen = |_: &Machine| counted(&lab, address) >= 2;
                machines[0].wait("what is for the world gets there", seen);
            }
            sleep(Duration::from_millis(200));
            for address in NOBODY {
                assert_eq!(counted(&lab, address), 0, "{address}, agent alive: {is_agent_alive}");
            }
            machines[0].kill();
        }
    });
}

/// From which address a pod appears to somebody who listens at an address on a node.
fn seen_as(there: &cnikit_tests::Node, machine: &Machine, pod: &Pod, at: &str) -> IpAddr {
    let address: IpAddr = at.parse().unwrap();
    let listener = there.inside(|| TcpListener::bind((address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    machine
        .node
        .inside_pod(pod, || TcpStream::connect_timeout(&target, Duration::from_secs(30)).map(drop))
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    listener.accept().unwrap().1.ip()
}

#[test]
fn pods_appear_as_their_node_outside_and_as_themselves_where_that_was_asked_for() {
    isolated(|| {
        let lab = lab();
        let router = lab.divided();
        let mut config = config("auto", Families::Both);
        config["masquerade"] = json!({"except": ["203.0.113.0/24", "2001:db8:1::/64"]});
        let machines = machines(&lab, &router, &[1, 1], &config);
        let (pod, _voice) = machines[0].pod("talkative");
        let (_other, _other_voice) = machines[1].pod("listener");
        // The world, and of it a part that knows the way to pods.
        router.node.shell(
            "ip addr add 198.51.100.1/32 dev lo; ip addr add 203.0.113.1/32 dev lo
             ip addr add 2001:db8::1/128 dev lo; ip addr add 2001:db8:1::1/128 dev lo
             ip route add 10.244.0.0/16 via 192.168.1.11; ip -6 route add fd00:244::/48 via fd01::b",
        );
        let own = machines[0].node.pod_shell(&pod, "ip -o addr show eth0 scope global | awk '{print $4}'");
        let own: Vec<IpAddr> =
            own.lines().map(|net| net.split('/').next().unwrap().parse().unwrap()).collect();
        let seen = |at: &str| seen_as(&router.node, &machines[0], &pod, at);
        let [v4, v6] = [false, true].map(|ipv6| *own.iter().find(|own| own.is_ipv6() == ipv6).unwrap());
        assert_eq!(seen("198.51.100.1").to_string(), "192.168.1.11");
        assert_eq!(seen("2001:db8::1").to_string(), "fd01::b");
        assert_eq!(seen("203.0.113.1"), v4);
        assert_eq!(seen("2001:db8:1::1"), v6);
        // Another node is outside, too.
        for (address, node) in [("192.168.1.12", "192.168.1.11"), ("fd01::c", "fd01::b")] {
            assert_eq!(seen_as(&machines[1].node, &machines[0], &pod, address).to_string(), node);
        }
        // Its pods are not, nor is its bridge.
        for (gateway, own) in machines[1].subnets().iter().map(|subnet| {
            let gateway = subnet.replace(".0/24", ".1").replace("::/64", "::1");
            let own = if gateway.contains(':') { v6 } else { v4 };
            (gateway, own)
        }) {
            assert_eq!(seen_as(&machines[1].node, &machines[0], &pod, &gateway), own, "{gateway}");
        }
    });
}
