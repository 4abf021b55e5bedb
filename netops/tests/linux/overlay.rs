//! What leads to other machines, one thing at a time: tunnels, next hops, neighbours, FDB entries, and the routes by them,
//! as `ip` and `bridge` see them.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use netops::*;
use serde_json::{Value, json};

use crate::in_lab;
use crate::support::{Lab, name};

const PROTOCOL: u8 = 87;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn mac(number: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, number])
}

fn tunnel(local: Option<&str>) -> Link {
    let vxlan = Vxlan { vni: 7, port: 8472, local: local.map(ip), dont_fragment: DontFragment::Set };
    Link { mac: Some(mac(1)), mtu: Some(1450), up: true, ..Link::new(name("tun0"), LinkKind::Vxlan(vxlan)) }
}

fn gateway(id: u32, address: &str) -> NextHop {
    let via = Via::Gateway { address: ip(address), link: name("tun0"), onlink: true };
    NextHop { id, via, protocol: PROTOCOL }
}

fn by_hop(destination: &str, id: u32) -> Route {
    Route { protocol: Some(PROTOCOL), ..Route::to(net(destination), RouteTarget::NextHop(id)) }
}

/// A tunnel that is up, and an address by which the kernel's IPv4 takes gateways.
fn with_tunnel(lab: &mut Lab) {
    make(lab, Resource::LinkUp(LinkName::loopback()));
    make(lab, Resource::Link(tunnel(None)));
    make(lab, Resource::Address(Address::new(name("tun0"), net("10.244.1.0/32"))));
}

fn make(lab: &mut Lab, resource: impl Into<Resource>) {
    assert_eq!(lab.create(Place::Host, &resource.into()), Ok(Created::New));
}

fn read(lab: &mut Lab, query: Query) -> Answer {
    lab.kernel.read(Place::Host, &[query]).unwrap().remove(0)
}

#[test]
fn a_vxlan_is_as_it_was_asked_for() {
    in_lab!(|mut lab| {
        make(&mut lab, Resource::LinkUp(LinkName::loopback()));
        for local in ["127.0.0.1", "::1"] {
            let wanted = tunnel(Some(local));
            make(&mut lab, Resource::Link(wanted.clone()));
            let seen = lab.ip(Place::Host, "link show tun0");
            let data = &seen[0]["linkinfo"]["info_data"];
            let address = if local.contains(':') { &data["local6"] } else { &data["local"] };
            assert_eq!(
                (&data["id"], &data["port"], address, &data["learning"], &data["df"]),
                (&json!(7), &json!(8472), &json!(local), &json!(false), &json!("set"))
            );
            // None over IPv4; over IPv6 neither sent nor taken without.
            assert_eq!(
                (&data["udp_csum"], &data["udp_zero_csum6_tx"], &data["udp_zero_csum6_rx"]),
                (&json!(false), &json!(false), &json!(false))
            );
            assert_eq!((&seen[0]["mtu"], &seen[0]["address"]), (&json!(1450), &json!(mac(1).to_string())));
            let mut plan = Plan::new();
            plan.own(Place::Host, Resource::Link(wanted.clone()));
            assert_eq!(plan.check(&mut lab.kernel).unwrap(), []);
            let other = Vxlan { vni: 8, port: 8472, local: None, dont_fragment: DontFragment::Unset };
            let mut plan = Plan::new();
            plan.own(Place::Host, Resource::Link(Link { kind: LinkKind::Vxlan(other), ..wanted }));
            assert_eq!(plan.check(&mut lab.kernel).unwrap().len(), 3);
            lab.remove(Place::Host, &Resource::Link(tunnel(None))).unwrap();
        }
    });
}

