//! Two nodes, what is between them, and a clock of their own.

use std::time::{Duration, Instant};

use super::*;
use crate::id::NodeName;
use crate::machine::Machine;
use crate::node::{Mode, Role, Subnet, SubnetState, Tunnel};
use crate::pool::Range;
use crate::topology::Liveness;
use crate::underlay::Hop;

/// What carries a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Tunnel,
    Plain,
    /// Between the nodes' own addresses: answers.
    Own,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    from: usize,
    by: Carrier,
    size: usize,
}

struct Lab {
    start: Instant,
    now: Instant,
    nodes: Vec<Node>,
    underlays: Vec<Underlay>,
    paths: Vec<Paths>,
    passes: Box<dyn Fn(Packet) -> bool>,
    sent: usize,
}

fn id(n: usize) -> NodeId {
    NodeId::from_bytes([n as u8 + 1; 16])
}

fn pool() -> Pool {
    Pool::new(vec![Range { cluster: "10.244.0.0/16".parse().unwrap(), subnet_length: 24 }]).unwrap()
}

fn own_address(n: usize) -> IpAddr {
    IpAddr::from([192, 168, 1, n as u8 + 1])
}

fn node(n: usize, mode: Mode) -> Node {
    let prefix = format!("10.244.{}.0/24", n + 1).parse().unwrap();
    Node {
        id: id(n),
        name: NodeName::new(&format!("n{n}")).unwrap(),
        addresses: vec![own_address(n)],
        subnets: vec![Subnet { prefix, state: SubnetState::Held }],
        role: Role::Worker,
        mode,
        tunnel: Some(Tunnel { vni: 1, port: 4789 }),
        mtu: 1500,
        machine: Machine::default(),
        pods: Vec::new(),
    }
}

impl Lab {
    /// Nodes on one segment through which everything comes.
    fn new(count: usize, mode: Mode) -> Self {
        let now = Instant::now();
        let paths = |n| {
            let settings = Settings { id: id(n), pool: pool(), port: DEFAULT_PORT };
            Paths::new(settings, Box::new(Unsealed), BTreeMap::new(), n as u64, now)
        };
        let hop = Hop { link: netops::LinkName::new("eth0").unwrap(), mtu: 1500, on_segment: true };
        let underlay = |n| Underlay {
            addresses: vec![own_address(n)],
            hops: (0..count).filter(|peer| *peer != n).map(|peer| (own_address(peer), hop.clone())).collect(),
            ipv6: true,
        };
        let mut lab = Self {
            start: now,
            now,
            nodes: (0..count).map(|n| node(n, mode)).collect(),
            underlays: (0..count).map(underlay).collect(),
            paths: (0..count).map(paths).collect(),
            passes: Box::new(|_| true),
            sent: 0,
        };
        lab.tell();
        lab
    }

    /// Everybody knows of everybody, as they are now.
    fn tell(&mut self) {
        self.tell_that_all_are(Liveness::Alive);
    }

    fn tell_that_all_are(&mut self, liveness: Liveness) {
        let mut topology = Topology::new();
        for node in &self.nodes {
            topology.insert(Arc::new(node.clone()), liveness);
        }
        for (n, paths) in self.paths.iter_mut().enumerate() {
            paths.update(self.now, &self.nodes[n], &topology, &self.underlays[n]);
        }
    }

