//! What the plugin and the daemon say to one another through the daemon's socket: a [`Call`] on a line, and an
//! [`Answer`] on a line. JSON, so that a person can take part: `echo '{"command": "STATUS"}' | nc -U /run/cni/dhcp.sock`.
//!
//! An `ADD` ends when the connection does: a plugin that is killed takes what it was waiting for along.

use std::path::{Path, PathBuf};

use cni_spec::plugin::Request;
use cni_spec::{ContainerId, Error, IfName, NetworkConfig, NetworkName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where the daemon listens unless it is told otherwise: the reference's place.
pub const DEFAULT_SOCKET: &str = "/run/cni/dhcp.sock";

/// More bytes than a call, or an answer, can have: both contain a configuration at most, which runtimes keep small.
pub const MAX_BYTES: usize = 1 << 20;

/// What is asked of the daemon: the specification's commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "UPPERCASE")]
pub enum Call {
    /// Acquire addresses, and keep them.
    Add(Subject),
    /// Say whether they are still there.
    Check(Subject),
    /// Give them back.
    Del(Subject),
    /// Give back what belongs to no valid attachment of the network.
    Gc {
        /// The configuration, with the valid attachments in it.
        config: Map<String, Value>,
    },
    /// Say whether an `ADD` could be served.
    Status,
}

impl Call {
    /// The attachment that it is about, without a second copy of a configuration, which may be large.
    pub(super) fn into_subject(self) -> Option<Subject> {
        match self {
            Self::Add(subject) | Self::Check(subject) | Self::Del(subject) => Some(subject),
            Self::Gc { .. } | Self::Status => None,
        }
    }
}

/// The attachment that a call is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The container.
    pub container_id: ContainerId,
    /// The interface in it.
    pub if_name: IfName,
    /// The container's namespace, if there is one.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    #[serde(default)]
    pub args: String,
    /// The network's configuration.
    pub config: Map<String, Value>,
}

impl Subject {
    pub(super) fn of<N>(call: &Request<N>, netns: Option<&Path>) -> Self {
        let args: Vec<_> = call.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self {
            container_id: call.container_id.clone(),
            if_name: call.if_name.clone(),
            // The daemon has another working directory.
            netns: netns.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned())),
            args: args.join(";"),
            config: call.config.document().clone(),
        }
    }

    /// The network, without a copy of the rest of a configuration, which may be large.
    pub(super) fn network(&self) -> Result<NetworkName, Error> {
        let tells = |key: &str| ["name", "cniVersion", "type"].iter().any(|it| key.eq_ignore_ascii_case(it));
        let few = self.config.iter().filter(|(key, _)| tells(key));
        let few = few.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(NetworkConfig::from_document(few)?.name().clone())
    }

    /// The configuration, understood.
    ///
    /// # Errors
    /// As [`NetworkConfig::from_document`]'s.
    pub fn config(&self) -> Result<NetworkConfig, Error> {
        NetworkConfig::from_document(self.config.clone())
    }
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done; of an `ADD`, the result in the specification's latest version.
    Result(Value),
    /// It is not.
    Error(Error),
}

/// Where `DEL`s wait for a daemon that does not run: a directory beside its socket, which it makes.
pub fn notes(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".ended");
    path.into()
}

/// An attachment's names as a file's name: 128 bits of hash.
pub fn digest(network: &NetworkName, container: &ContainerId, interface: &IfName) -> String {
    let half = |purpose| {
        crate::owner::derived_number(&[purpose, network.as_str(), container.as_str(), interface.as_str()])
    };
    format!("{:016x}{:016x}", half("file 1"), half("file 2"))
}
