//! What an agent says, for tests: three nodes, the second on the first's segment, the third on another.

use std::net::IpAddr;

use overlay::report::{Map, MapNode, Path, Peer, PeerCounts, Status, StoreStatus, Way};
use overlay::{Liveness, Machine, Mode, Node, NodeId, NodeName, Pod, Role, Subnet, SubnetState, Tunnel};

/// What agent `n1` says of the whole.
pub(crate) fn map() -> Map {
    let nodes = [
        (node(1, "192.168.1.11", &["web-1", "web-2"]), None),
        (node(2, "192.168.1.12", &["db-1"]), Some(route("192.168.1.12"))),
        (node(3, "10.1.0.13", &["db-2"]), Some(tunnel("10.1.0.13"))),
    ];
    let nodes =
        nodes.map(|(node, path)| MapNode { node, liveness: Liveness::Alive, incarnation: None, path });
    Map {
        node: id(1),
        network: "podnet".to_owned(),
        bridge: "cni-podnet".to_owned(),
        nodes: nodes.into(),
        lacking_pods: None,
        conflicts: Vec::new(),
    }
}

/// What agent `n1` says of its peers.
pub(crate) fn peers() -> Vec<Peer> {
    let nodes = map().nodes.into_iter().filter_map(|node| Some((node.node, node.path?)));
    let peer = |(node, path): (Node, Path)| Peer {
        id: node.id,
        name: node.name,
        liveness: Liveness::Alive,
        addresses: node.addresses,
        subnets: node.subnets,
        pods: node.pods.len(),
        path,
    };
    nodes.map(peer).collect()
}

/// What agent `n1` says of itself.
pub(crate) fn status() -> Status {
    let node = node(1, "192.168.1.11", &["web-1", "web-2"]);
    Status {
        node: node.id,
        name: node.name,
        version: "0.1.0".to_owned(),
        uptime: 3661,
        network: "podnet".to_owned(),
        bridge: "cni-podnet".to_owned(),
        addresses: node.addresses,
        subnets: node.subnets,
        mode: Mode::Auto,
        store: StoreStatus {
            kind: "gossip".to_owned(),
            endpoints: vec!["192.168.1.11:7946".to_owned()],
            cut_off: None,
        },
        peers: PeerCounts { alive: 2, ..PeerCounts::default() },
        pods: 2,
        ready: true,
        problems: Vec::new(),
        ports: None,
    }
}

/// A node with pods, each named so.
pub(crate) fn node(number: u8, address: &str, pods: &[&str]) -> Node {
    let pod = |(nth, name): (usize, &&str)| {
        let address = IpAddr::from([10, 244, number, u8::try_from(nth + 2).unwrap()]);
        Pod::new(&format!("{name}-sandbox"), "eth0", [address]).named(Some("default"), Some(name))
    };
    Node {
        id: id(number),
        name: NodeName::new(&format!("n{number}")).unwrap(),
        addresses: vec![address.parse().unwrap()],
        subnets: vec![Subnet {
            prefix: format!("10.244.{number}.0/24").parse().unwrap(),
            state: SubnetState::Held,
        }],
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: Some(Tunnel { vni: 1, port: 4789 }),
        mtu: 1500,
        machine: Machine::default(),
        pods: pods.iter().enumerate().map(pod).collect(),
    }
}

pub(crate) fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// A plain route.
pub(crate) fn route(gateway: &str) -> Path {
    Path {
        way: Way::Route { gateway: gateway.parse().unwrap() },
        reason: "same segment, probes come back".into(),
        mtu: 1500,
        mtu_confirmed: true,
        round_trip: Some(123),
        answered: Some(1),
    }
}

/// A tunnel.
pub(crate) fn tunnel(remote: &str) -> Path {
    Path {
        way: Way::Vxlan { remote: remote.parse().unwrap() },
        reason: "another segment".into(),
        mtu: 1450,
        mtu_confirmed: true,
        round_trip: Some(310),
        answered: Some(1),
    }
}
