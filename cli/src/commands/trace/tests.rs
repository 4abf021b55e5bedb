//! Every place where a packet can be lost, one at a time.

use overlay::Liveness;
use overlay::report::Way as AgentsWay;

use super::facts::{
    Bridge, Destination, Facts, Interface, Kind, Known, Leg, LocalPod, Neighbour, Node, Peer, Source, Tunnel,
    Way,
};
use super::show::verdict;
use super::walk::{Trace, walk};
use crate::commands::fixtures;

fn interface(name: &str, kind: &str, mtu: u32) -> Interface {
    Interface { name: name.to_owned(), kind: kind.to_owned(), up: true, carrier: true, mtu }
}

fn known(address: &str) -> Neighbour {
    let mac = "02:02:02:02:02:02".parse().unwrap();
    Neighbour { address: address.parse().unwrap(), known: Known::As(mac) }
}

fn leg(route: &str, gateway: Option<&str>, interface: Interface) -> Leg {
    Leg {
        way: Some(Way {
            kind: Kind::Sent,
            route: Some(route.parse().unwrap()),
            next_hop: None,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            link: Some(interface.name.clone()),
            mtu: None,
        }),
        neighbour: gateway.map(known),
        interface: Some(interface),
    }
}

/// From a pod of n1 to a pod of n3, through a tunnel.
fn by_tunnel() -> Facts {
    Facts {
        source: Source {
            pod: Some("default/web-1".to_owned()),
            node: "n1".to_owned(),
            address: Some("10.244.1.2".parse().unwrap()),
        },
        destination: Destination {
            address: "10.244.3.2".parse().unwrap(),
            pod: Some("default/db-2".to_owned()),
            is_in_cluster: true,
        },
        size: None,
        pod: Some(leg("0.0.0.0/0", Some("10.244.1.1"), interface("eth0", "veth", 1450))),
        host_end: Some(interface("veth1", "veth", 1450)),
        bridge: Some(Bridge {
            interface: interface("cni-podnet", "bridge", 1450),
            addresses: vec!["10.244.1.1".parse().unwrap()],
        }),
        node: Some(Node {
            forwards: Some(true),
            reverse_filter: 0,
            back_by: Some("cni-podnet".to_owned()),
            leg: leg("10.244.3.0/24", Some("10.244.3.0"), interface("vx", "vxlan", 1450)),
            tunnel: Some(Tunnel {
                remote: Some("10.1.0.13".parse().unwrap()),
                underlay: Some(leg("0.0.0.0/0", Some("192.168.1.1"), interface("eth0", "", 1500))),
            }),
            dropped_by: Vec::new(),
        }),
        neighbour_pod: None,
        peer: Some(Peer {
            name: "n3".to_owned(),
            liveness: Liveness::Alive,
            addresses: vec!["10.1.0.13".parse().unwrap()],
            subnet: Some("10.244.3.0/24".parse().unwrap()),
            bridge: "cni-podnet".to_owned(),
            pod: Some(("default/db-2".to_owned(), "eth0".to_owned())),
            path: Some(fixtures::tunnel("10.1.0.13")),
            router: None,
        }),
        duplicates: Vec::new(),
        lacking_pods: None,
        agent: None,
    }
}

/// The same, with a plain route.
fn by_route() -> Facts {
    let mut facts = by_tunnel();
    let node = facts.node.as_mut().unwrap();
    node.leg = leg("10.244.3.0/24", Some("192.168.1.13"), interface("eth0", "", 1500));
    node.tunnel = None;
    facts.peer.as_mut().unwrap().path = Some(fixtures::route("192.168.1.13"));
    facts
}

fn places(trace: &Trace) -> Vec<String> {
    trace.hops.iter().map(|hop| format!("{}: {}", hop.on, hop.what)).collect()
}

#[test]
fn a_tunnel_is_walked_from_pod_to_pod() {
    let trace = walk(&by_tunnel());
    let expected = [
        "default/web-1: pod eth0",
        "n1: veth veth1",
        "n1: bridge cni-podnet",
        "n1: routes",
        "n1: vxlan vx",
        "n1: interface eth0",
        "n3: node",
        "n3: bridge cni-podnet",
        "default/db-2: pod eth0",
    ];
    assert_eq!(places(&trace), expected);
    assert_eq!(trace.findings, []);
    assert_eq!(trace.hops[0].how, ["from 10.244.1.2", "route 0.0.0.0/0 via 10.244.1.1 dev eth0"]);
    assert_eq!(trace.hops[4].how, ["10.244.3.0 is at 02:02:02:02:02:02"]);
    assert_eq!(trace.hops[5].how[0], "wrapped, to 10.1.0.13");
    assert_eq!(
        verdict(&trace),
        "it gets there, as far as this node can tell, in packets of up to 1450 bytes"
    );
}

#[test]
fn a_plain_route_has_no_wrapping() {
    let trace = walk(&by_route());
    assert_eq!(trace.findings, []);
    assert_eq!(places(&trace)[3..5], ["n1: routes", "n1: interface eth0"]);
    assert_eq!(trace.hops[4].how, ["192.168.1.13 is at 02:02:02:02:02:02"]);
}

