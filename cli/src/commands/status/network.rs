//! `cnikit status NET`: could this network attach a container now?

use cni_spec::{Command, NetworkName};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, Tone};
use crate::places::Places;

/// The answer.
#[derive(Serialize)]
struct Status {
    network: String,
    /// `null`: the network's version knows no such question.
    ready: Option<bool>,
    error: Option<String>,
}

/// Runs `STATUS` of every plugin of a network.
pub(super) fn run(
    name: &NetworkName,
    places: &Places,
    json: bool,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let network = places.network(name)?;
    let asked = network.cni_version.knows(Command::Status);
    let failure = places.runtime().status(&network).err().map(Failure::from);
    if json {
        output.json(&Status {
            network: network.name.to_string(),
            ready: asked.then_some(failure.is_none()),
            error: failure.as_ref().and_then(Failure::message).map(str::to_owned),
        })?;
        return Ok(failure.map_or(Exit::Done, |failure| failure.exit()));
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    let style = output.style();
    let answer = if asked {
        style.paint(Tone::Good, "ready")
    } else {
        style.paint(Tone::Odd, &format!("not asked: CNI {} has no STATUS", network.cni_version))
    };
    output.line(format_args!("{}: {answer}", network.name))?;
    Ok(Exit::Done)
}
