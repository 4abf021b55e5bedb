//! What somebody else does to the kernel's tables, and what paths do to large packets.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, Stream, Voice, everybody_to_everybody};
use nix::sys::signal::Signal;

use crate::common::{
    Families, assert_everybody_talks, assert_gap, assert_nothing_lost, cluster, config, lab, logs, pods,
    talking,
};

/// For how long all may be lost before what somebody has deleted is there again.
const REPAIRED: Duration = Duration::from_secs(1);
/// For how long all may be lost before it is noticed that plain routes do not work any more. A path at rest is probed every 10
/// seconds where there are few, and given up after three probes in a row.
const NOTICED: Duration = Duration::from_secs(30);

#[test]
fn a_tunnel_that_somebody_deletes_is_made_again_with_all_that_goes_through_it() {
    isolated(|| {
        let lab = lab();
        let (machines, _pods, voices) = talking(&lab, 3, &config("vxlan", Families::Both));
        let look = || {
            machines[0]
                .node
                .shell("ip -o link show cnikit-vxlan | grep -o 'mtu [0-9]*\\|link/ether [0-9a-f:]*'")
        };
        let before = look();
        let bystanders = Stream::among(&[&voices[1], &voices[2]]);
        let through_it = || Stream::between(&[&voices[0]], &[&voices[1], &voices[2]]);
        let stream = through_it();
        machines[0].node.shell("ip link del cnikit-vxlan");
        assert_everybody_talks(&machines, &voices);
        assert_eq!(look(), before);
        thread::sleep(Duration::from_secs(2));
        assert_gap("tunnel deleted", stream, REPAIRED, &machines);
        // Somebody thinks that it should have another address: its peers do not.
        let stream = through_it();
        machines[0].node.shell("ip link set cnikit-vxlan address 02:99:99:99:99:99");
        assert_everybody_talks(&machines, &voices);
        machines[0].wait("its own address again", |_| look() == before);
        thread::sleep(Duration::from_secs(2));
        assert_gap("tunnel's address changed", stream, REPAIRED, &machines);
        assert_nothing_lost("tunnel deleted elsewhere", bystanders, &machines);
    });
}

#[test]
fn a_plain_route_that_stops_working_becomes_a_tunnel_and_a_route_again() {
    isolated(|| {
        let lab = lab();
        let machines = cluster(&lab, 2, &config("auto", Families::V4));
        let (_pods, voices) = pods(&machines);
        let way =
            |machine: &Machine| machine.ask("/v1/peers").map(|peers| peers[0]["path"]["way"]["kind"].clone());
        machines[0].wait("a plain route", |machine| way(machine) == Some("route".into()));
        machines[1].wait("a plain route", |machine| way(machine) == Some("route".into()));
        assert_everybody_talks(&machines, &voices);
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        // As a cloud does that knows no addresses but the machines'.
        lab.switch.shell(
        "nft 'add table bridge cloud; add chain bridge cloud forward { type filter hook forward priority 0; }
              add rule bridge cloud forward ip saddr 10.244.0.0/16 drop'",
    );
        machines[0].wait("a tunnel", |machine| way(machine) == Some("vxlan".into()));
        assert_everybody_talks(&machines, &voices);
        assert_gap("plain routes stop working", stream, NOTICED, &machines);
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        lab.switch.shell("nft delete table bridge cloud");
        machines[0].wait_long("a plain route again", |machine| way(machine) == Some("route".into()));
        assert_everybody_talks(&machines, &voices);
        assert_nothing_lost("from tunnels back to plain routes", stream, &machines);
    });
}

#[test]
fn routes_that_somebody_flushes_are_made_again_as_soon_as_that_is_heard() {
    isolated(|| {
        let lab = lab();
        let (machines, _pods, voices) = talking(&lab, 3, &config("route", Families::Both));
        let bystanders = Stream::among(&[&voices[1], &voices[2]]);
        let held = || {
            let tables = ["ip -o route", "ip -6 -o route", "ip -o nexthop"];
            let held = tables.map(|table| machines[0].node.shell(&format!("{table} show proto 87")));
            held.iter()
                .flat_map(|table| table.lines().map(|line| line.trim().to_owned()))
                .collect::<BTreeSet<_>>()
        };
        let before = held();
        // Of both families: a route to each of two nodes and one to nowhere, by two next hops.
        assert_eq!(before.len(), 10, "{before:?}");
        for _ in 0..2 {
            // As long as the agent sleeps, nothing is made again: all of it is gone, and packets feel it.
            machines[0].signal(Signal::SIGSTOP);
            machines[0].node.shell(
                // Routes go with their next hops; `ip route flush` cannot do it for those of IPv4.
                "for id in $(ip nexthop show proto 87 | awk '{print $2}'); do ip nexthop del id $id; done
                 ip route flush proto 87; ip -6 route flush proto 87",
            );
            assert_eq!(held(), BTreeSet::new());
            let all: Vec<_> = voices.iter().collect();
            let missing = everybody_to_everybody(&all, Duration::from_millis(500));
            assert!(missing.iter().filter(|missing| missing.contains("pod-1")).count() >= 4, "{missing:?}");
            machines[0].signal(Signal::SIGCONT);
            let since = Instant::now();
            machines[0].wait("what was flushed is back", |_| held() == before);
            // Everything is looked at again only once in five minutes.
            assert!(since.elapsed() < Duration::from_secs(5), "{:?}\n{}", since.elapsed(), machines[0].log());
            assert_everybody_talks(&machines, &voices);
        }
        // And how long packets feel it while the agent is awake.
        let stream = Stream::between(&[&voices[0]], &[&voices[1], &voices[2]]);
        machines[0].node.shell(
            // What is made again meanwhile is not found where it was.
            "ip nexthop show proto 87 | while read -r word id rest; do ip nexthop del id $id || true; done
             ip route flush proto 87 || true; ip -6 route flush proto 87 || true",
        );
        assert_everybody_talks(&machines, &voices);
        thread::sleep(Duration::from_secs(2));
        assert_gap("routes flushed", stream, REPAIRED, &machines);
        assert_nothing_lost("routes flushed elsewhere", bystanders, &machines);
    });
}

