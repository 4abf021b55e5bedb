//! Where many nodes' plans lead a packet, whatever overlaps.

use proptest::prelude::*;

use super::*;

/// Nodes, and what each one's kernel must hold.
#[derive(Debug)]
struct Cluster {
    nodes: Vec<Node>,
    fabrics: Vec<Fabric>,
}

impl Cluster {
    fn new(nodes: Vec<Node>, kind: impl Fn(u8, u8) -> Kind) -> Self {
        let topology: Topology = nodes.iter().cloned().collect();
        let router = topology.router().map(|router| router.node.id);
        let count = nodes.len() as u8;
        let fabric = |own: u8| {
            let reached = |peer: u8| {
                let ends = [own, peer].map(|n| &nodes[n as usize]);
                let mut reach = reach(peer, kind(own, peer));
                if let Some(router) = router
                    && ends.iter().any(|node| node.mode == Mode::Router)
                    && ends.iter().all(|node| node.role == Role::Worker)
                {
                    (reach.way, reach.direct) = (Way::Router { router }, Direct::default());
                }
                (id(peer), reach)
            };
            let reaches = (0..count).filter(|peer| *peer != own).map(reached).collect();
            weave(&Facts {
                settings: &settings(),
                own: &nodes[own as usize],
                topology: &topology,
                reaches: &reaches,
                underlay: &underlay(own, count),
                host: &Host::default(),
            })
        };
        let fabrics = (0..count).map(fabric).collect();
        Self { nodes, fabrics }
    }

    /// The node that a packet ends at, or where it is dropped.
    fn travel(&self, from: u8, to: IpAddr) -> Result<u8, String> {
        let mut at = from;
        for _ in 0..4 {
            match leads(&self.fabrics[at as usize].plan, to)? {
                None => return Ok(at),
                Some(address) => {
                    let next = self.nodes.iter().position(|node| node.addresses.contains(&address));
                    at = next.ok_or_else(|| format!("{address} is nobody"))? as u8;
                }
            }
        }
        Err(format!("{to} goes round in circles from {from}"))
    }

    /// Who has a pod of an address; `None` if several have, or nobody.
    fn home(&self, address: IpAddr) -> Option<u8> {
        let has = |n: &u8| self.nodes[*n as usize].pods.iter().any(|pod| pod.addresses().contains(&address));
        let mut homes = (0..self.nodes.len() as u8).filter(has);
        homes.next().filter(|_| homes.next().is_none())
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let pods = self.nodes.iter().flat_map(|node| &node.pods);
        pods.flat_map(|pod| pod.addresses().iter().copied()).collect()
    }
}

