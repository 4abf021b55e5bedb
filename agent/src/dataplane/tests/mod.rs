//! Data planes in real kernels.

mod lab;
mod many;

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use netops::{Change, Watch};
use overlay::report::Way;
use overlay::{Mode, Node, Pod, Role, Subnet, SubnetState};

use lab::{Lab, Machine};

fn is_tunnel(way: Way) -> bool {
    matches!(way, Way::Vxlan { .. })
}

fn is_route(way: Way) -> bool {
    matches!(way, Way::Route { .. })
}

/// Drops what is longer than a path takes on the segment, without a word; or anything else.
fn drop_on_segment(lab: &Lab, rule: &str) {
    lab.wire.nft(&format!(
        "table bridge hole {{ chain forward {{ type filter hook forward priority 0; {rule} drop ; }} ; }}"
    ));
    // Frames that a network card would cut up are cut up here, so that their length is that of a packet.
    for machine in &lab.machines {
        let off = "-K eth0 tso off gso off gro off tx-udp-segmentation off";
        machine.place.try_says("ethtool", off).unwrap();
        machine.pod.try_says("ethtool", off).unwrap();
    }
}

fn stop_dropping(lab: &Lab) {
    lab.wire.nft("delete table bridge hole");
}

#[test]
fn pods_reach_one_another_through_tunnels() {
    let lab = Lab::new(3, Mode::Vxlan);
    lab.wait_for_ways("tunnels that are known to work", |path| is_tunnel(path.way) && path.mtu_confirmed);
    lab.assert_all_reach_all(1450);
    let routes = lab.machines[0].place.ip("route");
    assert!(routes.contains("10.244.2.0/24 nhid") && routes.contains("mtu 1450"), "{routes}");
    assert!(routes.contains("blackhole 10.244.0.0/16 proto 87"), "{routes}");
}

#[test]
fn on_one_segment_plain_routes_are_found_out_to_work() {
    let lab = Lab::new(3, Mode::Auto);
    lab.wait_for_ways("plain routes", |path| is_route(path.way) && path.mtu == 1500);
    lab.assert_all_reach_all(1500);
    let routes = lab.machines[0].place.ip("route");
    assert!(routes.contains("via 192.168.7.2 dev eth0 proto 87"), "{routes}");
    assert!(lab.machines[0].ways().problems.is_empty(), "{:?}", lab.machines[0].ways().problems);
}

#[test]
fn where_the_segment_drops_pods_packets_it_stays_a_tunnel() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.machines.iter_mut().for_each(Machine::stop);
    drop_on_segment(&lab, "ip saddr 10.244.0.0/16");
    // They go on where they were, and find out.
    (0..2).for_each(|number| lab.start(number));
    lab.wait_for_ways("tunnels", |path| is_tunnel(path.way) && path.mtu_confirmed);
    lab.assert_all_reach_all(1300);
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    assert!(is_tunnel(first.way_to(second)));
}

#[test]
fn a_plain_route_that_stops_working_becomes_a_tunnel() {
    let lab = Lab::new(2, Mode::Auto);
    lab.wait_for_ways("plain routes", |path| is_route(path.way));
    drop_on_segment(&lab, "ip saddr 10.244.1.0/24");
    lab.wait("a tunnel", |lab| is_tunnel(lab.machines[0].way_to(&lab.machines[1])));
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    assert!(first.pod.reaches(&second.pod, second.pod_addresses()[0], 1000));
    assert!(is_route(second.way_to(first)), "the other direction works as it did");
}

#[test]
fn told_to_use_plain_routes_a_node_has_nothing_else() {
    let lab = Lab::new(2, Mode::Route);
    lab.wait_for_ways("plain routes", |path| is_route(path.way) && path.mtu_confirmed);
    lab.assert_all_reach_all(1500);
}

