//! Packets for the inside of tunnels, by somebody who is no node.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine};
use serde_json::Value;

use crate::common::{Families, cluster, config, lab};

/// The tunnels' UDP port.
const TUNNEL: u16 = 4789;
/// Where the pod listens that is to hear nothing.
const PORT: u16 = 5555;

/// The tunnel of a machine: its network identifier, and its MAC address.
fn tunnel(machine: &Machine) -> (u32, Vec<u8>) {
    let links: Value =
        serde_json::from_str(&machine.node.shell("ip -json -details link show type vxlan")).unwrap();
    let vni = links[0]["linkinfo"]["info_data"]["id"].as_u64().unwrap();
    let mac = links[0]["address"].as_str().unwrap().split(':');
    (vni as u32, mac.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect())
}

/// A VXLAN packet (RFC 7348, section 5) for a machine, in which one pod says something to another.
fn packet(to: &Machine, from_pod: Ipv4Addr, to_pod: Ipv4Addr, what: &[u8]) -> Vec<u8> {
    let (vni, mac) = tunnel(to);
    let udp_length = 8 + what.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_length).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(from_pod.octets());
    ip.extend(to_pod.octets());
    let sum: u32 = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0x08, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(mac);
    bytes.extend([0x02, 0, 0, 0, 0, 9, 0x08, 0]);
    bytes.extend(ip);
    for number in [PORT, PORT, udp_length, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(what);
    bytes
}

#[test]
fn a_pod_is_not_taken_for_a_node_by_tunnels_ends() {
    isolated(|| {
        let lab: &Lab = &lab();
        let machines = cluster(lab, 2, &config("vxlan", Families::V4));
        let pods = [machines[0].node.pod("bad"), machines[0].node.pod("near"), machines[1].node.pod("far")];
        let homes = [&machines[0], &machines[0], &machines[1]];
        let addresses: Vec<Ipv4Addr> = homes
            .iter()
            .zip(&pods)
            .map(|(machine, pod)| match machine.add(pod)[0] {
                IpAddr::V4(address) => address,
                IpAddr::V6(address) => panic!("{address} is none of the range"),
            })
            .collect();
        machines[0].wait_peers(1);
        let ears: Vec<UdpSocket> = [1, 2]
            .map(|n| {
                let ear = homes[n].node.inside_pod(&pods[n], || UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
                ear.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                ear
            })
            .into();
        let heard = |ear: &UdpSocket| {
            let mut buffer = [0; 100];
            ear.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        let say = |socket: &UdpSocket, n: usize, what: &str| {
            let address = Ipv4Addr::new(192, 168, 1, 10 + homes[n].number);
            let bytes = packet(homes[n], addresses[0], addresses[n], what.as_bytes());
            socket.send_to(&bytes, (address, TUNNEL)).unwrap();
        };

        let mouth = homes[0].node.inside_pod(&pods[0], || UdpSocket::bind("0.0.0.0:0").unwrap());
        say(&mouth, 1, "to its own node");
        say(&mouth, 2, "to another node");
        // With another node's address, and with one of nobody's.
        for address in ["192.168.1.12", "192.168.1.11", "203.0.113.1"] {
            homes[0].node.pod_shell(&pods[0], &format!("ip addr add {address}/32 dev eth0"));
            let disguised = homes[0].node.inside_pod(&pods[0], || UdpSocket::bind((address, 0)).unwrap());
            let other = if address == "192.168.1.12" { 1 } else { 2 };
            say(&disguised, other, &format!("as {address}"));
            homes[0].node.pod_shell(&pods[0], &format!("ip addr del {address}/32 dev eth0"));
        }
        // What a node says is heard, and was said last.
        let node = homes[0].node.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        say(&node, 2, "a node");
        assert_eq!(heard(&ears[1]).unwrap(), "a node");
        mouth.send_to(b"its neighbour", (addresses[1], PORT)).unwrap();
        assert_eq!(heard(&ears[0]).unwrap(), "its neighbour");

        // A tunnel between pods is their own business.
        let own = homes[2].node.inside_pod(&pods[2], || UdpSocket::bind(("0.0.0.0", TUNNEL)).unwrap());
        own.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        mouth.send_to(b"pods' own", (addresses[2], TUNNEL)).unwrap();
        assert_eq!(heard(&own).unwrap(), "pods' own");
    });
}
