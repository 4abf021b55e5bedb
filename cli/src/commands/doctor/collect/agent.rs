//! What the agent says, if one is there.

use std::path::{Path, PathBuf};

use agent::{InForce, Options, Settings};
use overlay::report::Ports;

use super::Root;
use crate::agent_socket::{AgentSocket, OthersPods};
use crate::commands::doctor::facts::Agent;
use crate::failure::Failure;
use crate::places::variable;
use plugin_overlay::{DIRECTORY, NodeFile};

/// Where the agent's options are, by the manifests' and the unit's convention.
const CONFIGURATION: &str = "/etc/cnikit/agent.json";
/// Where the unit has the agent's variables from.
const ENVIRONMENT: &str = "/etc/cnikit/agent.env";

pub(super) fn agent(root: &Root, socket: &AgentSocket) -> Agent {
    let socket = socket.under(&root.0);
    let words = |failure: Failure| failure.message().unwrap_or_default().to_owned();
    let status = socket.is_there().then(|| socket.status().map_err(words));
    let said = status.as_ref().and_then(|status| status.as_ref().ok()?.ports);
    Agent {
        map: status
            .as_ref()
            .filter(|status| status.is_ok())
            .and_then(|_| socket.topology(OthersPods::Needless).ok()),
        status,
        files: files(root),
        ports: said.or_else(|| configured(root)),
    }
}

/// Where an agent listens that is started as its configuration says.
fn configured(root: &Root) -> Option<Ports> {
    let told = || {
        Some(root.path(root.text(ENVIRONMENT)?.lines().find_map(|line| line.strip_prefix("CNIKIT_CONFIG="))?))
    };
    let usual = root.path(CONFIGURATION);
    let file = variable("CNIKIT_CONFIG").map(PathBuf::from).or_else(told);
    let file = file.or_else(|| usual.is_file().then_some(usual));
    // Where a file is no good, the agent says so itself.
    let in_force = |file: Option<&Path>| InForce::of(&Options::default(), file, &Options::defaults()).ok();
    let in_force = in_force(file.as_deref()).or_else(|| in_force(None))?;
    // Of a node whose name is none, the agent says so itself, too.
    let named = Options { node_name: Some("node".to_owned()), ..in_force.options };
    Some(Settings::new(&named).ok()?.ports())
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