#[test]
fn workers_reach_one_another_by_a_router_that_has_no_pods() {
    let lab = Lab::with(3, Mode::Router, |node| {
        if node.id.as_bytes()[0] == 3 {
            (node.role, node.subnets) = (Role::Router, Vec::new());
        }
    });
    lab.wait("answers by the router", |lab| {
        let ways = lab.machines[0].ways();
        let path = ways.paths.get(&lab.machines[1].node.id);
        path.is_some_and(|path| matches!(path.way, Way::Router { .. }) && path.answered.is_some())
    });
    let [first, second, router] = [0, 1, 2].map(|number| &lab.machines[number]);
    assert!(first.pod.reaches(&second.pod, second.pod_addresses()[0], 1300));
    assert!(second.pod.reaches(&first.pod, first.pod_addresses()[1], 1300));
    let routes = first.place.ip("route");
    assert!(!routes.contains("10.244.2.0/24"), "one route for all: {routes}");
    assert!(router.place.try_says("ip", "link show cnikit0").is_err());
    assert_eq!(router.place.sysctl("net/ipv4/conf/all/send_redirects"), "0");
}

#[test]
fn nodes_of_ipv6_alone_have_tunnels_over_ipv6_for_pods_of_both() {
    let lab = Lab::with(2, Mode::Vxlan, |node| node.addresses.retain(IpAddr::is_ipv6));
    lab.wait_for_ways("tunnels", |path| {
        matches!(path.way, Way::Vxlan { remote } if remote.is_ipv6()) && path.mtu_confirmed
    });
    lab.assert_all_reach_all(1430);
}

#[test]
fn a_node_without_ipv6_has_ipv4_all_the_same() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.machines.iter_mut().for_each(Machine::stop);
    lab.machines[0].place.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    (0..2).for_each(|number| lab.start(number));
    lab.wait_for_ways("tunnels", |path| is_tunnel(path.way) && path.mtu_confirmed);
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    assert!(first.pod.reaches(&second.pod, second.pod_addresses()[0], 1450));
    assert!(first.ways().problems.iter().any(|problem| problem.what.contains("no IPv6")));
}

#[test]
fn what_somebody_deletes_is_there_again_and_what_is_not_ours_is_left() {
    let lab = Lab::new(2, Mode::Vxlan);
    lab.wait_for_ways("tunnels", |path| is_tunnel(path.way) && path.mtu_confirmed);
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    first.place.ip("route add 10.9.0.0/16 via 192.168.7.2 proto static");
    let whole = |machine: &Machine| {
        let look = |what| machine.place.ip(what).replace(" linkdown", "");
        [look("route"), look("-6 route show proto 87"), look("nexthop"), look("neigh show nud permanent")]
            .join("\n")
    };
    let before = whole(first);
    for deed in [
        "link delete cnikit-vxlan",
        "route del 10.244.2.0/24",
        "route del blackhole 10.244.0.0/16",
        "-6 route del fd00:244:0:2::/64",
        "nexthop flush",
        "neigh flush dev cnikit-vxlan nud permanent",
        "link set cnikit-vxlan down",
        "link set cnikit-vxlan address 02:00:00:00:00:99",
        "link set cnikit0 down",
        "route add 10.244.2.0/24 dev lo metric 87 proto 87 table 8788",
    ] {
        first.place.ip(deed);
        lab.wait(&format!("all again after ip {deed}"), |_| whole(first) == before);
        assert!(first.pod.reaches(&second.pod, second.pod_addresses()[0], 1400), "after ip {deed}");
    }
    lab.wait("the table of probes as it was", |_| {
        !first.place.ip("route show table 8788").contains("10.244.2.0")
    });
    assert!(first.place.ip("route").contains("10.9.0.0/16"), "another's route is left");
}

