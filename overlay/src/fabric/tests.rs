//! Many nodes' plans, and where they lead.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{LinkName, NextHop, OverlayRules, Plan, Resource, Route, RouteTarget, Via};
use proptest::prelude::*;

use super::*;
use crate::id::NodeName;
use crate::machine::Machine;
use crate::node::{Mode, Role, Subnet, SubnetState, Tunnel};
use crate::path::{self, Direct, Reach, Trial};
use crate::pod::Pod;
use crate::pool::Range;
use crate::report::Way;
use crate::underlay::Hop;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n + 1; 16])
}

fn own_address(n: u8, ipv6: bool) -> IpAddr {
    if ipv6 { format!("2001:db8::{}", n + 1).parse().unwrap() } else { IpAddr::from([192, 168, 1, n + 1]) }
}

fn settings() -> Settings {
    let range = |cluster: &str, subnet_length| Range { cluster: cluster.parse().unwrap(), subnet_length };
    Settings {
        pool: Pool::new(vec![range("10.244.0.0/20", 24), range("fd00:244::/60", 64)]).unwrap(),
        bridge: LinkName::new("cnikit0").unwrap(),
        tunnel: LinkName::new("cnikit-vxlan").unwrap(),
        masquerade_except: Some(vec!["192.168.0.0/16".parse().unwrap()]),
    }
}

fn node(n: u8) -> Node {
    Node {
        id: id(n),
        name: NodeName::new(&format!("n{n}")).unwrap(),
        addresses: vec![own_address(n, false), own_address(n, true)],
        subnets: Vec::new(),
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: Some(Tunnel { vni: 1, port: 4789 }),
        mtu: 1500,
        machine: Machine::default(),
        pods: Vec::new(),
    }
}

fn subnet(index: u8, ipv6: bool, state: SubnetState) -> Subnet {
    let prefix = if ipv6 { format!("fd00:244:0:{index:x}::/64") } else { format!("10.244.{index}.0/24") };
    Subnet { prefix: prefix.parse().unwrap(), state }
}

fn pod(address: IpAddr) -> Pod {
    Pod::new(&format!("c{address}"), "eth0", [address])
}

/// By which way each peer is reached from each node, unless by the router.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Tunnel(bool),
    Direct,
    /// IPv4 as it is, IPv6 through the tunnel.
    Half,
}

fn reach(peer: u8, kind: Kind) -> Reach {
    let via =
        |ipv6| Some(path::Via { link: LinkName::new("eth0").unwrap(), address: own_address(peer, ipv6) });
    let gateway = own_address(peer, false);
    let (way, direct) = match kind {
        Kind::Tunnel(ipv6) => (Way::Vxlan { remote: own_address(peer, ipv6) }, Direct::default()),
        Kind::Direct => (Way::Route { gateway }, Direct { v4: via(false), v6: via(true) }),
        Kind::Half => (Way::Route { gateway }, Direct { v4: via(false), v6: None }),
    };
    Reach { way, mtu: 1400, direct, tunnel: Some((gateway, 1350)), trial: None, outside: None }
}

fn underlay(own: u8, count: u8) -> Underlay {
    let hop = Hop { link: LinkName::new("eth0").unwrap(), mtu: 1500, on_segment: true };
    let peers = (0..count).filter(|n| *n != own);
    let addresses = peers.flat_map(|n| [own_address(n, false), own_address(n, true)]);
    Underlay {
        addresses: vec![own_address(own, false), own_address(own, true)],
        hops: addresses.map(|address| (address, hop.clone())).collect(),
        ipv6: true,
    }
}

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

fn resources(plan: &Plan) -> impl Iterator<Item = &Resource> {
    plan.steps().iter().map(|step| &step.resource)
}

fn routes(plan: &Plan) -> impl Iterator<Item = &Route> {
    resources(plan).filter_map(|resource| match resource {
        Resource::Route(route) => Some(route),
        _ => None,
    })
}