#[test]
fn a_pod_of_the_same_node_is_reached_by_the_bridge() {
    let mut facts = by_tunnel();
    facts.pod = Some(leg("10.244.1.0/24", None, interface("eth0", "veth", 1450)));
    facts.node = None;
    facts.peer = None;
    facts.neighbour_pod = Some(LocalPod {
        name: "default/web-2".to_owned(),
        host_end: Some(interface("veth2", "veth", 1450)),
        is_kept_apart: false,
    });
    let trace = walk(&facts);
    let expected = [
        "default/web-1: pod eth0",
        "n1: veth veth1",
        "n1: bridge cni-podnet",
        "n1: veth veth2",
        "default/web-2: pod",
    ];
    assert_eq!((places(&trace), trace.findings.len()), (expected.map(str::to_owned).to_vec(), 0));
    facts.neighbour_pod.as_mut().unwrap().is_kept_apart = true;
    assert!(verdict(&walk(&facts)).contains("isolated"));
}

#[test]
fn the_node_itself_begins_with_its_own_routes() {
    let mut facts = by_tunnel();
    facts.source = Source { pod: None, node: "n1".to_owned(), address: None };
    (facts.pod, facts.host_end, facts.bridge) = (None, None, None);
    facts.node.as_mut().unwrap().forwards = None;
    let trace = walk(&facts);
    assert_eq!(places(&trace)[0], "n1: routes");
    assert_eq!(trace.findings, []);
}

/// What is broken, where the packet must be lost then, and a word of why.
type Broken = (fn(&mut Facts), &'static str, &'static str);

fn node(facts: &mut Facts) -> &mut Node {
    facts.node.as_mut().unwrap()
}

fn pod(facts: &mut Facts) -> &mut Leg {
    facts.pod.as_mut().unwrap()
}

fn way(leg: &mut Leg) -> &mut Way {
    leg.way.as_mut().unwrap()
}

fn underlay(facts: &mut Facts) -> &mut Leg {
    node(facts).tunnel.as_mut().unwrap().underlay.as_mut().unwrap()
}

#[test]
fn where_a_packet_is_lost_it_is_said_why() {
    let cases: [Broken; 21] = [
        (|facts| pod(facts).way = None, "default/web-1: pod eth0", "no route to 10.244.3.2"),
        (|facts| way(pod(facts)).kind = Kind::Blackhole, "default/web-1: pod eth0", "blackhole"),
        (
            |facts| pod(facts).interface.as_mut().unwrap().up = false,
            "default/web-1: pod eth0",
            "eth0 is down",
        ),
        (
            |facts| pod(facts).neighbour.as_mut().unwrap().known = Known::Failed,
            "default/web-1: pod eth0",
            "10.244.1.1 does not answer",
        ),
        (|facts| facts.host_end.as_mut().unwrap().up = false, "n1: veth veth1", "veth1 is down"),
        (|facts| facts.host_end.as_mut().unwrap().carrier = false, "n1: veth veth1", "no carrier"),
        (|facts| facts.bridge.as_mut().unwrap().interface.up = false, "n1: bridge cni-podnet", "is down"),
        (
            |facts| facts.bridge.as_mut().unwrap().addresses.clear(),
            "n1: bridge cni-podnet",
            "no address of cni-podnet",
        ),
        (|facts| node(facts).forwards = Some(false), "n1: routes", "does not forward"),
        (
            |facts| {
                node(facts).reverse_filter = 1;
                node(facts).back_by = Some("eth0".to_owned());
            },
            "n1: routes",
            "rp_filter is strict",
        ),
        (|facts| node(facts).leg.way = None, "n1: routes", "no route"),
        (|facts| way(&mut node(facts).leg).kind = Kind::Blackhole, "n1: routes", "no node has that part"),
        (|facts| way(&mut node(facts).leg).kind = Kind::Unreachable, "n1: routes", "unreachable"),
        (|facts| way(&mut node(facts).leg).kind = Kind::Prohibited, "n1: routes", "forbids"),
        (|facts| node(facts).leg.interface.as_mut().unwrap().up = false, "n1: vxlan vx", "vx is down"),
        (
            |facts| node(facts).leg.neighbour.as_mut().unwrap().known = Known::NotYet,
            "n1: vxlan vx",
            "no neighbour entry for 10.244.3.0",
        ),
        (|facts| node(facts).tunnel.as_mut().unwrap().remote = None, "n1: vxlan vx", "no FDB entry"),
        (|facts| underlay(facts).way = None, "n1: interface eth0", "no route"),
        (
            |facts| underlay(facts).interface.as_mut().unwrap().carrier = false,
            "n1: interface eth0",
            "no carrier",
        ),
        (
            |facts| underlay(facts).neighbour.as_mut().unwrap().known = Known::Failed,
            "n1: interface eth0",
            "192.168.1.1 does not answer",
        ),
        (
            |facts| facts.peer.as_mut().unwrap().pod = None,
            "n3: bridge cni-podnet",
            "no pod on n3 has 10.244.3.2",
        ),
    ];
    for (break_it, place, why) in cases {
        let mut facts = by_tunnel();
        break_it(&mut facts);
        let trace = walk(&facts);
        let lost_at = trace.lost_at.unwrap_or_else(|| panic!("not lost: {why}: {trace:?}"));
        assert_eq!((places(&trace)[lost_at].as_str(), lost_at + 1), (place, trace.hops.len()), "{why}");
        let finding = trace.findings.iter().find(|finding| finding.lost).unwrap();
        assert!(finding.what.contains(why) && !finding.advice.is_empty(), "{why}: {finding:?}");
        assert!(verdict(&trace).starts_with("it is lost on "), "{}", verdict(&trace));
    }
}