#[test]
fn next_hops_are_as_they_were_asked_for() {
    in_lab!(|mut lab| {
        with_tunnel(&mut lab);
        let link =
            |id, version| NextHop { id, via: Via::Link { link: name("tun0"), version }, protocol: PROTOCOL };
        let hops = [
            gateway(1, "10.244.2.0"),
            gateway(2, "fe80::2"),
            link(3, IpVersion::V4),
            link(4, IpVersion::V6),
            NextHop { id: 5, via: Via::Blackhole { version: IpVersion::V4 }, protocol: PROTOCOL },
            NextHop { id: 6, via: Via::Blackhole { version: IpVersion::V6 }, protocol: PROTOCOL },
        ];
        for hop in &hops {
            make(&mut lab, hop.clone());
            assert_eq!(read(&mut lab, Query::NextHop(hop.id)), Answer::NextHops(vec![hop.clone()]));
            let refusal = lab.create(Place::Host, &hop.clone().into()).unwrap_err();
            assert_eq!(refusal.errno(), Some(Errno::EEXIST));
        }
        assert_eq!(read(&mut lab, Query::NextHops(PROTOCOL)), Answer::NextHops(hops.to_vec()));
        assert_eq!(read(&mut lab, Query::NextHops(88)), Answer::NextHops(Vec::new()));
        let seen = lab.ip(Place::Host, "nexthop show");
        assert_eq!(seen[0]["gateway"], "10.244.2.0");
        assert_eq!((&seen[1]["gateway"], &seen[1]["flags"]), (&json!("fe80::2"), &json!(["onlink"])));
        assert!(seen[4].get("blackhole").is_some(), "{seen}");
        assert!(
            seen.as_array().unwrap().iter().all(|hop| hop["protocol"] == json!(PROTOCOL.to_string())),
            "{seen}"
        );
        for hop in hops {
            assert_eq!(lab.remove(Place::Host, &hop.clone().into()), Ok(Removed::Now));
            assert_eq!(lab.remove(Place::Host, &hop.into()), Ok(Removed::Before));
        }
        assert_eq!(lab.ip(Place::Host, "nexthop show"), json!([]));
    });
}

#[test]
fn neighbours_and_fdb_entries_are_as_they_were_asked_for() {
    in_lab!(|mut lab| {
        with_tunnel(&mut lab);
        let neighbours = ["10.244.2.0", "fe80::2"].map(|address| NeighbourEntry {
            link: name("tun0"),
            address: ip(address),
            mac: mac(2),
            protocol: PROTOCOL,
        });
        for wanted in &neighbours {
            make(&mut lab, wanted.clone());
            let Answer::Neighbours(found) = read(&mut lab, Query::NeighbourOf(name("tun0"), wanted.address))
            else {
                panic!("no neighbours")
            };
            assert_eq!((found[0].mac, found[0].protocol), (Some(mac(2)), PROTOCOL));
            assert_eq!(found[0].reachability, Reachability::Permanent);
        }
        let seen = lab.ip(Place::Host, "neighbour show dev tun0 nud permanent");
        let [first] =
            seen.as_array().unwrap().iter().filter(|n| n["dst"] == "10.244.2.0").collect::<Vec<_>>()[..]
        else {
            panic!("{seen}")
        };
        assert_eq!((&first["lladdr"], &first["protocol"]), (&json!(mac(2).to_string()), &json!("87")));
        let entry = FdbEntry { link: name("tun0"), mac: mac(2), remote: ip("192.0.2.2") };
        make(&mut lab, entry.clone());
        assert_eq!(read(&mut lab, Query::FdbOf(name("tun0"), mac(2))), Answer::Fdb(vec![entry.clone()]));
        assert_eq!(read(&mut lab, Query::FdbOf(name("tun0"), mac(3))), Answer::Fdb(Vec::new()));
        assert_eq!(read(&mut lab, Query::FdbOn(name("tun0"))), Answer::Fdb(vec![entry.clone()]));
        let seen: Value = serde_json::from_str(&lab.run(Place::Host, "bridge -j fdb show dev tun0")).unwrap();
        assert_eq!(
            (&seen[0]["mac"], &seen[0]["dst"], &seen[0]["state"]),
            (&json!(mac(2).to_string()), &json!("192.0.2.2"), &json!("permanent"))
        );
        for wanted in neighbours {
            assert_eq!(lab.remove(Place::Host, &wanted.clone().into()), Ok(Removed::Now));
            assert_eq!(lab.remove(Place::Host, &wanted.into()), Ok(Removed::Before));
        }
        assert_eq!(lab.remove(Place::Host, &entry.clone().into()), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Host, &entry.into()), Ok(Removed::Before));
    });
}

