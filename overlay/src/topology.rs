//! Every node that is known, and how each is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::node::{Node, Role};
use crate::pod::Pod;

/// Every node that is known, this one included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    members: BTreeMap<NodeId, Member>,
}

/// A node, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it says of itself.
    pub node: Arc<Node>,
    /// How it is, as seen from here.
    pub liveness: Liveness,
    /// Which life of its this is, if the store counts them: one more each time that its agent starts.
    pub incarnation: Option<NonZero<u32>>,
}

/// How a node is, as seen from here. It decides nothing about routes: those to a node that does not answer stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Liveness {
    /// It answers, or the store says so.
    Alive,
    /// It has not answered for a moment.
    Suspect,
    /// It has not answered for long.
    Down,
    /// The store does not say.
    #[default]
    Unknown,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Unknown => "unknown",
        })
    }
}

/// Nodes that say something that only one can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Conflict {
    /// Subnets that both hold, and that overlap.
    #[serde(rename_all = "camelCase")]
    Subnet {
        /// The one's.
        first: (NodeId, IpNet),
        /// The other's.
        second: (NodeId, IpNet),
    },
    /// An address that pods of both have: packets reach one of them only.
    #[serde(rename_all = "camelCase")]
    Address {
        /// The address.
        address: IpAddr,
        /// The one's pod.
        first: (NodeId, Box<Pod>),
        /// The other's.
        second: (NodeId, Box<Pod>),
    },
    /// What each machine must have alone, and several nodes have that are alive.
    #[serde(rename_all = "camelCase")]
    Identity {
        /// What they have.
        what: Identity,
        /// Who has it.
        nodes: Vec<NodeId>,
    },
}

/// What each machine must have alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Identity {
    /// The node's name.
    Name,
    /// machine-id(5).
    MachineId,
    /// The MAC address of the interface that leads to other nodes.
    Mac,
}

/// More nodes than this that share something are counted, not named.
const MAX_NAMED: usize = 6;

impl Identity {
    /// Who has it, in words, given what nodes are called: `n1, n2 have one machine id`.
    pub fn told(self, nodes: &[NodeId], name: impl Fn(&NodeId) -> String) -> String {
        let listed = |name: &dyn Fn(&NodeId) -> String| {
            let mut listed: Vec<String> = nodes.iter().map(name).collect();
            listed.sort();
            let more = listed.split_off(MAX_NAMED.min(listed.len())).len();
            listed.extend((more > 0).then(|| format!("{more} more")));
            listed.join(", ")
        };
        match self {
            Self::Name => {
                let name = nodes.first().map(name).unwrap_or_default();
                format!("{} nodes are called {name}: {}", nodes.len(), listed(&ToString::to_string))
            }
            Self::MachineId => format!("{} have one machine id", listed(&name)),
            Self::Mac => format!("{} have one MAC address", listed(&name)),
        }
    }
}

impl Topology {
    /// Of nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a node in, or what is newer about it.
    pub fn insert(&mut self, node: Arc<Node>, liveness: Liveness) {
        self.members.insert(node.id, Member { node, liveness, incarnation: None });
    }

    /// A node, to be changed.
    pub(crate) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// Takes a node out.
    pub fn remove(&mut self, id: &NodeId) -> Option<Member> {
        self.members.remove(id)
    }