    /// Lets time pass, in steps of what is due.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            self.deliver();
            let next = self.paths.iter().filter_map(Paths::timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for paths in &mut self.paths {
                paths.advance(self.now);
            }
        }
        self.now = end;
    }

    /// Everything that is sent arrives at once, unless it does not pass.
    fn deliver(&mut self) {
        while let Some((from, probe)) =
            (0..self.paths.len()).find_map(|n| Some((n, self.paths[n].transmit()?)))
        {
            self.sent += 1;
            let inside = |n: &usize| gateway_of(*n) == probe.to.ip();
            let to = (0..self.nodes.len()).find(|n| inside(n) || own_address(*n) == probe.to.ip()).unwrap();
            let by = match (&probe.by, self.paths[from].reaches()[&id(to)].way) {
                _ if !inside(&to) && probe.by == By::Main => Carrier::Own,
                (By::Direct(_), _) | (By::Main, Way::Route { .. }) => Carrier::Plain,
                (By::Tunnel, _) | (By::Main, Way::Vxlan { .. } | Way::Router { .. }) => Carrier::Tunnel,
                (By::Main, Way::None) => continue,
            };
            if (self.passes)(Packet { from, by, size: probe.bytes.len() + 28 }) {
                let now = self.now;
                self.paths[to].receive(now, &probe.bytes);
            }
        }
    }

    fn path(&self, from: usize, to: usize) -> report::Path {
        self.paths[from].path(&id(to), self.now).unwrap()
    }

    fn is_direct(&self, from: usize, to: usize) -> bool {
        matches!(self.path(from, to).way, Way::Route { .. })
    }

    /// How long it takes until something is so, in steps of a second.
    fn until(&mut self, what: &str, limit: u64, so: impl Fn(&Self) -> bool) -> u64 {
        for second in 0..=limit {
            if so(self) {
                return second;
            }
            self.run(1);
        }
        panic!("not within {limit} s: {what}; {:?}", self.path(0, 1));
    }
}

fn gateway_of(n: usize) -> IpAddr {
    IpAddr::from([10, 244, n as u8 + 1, 1])
}

#[test]
fn on_one_segment_a_plain_route_is_taken_within_a_second() {
    let mut lab = Lab::new(3, Mode::Auto);
    assert!(!lab.is_direct(0, 1), "before a probe has come back it is a tunnel");
    lab.run(1);
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        let path = lab.path(from, to);
        assert_eq!(path.way, Way::Route { gateway: own_address(to) });
        assert_eq!((path.mtu, path.mtu_confirmed), (1500, true));
        assert_eq!(path.reason, "same segment, probes come back");
    }
    assert!(lab.paths[0].problems().is_empty());
}

#[test]
fn where_plain_packets_are_dropped_it_stays_a_tunnel_and_says_why() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.passes = Box::new(|packet| packet.by != Carrier::Plain);
    lab.run(120);
    let path = lab.path(0, 1);
    assert_eq!(path.way, Way::Vxlan { remote: own_address(1) });
    assert_eq!((path.mtu, path.mtu_confirmed), (1450, true));
    assert_eq!(path.reason, "same segment, but probes do not come back without a tunnel");
    assert!(lab.paths[0].problems().is_empty(), "a tunnel is good enough");
}

#[test]
fn a_plain_route_that_fails_is_a_tunnel_soon_and_a_plain_route_again_when_it_works() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.run(60);
    lab.passes = Box::new(|packet| packet.by != Carrier::Plain);
    let seconds = lab.until("a tunnel", 60, |lab| !lab.is_direct(0, 1) && !lab.is_direct(1, 0));
    assert!(seconds <= 15, "{seconds} s: a rest, and three rounds");
    lab.run(120);
    lab.passes = Box::new(|_| true);
    lab.until("a plain route", 150, |lab| lab.is_direct(0, 1) && lab.is_direct(1, 0));
}

#[test]
fn loss_in_one_direction_changes_that_direction_alone() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.run(5);
    lab.passes = Box::new(|packet| !(packet.by == Carrier::Plain && packet.from == 0));
    lab.run(60);
    assert!(!lab.is_direct(0, 1) && lab.is_direct(1, 0));
}

#[test]
fn a_route_that_flaps_is_left_alone_for_longer_each_time() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.run(5);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        lab.passes = Box::new(|packet| packet.by != Carrier::Plain);
        lab.until("a tunnel", 60, |lab| !lab.is_direct(0, 1));
        lab.passes = Box::new(|_| true);
        pauses.push(lab.until("a plain route", 700, |lab| lab.is_direct(0, 1)));
    }
    assert!(pauses[0] >= 25 && pauses[1] > pauses[0] && pauses[2] > pauses[1], "{pauses:?}");
}

#[test]
fn one_lost_probe_changes_nothing() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.run(5);
    let silence = lab.now;
    for _ in 0..20 {
        // A second in which nothing passes, whenever that is.
        lab.passes = Box::new(|_| false);
        lab.run(1);
        lab.passes = Box::new(|_| true);
        lab.run(29);
        assert!(lab.is_direct(0, 1));
    }
    assert!(lab.now > silence);
    assert_eq!(lab.path(0, 1).mtu, 1500);
}

