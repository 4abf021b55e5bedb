//! What is known of what etcd has: a topology, made of keys and kept up to date by events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use overlay::{Liveness, Node, NodeId, Pod, Subnet, SubnetState, Topology};
use serde::de::DeserializeOwned;

use super::api::{KeyValue, Number, Octets};
use super::layout::{Family, Instance, Key, Layout, Owner};

/// What is known.
#[derive(Debug)]
pub(super) struct Known {
    layout: Layout,
    nodes: BTreeMap<NodeId, Heard>,
    claims: BTreeMap<IpNet, Claim>,
    ranges: BTreeMap<Family, Vec<u8>>,
    /// Keys whose values make no sense, and why not.
    strange: BTreeMap<String, String>,
    /// In which revision this agent itself has changed a key: what the watch tells of earlier ones is no news.
    written: BTreeMap<Vec<u8>, i64>,
    topology: Topology,
    /// Nodes that the topology does not have as they are.
    stale: BTreeSet<NodeId>,
}

/// What is known of a node.
#[derive(Debug, Default)]
struct Heard {
    said: Option<Node>,
    pods: BTreeMap<String, Pod>,
    /// Its subnets, by the revision in which they became so.
    subnets: BTreeSet<(i64, IpNet)>,
    alive: Option<Vec<u8>>,
}

/// Whose a subnet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) owner: NodeId,
    pub(super) created: i64,
    pub(super) modified: i64,
}

