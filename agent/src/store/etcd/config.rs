//! What a person says of the servers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How etcd is reached, and where in it the network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The servers' client URLs: `https://192.168.1.11:2379`. The first that answers is asked.
    pub endpoints: Vec<String>,
    /// What the keys of all networks begin with; the network's name follows.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Where the servers have their JSON gateway: `/v3`; with etcd 3.3 `/v3beta`.
    #[serde(default = "default_gateway")]
    pub gateway: String,
    /// For servers of `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// As whom to log in, where etcd's authentication is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

fn default_prefix() -> String {
    "/cnikit/".to_owned()
}

fn default_gateway() -> String {
    "/v3".to_owned()
}

/// By what the servers are known, and by what this node is known to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// The certificates that the servers' are signed with: PEM.
    pub ca_file: PathBuf,
    /// This node's certificate, where the servers want one (`--client-cert-auth`): PEM. Its subject must have no common name:
    /// etcd's gateway refuses one, as it speaks to the server in its own name and could not pass it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// The key of that: PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name in the servers' certificates, if it is not the one in the URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// A user of etcd, who may read and write all keys below the prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The file that the password is in; white space at its end is no part of it.
    pub password_file: PathBuf,
}
