//! What one node's kernel must hold.

use super::*;

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
    weave(&Facts {
        settings: &settings(),
        own: &nodes[0],
        topology: &topology,
        reaches: &reaches,
        underlay: &underlay,
        host: &host,
    })
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