impl Known {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            ranges: BTreeMap::new(),
            strange: BTreeMap::new(),
            written: BTreeMap::new(),
            topology: Topology::new(),
            stale: BTreeSet::new(),
        }
    }

    /// A key has a value: what was read, or an event.
    pub(super) fn put(&mut self, kv: &KeyValue) {
        if !self.is_news(&kv.key.0, kv.mod_revision.0) {
            return;
        }
        let name = String::from_utf8_lossy(&kv.key.0).into_owned();
        self.strange.remove(&name);
        if let Err(why) = self.take(kv) {
            // What it said before is gone all the same.
            self.forget_key(&kv.key.0);
            self.strange.insert(name, why);
        }
    }

    /// A key is gone.
    pub(super) fn delete(&mut self, key: &[u8], revision: i64) {
        if self.is_news(key, revision) {
            self.strange.remove(&*String::from_utf8_lossy(key));
            self.forget_key(key);
        }
    }

    /// The same, of what this agent has done itself: the watch will tell it again, and before that perhaps older things.
    pub(super) fn wrote(&mut self, key: &str, value: Option<&[u8]>, revision: i64) {
        match value {
            Some(value) => {
                let (create_revision, mod_revision) = (Number(revision), Number(revision));
                self.put(&KeyValue {
                    key: key.into(),
                    value: Octets(value.to_vec()),
                    create_revision,
                    mod_revision,
                });
            }
            None => self.delete(key.as_bytes(), revision),
        }
        self.written.insert(key.as_bytes().to_vec(), revision);
    }

    fn is_news(&mut self, key: &[u8], revision: i64) -> bool {
        match self.written.get(key) {
            Some(written) if revision < *written => false,
            Some(_) => {
                self.written.remove(key);
                true
            }
            None => true,
        }
    }

    fn take(&mut self, kv: &KeyValue) -> Result<(), String> {
        match self.layout.parse(&kv.key.0) {
            Some(Key::Node(id)) => {
                let mut node: Node = json(kv)?;
                if node.id != id {
                    return Err(format!("it says that it is node {}", node.id));
                }
                // Both have keys of their own.
                node.subnets.clear();
                node.pods.clear();
                if let Some(what) = node.take_out_nonsense() {
                    self.strange.insert(String::from_utf8_lossy(&kv.key.0).into_owned(), what);
                }
                self.heard(id).said = Some(node);
            }
            Some(Key::Pod(id, name)) => {
                let pod = json(kv)?;
                self.heard(id).pods.insert(name, pod);
            }
            Some(Key::Subnet(prefix)) => {
                let Owner { node: owner } = json(kv)?;
                self.disown(&prefix);
                let created = kv.create_revision.0;
                self.claims.insert(prefix, Claim { owner, created, modified: kv.mod_revision.0 });
                self.heard(owner).subnets.insert((created, prefix));
            }
            Some(Key::Range(family)) => {
                self.ranges.insert(family, kv.value.0.clone());
            }
            Some(Key::Alive(id)) => {
                self.heard(id).alive = Some(kv.value.0.clone());
            }
            None => return Err("it is none of cnikit's keys".to_owned()),
        }
        Ok(())
    }

    fn forget_key(&mut self, key: &[u8]) {
        match self.layout.parse(key) {
            Some(Key::Node(id)) => self.heard(id).said = None,
            Some(Key::Pod(id, name)) => {
                self.heard(id).pods.remove(&name);
            }
            Some(Key::Subnet(prefix)) => self.disown(&prefix),
            Some(Key::Range(family)) => {
                self.ranges.remove(&family);
            }
            Some(Key::Alive(id)) => self.heard(id).alive = None,
            None => {}
        }
    }

    fn disown(&mut self, prefix: &IpNet) {
        if let Some(claim) = self.claims.remove(prefix) {
            self.heard(claim.owner).subnets.remove(&(claim.created, *prefix));
        }
    }

    /// A node of which something changes.
    fn heard(&mut self, id: NodeId) -> &mut Heard {
        self.stale.insert(id);
        self.nodes.entry(id).or_default()
    }

    /// Every node that has said something of itself.
    pub(super) fn topology(&mut self) -> &Topology {
        for id in std::mem::take(&mut self.stale) {
            match self.nodes.get(&id).and_then(Heard::member) {
                Some((node, liveness)) => self.topology.insert(Arc::new(node), liveness),
                None => {
                    self.topology.remove(&id);
                }
            }
            if self.nodes.get(&id).is_some_and(Heard::is_empty) {
                self.nodes.remove(&id);
            }
        }
        &self.topology
    }

    /// What a node says of itself, without subnets and pods.
    pub(super) fn said(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)?.said.as_ref()
    }

    /// A node's pods, by what their keys end with.
    pub(super) fn pods(&self, id: &NodeId) -> impl Iterator<Item = (&String, &Pod)> {
        self.nodes.get(id).into_iter().flat_map(|heard| &heard.pods)
    }

    /// A node's subnets, in the order in which they became so.
    pub(super) fn subnets(&self, id: &NodeId) -> impl Iterator<Item = IpNet> + '_ {
        self.nodes.get(id).into_iter().flat_map(|heard| heard.subnets.iter().map(|(_, prefix)| *prefix))
    }

    /// All subnets that are somebody's.
    pub(super) fn claims(&self) -> &BTreeMap<IpNet, Claim> {
        &self.claims
    }

    /// How the range of a family is cut, as somebody wrote it.
    pub(super) fn range(&self, family: Family) -> Option<&[u8]> {
        self.ranges.get(&family).map(Vec::as_slice)
    }

    /// Which run of a node's agent is at work, as it wrote it.
    pub(super) fn alive(&self, id: &NodeId) -> Option<&[u8]> {
        self.nodes.get(id)?.alive.as_deref()
    }

    /// Keys whose values make no sense, and why not.
    pub(super) fn strange(&self) -> impl ExactSizeIterator<Item = (&String, &String)> {
        self.strange.iter()
    }
}

impl Heard {
    fn is_empty(&self) -> bool {
        self.said.is_none() && self.pods.is_empty() && self.subnets.is_empty() && self.alive.is_none()
    }

    fn member(&self) -> Option<(Node, Liveness)> {
        let mut node = self.said.clone()?;
        node.subnets = self
            .subnets
            .iter()
            .map(|(_, prefix)| Subnet { prefix: *prefix, state: SubnetState::Held })
            .collect();
        node.pods = self.pods.values().cloned().collect();
        Some((node, if self.alive.is_some() { Liveness::Alive } else { Liveness::Down }))
    }
}

