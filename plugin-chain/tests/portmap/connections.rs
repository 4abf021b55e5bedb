//! What connections remember.

use std::thread;
use std::time::Instant;

use netops::{LinkName, LinuxKernel, MacAddr, Namespace, PacketSocket, Place, read_link};
use serde_json::json;

use crate::support::*;

fn udp() -> serde_json::Value {
    publish(&[json!({"hostPort": 5353, "containerPort": 53, "protocol": "udp"})])
}

#[test]
fn a_client_goes_on_with_a_new_pod_when_the_old_one_is_gone() {
    let lab = Lab::new();
    for to in ["192.0.2.1:5353", "[2001:db8::1]:5353"] {
        let first = lab.add(1, "first", &udp()).unwrap();
        serve_datagrams(&lab, "first", 53);
        let clients = [WORLD, ""].map(|from| client(&lab, from, to));
        for client in &clients {
            assert!(answer(client, SOON).unwrap().starts_with("first"));
        }
        lab.del(1, "first", &udp(), Some(&first));
        lab.node.end_container("first");
        let second = lab.add(1, "second", &udp()).unwrap();
        serve_datagrams(&lab, "second", 53);
        for client in &clients {
            assert!(answer(client, SOON).unwrap().starts_with("second"), "{to}");
        }
        lab.del(1, "second", &udp(), Some(&second));
        lab.node.end_container("second");
    }
}

#[test]
fn a_client_that_was_there_before_the_pod_gets_to_it() {
    let lab = Lab::new();
    for to in ["192.0.2.1:5353", "[2001:db8::1]:5353"] {
        let clients = [WORLD, ""].map(|from| client(&lab, from, to));
        for client in &clients {
            assert!(answer(client, NEVER).is_err());
        }
        let result = lab.add(1, "pod", &udp()).unwrap();
        serve_datagrams(&lab, "pod", 53);
        for client in &clients {
            assert!(answer(client, SOON).unwrap().starts_with("pod"), "{to}");
        }
        lab.del(1, "pod", &udp(), Some(&result));
        lab.node.end_container("pod");
    }
}

#[test]
fn connections_through_a_port_are_forgotten_with_it() {
    let lab = Lab::new();
    let at = |port: u16| publish(&[json!({"hostPort": port, "containerPort": 53, "protocol": "udp"})]);
    let pods = [("pod", 5353), ("other", 5354), ("one", 5355), ("two", 5356)].map(|(name, port)| {
        let ports = at(port);
        let result = lab.add(1, name, &ports).unwrap();
        serve_datagrams(&lab, name, 53);
        (name, ports, result)
    });
    for port in 5353..=5356 {
        for to in [format!("192.0.2.1:{port}"), format!("[2001:db8::1]:{port}")] {
            answer(&client(&lab, WORLD, &to), SOON).unwrap();
        }
    }
    let remembered = || {
        let table = lab.at("", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap();
        [5353, 5354, 5355, 5356].map(|port: u16| {
            let port = format!("dport={port}");
            table.lines().filter(|line| line.contains(&port)).count()
        })
    };
    let remembered_in_the_end = |wanted: [usize; 4]| {
        let started = Instant::now();
        while remembered() != wanted && started.elapsed() < SOON {}
        assert_eq!(remembered(), wanted);
    };
    assert_eq!(remembered(), [2, 2, 2, 2]);
    let (name, ports, result) = &pods[0];
    lab.del(1, name, ports, Some(result));
    remembered_in_the_end([0, 2, 2, 2]);
    lab.gc(1, &[("other", "eth1")]);
    remembered_in_the_end([0, 2, 0, 0]);
}

#[test]
fn nobody_elses_connections_are_forgotten() {
    let lab = Lab::new();
    // Another published port, and the same port of another machine.
    let other = publish(&[json!({"hostPort": 5354, "containerPort": 53, "protocol": "udp"})]);
    lab.add(1, "other", &other).unwrap();
    serve_datagrams(&lab, "other", 53);
    serve_datagrams(&lab, WORLD, 5353);
    let published = client(&lab, WORLD, "192.0.2.1:5354");
    let outward = client(&lab, "other", "192.0.2.2:5353");
    answer(&published, SOON).unwrap();
    answer(&outward, SOON).unwrap();
    let remembered = |lab: &Lab| {
        let table = lab.at("", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap();
        let about = |port: &str| table.lines().filter(|line| line.contains(port)).count();
        (about("dport=5354"), about("dport=5353"))
    };
    assert_eq!(remembered(&lab), (1, 1));
    let result = lab.add(1, "pod", &udp()).unwrap();
    lab.del(1, "pod", &udp(), Some(&result));
    // Nobody waits for what is forgotten then.
    thread::sleep(SOON);
    assert_eq!(remembered(&lab), (1, 1));
}

/// An SCTP INIT chunk in a packet from 192.0.2.2:9000 to 192.0.2.1:8080 (RFC 9260), in a frame. Kernels without SCTP
/// track and translate it all the same.
fn sctp_init(from: MacAddr, to: MacAddr) -> Vec<u8> {
    let mut sctp = vec![];
    sctp.extend([9000_u16.to_be_bytes(), 8080_u16.to_be_bytes()].concat());
    // No tag to verify yet, and the checksum's place.
    sctp.extend([0; 8]);
    sctp.extend([1, 0, 0, 20]);
    // A tag, a window, two numbers of streams, a first sequence number.
    sctp.extend([0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 7]);
    let checksum = crc32c(&sctp).to_le_bytes();
    sctp[8..12].copy_from_slice(&checksum);

    let length = (20 + sctp.len()) as u16;
    let mut ip = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 0, 0x40, 0, 64, 132, 0, 0];
    ip.extend([192, 0, 2, 2, 192, 0, 2, 1]);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to.bytes()[..], &from.bytes()[..], &[8, 0], &ip, &sctp].concat()
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

#[test]
fn an_association_of_sctp_is_led_there_and_forgotten_as_well() {
    let lab = Lab::new();
    let config = publish(&[json!({"hostPort": 8080, "containerPort": 80, "protocol": "sctp"})]);
    let result = lab.add(1, "pod", &config).unwrap();
    let link = |place: &str, name: &str| {
        let name = LinkName::new(name).unwrap();
        lab.at(place, || read_link(&mut LinuxKernel::new(None), Place::Host, &name)).unwrap().unwrap()
    };
    let (world, uplink) = (link(WORLD, "eth0"), link("", "uplink"));
    let namespace = lab.at(WORLD, || Namespace::current().unwrap());
    let socket = PacketSocket::open_udp4(&namespace, world.index, 9).unwrap();
    socket.send(&sctp_init(world.mac.unwrap(), uplink.mac.unwrap())).unwrap();
    let remembered = |wanted: bool| {
        let started = Instant::now();
        loop {
            let table = lab.at("", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap();
            let found = table.lines().any(|line| line.contains("sctp") && line.contains("src=10.1.0.2"));
            if found == wanted || started.elapsed() > SOON {
                return table;
            }
        }
    };
    let table = remembered(true);
    assert!(table.contains("src=10.1.0.2 dst=192.0.2.2 sport=80 dport=9000"), "{table}");
    lab.del(1, "pod", &config, Some(&result));
    assert!(!remembered(false).contains("sport=80"));
}