fn next_hop(plan: &Plan, number: u32) -> Option<&NextHop> {
    resources(plan).find_map(|resource| match resource {
        Resource::NextHop(hop) if hop.id == number => Some(hop),
        _ => None,
    })
}

/// The node's address that a packet is sent to; `None`: it is for the bridge.
fn leads(plan: &Plan, to: IpAddr) -> Result<Option<IpAddr>, String> {
    let mut best: Option<(u8, u32, Option<&Route>)> = None;
    let mut offer = |net: IpNet, metric: u32, route: Option<&'_ Route>| {
        let (length, contains) = (net.prefix_len(), net.contains(&to));
        let better =
            best.is_none_or(|(other, least, _)| length > other || (length == other && metric < least));
        if contains && better {
            // The borrow of the plan outlives this function's loop.
            best = Some((length, metric, route.map(|route| routes(plan).find(|r| *r == route).unwrap())));
        }
    };
    for route in routes(plan).filter(|route| route.table.is_none()) {
        offer(route.destination, route.metric.unwrap_or(0), Some(route));
    }
    for resource in resources(plan) {
        if let Resource::Address(address) = resource
            && address.prefix_route
        {
            offer(address.net.trunc(), 0, None);
        }
    }
    let Some((_, _, route)) = best else { return Err(format!("no route to {to}")) };
    match route.map(|route| &route.target) {
        None | Some(RouteTarget::Link { .. }) => Ok(None),
        Some(RouteTarget::NextHop(number)) => {
            let hop = next_hop(plan, *number).ok_or("a next hop that there is not")?;
            assert_eq!(hop.protocol, PROTOCOL);
            match &hop.via {
                Via::Gateway { address, link, .. } if link.as_str() == "eth0" => Ok(Some(*address)),
                Via::Gateway { address, link, .. } => {
                    let neighbour = resources(plan).find_map(|resource| match resource {
                        Resource::Neighbour(n) if n.link == *link && n.address == *address => Some(n.mac),
                        _ => None,
                    });
                    let mac = neighbour.ok_or("no neighbour")?;
                    let remote = resources(plan).find_map(|resource| match resource {
                        Resource::Fdb(entry) if entry.link == *link && entry.mac == mac => Some(entry.remote),
                        _ => None,
                    });
                    remote.map(Some).ok_or_else(|| "no FDB entry".to_owned())
                }
                other => Err(format!("{other:?}")),
            }
        }
        Some(other) => Err(format!("{to}: {other:?}")),
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

fn facts_of<'a>(
    settings: &'a Settings,
    own: &'a Node,
    topology: &'a Topology,
    reaches: &'a BTreeMap<NodeId, Reach>,
    underlay: &'a Underlay,
    host: &'a Host,
) -> Facts<'a> {
    Facts { settings, own, topology, reaches, underlay, host }
}

/// Two nodes with a subnet each, and what the first one's kernel must hold.
fn pair(
    change: impl FnOnce(&mut Vec<Node>, &mut BTreeMap<NodeId, Reach>, &mut Underlay, &mut Host),
) -> Fabric {
    let mut nodes = vec![node(0), node(1)];
    for n in 0..2 {
        let held = [false, true].map(|ipv6| subnet(n, ipv6, SubnetState::Held));
        nodes[n as usize].subnets = held.to_vec();
    }
    let mut reaches = BTreeMap::from([(id(1), reach(1, Kind::Tunnel(false)))]);
    let (mut underlay, mut host) = (underlay(0, 2), Host::default());
    change(&mut nodes, &mut reaches, &mut underlay, &mut host);
    let topology: Topology = nodes.iter().cloned().collect();
    weave(&facts_of(&settings(), &nodes[0], &topology, &reaches, &underlay, &host))
}