/// Which run of an agent wrote a key below `alive`.
pub(super) fn instance(value: &[u8]) -> Option<Instance> {
    serde_json::from_slice(value).ok()
}

fn json<T: DeserializeOwned>(kv: &KeyValue) -> Result<T, String> {
    serde_json::from_slice(&kv.value.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: NodeId = NodeId::from_bytes([1; 16]);

    fn kv(key: &str, value: &str, revision: i64) -> KeyValue {
        let (create_revision, mod_revision) = (Number(revision), Number(revision));
        KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision }
    }

    fn known() -> Known {
        Known::new(Layout::new("/c", "n"))
    }

    fn node(known: &mut Known) -> Option<(Vec<String>, usize, Liveness)> {
        let member = known.topology().get(&ID)?;
        let subnets = member.node.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
        Some((subnets, member.node.pods.len(), member.liveness))
    }

    #[test]
    fn a_node_is_put_together_from_its_keys_in_any_order() {
        let said =
            format!(r#"{{"id":"{ID}","name":"n1","mtu":1500,"pods":[{{"container":"x","interface":"y"}}]}}"#);
        let keys = [
            kv(&format!("/c/n/nodes/{ID}"), &said, 9),
            kv(&format!("/c/n/pods/{ID}/c/eth0"), r#"{"container":"c","interface":"eth0"}"#, 8),
            kv("/c/n/subnets/10.0.2.0/24", &format!(r#"{{"node":"{ID}"}}"#), 5),
            kv("/c/n/subnets/10.0.1.0/24", &format!(r#"{{"node":"{ID}"}}"#), 6),
            kv(&format!("/c/n/alive/{ID}"), "{}", 7),
        ];
        let whole = Some((vec!["10.0.2.0/24".to_owned(), "10.0.1.0/24".to_owned()], 1, Liveness::Alive));
        for first in 0..keys.len() {
            let mut known = known();
            for at in 0..keys.len() {
                known.put(&keys[(first + at) % keys.len()]);
                known.topology();
            }
            assert_eq!(node(&mut known), whole);
            for key in &keys {
                known.delete(&key.key.0, 10);
                known.topology();
            }
            assert_eq!((node(&mut known), known.nodes.len(), known.claims.len()), (None, 0, 0));
        }
    }

    #[test]
    fn what_this_agent_wrote_is_not_undone_by_older_events() {
        let (mut known, key) = (known(), format!("/c/n/nodes/{ID}"));
        let said = |mtu: u32| format!(r#"{{"id":"{ID}","name":"n1","mtu":{mtu}}}"#);
        let mtu = |known: &Known| known.said(&ID).map(|node| node.mtu);
        known.wrote(&key, Some(said(1).as_bytes()), 5);
        known.wrote(&key, Some(said(2).as_bytes()), 7);
        known.put(&kv(&key, &said(1), 5));
        assert_eq!(mtu(&known), Some(2));
        known.put(&kv(&key, &said(2), 7));
        known.put(&kv(&key, &said(3), 8));
        assert_eq!(mtu(&known), Some(3));
        known.wrote(&key, None, 9);
        known.put(&kv(&key, &said(4), 8));
        assert_eq!(mtu(&known), None);
    }

    #[test]
    fn a_subnet_that_changes_hands_leaves_the_first() {
        let (mut known, other) = (known(), NodeId::from_bytes([2; 16]));
        known.put(&kv("/c/n/subnets/10.0.2.0/24", &format!(r#"{{"node":"{ID}"}}"#), 5));
        known.put(&kv("/c/n/subnets/10.0.2.0/24", &format!(r#"{{"node":"{other}"}}"#), 6));
        assert_eq!((known.subnets(&ID).count(), known.subnets(&other).count()), (0, 1));
        known.put(&kv("/c/n/subnets/10.0.2.0/24", "nonsense", 7));
        assert_eq!((known.subnets(&other).count(), known.claims().len(), known.strange().len()), (0, 0, 1));
    }
}