fn any_node(n: u8) -> impl Strategy<Value = Node> {
    let state = prop_oneof![
        6 => Just(SubnetState::Held),
        1 => Just(SubnetState::Lost),
        1 => Just(SubnetState::Tentative),
    ];
    let subnets = proptest::collection::vec((0..16_u8, any::<bool>(), state), 0..4);
    // Some in its own subnets, some anywhere.
    let pods = proptest::collection::vec((0..20_u8, any::<bool>(), 2..250_u8), 0..6);
    (subnets, pods).prop_map(move |(subnets, pods)| {
        let mut node = node(n);
        node.subnets = subnets.into_iter().map(|(index, ipv6, state)| subnet(index, ipv6, state)).collect();
        let address = |(index, ipv6, host): (u8, bool, u8)| -> IpAddr {
            let own = node.subnets.get(usize::from(index)).map(|subnet| subnet.prefix.network());
            match own {
                Some(IpAddr::V4(network)) => IpAddr::V4((network.to_bits() + u32::from(host)).into()),
                Some(IpAddr::V6(network)) => IpAddr::V6((network.to_bits() + u128::from(host)).into()),
                None if ipv6 => format!("fd00:244:0:{:x}::{host:x}", index % 16).parse().unwrap(),
                None => IpAddr::from([10, 244, index % 16, host]),
            }
        };
        node.pods = pods.into_iter().map(address).map(pod).collect();
        node
    })
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    let nodes: Vec<_> = (0..6).map(any_node).collect();
    let kind = prop_oneof![
        Just(Kind::Tunnel(false)),
        Just(Kind::Tunnel(true)),
        Just(Kind::Direct),
        Just(Kind::Half),
    ];
    let kinds = proptest::collection::vec(kind, 36);
    let router = proptest::option::of(proptest::collection::vec(any::<bool>(), 6));
    (nodes, kinds, router).prop_map(|(mut nodes, kinds, router)| {
        if let Some(by_router) = router {
            for (node, by_router) in nodes.iter_mut().zip(by_router) {
                node.mode = if by_router { Mode::Router } else { Mode::Auto };
            }
            let last = nodes.last_mut().unwrap();
            (last.role, last.subnets, last.pods) = (Role::Router, Vec::new(), Vec::new());
        }
        Cluster::new(nodes, |own, peer| kinds[usize::from(own) * 6 + usize::from(peer)])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever subnets overlap, whichever are lost, whichever ways are taken, also by the router: a packet to a pod ends at the
    /// pod's node, wherever it begins.
    #[test]
    fn every_pod_is_reached_from_every_node(cluster in any_cluster()) {
        for address in cluster.addresses() {
            let Some(home) = cluster.home(address) else { continue };
            for from in 0..6 {
                let ends = cluster.travel(from, address);
                prop_assert_eq!(ends, Ok(home), "{} from {}", address, from);
            }
        }
    }

    /// A pod asks its own segment for what has a prefix with it: who is elsewhere is answered for, and who is here is not.
    #[test]
    fn neighbours_that_are_elsewhere_are_answered_for(cluster in any_cluster()) {
        let addresses: Vec<_> = cluster.addresses().into_iter().filter(IpAddr::is_ipv6).collect();
        for (node, fabric) in cluster.nodes.iter().zip(&cluster.fabrics) {
            let is_here = |address: &IpAddr| node.pods.iter().any(|pod| pod.addresses().contains(address));
            let proxied: Vec<IpAddr> = resources(&fabric.plan).filter_map(|resource| match resource {
                Resource::Proxy(proxy) => Some(proxy.address),
                _ => None,
            }).collect();
            prop_assert!(!proxied.iter().any(is_here));
            for own in addresses.iter().filter(|address| is_here(address)) {
                let segment = IpNet::new(*own, 64).unwrap();
                for other in addresses.iter().filter(|other| segment.contains(*other) && !is_here(other)) {
                    prop_assert!(proxied.contains(other), "{} asks for {}", own, other);
                    prop_assert!(is_set(fabric, "proxy_ndp"));
                }
            }
        }
    }

    /// What two nodes both have goes to one of them; from their own pods, to themselves.
    #[test]
    fn own_pods_never_leave_and_others_agree(cluster in any_cluster()) {
        for address in cluster.addresses() {
            let has = |n: &u8| cluster.nodes[*n as usize].pods.iter().any(|pod| pod.addresses().contains(&address));
            let ends: Vec<_> = (0..6).filter(|n| !has(n)).map(|from| cluster.travel(from, address)).collect();
            prop_assert!(ends.windows(2).all(|two| two[0] == two[1]), "{}: {:?}", address, ends);
            for own in (0..6).filter(has) {
                prop_assert_eq!(cluster.travel(own, address), Ok(own));
            }
        }
    }

    /// What is nobody's is dropped here, by whatever way; what is another's subnet, at its node.
    #[test]
    fn nothing_leaks(cluster in any_cluster(), index in 0..16_u8, host in 1..255_u8) {
        let address = IpAddr::from([10, 244, index, host]);
        for from in 0..6 {
            match cluster.travel(from, address) {
                Ok(end) => {
                    let node = &cluster.nodes[end as usize];
                    let holds = node.held().any(|net| net.contains(&address));
                    prop_assert!(holds || cluster.addresses().contains(&address), "{} at {}", address, end);
                }
                Err(why) => prop_assert!(why.contains("Blackhole"), "{}", why),
            }
        }
    }
}

#[test]
fn of_two_pods_with_one_address_the_one_in_its_own_nodes_prefix_is_reached() {
    let address: IpAddr = "10.244.5.9".parse().unwrap();
    let mut nodes: Vec<Node> = (0..3).map(node).collect();
    nodes[0].pods.push(pod(address));
    nodes[1].pods.push(pod(address));
    nodes[1].subnets.push(subnet(5, false, SubnetState::Held));
    let cluster = Cluster::new(nodes, |_, _| Kind::Direct);
    assert_eq!(cluster.travel(2, address), Ok(1), "although the other has the lower id");
    assert_eq!((cluster.travel(0, address), cluster.travel(1, address)), (Ok(0), Ok(1)));
}

#[test]
fn a_node_that_lost_its_prefix_to_the_pods_node_goes_where_all_others_go() {
    let address: IpAddr = "10.244.12.98".parse().unwrap();
    let mut nodes: Vec<Node> = (0..4).map(node).collect();
    for n in [1, 3] {
        nodes[n].subnets.push(subnet(12, false, SubnetState::Held));
    }
    for n in [0, 1] {
        nodes[n].pods.push(pod(address));
    }
    let cluster = Cluster::new(nodes, |_, _| Kind::Direct);
    assert_eq!([2, 3].map(|from| cluster.travel(from, address)), [Ok(1), Ok(1)]);
}
