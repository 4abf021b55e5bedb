//! `cnikit add`

use cni_spec::NetworkName;

use super::attachment::Identity;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::netns::Netns;
use crate::output::Output;
use crate::places::Places;

const EXAMPLES: &str = "\
Examples:
  cnikit add default blue                         the built-in network
  cnikit add podnet /proc/4711/ns/net -i net1     a second interface for a process
  cnikit add podnet blue --cap 'ips=[\"10.22.0.9\"]'";

/// Attach a container to a network and print the result
///
/// Runs ADD of every plugin of the network. If one fails, everything is undone. The result is printed as JSON, in the
/// version of the network's configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The network's name, as in its configuration
    #[arg(value_name = "NET")]
    network: NetworkName,

    /// The container's network namespace: a path, a name as `ip netns` shows it, or a process ID
    #[arg(value_name = "NETNS")]
    netns: String,

    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    places: Places,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let netns = Netns::find(&args.netns)?;
    netns.must_exist()?;
    let attachment = args.identity.attachment(Some(&netns))?;
    let network = args.places.network(&args.network)?;
    let result = args.places.runtime().add(&network, &attachment)?;
    output.line(result.to_json(network.cni_version))?;
    Ok(Exit::Done)
}
