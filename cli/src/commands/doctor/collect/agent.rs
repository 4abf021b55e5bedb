//! What the agent says, if one is there.

use super::Root;
use crate::agent_socket::AgentSocket;
use crate::commands::doctor::facts::Agent;
use crate::failure::Failure;
use plugin_overlay::{DIRECTORY, NodeFile};

pub(super) fn agent(root: &Root, socket: &AgentSocket) -> Agent {
    let socket = socket.under(&root.0);
    let said = |failure: Failure| failure.message().unwrap_or_default().to_owned();
    let status = socket.is_there().then(|| socket.status().map_err(said));
    Agent {
        map: status.as_ref().filter(|status| status.is_ok()).and_then(|_| socket.topology().ok()),
        status,
        files: files(root),
    }
}

fn files(root: &Root) -> Vec<(String, Result<NodeFile, String>)> {
    let directory = root.path(DIRECTORY);
    let networks =
        root.names(DIRECTORY).into_iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
    let read = |network: cni_spec::NetworkName| {
        let file = NodeFile::read(&directory, &network).map_err(|error| error.to_string());
        (network.to_string(), file)
    };
    networks.map(read).collect()
}
