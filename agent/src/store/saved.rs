//! What a store that has servers remembers without them: a node that starts while they are down gives its pods addresses
//! of the subnets that it has, and keeps the routes to the peers that it knew.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use overlay::report::{Problem, Severity};
use overlay::{Liveness, Local, Node, NodeId, Pod, Subnet, SubnetState, Topology};
use plugin_kit::files::{self, Durability};
use serde::{Deserialize, Serialize};

/// The largest file that is read, in bytes: a thousand nodes take a third of a MiB.
const LARGEST: u64 = 64 << 20;

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    /// Whose it is: another node's is of no use.
    pub(super) node: NodeId,
    /// What the agent called its run, so that the next knows the last for its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    /// The node's own subnets.
    pub(super) subnets: Vec<Subnet>,
    /// The others, with those of their pods only that take routes of their own.
    pub(super) nodes: Vec<Node>,
}

impl Saved {
    /// Of a node about which nothing is remembered.
    pub(super) fn nothing(node: NodeId) -> Self {
        Self { node, instance: None, subnets: Vec::new(), nodes: Vec::new() }
    }

    /// Of a topology all but one node.
    pub(super) fn peers(topology: &Topology, of: &NodeId) -> Vec<Node> {
        topology.peers(of).map(|member| without_settled_pods(&member.node)).collect()
    }

    /// The nodes, of which nobody knows how they are now.
    pub(super) fn topology(&self) -> Topology {
        let mut topology = Topology::new();
        for node in &self.nodes {
            topology.insert(std::sync::Arc::new(node.clone()), Liveness::Unknown);
        }
        topology
    }
}

fn without_settled_pods(node: &Node) -> Node {
    let held: Vec<_> = node.held().collect();
    let strays =
        |pod: &&Pod| pod.addresses().iter().any(|address| !held.iter().any(|net| net.contains(address)));
    let pods = node.pods.iter().filter(strays).cloned().collect();
    let Node { id, role, mode, tunnel, mtu, machine, .. } = *node;
    let (name, addresses, subnets) = (node.name.clone(), node.addresses.clone(), node.subnets.clone());
    Node { id, name, addresses, subnets, role, mode, tunnel, mtu, machine, pods }
}

/// The subnets of a node that holds some: those, and of the ones that it had before each in which a pod still has an address.
pub(super) fn held_and_lost(held: Vec<IpNet>, before: &[Subnet], local: &Local) -> Vec<Subnet> {
    let in_use =
        |prefix: &IpNet| local.pods.iter().flat_map(Pod::addresses).any(|address| prefix.contains(address));
    let is_lost = |subnet: &&Subnet| !held.contains(&subnet.prefix) && in_use(&subnet.prefix);
    let lost = before.iter().filter(is_lost).map(|subnet| Subnet { state: SubnetState::Lost, ..*subnet });
    let held = held.iter().map(|prefix| Subnet { prefix: *prefix, state: SubnetState::Held });
    held.chain(lost).collect()
}

/// What is remembered, and the file.
#[derive(Debug)]
pub(super) struct Memory {
    file: SavedFile,
    saved: Saved,
    damaged: Option<String>,
}

impl Memory {
    /// What a file has of a node.
    pub(super) fn of(file: SavedFile, node: NodeId) -> Self {
        match file.load(node) {
            Ok(saved) => Self { file, saved, damaged: None },
            Err(why) => Self { file, saved: Saved::nothing(node), damaged: Some(why) },
        }
    }

    pub(super) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Brings the file up to date: the node's own subnets always, as pods are about to have addresses of them; peers if
    /// they are given.
    pub(super) fn keep(&mut self, subnets: Vec<Subnet>, instance: Option<String>, nodes: Option<Vec<Node>>) {
        let saved = &mut self.saved;
        let differs = saved.subnets != subnets
            || saved.instance != instance
            || nodes.as_ref().is_some_and(|nodes| *nodes != saved.nodes);
        if differs || self.damaged.is_some() {
            saved.subnets = subnets;
            saved.instance = instance;
            saved.nodes = nodes.unwrap_or_else(|| std::mem::take(&mut saved.nodes));
            self.damaged = self.file.save(saved).err();
        }
    }

    /// Why what is on disk is not used, or nothing is there.
    pub(super) fn problem(&self) -> Option<Problem> {
        let advice = "until it can be used, a start of the agent needs the servers".to_owned();
        self.damaged.clone().map(|what| Problem { severity: Severity::Warning, what, advice })
    }
}

/// Whether a text may be part of a file's name and of a key: the specification's own rule for a network's name.
pub(super) fn check_network(name: &str) -> Result<(), String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.len() > 200
        || !name.starts_with(|first: char| first.is_ascii_alphanumeric())
        || !name.bytes().all(is_fine)
    {
        return Err(format!(
            "\"{}\" is no name of a network: letters, digits, '_', '.' and '-'",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// The file.
#[derive(Debug)]
pub(super) struct SavedFile {
    path: PathBuf,
}

impl SavedFile {
    /// Of a store of a network, in the agent's state directory: `etcd-NETWORK.json`.
    pub(super) fn new(state: &Path, kind: &str, network: &str) -> Self {
        Self { path: state.join(format!("{kind}-{network}.json")) }
    }

    /// What is remembered of a node; nothing if the file is missing, or another node's.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub(super) fn load(&self, node: NodeId) -> Result<Saved, String> {
        let named = |error: &dyn std::fmt::Display| {
            format!(
                "{}: {error}: what it remembers is not used; remove it if it is damaged",
                self.path.display()
            )
        };
        let text = match files::read(&self.path, LARGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Saved::nothing(node)),
            Err(error) => return Err(named(&error)),
        };
        let saved: Saved = serde_json::from_slice(&text).map_err(|error| named(&error))?;
        Ok(if saved.node == node { saved } else { Saved::nothing(node) })
    }

    /// Replaces the file as a whole. It is on disk when this returns.
    ///
    /// # Errors
    /// It could not be written.
    pub(super) fn save(&self, saved: &Saved) -> Result<(), String> {
        self.replace(saved).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn replace(&self, saved: &Saved) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            files::make_directory(directory, 0o700)?;
        }
        files::replace(&self.path, &serde_json::to_vec(saved)?, 0o600, Durability::Disk)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_saved_is_for_that_node_and_for_root_only() {
        let state = tempfile::tempdir().unwrap();
        let file = SavedFile::new(&state.path().join("made"), "etcd", "pods");
        let (one, other) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        assert_eq!(file.load(one), Ok(Saved::nothing(one)));
        let subnet = Subnet { prefix: "10.244.1.0/24".parse().unwrap(), state: SubnetState::Held };
        let saved = Saved { subnets: vec![subnet], instance: Some("a".to_owned()), ..Saved::nothing(one) };
        file.save(&saved).unwrap();
        file.save(&saved).unwrap();
        assert_eq!(file.load(one), Ok(saved));
        assert_eq!(file.load(other), Ok(Saved::nothing(other)));
        let path = state.path().join("made/etcd-pods.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "{").unwrap();
        assert!(file.load(one).unwrap_err().contains("etcd-pods.json"));
    }
}
