//! Paths that carry less than interfaces promise, with somebody who says so and without.

use std::ops::RangeInclusive;
use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine};
use serde_json::Value;

use crate::bulk::{End, Load, assert_carried, carry};
use crate::common::{Families, assert_everybody_talks, config, lab, pods, talking};
use crate::routed::machines;

/// What the narrow hop takes, and of that a tunnel over IPv4 leaves.
const NARROW: u32 = 1400;
const LEFT: u32 = NARROW - 50;

/// What a machine's first peer takes, as it is told.
fn mtu(machine: &Machine) -> Option<u64> {
    machine.ask("/v1/peers")?[0]["path"]["mtu"].as_u64()
}

/// The problems that name large packets.
fn complaints(machine: &Machine) -> Vec<String> {
    let status = machine.ask("/v1/status").unwrap_or_default();
    let problems = status["problems"].as_array().into_iter().flatten();
    let told = problems.filter_map(|problem: &Value| problem["what"].as_str());
    told.filter(|what| what.contains("large packets are lost")).map(str::to_owned).collect()
}

/// The MTUs of a machine's routes to others, of both families.
fn routes(machine: &Machine) -> Vec<u64> {
    let routes =
        machine.node.shell("ip route show proto 87 type unicast; ip -6 route show proto 87 type unicast");
    let mtu = |line: &str| line.split_once("mtu ")?.1.split_whitespace().next()?.parse().ok();
    routes.lines().filter_map(mtu).collect()
}

/// Machines send what they send in packets that the segment would take, as over a real cable: a switch that counts bytes must
/// not see what no cable carries.
fn cut_up(machines: &[Machine]) {
    for machine in machines {
        machine.node.shell("ethtool -K eth0 tso off gso off gro off >/dev/null");
    }
}

#[test]
fn pods_are_told_what_a_narrow_hop_between_their_nodes_says() {
    isolated(|| {
        let lab = lab();
        let router = lab.divided();
        let mut machines = machines(&lab, &router, &[1, 2], &config("vxlan", Families::Both));
        let (pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        // From now on nobody probes: what pods learn, they learn from the kernels.
        machines.iter_mut().for_each(Machine::kill);
        router.narrows(NARROW);
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &pods[n] });
        assert_carried(one, two, &[false, true]);
        // (The other pod need not be told: it was asked for small segments, and its fragments may be cut again.)
        for ipv6 in [false, true] {
            assert_eq!(one.was_told(two.address(ipv6)), Some(LEFT), "IPv6 {ipv6}");
        }
        // Routes have not been changed by anybody: it is not by them that it was learned.
        for machine in &machines {
            assert!(routes(machine).iter().all(|mtu| *mtu == 1450), "{:?}", routes(machine));
        }
        // Of IPv4 it is the setting that the agent has made: without it nobody else learns anything.
        let late = [0, 1].map(|n| machines[n].pod("late").0);
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &late[n] });
        for machine in &machines {
            assert_eq!(machine.node.shell("sysctl -n net.ipv4.ip_forward_use_pmtu"), "1\n");
            machine.node.shell("sysctl -qw net.ipv4.ip_forward_use_pmtu=0");
        }
        for load in [Load::Stream, Load::Datagram] {
            assert!(carry(load, one, two, false, Duration::from_secs(2)).is_err(), "{load:?}");
        }
    });
}

#[test]
fn a_narrow_hop_is_measured_and_so_is_that_it_is_gone() {
    isolated(|| {
        let lab = lab();
        let router = lab.divided();
        let mut machines = machines(&lab, &router, &[1, 2], &config("vxlan", Families::Both));
        // What kernels have been told they forget soon.
        for machine in &machines {
            machine.node.shell("sysctl -qw net.ipv4.route.mtu_expires=2 net.ipv6.route.mtu_expires=2");
        }
        let (pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        machines[0].wait("its routes' MTU", |machine| routes(machine) == [1450, 1450]);
        router.narrows(NARROW);
        let is_measured = |mtu: u64| (u64::from(LEFT) - 8..=u64::from(LEFT)).contains(&mtu);
        for machine in &machines {
            machine.wait_long("it is measured", |machine| mtu(machine).is_some_and(is_measured));
            machine.wait_long("its routes say so", |machine| {
                routes(machine).iter().all(|mtu| is_measured(*mtu))
            });
            machine.wait_long("somebody is told", |machine| !complaints(machine).is_empty());
        }
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &pods[n] });
        assert_carried(one, two, &[false, true]);

        router.narrows(1500);
        is_found_gone(&mut machines, 1450);
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &pods[n] });
        assert_carried(one, two, &[false, true]);
    });
}

/// A hole is believed in for five minutes, or until the agent is started again; then it is looked for anew.
fn is_found_gone(machines: &mut [Machine], promised: u64) {
    for machine in &mut *machines {
        machine.stop();
        machine.start();
    }
    for machine in machines {
        machine.wait_long("the hole is gone", |machine| mtu(machine) == Some(promised));
        machine.wait_long("routes say so", |machine| routes(machine).iter().all(|mtu| *mtu == promised));
        machine.wait_long("nobody complains", |machine| complaints(machine).is_empty());
    }
}

/// As a switch does that does not take what it is sent: nobody is told.
fn dig(lab: &Lab) {
    lab.switch.shell(
        "nft 'add table bridge hole; add chain bridge hole forward { type filter hook forward priority 0; }
              add rule bridge hole forward meta length > 1400 drop'",
    );
}

/// A machine finds out what the way to the other takes, and tells that there is a hole.
fn is_known(machine: &Machine, takes: RangeInclusive<u64>, way: &str) {
    machine.wait_long("it is measured", |machine| mtu(machine).is_some_and(|mtu| takes.contains(&mtu)));
    machine
        .wait_long("somebody is told", |machine| complaints(machine).iter().any(|what| what.contains(way)));
}

#[test]
fn plain_routes_get_through_a_hole_that_nobody_tells_of() {
    isolated(|| {
        let lab = lab();
        let (mut machines, pods, _voices) = talking(&lab, 2, &config("route", Families::Both));
        cut_up(&machines);
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &pods[n] });
        assert_carried(one, two, &[false, true]);
        dig(&lab);
        // It is one: without help nothing large comes through.
        assert!(carry(Load::Datagram, one, two, false, Duration::from_secs(1)).is_err());
        for machine in &machines {
            is_known(machine, 1392..=1400, "by the plain route to");
            machine.wait_long("its routes say so", |machine| {
                routes(machine).iter().all(|mtu| (1392..=1400).contains(mtu))
            });
        }
        assert_carried(one, two, &[false, true]);

        lab.switch.shell("nft delete table bridge hole");
        is_found_gone(&mut machines, 1500);
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &pods[n] });
        assert_carried(one, two, &[false, true]);
    });
}

#[test]
fn tunnels_get_through_a_hole_that_nobody_tells_of() {
    isolated(|| {
        let lab = lab();
        let (machines, pods, _voices) = talking(&lab, 2, &config("vxlan", Families::Both));
        cut_up(&machines);
        let [one, two] = [0, 1].map(|n| End { machine: &machines[n], pod: &pods[n] });
        assert_carried(one, two, &[false, true]);
        dig(&lab);
        assert!(carry(Load::Datagram, one, two, false, Duration::from_secs(1)).is_err());
        for machine in &machines {
            is_known(machine, 1342..=1350, "through the tunnel to");
        }
        assert_carried(one, two, &[false, true]);
    });
}
