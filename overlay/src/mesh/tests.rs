mod asking;

use super::*;
use crate::id::NodeName;
use crate::machine::Machine;
use crate::node::{Mode, Subnet, SubnetState, Tunnel};
use crate::pool::Range;
use crate::topology::Conflict;

/// A few nodes on a clock of their own, and what is on their disks.
struct Net {
    now: Time,
    nodes: Vec<Mesh>,
    disks: Vec<Saved>,
    /// From whom to whom nothing arrives.
    cut: Vec<(usize, usize)>,
    /// To whom no stream can be opened.
    no_streams: Vec<usize>,
}

fn at(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(n).unwrap()], 4793))
}

fn local(n: usize, pods: &[&str]) -> Local {
    let pod = |address: &&str| {
        Pod::new(&format!("c{address}"), "eth0", [address.parse().unwrap()])
            .named(Some("default"), Some(&format!("pod-{n}")))
    };
    Local {
        id: NodeId::from_bytes([u8::try_from(n + 1).unwrap(); 16]),
        name: NodeName::new(&format!("n{n}")).unwrap(),
        addresses: vec![at(n).ip()],
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: Some(Tunnel { vni: 1, port: 4789 }),
        mtu: 1500,
        machine: Machine::default(),
        pods: pods.iter().map(pod).collect(),
    }
}

impl Net {
    fn new() -> Self {
        Self {
            now: Time::from_secs(1),
            nodes: Vec::new(),
            disks: Vec::new(),
            cut: Vec::new(),
            no_streams: Vec::new(),
        }
    }

    fn settings(length: u8, bootstrap: bool) -> Settings {
        let range = Range { cluster: "10.244.0.0/16".parse().unwrap(), subnet_length: length };
        Settings {
            pool: Pool::new(vec![range]).unwrap(),
            gossip: gossip::Config::default(),
            claims: claim::Settings::default(),
            bootstrap,
        }
    }

    /// One more node; the first is everybody's seed.
    fn start(&mut self, length: u8) -> usize {
        let n = self.nodes.len();
        let settings = Self::settings(length, n == 0);
        let mut mesh = Mesh::new(settings, local(n, &[]), vec![at(n)], Saved::default(), n as u64, self.now);
        mesh.join(self.now, &[at(0)]);
        self.nodes.push(mesh);
        self.disks.push(Saved::default());
        n
    }

