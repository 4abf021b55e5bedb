//! What a node's agent tells the plugin: a small file, replaced as a whole.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where an agent writes it for a network: `/run/cnikit/NETWORK.json`. In `/run`: after a reboot nothing is known until the
/// agent has looked again.
pub const DIRECTORY: &str = "/run/cnikit";

/// What a node's agent tells the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFile {
    /// The node's id, as text.
    pub node: String,
    /// The interface that pods are plugged into.
    pub bridge: String,
    /// MTU in bytes of the pods' interfaces.
    pub mtu: u32,
    /// The subnets that new pods get addresses of, at most one of each family first; empty while there is none.
    pub subnets: Vec<Assigned>,
    /// The ranges of all nodes' pods.
    pub cluster: Vec<IpNet>,
    /// Why there is no subnet, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Why other nodes cannot be reached, if they cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<String>,
    /// Addresses of pods here that pods elsewhere have too, with words for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<Duplicate>,
}

/// A subnet for new pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assigned {
    /// The prefix.
    pub subnet: IpNet,
    /// The bridge's address in it, which pods send to what is elsewhere: not a pod's.
    pub gateway: IpAddr,
    /// Where allocation begins, if none was made before: somewhere that other nodes do not.
    pub first: IpAddr,
}

/// An address that two pods of the network have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Duplicate {
    /// The address.
    pub address: IpAddr,
    /// Whose else it is: `pod default/web-1 on node n3`.
    pub other: String,
}