#[test]
fn settings_and_the_packet_filter_are_there_again_at_once_whoever_changes_them() {
    let lab = Lab::new(2, Mode::Auto);
    lab.wait_for_ways("plain routes", |path| is_route(path.way));
    let place = &lab.machines[0].place;
    let whole = || {
        let nft = place.try_says("nft", "-s list table inet cnikit-overlay").unwrap_or_default();
        let settings = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/cnikit0/proxy_arp"];
        let settings: Vec<_> = settings.iter().map(|path| place.sysctl(&format!("net/{path}"))).collect();
        [settings.join(" "), nft].join("\n")
    };
    let before = whole();
    assert!(before.contains("fully-random"), "{before}");
    assert!(!place.ip("rule").contains("87"), "rules make each packet slower");
    for (program, deed) in [
        ("sysctl", "-qw net.ipv4.ip_forward=0"),
        ("sysctl", "-qw net.ipv6.conf.all.forwarding=0"),
        ("sysctl", "-qw net.ipv4.conf.cnikit0.proxy_arp=1"),
        ("nft", "delete table inet cnikit-overlay"),
        ("nft", "flush chain inet cnikit-overlay postrouting"),
        ("nft", "flush ruleset"),
    ] {
        let so_far = lab.machines[0].repairs();
        place.try_says(program, deed).unwrap();
        let took = lab.wait(&format!("all again after {program} {deed}"), |lab| {
            lab.machines[0].repairs() > so_far && whole() == before
        });
        assert!(took < Duration::from_secs(15), "{program} {deed}: {took:?}");
    }
    // What others do among themselves costs nothing but a look.
    let so_far = lab.machines[0].repairs();
    place.try_says("nft", "add table inet somebodys").unwrap();
    place.ip("rule add fwmark 5 table 5");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.machines[0].repairs(), so_far);
}

#[test]
fn the_rules_of_probes_are_there_where_they_are_needed_whoever_removes_them() {
    let lab = Lab::new(2, Mode::Vxlan);
    let first = &lab.machines[0];
    let router = Node { role: Role::Router, subnets: Vec::new(), ..lab.machines[1].node.clone() };
    first.see(lab.view_of(0, &[router]));
    for _ in 0..2 {
        lab.wait("the rule", |_| first.place.ip("rule").contains("fwmark 0x88 lookup 8788"));
        first.place.ip("rule flush table 8788");
    }
}

#[test]
fn an_interface_that_goes_down_takes_its_routes_along_and_they_come_back_with_it() {
    let lab = Lab::new(2, Mode::Route);
    lab.wait_for_ways("plain routes", |path| is_route(path.way) && path.mtu_confirmed);
    lab.wire.ip("link set to1 down");
    lab.wait("no carrier, no route", |lab| !lab.machines[0].place.ip("route").contains("10.244.2.0/24"));
    thread::sleep(Duration::from_millis(200));
    lab.wire.ip("link set to1 up");
    lab.wait("the route again", |lab| lab.machines[0].place.ip("route").contains("10.244.2.0/24"));
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    assert!(first.pod.reaches(&second.pod, second.pod_addresses()[0], 1400));
}

#[test]
fn an_agent_that_begins_again_changes_nothing() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.wait_for_ways("plain routes", |path| is_route(path.way));
    let look = |machine: &Machine| {
        [machine.place.ip("-d route"), machine.place.ip("-d nexthop"), machine.place.ip("-br addr")]
            .join("\n")
    };
    lab.wait("trials to be over", |lab| lab.machines[0].place.ip("nexthop").lines().count() == 2);
    let before = look(&lab.machines[0]);
    lab.machines[0].stop();
    assert_eq!(look(&lab.machines[0]), before, "the data plane is the kernel's");
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    assert!(first.pod.reaches(&second.pod, second.pod_addresses()[0], 1400));
    let mut watch = first.place.run(|| Watch::open(None).unwrap());
    lab.start(0);
    lab.wait_for_ways("plain routes", |path| is_route(path.way) && path.mtu_confirmed);
    let is_ours = |change: &Change| match change {
        Change::Route { protocol, .. } | Change::NextHop { protocol, .. } => *protocol == 87,
        _ => false,
    };
    let touched: Vec<Change> = watch.read().into_iter().filter(is_ours).collect();
    assert_eq!(touched, [], "it found what it wants");
    assert_eq!(look(&lab.machines[0]), before);
}