#[test]
fn neighbours_elsewhere_are_answered_for() {
    in_lab!(|mut lab| {
        with_tunnel(&mut lab);
        let proxies = ["10.244.2.7", "fd00::7", "fd00::8"].map(|address| NeighbourProxy {
            link: name("tun0"),
            address: ip(address),
            protocol: PROTOCOL,
        });
        for wanted in &proxies {
            make(&mut lab, wanted.clone());
        }
        lab.run(Place::Host, "ip neighbour add proxy fd00::9 dev tun0");
        let others = NeighbourProxy { link: name("tun0"), address: ip("fd00::9"), protocol: 0 };
        let found = |lab: &mut Lab| match read(lab, Query::Proxies) {
            Answer::Proxies(mut found) => {
                found.sort_by_key(|proxy| proxy.address);
                found
            }
            other => panic!("{other:?}"),
        };
        let [a, b, c] = proxies.clone();
        assert_eq!(found(&mut lab), [a.clone(), b, c, others.clone()]);
        assert!(lab.run(Place::Host, "ip neighbour show proxy").contains("10.244.2.7 dev tun0"));
        // As many others: what is ours and not wanted goes, and nothing else.
        let scope = Scope { protocol: PROTOCOL, next_hops: 1..=9, links: Vec::new(), tables: vec![254] };
        let mut plan = Plan::new();
        plan.own(Place::Host, a.clone().into());
        let done = plan.reconcile(&mut lab.kernel, &scope).unwrap();
        assert_eq!((done.made, done.changed, done.removed, done.failures), (0, 0, 2, Vec::new()));
        assert_eq!(found(&mut lab), [a.clone(), others]);
        assert!(plan.check(&mut lab.kernel).unwrap().is_empty());
        // With the interface's going down they are gone, without a word but the interface's.
        lab.run(Place::Host, "ip link set tun0 down");
        assert_eq!(found(&mut lab), []);
        assert!(plan.check(&mut lab.kernel).unwrap()[0].is_missing());
        let done = plan.reconcile(&mut lab.kernel, &scope).unwrap();
        assert_eq!((done.made, done.failures), (1, Vec::new()));
        assert_eq!(lab.remove(Place::Host, &a.clone().into()), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Host, &a.into()), Ok(Removed::Before));
    });
}

#[test]
fn routes_go_by_next_hops_of_either_version_and_to_nowhere() {
    in_lab!(|mut lab| {
        with_tunnel(&mut lab);
        make(&mut lab, gateway(1, "10.244.2.0"));
        make(&mut lab, gateway(2, "fe80::2"));
        let nowhere = |destination, target| Route {
            protocol: Some(PROTOCOL),
            metric: Some(4000),
            table: Some(100),
            ..Route::to(net(destination), target)
        };
        let routes = [
            by_hop("10.244.2.0/24", 1),
            Route { mtu: Some(1350), metric: Some(7), ..by_hop("10.244.3.0/24", 2) },
            by_hop("fd00:3::/64", 2),
            nowhere("10.244.0.0/16", RouteTarget::Blackhole),
            nowhere("10.245.0.0/16", RouteTarget::Unreachable),
            nowhere("fd00::/48", RouteTarget::Blackhole),
            nowhere("fd01::/48", RouteTarget::Unreachable),
        ];
        for route in &routes {
            make(&mut lab, route.clone());
        }
        let mut plan = Plan::new();
        for route in &routes {
            plan.own(Place::Host, Resource::Route(route.clone()));
        }
        assert_eq!(plan.check(&mut lab.kernel).unwrap(), []);
        let seen = lab.ip(Place::Host, "route show 10.244.3.0/24");
        assert_eq!((&seen[0]["nhid"], &seen[0]["protocol"]), (&json!(2), &json!("87")));
        assert_eq!(seen[0]["via"], json!({"family": "inet6", "host": "fe80::2"}));
        assert_eq!(seen[0]["metrics"], json!([{"mtu": 1350}]));
        // With an interface asked for, they are seen as what they lead to.
        let Answer::Routes(out) = read(&mut lab, Query::Routes(name("tun0"))) else { panic!("no routes") };
        let there = out.iter().find(|route| route.destination == net("10.244.3.0/24")).unwrap();
        assert_eq!(there.gateway(), Some(ip("fe80::2")));
        // An IPv6 route does not take an IPv4 next hop.
        let refusal = lab.create(Place::Host, &by_hop("fd00:4::/64", 1).into()).unwrap_err();
        assert_eq!(refusal.errno(), Some(Errno::EINVAL));
        for route in routes.iter().skip(1) {
            assert_eq!(lab.remove(Place::Host, &route.clone().into()), Ok(Removed::Now));
            assert_eq!(lab.remove(Place::Host, &route.clone().into()), Ok(Removed::Before));
        }
        // With the next hop goes the route.
        lab.remove(Place::Host, &gateway(1, "10.244.2.0").into()).unwrap();
        let ours = Query::RoutesOf { protocol: Some(PROTOCOL), table: None };
        assert_eq!(read(&mut lab, ours), Answer::Routes(Vec::new()));
    });
}