#[test]
fn a_neighbour_on_a_plain_link_is_asked_for_and_one_that_failed_is_not_there() {
    let mut facts = by_route();
    node(&mut facts).leg.neighbour.as_mut().unwrap().known = Known::NotYet;
    assert_eq!(walk(&facts).findings, []);
    node(&mut facts).leg.neighbour.as_mut().unwrap().known = Known::Failed;
    assert!(verdict(&walk(&facts)).contains("192.168.1.13 does not answer on eth0"));
}

/// What is doubtful, and a word of it.
type Doubtful = (fn(&mut Facts), &'static str);

#[test]
fn where_a_packet_may_be_lost_there_is_a_doubt() {
    let cases: [Doubtful; 11] = [
        (
            |facts| node(facts).dropped_by = vec!["chain ip filter FORWARD".to_owned()],
            "FORWARD drops what none",
        ),
        (
            |facts| {
                facts.peer.as_mut().unwrap().pod = None;
                facts.lacking_pods = Some("pods is forbidden".to_owned());
            },
            "whether a pod on n3 has 10.244.3.2 is not known: pods is forbidden",
        ),
        (|facts| facts.peer.as_mut().unwrap().liveness = Liveness::Down, "n3 has not answered for long"),
        (|facts| facts.peer.as_mut().unwrap().liveness = Liveness::Suspect, "for a moment"),
        (
            |facts| facts.peer.as_mut().unwrap().path.as_mut().unwrap().answered = None,
            "no probe of the way to n3 was ever answered",
        ),
        (
            |facts| facts.peer.as_mut().unwrap().path = Some(fixtures::route("10.1.0.13")),
            "the kernel does otherwise",
        ),
        (
            |facts| facts.peer.as_mut().unwrap().path.as_mut().unwrap().way = AgentsWay::None,
            "there is no way to n3",
        ),
        (|facts| facts.duplicates = vec!["10.244.1.2 is two pods'".to_owned()], "10.244.1.2 is two pods'"),
        (|facts| underlay(facts).interface.as_mut().unwrap().mtu = 1400, "takes packets of 1450 bytes"),
        (|facts| facts.peer = None, "no node that the agent knows has 10.244.3.2"),
        (
            |facts| {
                facts.peer = None;
                facts.agent = Some("no agent".to_owned());
            },
            "not known: no agent",
        ),
    ];
    for (doubt, what) in cases {
        let mut facts = by_tunnel();
        doubt(&mut facts);
        let trace = walk(&facts);
        assert_eq!(trace.lost_at, None, "{what}");
        assert!(trace.findings.iter().any(|finding| finding.what.contains(what)), "{what}: {trace:?}");
        assert!(verdict(&trace).contains("with a doubt"), "{}", verdict(&trace));
    }
}

#[test]
fn a_packet_that_is_too_large_is_lost_where_it_does_not_fit() {
    let lost = |size: u32, facts: Facts| {
        let trace = walk(&Facts { size: Some(size), ..facts });
        trace.lost_at.map(|hop| places(&trace)[hop].clone())
    };
    assert_eq!(lost(1450, by_tunnel()), None);
    assert_eq!(lost(1451, by_tunnel()).as_deref(), Some("default/web-1: pod eth0"));
    let mut facts = by_tunnel();
    way(&mut node(&mut facts).leg).mtu = Some(1350);
    assert_eq!(lost(1350, facts.clone()), None);
    assert_eq!(lost(1400, facts.clone()).as_deref(), Some("n1: routes"));
    assert_eq!(walk(&facts).mtu, Some(1350), "and without a size it is told");
}

#[test]
fn a_router_is_a_hop() {
    let mut facts = by_route();
    let router = AgentsWay::Router { router: fixtures::id(9) };
    let peer = facts.peer.as_mut().unwrap();
    peer.path.as_mut().unwrap().way = router;
    peer.router = Some(("r".to_owned(), vec!["192.168.1.13".parse().unwrap()]));
    let trace = walk(&facts);
    assert_eq!(trace.findings, []);
    assert!(places(&trace).contains(&"r: router".to_owned()), "{trace:?}");
}

#[test]
fn an_address_outside_ends_at_the_edge_of_what_is_known() {
    let mut facts = by_route();
    facts.peer = None;
    facts.destination.is_in_cluster = false;
    let trace = walk(&facts);
    assert_eq!((trace.findings.len(), trace.hops.len()), (0, 5));
}
