//! Who has which addresses: where each packet among pods must go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::id::NodeId;
use crate::node::Node;
use crate::pool::Pool;
use crate::topology::Topology;

/// Who has which addresses, as routes have it: of two prefixes that contain an address, the longer one counts.
///
/// Every node finds the same, but for itself: what its own pods have never leaves it. Of several nodes that hold one prefix
/// the lowest id has it. A pod whose address lies in what another node has is reached by a route of its own. Of several pods
/// with one address the one of the prefix's owner is reached, else that of the lowest id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Owners {
    /// By prefix.
    pub(super) subnets: BTreeMap<IpNet, NodeId>,
    /// Pods elsewhere than in their owner's prefixes.
    pub(super) strays: BTreeMap<IpAddr, NodeId>,
    /// Who has a prefix for all others, where this node is another one that holds it.
    elected: BTreeMap<IpNet, NodeId>,
    /// The lengths that prefixes have, the longest first.
    lengths: Vec<u8>,
    /// What nodes say of addresses that are not the cluster's.
    pub(super) foreign: Vec<(NodeId, IpNet)>,
}

impl Owners {
    pub(super) fn of(own: &Node, topology: &Topology, pool: &Pool) -> Self {
        let mut owners = Self::default();
        let peers = || topology.peers(&own.id).map(|member| &*member.node);
        for node in [own].into_iter().chain(peers()) {
            for prefix in node.held() {
                if !pool.holds(&prefix) {
                    owners.foreign.push((node.id, prefix));
                    continue;
                }
                // The node itself comes first, others by their ids.
                let owner = *owners.subnets.entry(prefix.trunc()).or_insert(node.id);
                if owner == own.id && node.id < own.id {
                    owners.elected.entry(prefix.trunc()).or_insert(node.id);
                }
            }
        }
        let lengths: BTreeSet<u8> = owners.subnets.keys().map(IpNet::prefix_len).collect();
        owners.lengths = lengths.into_iter().rev().collect();

        let inside = |address: &IpAddr| pool.range_of(*address).is_some();
        for node in [own].into_iter().chain(peers()) {
            for address in addresses(node).filter(inside) {
                if owners.by_subnet(address) != Some(node.id) {
                    owners.strays.entry(address).or_insert(node.id);
                }
            }
        }
        owners.settle_duplicates(own, topology);
        owners
    }

    /// A stray's address may be a pod's where its prefix leads, too: that one has it then, unless the stray is our own. Where we
    /// hold the prefix as well, that may be where it leads all others: so it must lead us there too.
    fn settle_duplicates(&mut self, own: &Node, topology: &Topology) {
        let mut suspects: BTreeMap<NodeId, Vec<IpAddr>> = BTreeMap::new();
        for (address, stray) in &self.strays {
            let Some(prefix) = self.longest_prefix(*address) else { continue };
            let owners = [self.subnets.get(&prefix), self.elected.get(&prefix)].into_iter().flatten();
            for owner in owners.copied().filter(|owner| owner != stray && *stray != own.id) {
                suspects.entry(owner).or_default().push(*address);
            }
        }
        let mut settled = BTreeMap::new();
        for (owner, suspects) in suspects {
            let node =
                if owner == own.id { Some(own) } else { topology.get(&owner).map(|member| &*member.node) };
            let held: BTreeSet<IpAddr> = node.into_iter().flat_map(addresses).collect();
            for address in suspects.into_iter().filter(|address| held.contains(address)) {
                // What is in its own node's prefix here needs no route of its own.
                if self.by_subnet(address) == Some(owner) {
                    settled.insert(address, None);
                } else {
                    settled.entry(address).or_insert(Some(owner));
                }
            }
        }
        for (address, owner) in settled {
            match owner {
                Some(owner) => drop(self.strays.insert(address, owner)),
                None => drop(self.strays.remove(&address)),
            }
        }
    }

    /// Who holds the longest prefix that an address is in.
    pub(super) fn by_subnet(&self, address: IpAddr) -> Option<NodeId> {
        self.subnets.get(&self.longest_prefix(address)?).copied()
    }

    fn longest_prefix(&self, address: IpAddr) -> Option<IpNet> {
        let prefix = |length: &u8| Some(IpNet::new(address, *length).ok()?.trunc());
        self.lengths.iter().filter_map(prefix).find(|prefix| self.subnets.contains_key(prefix))
    }

    /// Who has the longest prefix that contains another one, and is not it.
    pub(super) fn around(&self, prefix: &IpNet) -> Option<NodeId> {
        let shorter = self.lengths.iter().filter(|length| **length < prefix.prefix_len());
        let covering =
            |length: &u8| self.subnets.get(&IpNet::new(prefix.addr(), *length).ok()?.trunc()).copied();
        shorter.into_iter().find_map(covering)
    }

    /// All of it as routes' destinations.
    pub(super) fn destinations(&self) -> impl Iterator<Item = (IpNet, NodeId)> + '_ {
        let subnets = self.subnets.iter().map(|(prefix, id)| (*prefix, *id));
        subnets.chain(self.strays.iter().map(|(address, id)| (IpNet::from(*address), *id)))
    }
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
    node.pods.iter().flat_map(|pod| pod.addresses().iter().copied())
}
