//! What must be so after every step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ipnet::IpNet;
use overlay::{Subnet, SubnetState};

use crate::World;
use crate::machine::Traffic;
use crate::network::Network;

/// How long after a reason for it two nodes may still hold one prefix: news of it have to get around, and a node that is down for
/// its neighbours has to be found again.
const RESOLVED: Duration = Duration::from_secs(60);
/// So many of a thousand datagrams are lost that two nodes may not hear of one another in time.
const MUCH: u32 = 200;
/// Windows in which traffic is counted.
const WINDOW: Duration = Duration::from_secs(10);

/// What must be so after every step.
#[derive(Debug)]
pub struct Check {
    holders: HashMap<IpNet, BTreeSet<usize>>,
    held: BTreeMap<usize, Vec<IpNet>>,
    /// When there was last a reason why two nodes may not have known of one another, and which.
    excused: Option<(Duration, &'static str)>,
    /// Bytes of a node in a second, on average over ten, at most.
    pub limit: u64,
    windows: HashMap<usize, (Duration, u64)>,
    /// The most that was.
    pub most: u64,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            holders: HashMap::new(),
            held: BTreeMap::new(),
            excused: None,
            limit: 1_000_000,
            windows: HashMap::new(),
            most: 0,
        }
    }
}

impl Check {
    /// There is a reason why two nodes may hold one prefix for a while.
    pub fn excuse(&mut self, now: Duration, why: &'static str) {
        self.excused = Some((now, why));
    }

    /// What the network is like: one that keeps nodes from hearing one another is a reason.
    pub(crate) fn network(&mut self, network: &Network, now: Duration) {
        if !network.is_whole() {
            self.excuse(now, "the network was not whole");
        } else if network.loss >= MUCH {
            self.excuse(now, "the network lost much");
        }
    }

    /// A node's subnets: no prefix is held twice, unless there is a reason.
    pub(crate) fn subnets(&mut self, n: usize, subnets: &[Subnet], now: Duration) {
        let held = subnets.iter().filter(|subnet| subnet.state == SubnetState::Held);
        let held: Vec<IpNet> = held.map(|subnet| subnet.prefix).collect();
        let before = self.held.insert(n, held.clone()).unwrap_or_default();
        for prefix in before.iter().filter(|prefix| !held.contains(prefix)) {
            if let Some(holders) = self.holders.get_mut(prefix) {
                holders.remove(&n);
            }
        }
        for prefix in held.iter().filter(|prefix| !before.contains(prefix)) {
            let holders = self.holders.entry(*prefix).or_default();
            holders.insert(n);
            let is_excused = self.excused.is_some_and(|(when, _)| now < when + RESOLVED);
            assert!(
                holders.len() == 1 || is_excused,
                "{prefix} is held by {holders:?} at {now:?}; the last reason for that was {:?}",
                self.excused
            );
        }
    }

    /// Prefixes that are held twice.
    pub fn disputed(&self) -> Vec<IpNet> {
        self.holders.iter().filter(|(_, holders)| holders.len() > 1).map(|(prefix, _)| *prefix).collect()
    }

    pub(crate) fn traffic(&mut self, n: usize, traffic: Traffic, now: Duration) {
        let window = self.windows.entry(n).or_insert((now, traffic.bytes));
        if now >= window.0 + WINDOW {
            let rate = (traffic.bytes - window.1) * 1000
                / u64::try_from((now - window.0).as_millis()).unwrap().max(1);
            assert!(rate <= self.limit, "node {n} sends {rate} bytes a second at {now:?}");
            self.most = self.most.max(rate);
            *window = (now, traffic.bytes);
        }
    }
}

impl World {
    /// Everybody that runs knows everybody that runs, as they are; no prefix is disputed; everybody has a subnet.
    pub fn is_settled(&mut self) -> bool {
        self.check.disputed().is_empty() && self.everybody_has_a_subnet() && self.everybody_knows_everybody()
    }

    /// Everybody that runs has a subnet.
    pub fn everybody_has_a_subnet(&self) -> bool {
        self.machines
            .iter()
            .filter_map(|machine| machine.mesh.as_ref())
            .all(|mesh| mesh.subnets().iter().any(|subnet| subnet.state == SubnetState::Held))
    }

    /// Everybody that runs knows everybody that runs, as they are.
    pub fn everybody_knows_everybody(&self) -> bool {
        let alive: Vec<_> = self
            .machines
            .iter()
            .filter_map(|machine| Some((machine.mesh.as_ref()?, &machine.local)))
            .collect();
        let truths: Vec<_> = alive.iter().map(|(mesh, local)| local.with_subnets(mesh.subnets())).collect();
        alive.iter().all(|(mesh, own)| {
            truths.iter().filter(|node| node.id != own.id).all(|node| {
                mesh.topology().get(&node.id).is_some_and(|member| {
                    let known = &member.node;
                    known.subnets == node.subnets
                        && known.name == node.name
                        && known.pods.len() == node.pods.len()
                        && node.pods.iter().all(|pod| known.pods.contains(pod))
                })
            })
        })
    }

    /// How many nodes know a pod of another one.
    pub fn who_know(&self, owner: usize, container: &str) -> usize {
        let id = self.machines[owner].local.id;
        let meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        let knows = |mesh: &&overlay::Mesh| {
            let node = mesh.topology().get(&id).map(|member| &member.node);
            node.is_some_and(|node| node.pods.iter().any(|pod| pod.container == container))
        };
        meshes.filter(knows).count()
    }

    /// Who is known to others says what it has said itself: looked at for one pair of nodes.
    pub fn check_pair(&self, observer: usize, subject: usize) {
        let (Some(mesh), subject) = (&self.machines[observer].mesh, &self.machines[subject]) else { return };
        let Some(member) = mesh.topology().get(&subject.local.id) else { return };
        assert_eq!(member.node.name, subject.local.name);
        let own = format!("{:032x}", subject.local.id.spread());
        assert!(member.node.pods.iter().all(|pod| pod.container.starts_with(&own)), "{:?}", member.node);
    }
}
