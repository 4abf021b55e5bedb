//! Sockets for whole frames.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use netops::{Address, Kernel, Link, LinkKind, LinkName, PacketSocket, Place, Resource, VethPeer, read_link};

use crate::in_lab;
use crate::support::Lab;

/// A cable between host and container, `eth0` at both ends, with addresses.
fn cable(lab: &mut Lab) -> u32 {
    let name = || LinkName::new("eth0").unwrap();
    let peer = VethPeer { place: Place::Container, name: name(), mtu: None, mac: None };
    let address = |text: &str| Resource::Address(Address::new(name(), text.parse().unwrap()));
    let mut make = |place, resource: Resource| {
        lab.kernel.create(place, &[&resource]).pop().unwrap().unwrap();
    };
    make(Place::Host, Resource::Link(Link { up: true, ..Link::new(name(), LinkKind::Veth { peer }) }));
    make(Place::Host, address("10.0.0.1/24"));
    make(Place::Container, address("10.0.0.2/24"));
    make(Place::Container, Resource::LinkUp(name()));
    read_link(&mut lab.kernel, Place::Host, &name()).unwrap();
    read_link(&mut lab.kernel, Place::Container, &name()).unwrap().unwrap().index
}

/// What a socket hears within a moment: the datagrams' last bytes.
fn heard(socket: &PacketSocket) -> Vec<u8> {
    sleep(Duration::from_millis(200));
    let mut heard = Vec::new();
    let mut frame = [0; 2000];
    loop {
        match socket.receive(&mut frame) {
            Ok(length) => heard.extend(frame[..length].last()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return heard;
            }
        }
    }
}

#[test]
fn a_packet_socket_hears_one_port_of_one_interface_and_nothing_else() {
    in_lab!(|mut lab| {
        let link = cable(&mut lab);
        let socket = PacketSocket::open_udp4(&lab.container, link, 68).unwrap();
        let sender = UdpSocket::bind("10.0.0.1:0").unwrap();
        for (port, text) in [(67, b"a"), (68, b"b"), (69, b"c"), (68, b"d")] {
            sender.send_to(text, ("10.0.0.2", port)).unwrap();
        }
        // The same port, by way of loopback.
        lab.container
            .enter(|| UdpSocket::bind("10.0.0.2:0").unwrap().send_to(b"e", "10.0.0.2:68"))
            .unwrap()
            .unwrap();
        assert_eq!(heard(&socket), b"bd");
    });
}

#[test]
fn a_packet_socket_sends_what_it_is_given() {
    in_lab!(|mut lab| {
        let link = cable(&mut lab);
        let container = PacketSocket::open_udp4(&lab.container, link, 68).unwrap();
        let host = netops::Namespace::current().unwrap();
        let eth0 = LinkName::new("eth0").unwrap();
        let index = read_link(&mut lab.kernel, Place::Host, &eth0).unwrap().unwrap().index;
        let host = PacketSocket::open_udp4(&host, index, 68).unwrap();
        // To everybody, from nobody: headers of Ethernet, IPv4 (without options and checksum) and UDP, and a byte.
        let mut frame = [0xff; 12].to_vec();
        frame.extend([8, 0, 0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]);
        frame.extend([0, 67, 0, 68, 0, 9, 0, 0, b'x']);
        container.send(&frame).unwrap();
        assert_eq!(heard(&host), b"x");
        assert_eq!(heard(&container), b"", "what it sent itself");
    });
}

#[test]
fn a_socket_for_all_frames_hears_both_directions() {
    in_lab!(|mut lab| {
        let link = cable(&mut lab);
        let socket = PacketSocket::open_all(&lab.container, link).unwrap();
        UdpSocket::bind("10.0.0.1:0").unwrap().send_to(b"x", "10.0.0.2:9").unwrap();
        let inside = lab.container.enter(|| UdpSocket::bind("10.0.0.2:0").unwrap()).unwrap();
        inside.send_to(b"y", "10.0.0.1:9").unwrap();
        let heard = heard(&socket);
        assert!(heard.contains(&b'x') && heard.contains(&b'y'), "{heard:?}");
    });
}