#[test]
fn the_way_of_a_packet_is_told_with_the_route_that_decides() {
    in_lab!(|mut lab| {
        with_tunnel(&mut lab);
        make(&mut lab, gateway(2, "fe80::2"));
        make(&mut lab, Route { mtu: Some(1350), ..by_hop("10.244.3.0/24", 2) });
        make(&mut lab, by_hop("fd00:3::/64", 2));
        let nowhere =
            |destination, target| Route { protocol: Some(PROTOCOL), ..Route::to(net(destination), target) };
        make(&mut lab, nowhere("10.244.0.0/16", RouteTarget::Blackhole));
        make(&mut lab, nowhere("10.245.0.0/16", RouteTarget::Unreachable));
        make(&mut lab, nowhere("fd01::/48", RouteTarget::Blackhole));
        let mark = Selector::Mark { mark: 5, mask: u32::MAX, version: IpVersion::V4 };
        make(&mut lab, Resource::Rule(Rule { selector: mark, table: 100, priority: Some(100) }));
        make(&mut lab, Route { table: Some(100), ..nowhere("10.244.3.0/24", RouteTarget::Unreachable) });
        let mut way = |lookup: RouteLookup| match read(&mut lab, Query::RouteTo(lookup)) {
            Answer::Way(way) => way,
            other => panic!("{other:?}"),
        };
        for (to, destination) in [("10.244.3.9", "10.244.3.0/24"), ("fd00:3::9", "fd00:3::/64")] {
            let found = way(RouteLookup::to(ip(to))).unwrap();
            assert_eq!(
                (found.kind, found.destination),
                (RouteKind::Unicast, Some(net(destination))),
                "{found:?}"
            );
            assert_eq!((found.next_hop, found.gateway), (Some(2), Some(ip("fe80::2"))), "{found:?}");
            assert_eq!((found.link, found.protocol, found.table), (Some(name("tun0")), PROTOCOL, 254));
        }
        let found = way(RouteLookup::to(ip("10.244.3.9"))).unwrap();
        assert_eq!((found.source, found.mtu), (Some(ip("10.244.1.0")), Some(1350)));
        let marked = way(RouteLookup { mark: Some(5), ..RouteLookup::to(ip("10.244.3.9")) }).unwrap();
        assert_eq!(marked.kind, RouteKind::Unreachable);
        assert_eq!(way(RouteLookup::to(ip("10.244.9.9"))).unwrap().kind, RouteKind::Blackhole);
        assert_eq!(way(RouteLookup::to(ip("10.245.9.9"))).unwrap().kind, RouteKind::Unreachable);
        assert_eq!(way(RouteLookup::to(ip("fd01::9"))).unwrap().kind, RouteKind::Blackhole);
        assert_eq!(way(RouteLookup::to(ip("10.244.1.0"))).unwrap().kind, RouteKind::Local);
        assert_eq!(way(RouteLookup::to(ip("203.0.113.1"))), None);
        assert_eq!(way(RouteLookup::to(ip("2001:db8::1"))), None);
    });
}

#[test]
fn a_rule_may_look_at_a_mark() {
    in_lab!(|mut lab| {
        for (version, flag) in [(IpVersion::V4, "-4"), (IpVersion::V6, "-6")] {
            let selector = Selector::Mark { mark: 0x1000, mask: 0xf000, version };
            let rule = Resource::Rule(Rule { selector, table: 100, priority: Some(50) });
            make(&mut lab, rule.clone());
            assert_eq!(lab.create(Place::Host, &rule), Ok(Created::Kept));
            let seen = lab.ip(Place::Host, &format!("{flag} rule show priority 50"));
            assert_eq!(
                (&seen[0]["fwmark"], &seen[0]["fwmask"], &seen[0]["table"]),
                (&json!("0x1000"), &json!("0xf000"), &json!("100"))
            );
            assert_eq!(lab.remove(Place::Host, &rule), Ok(Removed::Now));
            assert_eq!(lab.remove(Place::Host, &rule), Ok(Removed::Before));
        }
    });
}