    /// A node is another process, with what is on its disk.
    fn restart(&mut self, n: usize, length: u8) {
        let settings = Self::settings(length, n == 0);
        let seed = 1000 + self.now.as_millis() as u64;
        self.nodes[n] =
            Mesh::new(settings, local(n, &[]), vec![at(n)], self.disks[n].clone(), seed, self.now);
        self.nodes[n].join(self.now, &[at(0)]);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.deliver();
            self.now += Duration::from_millis(50);
            for node in &mut self.nodes {
                if node.timeout() <= self.now {
                    node.advance(self.now);
                }
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        loop {
            let mut quiet = true;
            for n in 0..self.nodes.len() {
                if let Some(saved) = self.nodes[n].unsaved() {
                    assert_eq!(self.nodes[n].transmit(), None, "said before it was durable");
                    self.disks[n] = saved.clone();
                    self.nodes[n].saved(self.now, saved);
                }
                while let Some(Transmit { to, payload }) = self.nodes[n].transmit() {
                    quiet = false;
                    if let Some(to) = self.reach(n, to) {
                        self.nodes[to].receive(self.now, at(n), &payload);
                    }
                }
                let wanted = self.nodes[n].wants_exchange().and_then(|to| self.reach(n, to));
                if let Some(to) = wanted.filter(|to| !self.no_streams.contains(to)) {
                    quiet = false;
                    self.exchange(n, to);
                }
            }
            if quiet && self.nodes.iter().all(|node| node.unsaved().is_none()) {
                return;
            }
        }
    }

    /// What a node and some others have for one another arrives; what they have for anybody else is lost, and what they have for
    /// the node if it is longer than that.
    fn talk(&mut self, n: usize, others: &[usize], longest: usize) {
        for _ in 0..20 {
            for from in others.iter().copied().chain([n]) {
                if let Some(saved) = self.nodes[from].unsaved() {
                    self.disks[from] = saved.clone();
                    self.nodes[from].saved(self.now, saved);
                }
                while let Some(Transmit { to, payload }) = self.nodes[from].transmit() {
                    let arrives = |to: &usize| match from == n {
                        true => others.contains(to),
                        false => *to == n && payload.len() <= longest,
                    };
                    if let Some(to) = self.reach(from, to).filter(arrives) {
                        self.nodes[to].receive(self.now, at(from), &payload);
                    }
                }
            }
            // Whoever it would like to have that with: the first has no less to tell.
            if self.nodes[n].wants_exchange().is_some() && longest == usize::MAX {
                self.exchange(n, others[0]);
            }
        }
    }

    fn exchange(&mut self, from: usize, to: usize) {
        let request = self.nodes[from].exchange_request(self.now);
        let answer = self.nodes[to].exchange_answer(self.now, &request).unwrap();
        self.nodes[from].exchange_finish(self.now, &answer).unwrap();
    }

    fn reach(&self, from: usize, to: SocketAddr) -> Option<usize> {
        let to = (0..self.nodes.len()).find(|n| at(*n) == to)?;
        (!self.cut.contains(&(from, to))).then_some(to)
    }

    fn view(&mut self, n: usize) -> View {
        self.nodes[n].view()
    }

    fn held(&mut self, n: usize) -> Vec<ipnet::IpNet> {
        let subnets = self.view(n).subnets;
        subnets
            .iter()
            .filter(|subnet| subnet.state == SubnetState::Held)
            .map(|subnet| subnet.prefix)
            .collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_alone_has_a_subnet_at_once() {
    let mut net = Net::new();
    net.start(24);
    net.run(SECOND / 2);
    assert_eq!(net.held(0).len(), 1);
    assert_eq!(net.view(0).waiting, None);
    assert_eq!(net.view(0).cut_off, None);
}

#[test]
fn all_know_all_and_no_subnet_is_held_twice() {
    let mut net = Net::new();
    for _ in 0..20 {
        net.start(24);
    }
    net.run(SECOND * 8);
    let mut all = Vec::new();
    for n in 0..20 {
        let view = net.view(n);
        assert_eq!(view.topology.members().len(), 20);
        assert_eq!(view.topology.conflicts(), []);
        let lives = |member: &crate::Member| member.incarnation.map(|life| life.get());
        assert!(view.topology.members().all(|member| lives(member) == Some(1)), "n{n}: {view:?}");
        assert!(view.topology.members().all(|member| member.node.held().count() == 1), "n{n}: {view:?}");
        all.extend(net.held(n));
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 20);
}

#[test]
fn a_node_with_seeds_that_do_not_answer_waits() {
    let mut net = Net::new();
    net.start(24);
    net.start(24);
    net.cut = vec![(0, 1), (1, 0)];
    net.run(SECOND * 20);
    assert_eq!(net.held(1), []);
    let view = net.view(1);
    assert!(view.waiting.unwrap().contains("seed"));
    assert!(view.cut_off.is_some());
    net.cut.clear();
    net.run(SECOND * 15);
    assert_eq!(net.held(1).len(), 1);
}

#[test]
fn a_pod_is_known_everywhere_and_gone_everywhere() {
    let mut net = Net::new();
    for _ in 0..5 {
        net.start(24);
    }
    net.run(SECOND * 6);
    let now = net.now;
    net.nodes[3].set_local(now, local(3, &["10.244.9.9"]));
    net.run(SECOND / 2);
    for n in 0..5 {
        let topology = net.view(n).topology;
        let (member, pod) = topology.locate("10.244.9.9".parse().unwrap()).expect("it is known");
        assert_eq!((member.node.name.as_str(), pod.unwrap().to_string()), ("n3", "default/pod-3".to_owned()));
    }
    let now = net.now;
    net.nodes[3].set_local(now, local(3, &[]));
    net.run(SECOND / 2);
    for n in 0..5 {
        assert_eq!(net.view(n).topology.locate("10.244.9.9".parse().unwrap()), None);
    }
}

#[test]
fn a_restarted_node_keeps_its_subnet_and_its_place() {
    let mut net = Net::new();
    for _ in 0..3 {
        net.start(24);
    }
    net.run(SECOND * 6);
    let before = net.held(2);
    net.restart(2, 24);
    assert_eq!(net.held(2), [], "what is on disk is read, and saved before it counts");
    net.run(SECOND / 10);
    assert_eq!(net.held(2), before);
    net.run(SECOND * 10);
    assert_eq!(net.held(2), before);
    let view = net.view(0);
    let mut lives: Vec<_> = view.topology.members().filter_map(|member| member.incarnation).collect();
    lives.sort();
    assert_eq!(lives.iter().map(|life| life.get()).collect::<Vec<_>>(), [1, 1, 2]);
}

#[test]
fn a_forgotten_node_is_gone_and_its_subnet_free_after_a_while() {
    let mut net = Net::new();
    for _ in 0..3 {
        net.start(24);
    }
    net.run(SECOND * 6);
    let gone = net.held(2);
    let now = net.now;
    assert!(net.nodes[0].forget(now, "n2").unwrap_err().contains("alive"));
    assert!(net.nodes[0].forget(now, "n0").unwrap_err().contains("itself"));
    assert!(net.nodes[0].forget(now, "nobody").unwrap_err().contains("nobody"));
    net.cut = (0..2).flat_map(|n| [(n, 2), (2, n)]).collect();
    net.run(SECOND * 30);
    let now = net.now;
    assert_eq!(net.nodes[0].forget(now, "n2").unwrap().subnets[0].prefix, gone[0]);
    net.run(SECOND);
    for n in 0..2 {
        assert_eq!(net.view(n).topology.members().len(), 2);
        assert!(!net.nodes[n].taken.is_free(&gone[0]));
    }
    // It was only cut off: it comes back with what it had.
    net.cut.clear();
    net.run(SECOND * 20);
    assert_eq!(net.view(1).topology.members().len(), 3);
    assert_eq!(net.held(2), gone);
}

#[test]
fn who_comes_later_keeps_away_from_what_a_forgotten_node_held() {
    let mut net = Net::new();
    // Four subnets.
    for _ in 0..4 {
        net.start(18);
        net.run(SECOND * 4);
    }
    net.cut = (0..4).flat_map(|n| [(n, 3), (3, n)]).collect();
    net.run(SECOND * 30);
    let gone = net.held(3);
    let now = net.now;
    net.nodes[0].forget(now, "n3").unwrap();
    net.run(SECOND);
    let late = net.start(18);
    net.cut.extend([(3, late), (late, 3)]);
    net.run(SECOND * 20);
    assert!(net.view(late).waiting.unwrap().contains("no free prefix"));
    // What rests is nobody's, for the topology.
    assert!(net.view(late).topology.members().all(|member| member.node.subnets.len() <= 1));
    net.run(claim::Settings::default().quarantine);
    net.run(SECOND * 20);
    assert_eq!(net.held(late), gone);
}

#[test]
fn clusters_that_took_the_same_subnets_become_one_and_every_pod_is_found() {
    let mut net = Net::new();
    // Four subnets for two nodes in each half.
    net.start(18);
    net.run(SECOND);
    net.start(18);
    for n in 2..4 {
        // The other half has another seed.
        let settings = Net::settings(18, n == 2);
        let now = net.now;
        let mut mesh = Mesh::new(settings, local(n, &[]), vec![at(n)], Saved::default(), 77 + n as u64, now);
        mesh.join(now, &[at(2)]);
        net.nodes.push(mesh);
        net.disks.push(Saved::default());
    }
    net.run(SECOND * 6);
    let before: Vec<_> = (0..4).map(|n| net.held(n)[0]).collect();
    for (n, held) in before.iter().enumerate() {
        let pod = held.hosts().nth(10 + n).unwrap().to_string();
        let now = net.now;
        net.nodes[n].set_local(now, local(n, &[&pod]));
    }
    let now = net.now;
    net.nodes[3].join(now, &[at(0)]);
    net.run(SECOND * 30);
    let mut all = Vec::new();
    for n in 0..4 {
        let topology = net.view(n).topology;
        let subnets = |conflict: &Conflict| matches!(conflict, Conflict::Subnet { .. });
        assert!(!topology.conflicts().iter().any(subnets), "{:?}", topology.conflicts());
        for (owner, held) in before.iter().enumerate() {
            let pod = held.hosts().nth(10 + owner).unwrap();
            let (member, pod) = topology.locate(pod).expect("its pods are known");
            assert_eq!((member.node.name.to_string(), pod.is_some()), (format!("n{owner}"), true));
        }
        all.extend(net.held(n));
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn what_is_not_understood_is_told_by_the_nodes_name() {
    let mut net = Net::new();
    net.start(24);
    net.start(24);
    net.run(SECOND * 4);
    let now = net.now;
    net.nodes[1].gossip.set(now, "pod/1", &[9, 9]).unwrap();
    net.nodes[1].gossip.set(now, "of a later version", &[9, 9]).unwrap();
    net.run(SECOND);
    let problems = net.view(0).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].what.contains("node n1") && problems[0].what.contains("version 9"), "{problems:?}");
    let now = net.now;
    net.nodes[1].gossip.delete(now, "pod/1");
    net.run(SECOND);
    assert_eq!(net.view(0).problems, []);
}

#[test]
fn a_pod_under_a_key_that_is_not_its_own_is_told_and_nowhere() {
    let mut net = Net::new();
    net.start(24);
    net.start(24);
    net.run(SECOND * 4);
    let (now, two) = (net.now, net.nodes[1].id());
    let [good, odd] = ["10.244.7.7", "10.244.7.8"].map(|address| local(1, &[address]).pods.remove(0));
    let key = codec::pod_key(&good);
    net.nodes[1].gossip.set(now, &key, &codec::encode_pod(&good)).unwrap();
    net.nodes[1].gossip.set(now, "pod/1", &codec::encode_pod(&odd)).unwrap();
    net.run(SECOND);
    let view = net.view(0);
    assert_eq!(view.topology.get(&two).unwrap().node.pods, [good]);
    assert!(view.problems[0].what.contains("\"pod/1\", which is not its own"), "{:?}", view.problems);
    // What a key said is gone when it says another's.
    let now = net.now;
    net.nodes[1].gossip.delete(now, "pod/1");
    net.nodes[1].gossip.set(now, &key, &codec::encode_pod(&odd)).unwrap();
    net.run(SECOND);
    let view = net.view(0);
    assert_eq!(view.topology.get(&two).unwrap().node.pods, []);
    assert_eq!(view.problems.len(), 1, "{:?}", view.problems);
}

#[test]
fn a_node_that_says_what_cannot_be_is_known_by_the_rest_of_it() {
    let mut net = Net::new();
    net.start(24);
    net.start(24);
    net.run(SECOND * 4);
    let (now, [one, two]) = (net.now, [0, 1].map(|n: usize| net.nodes[n].id()));
    let node = net.view(0).topology.get(&two).unwrap().node.clone();
    let good = node.addresses.clone();
    let mut addresses =
        vec!["127.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap(), "ff02::1".parse().unwrap()];
    addresses.extend(&good);
    let about = codec::About {
        name: node.name.clone(),
        addresses,
        role: node.role,
        mode: node.mode,
        tunnel: node.tunnel,
        mtu: 0,
        machine: Machine::default(),
    };
    net.nodes[1].gossip.set(now, ABOUT, &about.encode()).unwrap();
    net.run(SECOND);
    let view = net.view(0);
    assert_eq!(view.topology.get(&two).unwrap().node.addresses, good);
    assert_eq!(view.topology.get(&one).map(|member| member.liveness), Some(crate::topology::Liveness::Alive));
    let told = &view.problems[0].what;
    assert!(told.contains("node n1") && told.contains("127.0.0.1") && told.contains("MTU of 0"), "{told}");
}

#[test]
fn a_subnet_of_a_node_that_is_down_for_long_is_taken_when_there_are_hardly_any() {
    let mut net = Net::new();
    // Four subnets.
    for _ in 0..4 {
        net.start(18);
        net.run(SECOND * 4);
    }
    net.cut = (0..3).flat_map(|n| [(n, 3), (3, n)]).collect();
    net.run(SECOND * 60);
    let late = net.start(18);
    net.cut.extend([(3, late), (late, 3)]);
    net.run(SECOND * 30);
    assert!(net.view(late).waiting.unwrap().contains("10.244.0.0/16"));
    for _ in 0..4 {
        // Days, without everything that happens in between.
        net.now += Duration::from_secs(12 * 3600);
        net.run(SECOND * 90);
    }
    net.run(SECOND * 700);
    net.now += Duration::from_secs(700);
    net.run(SECOND * 30);
    let taken = net.held(late);
    assert_eq!(taken.len(), 1);
    // It was only cut off, and is back: the subnet is another's now, although its own id is the lower one.
    assert_eq!(net.held(3), taken);
    let now = net.now;
    let pod = taken[0].hosts().nth(9).unwrap().to_string();
    net.nodes[3].set_local(now, local(3, &[&pod]));
    net.cut.clear();
    net.run(SECOND * 40);
    assert_eq!(net.held(late), taken);
    let subnets = net.view(3).subnets;
    assert_eq!(subnets, [Subnet { prefix: taken[0], state: SubnetState::Lost }]);
    let topology = net.view(late).topology;
    let (member, found) = topology.locate(pod.parse().unwrap()).unwrap();
    assert!(found.is_some() && member.node.name.as_str() == "n3", "its pod goes on");
}

#[test]
fn that_a_node_exists_twice_is_told_for_a_while_and_then_that_it_does_not_any_more() {
    let mut net = Net::new();
    let (first, twice) = (net.start(24), net.start(24));
    net.run(Duration::from_secs(20));
    let revision = net.nodes[twice].revision();
    let from_its_twin = Event::Clone { address: None };
    net.nodes[twice].take(from_its_twin);
    let is_told =
        |net: &mut Net, n| net.view(n).problems.iter().any(|p| p.what.starts_with("two machines use"));
    assert!(is_told(&mut net, twice) && !is_told(&mut net, first));
    assert!(net.nodes[twice].revision() > revision);
    let revision = net.nodes[twice].revision();
    net.run(CLONE_SHOWN + Duration::from_secs(5));
    assert!(net.nodes[twice].revision() > revision, "nobody asks what has not changed");
    assert!(!is_told(&mut net, twice));
}