    /// A node.
    pub fn get(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id)
    }

    /// All nodes, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// All nodes but one.
    pub fn peers<'a>(&'a self, of: &'a NodeId) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |member| member.node.id != *of)
    }

    /// The router of the nodes in mode `router`: of several, the one with the lowest id.
    pub fn router(&self) -> Option<&Member> {
        self.members.values().find(|member| member.node.role == Role::Router)
    }

    /// The nodes of a name: more than one while a node that was replaced is still known.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |member| member.node.name.as_str() == name)
    }

    /// The node, and the pod if it is one's, that packets to an address go to. A pod's own address comes before the subnet
    /// that it is in, as the longer prefix does in the kernel.
    pub fn locate(&self, address: IpAddr) -> Option<(&Member, Option<&Pod>)> {
        let pod_of = |member: &Member| {
            let pods = member.node.pods.iter();
            pods.clone().position(|pod| pod.addresses().contains(&address))
        };
        let by_pod = self.members.values().find_map(|member| Some((member, pod_of(member)?)));
        let by_subnet =
            || self.members.values().find(|member| member.node.held().any(|net| net.contains(&address)));
        let by_address = || self.members.values().find(|member| member.node.addresses.contains(&address));
        match by_pod {
            Some((member, at)) => Some((member, member.node.pods.get(at))),
            None => by_subnet().or_else(by_address).map(|member| (member, None)),
        }
    }

    /// What two nodes say that only one can, each pair once.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let mut found = self.subnet_conflicts();
        let mut owners: BTreeMap<IpAddr, (NodeId, &Pod)> = BTreeMap::new();
        for member in self.members.values() {
            for (address, pod) in member
                .node
                .pods
                .iter()
                .flat_map(|pod| pod.addresses().iter().map(move |address| (*address, pod)))
            {
                match owners.get(&address) {
                    Some((id, other)) if *id != member.node.id => found.push(Conflict::Address {
                        address,
                        first: (*id, Box::new((*other).clone())),
                        second: (member.node.id, Box::new(pod.clone())),
                    }),
                    _ => {
                        owners.insert(address, (member.node.id, pod));
                    }
                }
            }
        }
        found.extend(self.shared(Identity::Name, |node| Some(&node.name)));
        found.extend(self.shared(Identity::MachineId, |node| node.machine.id));
        found.extend(self.shared(Identity::Mac, |node| node.machine.mac));
        found
    }

    /// What several nodes have, of those that are alive: one that was replaced is not.
    fn shared<'a, T: Ord>(
        &'a self,
        what: Identity,
        of: impl Fn(&'a Node) -> Option<T>,
    ) -> impl Iterator<Item = Conflict> {
        let mut owners: BTreeMap<T, Vec<&Node>> = BTreeMap::new();
        for member in self.members.values().filter(|member| member.liveness == Liveness::Alive) {
            if let Some(it) = of(&member.node) {
                owners.entry(it).or_default().push(&member.node);
            }
        }
        // Nodes in namespaces of one machine share what is the machine's.
        let are_apart = move |pair: &[&Node]| what == Identity::Name || !pair[0].machine.is(&pair[1].machine);
        owners
            .into_values()
            .filter(move |nodes| nodes.windows(2).any(are_apart))
            .map(move |nodes| Conflict::Identity { what, nodes: nodes.iter().map(|node| node.id).collect() })
    }

    /// Sorted by where they begin, prefixes that overlap follow one another: a prefix contains the next, or none.
    fn subnet_conflicts(&self) -> Vec<Conflict> {
        let held =
            self.members.values().flat_map(|member| member.node.held().map(|net| (net, member.node.id)));
        let mut held: Vec<(IpNet, NodeId)> = held.collect();
        held.sort_by_key(|(net, id)| (net.network(), net.prefix_len(), *id));
        let mut found = Vec::new();
        // Those that contain where we are.
        let mut open: Vec<(IpNet, NodeId)> = Vec::new();
        for (net, id) in held {
            open.retain(|(outer, _)| outer.contains(&net));
            for (outer, other) in &open {
                if *other != id {
                    found.push(Conflict::Subnet { first: (*other, *outer), second: (id, net) });
                }
            }
            open.push((net, id));
        }
        found
    }
}

