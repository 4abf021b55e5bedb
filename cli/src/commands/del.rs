//! `cnikit del`

use cni_spec::NetworkName;

use super::attachment::{Identity, recall};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::netns::Netns;
use crate::places::Places;

const EXAMPLES: &str = "\
Examples:
  cnikit del default blue
  cnikit del podnet --container-id web-1          its namespace may be gone";

/// Detach a container from a network
///
/// Runs DEL of every plugin, in reverse, with the configuration and the parameters that the attachment was made with,
/// as far as they are remembered. Whatever one plugin says, the others run too. Nothing need be there any more:
/// neither the namespace, nor the configuration, nor the attachment. Prints nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The network's name, as in its configuration
    #[arg(value_name = "NET")]
    network: NetworkName,

    /// The container's network namespace: a path, a name as `ip netns` shows it, or a process ID
    #[arg(value_name = "NETNS", required_unless_present = "container_id")]
    netns: Option<String>,

    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    places: Places,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let netns = args.netns.as_deref().map(Netns::find).transpose()?;
    let asked = args.identity.attachment(netns.as_ref())?;
    let runtime = args.places.runtime();
    let (list, attachment) = recall(&runtime, &args.places, &args.network, asked)?;
    runtime.del(&list, &attachment)?;
    Ok(Exit::Done)
}
