//! `cnikit status`

mod network;
mod node;

use cni_spec::NetworkName;

use crate::agent_socket::AgentSocket;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;

const DETAILS: &str = "\
Without a network, this node's agent is asked: the node's subnets, where the topology comes from, how many peers there \
are and by which way, what is wrong, and what to do about it. The exit status is 6 if new pods get no addresses, and 5 \
if something does not work that should.

With a network, STATUS of every plugin of that network is run, as `cnitool status` does: an exhausted range of \
addresses, for example, is an answer (exit status 6). Networks whose cniVersion is older than 1.1.0 cannot be asked.

Examples:
  cnikit status                 this node, as its agent sees it
  cnikit status podnet          could network podnet attach a container now?";

/// Show how this node is, or ask whether a network could attach a container now
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Args {
    /// Ask the plugins of this network, by the name in its configuration, instead of the agent
    #[arg(value_name = "NET")]
    network: Option<NetworkName>,

    /// cnitool wants one here; it means nothing
    #[arg(value_name = "NETNS", hide = true)]
    netns: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    agent: AgentSocket,
    #[command(flatten)]
    places: Places,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    match &args.network {
        Some(name) => network::run(name, &args.places, args.json, output),
        None => {
            let failed = |failure: Failure| {
                failure.advise("`cnikit status NET` asks the plugins of a network instead")
            };
            node::run(&args.agent, args.json, output).map_err(failed)
        }
    }
}