#[test]
fn a_peers_new_address_is_one_difference_behind_a_tunnel_and_on_the_segment() {
    let other: IpAddr = "192.168.1.99".parse().unwrap();
    for kind in [Kind::Tunnel(false), Kind::Half] {
        let with = |address: Option<IpAddr>| {
            pair(|_, reaches, _, _| {
                let mut reach = reach(1, kind);
                if let Some(address) = address {
                    match &mut reach.way {
                        Way::Vxlan { remote } => *remote = address,
                        _ => reach.direct.v4.as_mut().unwrap().address = address,
                    }
                }
                reaches.insert(id(1), reach);
            })
        };
        let (before, after) = (with(None).plan, with(Some(other)).plan);
        let changed = after.without(&before);
        assert_eq!(changed.steps().len(), 1, "{changed:?}");
    }
}

#[test]
fn routes_say_how_much_a_path_takes_and_never_less_than_ipv6_needs() {
    let fabric = pair(|_, reaches, _, _| reaches.get_mut(&id(1)).unwrap().mtu = 1000);
    let mtu = |text: &str| {
        let destination: IpNet = text.parse().unwrap();
        routes(&fabric.plan).find(|route| route.destination == destination).unwrap().mtu
    };
    assert_eq!(mtu("10.244.1.0/24"), Some(1000));
    assert_eq!(mtu("fd00:244:0:1::/64"), Some(1280));
}

#[test]
fn a_range_that_the_nodes_own_network_is_in_is_refused_and_the_route_is_named() {
    let fabric = pair(|_, _, _, host| {
        let segment = "10.244.0.0/16".parse().unwrap();
        host.routes.push(Route::new(segment, None, LinkName::new("eth0").unwrap()));
    });
    assert!(routes(&fabric.plan).all(|route| route.destination.addr().is_ipv6() || route.table.is_some()));
    assert!(fabric.problems[0].what.contains("route 10.244.0.0/16 dev \"eth0\""), "{:?}", fabric.problems);
    assert!(routes(&fabric.plan).any(|route| route.destination.to_string() == "fd00:244:0:1::/64"));
}

#[test]
fn another_programs_route_in_the_range_is_told_and_left() {
    let foreign = Route::new("10.244.1.0/25".parse().unwrap(), None, LinkName::new("docker0").unwrap());
    let fabric = pair(|_, _, _, host| host.routes.push(foreign.clone()));
    assert_eq!(fabric.problems.len(), 1);
    assert!(fabric.problems[0].what.contains("docker0") && fabric.problems[0].what.contains("node n1"));
    let elsewhere = Route::new("10.0.0.0/8".parse().unwrap(), None, LinkName::new("vpn").unwrap());
    assert!(pair(|_, _, _, host| host.routes.push(elsewhere)).problems.is_empty());
}

#[test]
fn what_a_peer_says_of_other_ranges_is_not_believed() {
    let fabric = pair(|nodes, _, _, _| {
        nodes[1].subnets.push(Subnet { prefix: "0.0.0.0/0".parse().unwrap(), state: SubnetState::Held });
        nodes[1].pods.push(pod("8.8.8.8".parse().unwrap()));
    });
    let inside = |route: &Route| settings().pool.holds(&route.destination) || route.table.is_some();
    assert!(routes(&fabric.plan).all(inside));
    assert!(fabric.problems[0].what.contains("node n1 holds 0.0.0.0/0"));
}

#[test]
fn an_id_that_gives_another_nodes_mac_gets_no_tunnel() {
    let mut twin = *id(1).as_bytes();
    twin[15] = 0xff;
    let twin = NodeId::from_bytes(twin);
    let fabric = pair(|nodes, reaches, _, _| {
        nodes.push(Node { id: twin, name: NodeName::new("twin").unwrap(), ..node(2) });
        reaches.insert(twin, reach(2, Kind::Tunnel(false)));
    });
    let entries = resources(&fabric.plan).filter(|resource| matches!(resource, Resource::Fdb(_))).count();
    assert_eq!(entries, 1);
    assert!(fabric.problems[0].what.contains("twin"), "{:?}", fabric.problems);
}