#[test]
fn a_hole_for_large_packets_becomes_the_routes_mtu_and_is_told() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.run(5);
    assert_eq!(lab.path(0, 1).mtu, 1450);
    lab.passes = Box::new(|packet| packet.size <= 1400);
    let lowered = lab.until("less", 60, |lab| lab.path(0, 1).mtu <= 1400);
    assert!(lowered <= 15, "{lowered} s");
    lab.run(60);
    let path = lab.path(0, 1);
    assert!((1393..=1400).contains(&path.mtu) && path.mtu_confirmed, "{path:?}");
    let problems = lab.paths[0].problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("node n1") && problems[0].what.contains(&path.mtu.to_string()));
    // And back.
    lab.passes = Box::new(|_| true);
    lab.until("all of it", 400, |lab| lab.path(0, 1).mtu == 1450);
    assert!(lab.paths[0].problems().is_empty());
}

#[test]
fn interfaces_that_promise_something_else_are_followed() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.run(5);
    let set = |lab: &mut Lab, mtu| {
        lab.underlays[0].hops.values_mut().for_each(|hop| hop.mtu = mtu);
        lab.nodes[0].mtu = mtu;
        lab.tell();
    };
    set(&mut lab, 1400);
    assert_eq!((lab.path(0, 1).mtu, lab.path(1, 0).mtu), (1400, 1400), "at once, and on both sides");
    lab.run(30);
    assert!(lab.path(0, 1).mtu_confirmed && lab.is_direct(0, 1));
    set(&mut lab, 1500);
    assert_eq!(lab.path(0, 1).mtu, 1400, "more must come through first");
    lab.run(2);
    assert_eq!(lab.path(0, 1).mtu, 1500);
}

#[test]
fn a_peer_that_leaves_the_segment_gets_a_tunnel_at_once() {
    let mut lab = Lab::new(2, Mode::Auto);
    lab.run(5);
    lab.underlays[0].hops.values_mut().for_each(|hop| hop.on_segment = false);
    assert!(lab.paths[0].changed() && !lab.paths[0].changed());
    lab.tell();
    assert!(!lab.is_direct(0, 1) && lab.paths[0].changed());
    assert_eq!(lab.path(0, 1).reason, "not on one segment");
    lab.underlays[0].hops.values_mut().for_each(|hop| hop.on_segment = true);
    lab.tell();
    lab.run(1);
    assert!(lab.is_direct(0, 1));
}

#[test]
fn a_new_address_is_reached_by_it_and_of_two_the_one_that_works_is_used() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.run(5);
    let other: IpAddr = "172.16.0.9".parse().unwrap();
    let hop = lab.underlays[0].hops[&own_address(1)].clone();
    lab.underlays[0].hops.insert(other, hop);
    lab.nodes[1].addresses = vec![other];
    lab.tell();
    assert_eq!(lab.path(0, 1).way, Way::Vxlan { remote: other });

    lab.nodes[1].addresses = vec![other, own_address(1)];
    lab.tell();
    assert_eq!(lab.path(0, 1).way, Way::Vxlan { remote: other }, "one that works is kept");
    lab.passes = Box::new(|_| false);
    lab.until("the other", 20, |lab| lab.path(0, 1).way == Way::Vxlan { remote: own_address(1) });
    lab.passes = Box::new(|_| true);
    lab.run(30);
    assert_eq!(lab.path(0, 1).way, Way::Vxlan { remote: own_address(1) });
}

#[test]
fn who_is_not_heard_of_at_all_keeps_its_way_since_kernels_work_without_agents() {
    for mode in [Mode::Auto, Mode::Vxlan] {
        let mut lab = Lab::new(2, mode);
        let other: IpAddr = "172.16.0.9".parse().unwrap();
        let hop = lab.underlays[0].hops[&own_address(1)].clone();
        lab.underlays[0].hops.insert(other, hop);
        lab.nodes[1].addresses = vec![own_address(1), other];
        lab.tell();
        lab.run(60);
        let before = lab.path(0, 1).way;
        lab.passes = Box::new(|_| false);
        for liveness in [Liveness::Suspect, Liveness::Down] {
            lab.tell_that_all_are(liveness);
            lab.run(60);
            assert_eq!(lab.path(0, 1).way, before, "{liveness}");
        }
        // It is heard of, and nothing comes back: that is the way's fault.
        lab.tell();
        lab.until("another way", 20, |lab| lab.path(0, 1).way != before);
    }
}

