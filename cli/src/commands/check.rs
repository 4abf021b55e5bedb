//! `cnikit check`

use cni_spec::NetworkName;

use super::attachment::{Identity, recall};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::netns::Netns;
use crate::places::Places;

/// Compare an attachment with what its ADD made
///
/// Runs CHECK of every plugin, with the configuration and the parameters that the attachment was made with. Prints
/// nothing if all is well; otherwise names what is different, and exits with 5.
#[derive(Debug, clap::Args)]
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
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let netns = Netns::find(&args.netns)?;
    netns.must_exist()?;
    let asked = args.identity.attachment(Some(&netns))?;
    let runtime = args.places.runtime();
    let (list, attachment) = recall(&runtime, &args.places, &args.network, asked)?;
    runtime.check(&list, &attachment)?;
    Ok(Exit::Done)
}