#[test]
fn a_lost_subnets_address_loses_its_prefix_and_stays_for_the_pods_that_send_to_it() {
    let lost = Address::new(LinkName::new("cnikit0").unwrap(), "10.244.1.1/24".parse().unwrap());
    let fabric = pair(|nodes, _, _, host| {
        nodes[0].subnets.push(subnet(1, false, SubnetState::Lost));
        nodes[0].pods.push(pod("10.244.1.7".parse().unwrap()));
        host.bridge_addresses.push(lost.clone());
    });
    assert_eq!(fabric.stale, [Resource::Address(lost.clone())]);
    let addresses: Vec<_> = resources(&fabric.plan)
        .filter_map(|resource| match resource {
            Resource::Address(address) if address.net.addr().is_ipv4() => {
                Some((address.net.to_string(), address.prefix_route))
            }
            _ => None,
        })
        .collect();
    assert_eq!(addresses, [("10.244.0.1/24".to_owned(), true), ("10.244.1.1/32".to_owned(), false)]);
    assert_eq!(leads(&fabric.plan, "10.244.1.7".parse().unwrap()), Ok(None));
    assert_eq!(leads(&fabric.plan, "10.244.1.8".parse().unwrap()), Ok(Some(own_address(1, false))));
    assert!(is_set(&fabric, "proxy_arp"), "the lost subnet's other pods are elsewhere now");
    assert!(!is_set(&pair(|_, _, _, _| {}), "proxy_arp"));
}

/// Whether a setting that there is one of is on.
fn is_set(fabric: &Fabric, setting: &str) -> bool {
    resources(&fabric.plan).any(
        |resource| matches!(resource, Resource::Sysctl(s) if s.key.as_str().ends_with(setting) && s.value == "1"),
    )
}

#[test]
fn a_plain_route_that_is_tried_is_beside_the_way_and_takes_nobody_but_who_is_bound_to_its_interface() {
    let fabric = pair(|_, reaches, _, _| {
        let to = "10.244.1.1".parse().unwrap();
        let by = reach(1, Kind::Direct).direct;
        reaches.get_mut(&id(1)).unwrap().trial = Some(Trial { to, by });
    });
    let tried: Vec<_> = routes(&fabric.plan).filter(|route| route.metric == Some(TRIAL_METRIC)).collect();
    let [tried] = tried.as_slice() else { panic!("{tried:?}") };
    assert_eq!((tried.destination, tried.table), ("10.244.1.0/24".parse().unwrap(), None));
    let link_of = |route: &Route| {
        let RouteTarget::NextHop(number) = route.target else { panic!("{route:?}") };
        let Via::Gateway { link, .. } = next_hop(&fabric.plan, number).unwrap().via.clone() else { panic!() };
        link.to_string()
    };
    assert_eq!(link_of(tried), "eth0");
    let taken = routes(&fabric.plan)
        .find(|route| (route.destination, route.metric) == (tried.destination, Some(METRIC)));
    assert_eq!(link_of(taken.unwrap()), "cnikit-vxlan");
    // Rules make each packet slower.
    assert!(!resources(&fabric.plan).any(|resource| matches!(resource, Resource::Rule(_))));
}

#[test]
fn a_router_behind_a_tunnel_is_probed_by_routes_of_probes_own_which_never_fall_back_to_others() {
    let fabric = pair(|_, reaches, _, _| {
        reaches.get_mut(&id(1)).unwrap().outside = Some(own_address(1, false));
    });
    let lane: Vec<_> = routes(&fabric.plan).filter(|route| route.table == Some(OUTSIDE.table)).collect();
    let [nowhere, probe] = lane.as_slice() else { panic!("{lane:?}") };
    assert_eq!((&nowhere.target, nowhere.destination.prefix_len()), (&RouteTarget::Blackhole, 0));
    assert_eq!(probe.destination, own_address(1, false).into());
    let rules = resources(&fabric.plan).filter(|resource| matches!(resource, Resource::Rule(_)));
    assert_eq!(rules.count(), 1);
}

