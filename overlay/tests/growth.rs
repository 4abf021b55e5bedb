//! What a node does when all others are told at once grows as their number does: nothing is looked for among all for each.

#![allow(clippy::unwrap_used)] // tests

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use netops::LinkName;
use overlay::fabric::{self, Facts, Host};
use overlay::path::{self, Paths, Unsealed};
use overlay::{
    Hop, Mode, Node, NodeId, NodeName, Pool, Range, Role, Subnet, SubnetState, Topology, Tunnel, Underlay,
};

/// Eight times as many nodes take eight times as long, or a little more, as trees have it; where each looks through all, 64 times.
const TIMES: u32 = 8;
const AT_MOST: u64 = 24;

fn node(number: u32) -> Node {
    let mut id = [0; 16];
    // As random ids are: nothing is in order.
    id[..8].copy_from_slice(&u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let prefix = Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 + (number << 6)), 26).unwrap();
    Node {
        id: NodeId::from_bytes(id),
        name: NodeName::new(&format!("n{number}")).unwrap(),
        addresses: vec![Ipv4Addr::from_bits(0xac10_0001 + number).into()],
        subnets: vec![Subnet { prefix: IpNet::from(prefix), state: SubnetState::Held }],
        role: Role::Worker,
        mode: Mode::Vxlan,
        tunnel: Some(Tunnel { vni: 1, port: 4789 }),
        mtu: 1500,
        machine: overlay::Machine::default(),
        pods: Vec::new(),
    }
}

/// Nanoseconds that this thread was on a processor: what else runs does not count.
fn on_processor() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// What a node needs to know the ways to so many others, to plan them, and to forget them.
fn cost(count: u32) -> u64 {
    let pool = Pool::new(vec![Range { cluster: "10.0.0.0/8".parse().unwrap(), subnet_length: 26 }]).unwrap();
    let own = node(0);
    let others: Vec<Node> = (1..=count).map(node).collect();
    let hop = Hop { link: LinkName::new("eth0").unwrap(), mtu: 1500, on_segment: false };
    let underlay = Underlay {
        addresses: own.addresses.clone(),
        hops: others
            .iter()
            .map(|node| (node.address(false).unwrap(), hop.clone()))
            .collect::<BTreeMap<IpAddr, _>>(),
        ipv6: false,
    };
    let settings = fabric::Settings {
        pool: pool.clone(),
        bridge: LinkName::new("cni0").unwrap(),
        tunnel: LinkName::new("vx0").unwrap(),
        masquerade_except: None,
    };
    let path_settings = path::Settings { id: own.id, pool, port: path::DEFAULT_PORT };
    let topology: Topology = others.into_iter().collect();

    let (now, before) = (Instant::now(), on_processor());
    let mut paths = Paths::new(path_settings, Box::new(Unsealed), BTreeMap::new(), 1, now);
    paths.update(now, &own, &topology, &underlay);
    let reaches = paths.reaches();
    let fabric = fabric::weave(&Facts {
        settings: &settings,
        own: &own,
        topology: &topology,
        reaches: &reaches,
        underlay: &underlay,
        host: &Host::default(),
    });
    assert!(fabric.plan.steps().len() > count as usize, "a way to each");
    black_box(fabric);
    paths.update(now, &own, &Topology::new(), &underlay);
    assert!(paths.reaches().is_empty());
    on_processor() - before
}

#[test]
fn it_grows_as_the_number_of_nodes_does() {
    const FEW: u32 = 1000;
    let best = |count| (0..3).map(|_| cost(count)).min().unwrap();
    let (few, many) = (best(FEW), best(FEW * TIMES));
    assert!(many < few * AT_MOST, "{FEW} nodes take {few} ns, and {TIMES} times as many {many} ns");
}
