//! Where in etcd a network's nodes are.
//!
//! ```text
//! /cnikit/NETWORK/nodes/ID                     what a node says of itself, but its pods and subnets
//! /cnikit/NETWORK/pods/ID/CONTAINER/INTERFACE  a pod of it: a key each, so that a new pod is a small event for all others
//! /cnikit/NETWORK/subnets/PREFIX               whose the subnet is: made by a transaction, if there was none; never expires
//! /cnikit/NETWORK/ranges/ipv4, ranges/ipv6     how the range is cut: nobody claims a part who would cut it otherwise
//! /cnikit/NETWORK/alive/ID                     which run of the node's agent writes all this; under a lease
//! ```

use ipnet::IpNet;
use overlay::{NodeId, Pod};
use serde::{Deserialize, Serialize};

/// The keys of a network.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: String,
}

/// What a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Node(NodeId),
    /// Whose, and what follows in the key.
    Pod(NodeId, String),
    Subnet(IpNet),
    Range(Family),
    Alive(NodeId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(super) fn of(prefix: &IpNet) -> Self {
        if prefix.addr().is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// The value of a subnet's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) node: NodeId,
}

/// The value of a key below `alive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    /// Random, of each run of an agent.
    pub(super) instance: String,
    /// Where it runs, for people.
    #[serde(default)]
    pub(super) addresses: Vec<std::net::IpAddr>,
}

impl Layout {
    pub(super) fn new(prefix: &str, network: &str) -> Self {
        Self { root: format!("{}/{network}/", prefix.trim_end_matches('/')) }
    }

    /// What all keys begin with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn node(&self, id: &NodeId) -> String {
        format!("{}nodes/{id}", self.root)
    }

    /// What the keys of a node's pods begin with.
    pub(super) fn pods(&self, id: &NodeId) -> String {
        format!("{}pods/{id}/", self.root)
    }

    pub(super) fn subnet(&self, prefix: &IpNet) -> String {
        format!("{}subnets/{prefix}", self.root)
    }

    pub(super) fn range(&self, family: Family) -> String {
        format!("{}ranges/{}", self.root, family.name())
    }

    pub(super) fn alive(&self, id: &NodeId) -> String {
        format!("{}alive/{id}", self.root)
    }

    /// What a key is for, if it is one of ours.
    pub(super) fn parse(&self, key: &[u8]) -> Option<Key> {
        let (kind, rest) = std::str::from_utf8(key).ok()?.strip_prefix(&self.root)?.split_once('/')?;
        Some(match kind {
            "nodes" => Key::Node(rest.parse().ok()?),
            "pods" => {
                let (id, pod) = rest.split_once('/')?;
                Key::Pod(id.parse().ok()?, pod.to_owned())
            }
            "subnets" => Key::Subnet(rest.parse().ok().filter(|prefix: &IpNet| prefix.trunc() == *prefix)?),
            "ranges" if rest == "ipv4" => Key::Range(Family::Ipv4),
            "ranges" if rest == "ipv6" => Key::Range(Family::Ipv6),
            "alive" => Key::Alive(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// What the key of a pod ends with.
pub(super) fn pod_key(pod: &Pod) -> String {
    format!("{}/{}", pod.container(), pod.interface())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_made() {
        let layout = Layout::new("/cnikit/", "pods");
        let id = NodeId::from_bytes([0xab; 16]);
        let net: IpNet = "fd00:1::/64".parse().unwrap();
        let read = |key: String| layout.parse(key.as_bytes());
        assert_eq!(read(layout.node(&id)), Some(Key::Node(id)));
        assert_eq!(read(layout.pods(&id) + "c1/eth0"), Some(Key::Pod(id, "c1/eth0".to_owned())));
        assert_eq!(read(layout.subnet(&net)), Some(Key::Subnet(net)));
        assert_eq!(read(layout.range(Family::Ipv6)), Some(Key::Range(Family::Ipv6)));
        assert_eq!(read(layout.alive(&id)), Some(Key::Alive(id)));
        for foreign in
            ["", "/cnikit/pods/", "/cnikit/other/nodes/x", "nodes/x", "subnets/10.0.0.1/24", "ranges/x"]
        {
            assert_eq!(read(format!("/cnikit/pods/{foreign}")), None, "{foreign}");
        }
    }
}