#[test]
fn somebody_elses_routes_are_left_alone() {
    isolated(|| {
        let lab = lab();
        let foreign =
            |machine: &Machine| machine.node.shell("ip route show proto 4; ip nexthop show proto 4");
        let mut machines = lab.machines(2, &config("vxlan", Families::V4));
        machines[0].node.shell(
            "ip nexthop add id 7 via 192.168.1.12 dev eth0 proto 4
         ip route add 10.99.0.0/16 nhid 7 proto 4
         ip route add 10.98.0.0/16 via 192.168.1.12 proto 4 metric 50",
        );
        let before = foreign(&machines[0]);
        // Somebody is there, and talks.
        machines[1]
            .node
            .shell("ip link set lo up; ip addr add 10.99.0.1/16 dev lo; ip addr add 10.98.0.1/16 dev lo");
        let elsewhere = |machine: &Machine, name: &str, address: &str| {
            machine.node.inside(|| Voice::new(name, &[address.parse().unwrap()]))
        };
        let near = elsewhere(&machines[0], "n1", "192.168.1.11");
        let far = [
            elsewhere(&machines[1], "by a next hop", "10.99.0.1"),
            elsewhere(&machines[1], "by a route", "10.98.0.1"),
        ];
        let theirs = Stream::between(&[&near], &[&far[0], &far[1]]);
        machines[0].config()["gossip"]["bootstrap"] = true.into();
        machines.iter_mut().for_each(Machine::start);
        machines.iter().for_each(Machine::wait_ready);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        machines[0].node.shell("ip link del cnikit-vxlan");
        assert_everybody_talks(&machines, &voices);
        thread::sleep(Duration::from_secs(2));
        let ours = Stream::among(&[&voices[0], &voices[1]]);
        machines[0].stop();
        machines[0].start();
        machines[0].wait_ready();
        thread::sleep(Duration::from_secs(2));
        assert_nothing_lost("an agent started again beside somebody else's routes", ours, &machines);
        assert_nothing_lost("somebody else's routes", theirs, &machines);
        assert_eq!(foreign(&machines[0]), before);
    });
}

#[test]
fn a_path_that_swallows_large_packets_is_found_out() {
    isolated(|| {
        let lab = lab();
        let (machines, _pods, voices) = talking(&lab, 2, &config("vxlan", Families::V4));
        // Small ones pass.
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        // As a switch does that does not take what it is sent: nobody is told.
        lab.switch.shell(
        "nft 'add table bridge hole; add chain bridge hole forward { type filter hook forward priority 0; }
              add rule bridge hole forward meta length > 1400 drop'",
    );
        machines[0].wait("a smaller MTU", |machine| {
            machine
                .ask("/v1/peers")
                .is_some_and(|peers| peers[0]["path"]["mtu"].as_u64().is_some_and(|mtu| mtu <= 1350))
        });
        let route = machines[0].node.shell("ip route show proto 87 type unicast");
        assert!(route.contains("mtu 13") || route.contains("mtu 12"), "{route}\n{}", logs(&machines));
        machines[0].wait("somebody is told", |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["problems"].to_string().contains("n2"))
        });
        assert_nothing_lost("large packets swallowed, small ones", stream, &machines);
    });
}

#[test]
fn nobody_elsewhere_sees_a_masqueraded_pod_but_the_outside_does() {
    isolated(|| {
        let lab = lab();
        let machines = cluster(&lab, 2, &config("auto", Families::V4));
        let (_pods, voices) = pods(&machines);
        // The addresses that others see are part of what is asserted here.
        assert_everybody_talks(&machines, &voices);
        let rules = machines[0].node.shell("nft list ruleset");
        assert!(rules.contains("masquerade"), "{rules}");
        // The switch stands for everything outside: it does not know the pods' addresses.
        lab.switch.shell("ip addr add 192.168.1.1/24 dev segment");
        let pod = machines[0].node.pod("talkative");
        machines[0].add(&pod);
        let listener = lab.switch.inside(|| std::net::TcpListener::bind("192.168.1.1:7001").unwrap());
        machines[0]
            .node
            .inside_pod(&pod, || std::net::TcpStream::connect("192.168.1.1:7001").map(drop))
            .unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "192.168.1.11");
    });
}