#[test]
fn where_both_bridges_have_one_address_after_a_conflict_nothing_is_probed_nor_said_to_be_wrong() {
    let mut lab = Lab::new(2, Mode::Auto);
    let lost = Subnet { state: SubnetState::Lost, ..lab.nodes[0].subnets[0] };
    lab.nodes[1].subnets.push(lost);
    lab.tell();
    // Those of before may still be under way.
    lab.run(5);
    let (sent, ways) = (lab.sent, [lab.path(0, 1).way, lab.path(1, 0).way]);
    lab.run(300);
    assert_eq!(lab.sent, sent);
    assert_eq!([lab.path(0, 1).way, lab.path(1, 0).way], ways);
    assert!(lab.paths.iter().all(|paths| paths.problems().is_empty()));
    // The pods of it are gone.
    lab.nodes[1].subnets.pop();
    lab.tell();
    lab.until("plain routes", 60, |lab| lab.is_direct(0, 1) && lab.is_direct(1, 0));
}

#[test]
fn silence_and_no_way_are_told_unless_the_node_is_down() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.passes = Box::new(|packet| packet.by == Carrier::Own);
    lab.run(30);
    let problems = lab.paths[0].problems();
    assert!(
        problems.len() == 1 && problems[0].what.contains("through the tunnel to 192.168.1.2"),
        "{problems:?}"
    );
    assert!(problems[0].advice.contains("tx-checksum"));
    let down: Topology = lab.nodes.iter().cloned().collect();
    let mut topology = Topology::new();
    for member in down.members() {
        topology.insert(Arc::clone(&member.node), Liveness::Down);
    }
    lab.paths[0].update(lab.now, &lab.nodes[0], &topology, &lab.underlays[0]);
    assert!(lab.paths[0].problems().is_empty());
    assert_eq!(lab.path(0, 1).way, Way::Vxlan { remote: own_address(1) }, "its routes stay");
    // Nor is it told that no way leads to a node that is down: one, say, whose address is another's now.
    let mut nowhere = lab.nodes[1].clone();
    nowhere.addresses.clear();
    for (liveness, told) in [(Liveness::Alive, 1), (Liveness::Down, 0)] {
        let mut topology = Topology::new();
        topology.insert(Arc::new(nowhere.clone()), liveness);
        lab.paths[0].update(lab.now, &lab.nodes[0], &topology, &lab.underlays[0]);
        assert_eq!((lab.path(0, 1).way, lab.paths[0].problems().len()), (Way::None, told));
    }
}

#[test]
fn in_router_mode_workers_go_by_the_router_and_the_router_does_not() {
    let mut lab = Lab::new(3, Mode::Router);
    assert_eq!(lab.path(0, 1).way, Way::None);
    assert!(lab.paths[0].problems()[0].what.contains("there is no router"));
    lab.nodes[2].role = Role::Router;
    lab.nodes[2].subnets.clear();
    lab.tell();
    lab.run(5);
    assert_eq!(lab.path(0, 1).way, Way::Router { router: id(2) });
    assert!(lab.is_direct(0, 2) && lab.is_direct(2, 0) && lab.is_direct(2, 1));
    assert!(lab.path(0, 1).answered.is_some());
    assert!(lab.paths[0].problems().is_empty(), "{:?}", lab.paths[0].problems());
}

#[test]
fn in_mode_route_there_is_no_tunnel() {
    let mut lab = Lab::new(2, Mode::Route);
    lab.passes = Box::new(|packet| packet.by == Carrier::Tunnel);
    lab.run(60);
    assert_eq!(lab.path(0, 1).way, Way::Route { gateway: own_address(1) });
    assert!(lab.paths[0].problems()[0].what.contains("nothing comes back"));
    lab.underlays[0].hops.values_mut().for_each(|hop| hop.on_segment = false);
    lab.tell();
    assert_eq!(lab.path(0, 1).way, Way::None);
    assert!(lab.path(0, 1).reason.contains("a router is between"));
}

