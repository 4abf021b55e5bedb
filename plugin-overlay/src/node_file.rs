//! What a node's agent tells the plugin: a small file, replaced as a whole.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_spec::NetworkName;
use ipnet::IpNet;
use plugin_kit::files;
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

impl NodeFile {
    /// The file is read no further than this. One for a hundred thousand duplicates is smaller.
    const LIMIT: u64 = 8 << 20;

    /// Where the file of a network is.
    pub fn path(directory: &Path, network: &NetworkName) -> PathBuf {
        directory.join(format!("{network}.json"))
    }

    /// Reads the file of a network. What is there need not be what an agent wrote: it is not followed if it is a symbolic
    /// link, not waited for if it is a pipe, and not read beyond its bounds.
    ///
    /// # Errors
    /// See [`NodeFileError`].
    pub fn read(directory: &Path, network: &NetworkName) -> Result<Self, NodeFileError> {
        let path = Self::path(directory, network);
        let text = files::read(&path, Self::LIMIT).map_err(|source| match source.kind() {
            ErrorKind::NotFound => NodeFileError::Missing { path: path.clone() },
            _ => NodeFileError::Io { path: path.clone(), source },
        })?;
        let wrong = |reason: String| NodeFileError::Wrong { path: path.clone(), reason };
        let mut node: Self =
            serde_json::from_slice(&text).map_err(|error| wrong(legible(&error.to_string())))?;
        node.for_each_text(|text| *text = legible(text));
        Ok(node)
    }

    /// Everything in it that people are told.
    fn for_each_text(&mut self, change: impl FnMut(&mut String)) {
        let words = [&mut self.waiting, &mut self.cut_off].into_iter().flatten();
        let others = self.duplicates.iter_mut().map(|duplicate| &mut duplicate.other);
        [&mut self.node].into_iter().chain(words).chain(others).for_each(change);
    }
}

/// As much of what somebody else wrote as people read, and nothing that moves their cursor.
fn legible(text: &str) -> String {
    const CHARACTERS: usize = 300;
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => text[..end].chars().chain(['…']).map(harmless).collect(),
        None => text.chars().map(harmless).collect(),
    }
}

/// Why a node file says nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeFileError {
    /// There is none: no agent has served the network since the node was started.
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// It could not be read.
    Io {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No agent wrote it, or one of another version.
    Wrong {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for NodeFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => {
                write!(f, "{} is not there: is the agent running (`cnikit agent`)?", path.display())
            }
            Self::Io { path, source } => write!(f, "read {}: {source}", path.display()),
            Self::Wrong { path, reason } => {
                write!(f, "{} is not as an agent writes it: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for NodeFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Missing { .. } | Self::Wrong { .. } => None,
        }
    }
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