#[test]
fn a_nodes_new_address_is_followed() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.wait_for_ways("tunnels", |path| is_tunnel(path.way) && path.mtu_confirmed);
    lab.machines[1].place.ip("addr add 192.168.7.99/24 dev eth0");
    lab.machines[1].place.ip("addr del 192.168.7.2/24 dev eth0");
    lab.machines[1].place.ip("addr add 192.168.7.99/24 dev eth0");
    lab.machines[1].node.addresses[0] = "192.168.7.99".parse().unwrap();
    lab.tell();
    lab.wait("the new address", |lab| {
        lab.machines[0].way_to(&lab.machines[1]) == Way::Vxlan { remote: "192.168.7.99".parse().unwrap() }
    });
    lab.wait_for_ways("answers", |path| path.mtu_confirmed);
    lab.assert_all_reach_all(1450);
}

#[test]
fn a_hole_for_large_packets_becomes_the_routes_mtu_and_connections_go_on() {
    let lab = Lab::new(2, Mode::Vxlan);
    lab.wait_for_ways("tunnels", |path| is_tunnel(path.way) && path.mtu_confirmed);
    drop_on_segment(&lab, "meta length > 1400");
    lab.wait("less", |lab| {
        let ways = lab.machines[0].ways();
        let path = &ways.paths[&lab.machines[1].node.id];
        (1342..=1350).contains(&path.mtu) && path.mtu_confirmed && !ways.problems.is_empty()
    });
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    let problems = &first.ways().problems;
    assert!(problems[0].what.contains("large packets are lost on the way to node n2"), "{problems:?}");
    for address in second.pod_addresses() {
        assert!(first.pod.streams_to(&second.pod, address), "{address}\n{}", first.state());
    }
    stop_dropping(&lab);
}

#[test]
fn the_nodes_mtu_is_followed() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.wait_for_ways("plain routes", |path| is_route(path.way) && path.mtu == 1500);
    lab.machines[0].place.ip("link set eth0 mtu 1400");
    lab.wait("less", |lab| lab.machines[0].place.ip("route show 10.244.2.0/24").contains("mtu 1400"));
    // As the agent says of it then.
    lab.machines[0].node.mtu = 1400;
    lab.tell();
    lab.wait("less there, too", |lab| {
        lab.machines[1].place.ip("route show 10.244.1.0/24").contains("mtu 1400")
    });
    lab.wait("less in the tunnel", |lab| {
        lab.machines[0].place.ip("link show cnikit-vxlan").contains("mtu 1350")
    });
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    assert!(first.pod.streams_to(&second.pod, second.pod_addresses()[0]), "{}", first.state());
}