#[test]
fn tunnels_of_other_numbers_are_none() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.nodes[1].tunnel = Some(Tunnel { vni: 7, port: 4789 });
    lab.tell();
    assert_eq!(lab.path(0, 1).way, Way::None);
    assert!(lab.paths[0].problems()[0].what.contains("VNI 7"));
}

#[test]
fn what_the_kernel_does_already_goes_on() {
    let now = Instant::now();
    let mut lab = Lab::new(2, Mode::Auto);
    let resumed = BTreeMap::from([(next_hop_of(&id(1)), Resumed { direct: true, mtu: 1392 })]);
    let settings = Settings { id: id(0), pool: pool(), port: DEFAULT_PORT };
    lab.paths[0] = Paths::new(settings, Box::new(Unsealed), resumed, 7, now);
    lab.tell();
    assert!(lab.is_direct(0, 1));
    assert_eq!(lab.path(0, 1).mtu, 1392);
    lab.run(5);
    assert_eq!(lab.path(0, 1).mtu, 1500, "there was a reason, which is gone");
}

#[test]
fn nobody_is_answered_who_is_not_known_and_nobody_without_end() {
    let mut lab = Lab::new(2, Mode::Vxlan);
    lab.run(5);
    let ask =
        |from, to, nonce: u64| Message { kind: Kind::Probe, from, to, nonce }.write(&mut Unsealed, 1400);
    let now = lab.now;
    let answers = |lab: &mut Lab| std::iter::from_fn(|| lab.paths[0].transmit()).count();
    lab.paths[0].receive(now, &ask(id(9), id(0), 1));
    lab.paths[0].receive(now, &ask(id(1), id(9), 1));
    assert_eq!(answers(&mut lab), 0);
    for nonce in 0..1000 {
        lab.paths[0].receive(now, &ask(id(1), id(0), nonce));
    }
    let answered = answers(&mut lab);
    assert!((1..=40).contains(&answered), "{answered}");
}

#[test]
fn a_thousand_peers_at_rest_cost_six_probes_a_second_and_one_wake() {
    let mut topology = Topology::new();
    let lab = Lab::new(1, Mode::Auto);
    let (mut own, mut underlay) = (lab.nodes[0].clone(), Underlay::default());
    own.id = NodeId::from_bytes([0; 16]);
    own.subnets[0].prefix = "10.244.255.0/24".parse().unwrap();
    let address = |n: u16| IpAddr::from([192, 168, (n >> 8) as u8, n as u8]);
    for n in 0..1000_u16 {
        let mut bytes = [0xff; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let hop = Hop { link: netops::LinkName::new("eth0").unwrap(), mtu: 1500, on_segment: false };
        underlay.hops.insert(address(n), hop);
        let prefix = ipnet::Ipv4Net::new((0x0af4_0000 + u32::from(n) * 16).into(), 28).unwrap().into();
        let subnets = vec![Subnet { prefix, state: SubnetState::Held }];
        let id = NodeId::from_bytes(bytes);
        let peer = Node { id, subnets, addresses: vec![address(n)], ..node(1, Mode::Auto) };
        topology.insert(Arc::new(peer), Liveness::Alive);
    }
    let settings = Settings { id: own.id, pool: pool(), port: DEFAULT_PORT };
    let mut now = lab.start;
    let mut paths = Paths::new(settings, Box::new(Unsealed), BTreeMap::new(), 1, now);
    paths.update(now, &own, &topology, &underlay);
    let (mut sent, mut wakes) = (0, 0);
    let begin = now + Duration::from_secs(240);
    let end = begin + Duration::from_secs(600);
    while let Some(next) = paths.timeout().filter(|next| *next < end) {
        now = now.max(next);
        paths.advance(now);
        wakes += usize::from(now > begin);
        while let Some(probe) = paths.transmit() {
            sent += usize::from(now > begin);
            let asked = Message::read(&probe.bytes, &mut Unsealed).unwrap();
            let answer = Message { kind: Kind::Answer, from: asked.to, to: asked.from, ..asked };
            paths.receive(now, &answer.write(&mut Unsealed, 0));
        }
    }
    assert!(sent < 7 * 600 && sent > 5 * 600, "{sent} in 10 minutes");
    assert!(wakes <= 601, "{wakes} wakes in 10 minutes");
}