#[test]
fn pods_keep_their_addresses_among_themselves_and_where_somebody_said_so() {
    let rules = packet_filter(&pair(|_, _, _, _| {}).plan);
    assert_eq!(rules.sources, nets(&["10.244.0.0/20", "fd00:244::/60"]));
    assert_eq!(rules.exceptions, nets(&["10.244.0.0/20", "fd00:244::/60", "192.168.0.0/16"]));
    assert_eq!((rules.tunnel_port, rules.bridge), (Some(4789), Some(LinkName::new("cnikit0").unwrap())));
}

fn packet_filter(plan: &Plan) -> OverlayRules {
    let rules = resources(plan).find_map(|resource| match resource {
        Resource::OverlayRules(rules) => Some(rules.clone()),
        _ => None,
    });
    rules.unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_kernel_that_keeps_too_few_neighbours_is_told_of_with_what_to_do() {
    let told = |limits: [Option<u32>; 2], pods: u16| {
        let fabric = pair(|nodes, _, _, host| {
            nodes[0].pods = (0..pods).map(|n| pod(IpAddr::from([10, 244, 0, n as u8]))).collect();
            host.neighbour_limits = limits;
        });
        fabric.problems
    };
    assert_eq!(told([Some(1024), Some(1024)], 100), []);
    assert_eq!(told([None, None], 250), [], "a kernel that does not say");
    // 250 pods that are known to the node and know it, and one other node: 501 of IPv4, 1 of IPv6.
    let problems = told([Some(512), Some(512)], 250);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].what.contains("some 501 neighbours of ipv4") && problems[0].what.contains("keeps 512")
    );
    assert!(problems[0].advice.contains("net.ipv4.neigh.default.gc_thresh3=1024"), "{problems:?}");
    assert_eq!(told([Some(669), Some(2)], 250).len(), 0, "three quarters, and one of two");
    assert_eq!(told([Some(667), Some(1)], 250).len(), 2);
}

#[test]
fn a_router_has_no_bridge_and_no_masquerade() {
    let fabric = pair(|nodes, _, _, _| {
        nodes[0].role = Role::Router;
        nodes[0].subnets.clear();
    });
    let of_bridge =
        |resource: &Resource| matches!(resource, Resource::Link(link) if link.name.as_str() == "cnikit0");
    assert!(!resources(&fabric.plan).any(of_bridge));
    let rules = packet_filter(&fabric.plan);
    assert_eq!((rules.exceptions, rules.bridge), (nets(&["0.0.0.0/0", "::/0"]), None));
}

#[test]
fn without_ipv6_there_is_none_of_it_and_that_is_told() {
    let fabric = pair(|_, _, underlay, _| underlay.ipv6 = false);
    assert!(routes(&fabric.plan).all(|route| route.destination.addr().is_ipv4()));
    let six = |resource: &Resource| matches!(resource, Resource::NextHop(hop) if hop.via.version() == netops::IpVersion::V6);
    assert!(!resources(&fabric.plan).any(six));
    assert!(fabric.problems[0].what.contains("no IPv6"));
}

#[test]
fn a_tunnel_over_ipv6_has_its_end_here_before_a_peer_sends_by_it() {
    let has_end = |change: fn(&mut Vec<Node>)| {
        let fabric = pair(|nodes, _, _, _| change(nodes));
        let is_end = |resource: &Resource| matches!(resource, Resource::Link(link) if link.name.as_str() == "cnikit-vxlan6");
        resources(&fabric.plan).any(is_end)
    };
    assert!(has_end(|_| ()), "although all goes over IPv4");
    assert!(!has_end(|nodes| nodes[1].addresses.retain(IpAddr::is_ipv4)), "nobody can send by it");
}

#[test]
fn a_bridge_that_is_there_keeps_its_mac_address() {
    let mac = "02:00:00:00:00:07".parse().unwrap();
    let fabric = pair(|_, _, _, host| host.bridge_mac = Some(mac));
    let of_bridge = |resource: &Resource| match resource {
        Resource::Link(link) if link.name.as_str() == "cnikit0" => Some(link.mac),
        _ => None,
    };
    assert_eq!(resources(&fabric.plan).find_map(of_bridge), Some(Some(mac)));
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