#[test]
fn stray_pods_are_reached_and_reach_also_whom_they_think_to_be_on_their_segment() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.wait_for_ways("tunnels", |path| is_tunnel(path.way) && path.mtu_confirmed);
    // The first node loses its subnets to the second one; its pod goes on.
    let lost: Vec<_> = lab.machines[0].node.subnets.iter().map(|subnet| subnet.prefix).collect();
    let strays = lab.machines[0].pod_addresses();
    let held = |prefix: &str| Subnet { prefix: prefix.parse().unwrap(), state: SubnetState::Held };
    let pod = |addresses: &[IpAddr]| Pod::new("c", "eth0", addresses);
    lab.machines[0].node.subnets.iter_mut().for_each(|subnet| subnet.state = SubnetState::Lost);
    lab.machines[0].node.subnets.extend(["10.244.50.0/24", "fd00:244:0:50::/64"].map(held));
    lab.machines[0].node.pods = vec![pod(&strays)];
    let taken = lost.iter().map(|prefix| Subnet { prefix: *prefix, state: SubnetState::Held });
    lab.machines[1].node.subnets.extend(taken);
    // A new pod of the second node, in what was the first one's.
    let new: [IpAddr; 2] = ["10.244.1.200", "fd00:244:0:1::200"].map(|address| address.parse().unwrap());
    lab.machines[1].node.pods = vec![pod(&new)];
    lab.tell();
    let (first, second) = (&lab.machines[0], &lab.machines[1]);
    for stray in &strays {
        let look = if stray.is_ipv6() { "-6 route" } else { "route" };
        lab.wait("its own route", |_| second.place.ip(look).contains(&format!("{stray} nhid")));
        assert!(second.pod.reaches(&first.pod, *stray, 1000), "{stray} {}", second.state());
    }
    second.pod.ip("addr add 10.244.1.200/24 dev eth0");
    second.pod.ip("addr add fd00:244:0:1::200/64 dev eth0 nodad");
    lab.wait("the address without its prefix", |lab| {
        !lab.machines[0].place.ip("addr show dev cnikit0").contains("10.244.1.1/24")
    });
    for address in new {
        assert!(first.pod.reaches(&second.pod, address, 1000), "{address} {}", first.state());
    }
    // Now that has a segment in common with the stray, too.
    for stray in strays {
        assert!(second.pod.reaches(&first.pod, stray, 1000), "{stray} {}", second.state());
    }
    // When it is over, nobody is answered for.
    lab.machines[0].node.pods.clear();
    lab.tell();
    for machine in &lab.machines {
        lab.wait("no proxies", |_| machine.place.ip("neigh show proxy").is_empty());
    }
}

#[test]
fn a_thousand_nodes_that_arrive_at_once_are_one_piece_of_work() {
    let mut lab = Lab::new(1, Mode::Vxlan);
    let first = lab.machines[0].node.clone();
    let many: Vec<_> = (0..1000_u16)
        .map(|n| {
            let mut node = first.clone();
            let [high, low] = (n + 512).to_be_bytes();
            node.id =
                overlay::NodeId::from_bytes([high, low, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, high, low]);
            node.addresses = vec![IpAddr::from([172, 16, high, low])];
            node.subnets = vec![Subnet {
                prefix: ipnet::Ipv4Net::new([10, 244, 128 + (n / 16) as u8, (n % 16 * 16) as u8].into(), 28)
                    .unwrap()
                    .into(),
                state: SubnetState::Held,
            }];
            node
        })
        .collect();
    lab.machines[0].place.ip("route add default via 192.168.7.254");
    let count =
        |lab: &Lab| lab.machines[0].place.ip("route").lines().filter(|line| line.contains("nhid")).count();
    lab.tell_of(0, &many);
    let took = lab.wait("a thousand routes", |lab| count(lab) == 1000);
    println!("1000 nodes, unoptimized: {took:?}");
    lab.tell_of(0, &many[1..]);
    lab.wait("one less", |lab| count(lab) == 999);
    let [machine] = lab.machines.as_mut_slice() else { panic!() };
    machine.stop();
}

#[test]
fn all_of_it_can_be_removed() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.wait_for_ways("plain routes", |path| is_route(path.way));
    lab.machines[0].stop();
    let settings = lab::settings().fabric;
    let removed = lab.machines[0]
        .place
        .run(move || super::weaver::remove_all(&mut netops::LinuxKernel::new(None), &settings));
    assert!(removed.is_ok_and(|removed| removed > 5));
    let place = &lab.machines[0].place;
    for look in ["route show proto 87", "-6 route show proto 87", "nexthop"] {
        assert_eq!(place.ip(look), "", "ip {look}");
    }
    assert!(!place.ip("rule").contains("8788"));
    assert!(place.try_says("ip", "link show cnikit-vxlan").is_err());
    assert_eq!(place.try_says("nft", "list ruleset").unwrap(), "");
    assert!(place.try_says("ip", "link show cnikit0").is_ok(), "pods are in it");
}
