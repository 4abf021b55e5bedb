//! `cnikit status`

use cni_spec::{Command, NetworkName};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, Tone};
use crate::places::Places;

/// Ask whether a network could attach a container now
///
/// Runs STATUS of every plugin: an exhausted range of addresses, for example, is an answer (exit status 6). Networks
/// whose cniVersion is older than 1.1.0 cannot be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The network's name, as in its configuration
    #[arg(value_name = "NET")]
    network: NetworkName,

    /// cnitool wants one here; it means nothing
    #[arg(value_name = "NETNS", hide = true)]
    netns: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    places: Places,
}

/// The answer.
#[derive(Serialize)]
struct Status {
    network: String,
    /// `null`: the network's version knows no such question.
    ready: Option<bool>,
    error: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let network = args.places.network(&args.network)?;
    let asked = network.cni_version.knows(Command::Status);
    let failure = args.places.runtime().status(&network).err().map(Failure::from);
    if args.json {
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
