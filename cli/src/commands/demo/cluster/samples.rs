//! What may have happened, for tests: three nodes with two pods each, and a packet between two of them.

use std::net::IpAddr;
use std::time::Duration;

use netops::MacAddr;

use super::frame::Layer;
use super::report::{Attached, Capture, Joined};

pub(super) fn joined() -> Vec<Joined> {
    let node = |number: u8| Joined {
        node: format!("n{number}"),
        address: IpAddr::from([192, 168, 1, 10 + number]),
        is_router: false,
        bridge: "cnikit-pods".to_owned(),
        subnets: vec![format!("10.244.{}.0/24", 116 + number).parse().unwrap()],
        ready: Duration::from_millis(1200),
        ways: Vec::new(),
    };
    (1..=3).map(node).collect()
}

pub(super) fn attached() -> Vec<Attached> {
    let pod = |node: u8, number: u8| Attached {
        pod: format!("pod-{node}{}", char::from(b'a' + number)),
        node: format!("n{node}"),
        netns: "/proc/4711/fd/9".to_owned(),
        addresses: vec![format!("10.244.{}.{}/24", 116 + node, 102 + number).parse().unwrap()],
        gateways: Vec::new(),
        host_interface: "vethabc".to_owned(),
        took: Duration::from_micros(2400),
    };
    (1..=3).flat_map(|node| (0..2).map(move |number| pod(node, number))).collect()
}

pub(super) fn capture() -> Capture {
    let mac = |last: u8| MacAddr::new([2, 0, 0, 0, 0, last]);
    let layers = vec![
        Layer::Ethernet { from: mac(1), to: mac(2) },
        Layer::Ip { from: [192, 168, 1, 11].into(), to: [192, 168, 1, 12].into(), hops: 64 },
        Layer::Udp { from: 40_000, to: 4789 },
        Layer::Vxlan { network: 4096 },
        Layer::Ethernet { from: mac(3), to: mac(4) },
        Layer::Ip { from: [10, 244, 117, 102].into(), to: [10, 244, 118, 102].into(), hops: 63 },
        Layer::EchoRequest { sequence: 1 },
    ];
    Capture { from: "pod-1a".to_owned(), to: "pod-2a".to_owned(), node: "n1".to_owned(), bytes: 108, layers }
}