#[test]
fn whole_ranges_are_masqueraded_but_for_exceptions() {
    in_lab!(|mut lab| {
        let wanted = OverlayRules {
            sources: vec![net("10.244.1.0/24"), net("10.244.2.0/24"), net("fd00:1::/64")],
            exceptions: vec![
                net("10.244.0.0/16"),
                net("fd00::/16"),
                net("192.0.2.0/24"),
                net("192.0.3.0/25"),
            ],
            tunnel_port: Some(8472),
            bridge: Some(name("cni0")),
        };
        let resource = Resource::from(wanted.clone());
        assert_eq!(read(&mut lab, Query::OverlayRules), Answer::OverlayRules(None));
        make(&mut lab, resource.clone());
        assert_eq!(lab.create(Place::Host, &resource), Ok(Created::Kept));
        let mut plan = Plan::new();
        plan.own(Place::Host, resource.clone());
        assert_eq!(plan.check(&mut lab.kernel).unwrap(), []);
        let text = lab.run(Place::Host, "nft list table inet cnikit-overlay");
        for line in [
            "elements = { 10.244.1.0/24, 10.244.2.0/24 }",
            "elements = { 10.244.0.0/16, 192.0.2.0/24,",
            "elements = { udp . 8472 }",
            "elements = { \"cni0\" }",
            "meta l4proto . th dport @tunnels return",
            "ip saddr @sources4 ip daddr != @exceptions4 masquerade fully-random",
            "ip6 saddr @sources6 ip6 daddr != @exceptions6 masquerade fully-random",
            "type nat hook prerouting priority dstnat - 10; policy accept;",
            "meta l4proto != udp accept",
            "th dport != 8472 accept",
            "ip saddr 10.244.1.0/24 drop",
            "ip6 saddr fd00:1::/64 drop",
            "type nat hook input priority 100; policy accept;",
            "iifname != @bridges accept",
            "ip saddr 10.244.2.0/24 accept",
            "ip6 saddr fd00:1::/64 accept",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        let other = Resource::from(OverlayRules { tunnel_port: None, ..OverlayRules::default() });
        assert!(matches!(lab.create(Place::Host, &other), Ok(Created::Changed(_))));
        assert!(matches!(lab.create(Place::Host, &resource), Ok(Created::Changed(_))));
        assert_eq!(lab.run(Place::Host, "nft list table inet cnikit-overlay"), text);
        // What somebody has taken a piece of is not there.
        for chain in ["postrouting", "prerouting", "input"] {
            lab.run(Place::Host, &format!("nft flush chain inet cnikit-overlay {chain}"));
            assert!(plan.check(&mut lab.kernel).unwrap()[0].is_missing());
            assert_eq!(lab.create(Place::Host, &resource), Ok(Created::New));
        }
        // Nobody sees the node's own address.
        let nowhere = OverlayRules { exceptions: vec![net("0.0.0.0/0"), net("::/0")], ..wanted };
        let outcome = lab.create(Place::Host, &Resource::from(nowhere.clone()));
        assert!(matches!(outcome, Ok(Created::Changed(_))));
        assert_eq!(read(&mut lab, Query::OverlayRules), Answer::OverlayRules(Some(nowhere)));
        assert_eq!(lab.remove(Place::Host, &resource), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Host, &resource), Ok(Removed::Before));
    });
}

#[test]
fn what_leaves_a_range_has_the_nodes_address_unless_it_goes_to_an_exception_or_is_the_tunnels() {
    in_lab!(|mut lab| {
        make(&mut lab, Resource::LinkUp(LinkName::loopback()));
        let peer = VethPeer { place: Place::Container, name: name("eth0"), mtu: None, mac: None };
        make(&mut lab, Resource::Link(Link::new(name("eth0"), LinkKind::Veth { peer })));
        for (place, addresses) in [
            (Place::Host, ["192.0.2.1/24", "198.51.100.1/24"]),
            (Place::Container, ["192.0.2.2/24", "198.51.100.2/24"]),
        ] {
            for address in addresses {
                lab.create(place, &Resource::Address(Address::new(name("eth0"), net(address)))).unwrap();
            }
            lab.create(place, &Resource::LinkUp(name("eth0"))).unwrap();
        }
        // A pod's, as far as the packet filter can tell.
        make(&mut lab, Resource::Address(Address::new(LinkName::loopback(), net("10.244.1.5/32"))));
        let back = Route::new(net("10.244.1.0/24"), Some(ip("192.0.2.1")), name("eth0"));
        lab.create(Place::Container, &Resource::Route(back)).unwrap();
        let masquerade = OverlayRules {
            sources: vec![net("10.244.1.0/24")],
            exceptions: vec![net("198.51.100.0/24")],
            tunnel_port: Some(8472),
            bridge: None,
        };
        make(&mut lab, masquerade);
        let seen_as = |to: &str, port: u16| {
            let there = lab.container.enter(|| UdpSocket::bind((to, port))).unwrap().unwrap();
            there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let pod = UdpSocket::bind("10.244.1.5:7").unwrap();
            pod.send_to(b"who am I", (to, port)).unwrap();
            there.recv_from(&mut [0; 100]).unwrap().1.ip()
        };
        assert_eq!(seen_as("192.0.2.2", 53), ip("192.0.2.1"));
        assert_eq!(seen_as("198.51.100.2", 53), ip("10.244.1.5"));
        assert_eq!(seen_as("192.0.2.2", 8472), ip("10.244.1.5"));
    });
}