impl FromIterator<Node> for Topology {
    fn from_iter<T: IntoIterator<Item = Node>>(nodes: T) -> Self {
        let mut topology = Self::new();
        for node in nodes {
            topology.insert(Arc::new(node), Liveness::Unknown);
        }
        topology
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeName;
    use crate::machine::{Fingerprint, Machine};
    use crate::node::{Mode, Subnet, SubnetState};

    fn node(n: u8, prefix: &str, pods: &[&str]) -> Node {
        let pod = |address: &&str| Pod::new(&format!("c{address}"), "eth0", [address.parse().unwrap()]);
        Node {
            id: NodeId::from_bytes([n; 16]),
            name: NodeName::new(&format!("n{n}")).unwrap(),
            addresses: vec![IpAddr::from([192, 168, 1, n])],
            subnets: vec![Subnet { prefix: prefix.parse().unwrap(), state: SubnetState::Held }],
            role: Role::Worker,
            mode: Mode::Auto,
            tunnel: None,
            mtu: 1500,
            machine: Machine::default(),
            pods: pods.iter().map(pod).collect(),
        }
    }

    #[test]
    fn overlaps_are_found_whatever_lies_between() {
        let topology: Topology = [
            node(1, "10.244.0.0/16", &[]),
            node(2, "10.244.1.0/24", &[]),
            node(3, "10.244.1.0/24", &[]),
            node(4, "10.245.0.0/24", &[]),
        ]
        .into_iter()
        .collect();
        let pairs: Vec<_> = topology
            .conflicts()
            .into_iter()
            .map(|conflict| match conflict {
                Conflict::Subnet { first, second } => (first.0.as_bytes()[0], second.0.as_bytes()[0]),
                Conflict::Address { .. } | Conflict::Identity { .. } => (0, 0),
            })
            .collect();
        assert_eq!(pairs, [(1, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn an_address_twice_is_reported_with_both_pods() {
        let topology: Topology = [
            node(1, "10.244.1.0/24", &["10.244.1.5"]),
            node(2, "10.244.2.0/24", &["10.244.1.5", "10.244.2.9"]),
        ]
        .into_iter()
        .collect();
        let conflicts = topology.conflicts();
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert!(
            matches!(&conflicts[0], Conflict::Address { address, .. } if address.to_string() == "10.244.1.5")
        );
    }

    #[test]
    fn what_a_machine_must_have_alone_is_reported_with_all_who_have_it() {
        let on = |n: u8, boot: u8| {
            let mut node = node(n, &format!("10.244.{n}.0/24"), &[]);
            node.machine.id = Some(Fingerprint::from_bytes([7; 8]));
            node.machine.boot = (boot > 0).then_some(Fingerprint::from_bytes([boot; 8]));
            node
        };
        let conflicts = |nodes: &[Node], liveness| {
            let mut topology = Topology::new();
            nodes.iter().for_each(|node| topology.insert(Arc::new(node.clone()), liveness));
            topology.conflicts()
        };
        let told = |what, numbers: &[u8]| {
            let nodes = numbers.iter().map(|n| NodeId::from_bytes([*n; 16])).collect();
            vec![Conflict::Identity { what, nodes }]
        };
        let alive = Liveness::Alive;
        assert_eq!(conflicts(&[on(1, 1), on(2, 2)], alive), told(Identity::MachineId, &[1, 2]));
        assert_eq!(conflicts(&[on(1, 0), on(2, 0)], alive), told(Identity::MachineId, &[1, 2]));
        assert_eq!(conflicts(&[on(1, 1), on(2, 1), on(3, 2)], alive), told(Identity::MachineId, &[1, 2, 3]));
        assert_eq!(conflicts(&[on(1, 1), on(2, 1)], alive), [], "namespaces of one machine");
        assert_eq!(conflicts(&[on(1, 1), on(2, 2)], Liveness::Down), [], "one that was replaced");

        let [mut one, mut other] = [node(1, "10.244.1.0/24", &[]), node(2, "10.244.2.0/24", &[])];
        assert_eq!(conflicts(&[one.clone(), other.clone()], alive), [], "nobody knows");
        one.machine.mac = Some(netops::MacAddr::new([2, 0, 0, 0, 0, 1]));
        other.machine.mac = one.machine.mac;
        assert_eq!(conflicts(&[one.clone(), other.clone()], alive), told(Identity::Mac, &[1, 2]));
        other.machine.mac = None;
        other.name = one.name.clone();
        assert_eq!(conflicts(&[one, other], alive), told(Identity::Name, &[1, 2]));
    }

    #[test]
    fn who_shares_something_is_named_unless_they_are_many() {
        let ids: Vec<_> = (1..=9).map(|n| NodeId::from_bytes([n; 16])).collect();
        let name = |id: &NodeId| format!("n{}", id.as_bytes()[0]);
        assert_eq!(Identity::Mac.told(&[ids[1], ids[0]], name), "n1, n2 have one MAC address");
        assert_eq!(
            Identity::MachineId.told(&ids, name),
            "n1, n2, n3, n4, n5, n6, 3 more have one machine id"
        );
        assert_eq!(
            Identity::Name.told(&ids[..2], |_| "n1".to_owned()),
            format!("2 nodes are called n1: {}, {}", "01".repeat(16), "02".repeat(16))
        );
    }

    #[test]
    fn a_stray_pod_is_found_before_the_subnet_it_is_in() {
        let topology: Topology =
            [node(1, "10.244.1.0/24", &[]), node(2, "10.244.2.0/24", &["10.244.1.5"])].into_iter().collect();
        let found = |text: &str| {
            let (member, pod) = topology.locate(text.parse().unwrap())?;
            Some((member.node.name.to_string(), pod.is_some()))
        };
        assert_eq!(found("10.244.1.5"), Some(("n2".to_owned(), true)));
        assert_eq!(found("10.244.1.6"), Some(("n1".to_owned(), false)));
        assert_eq!(found("192.168.1.2"), Some(("n2".to_owned(), false)));
        assert_eq!(found("10.9.9.9"), None);
        let strays: Vec<_> = topology.members().flat_map(|member| member.node.stray_addresses()).collect();
        assert_eq!(strays, ["10.244.1.5".parse::<IpAddr>().unwrap()]);
    }
}
