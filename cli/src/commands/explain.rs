//! `cnikit explain`

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{AddResult, NetworkList, NetworkName};
use netops::Script;
use plugins::Entry;
use serde::Serialize;

use super::attachment::Identity;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::netns::Netns;
use crate::output::Output;
use crate::places::Places;

/// The namespace's name in the script, if nobody gives one.
const USUAL_NETNS: &str = "pod";

const EXAMPLES: &str = "\
The script starts from a node where nothing of the network exists yet: it makes the bridge too. It needs iproute2, \
nftables and procps.

Examples:
  cnikit explain default
  ip netns add pod; cnikit explain default pod | sh        the same as: cnikit add default pod";

/// Show the commands that make by hand what `add` makes
///
/// Prints a shell script of `ip`, `bridge`, `sysctl` and `nft`, with a comment on each step. Nothing is done and no
/// address is taken; those in the script are the next that `add` would take. What a plugin does that is not built in
/// is not known, and said so at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The network's name, as in its configuration
    #[arg(value_name = "NET")]
    network: NetworkName,

    /// The container's network namespace in the script; it need not exist
    #[arg(value_name = "NETNS", default_value = USUAL_NETNS)]
    netns: String,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    places: Places,
}

/// The answer in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    commands: Vec<Command>,
    /// Plugins whose doings are not known.
    unexplained: Vec<String>,
}

#[derive(Serialize)]
struct Command {
    comment: String,
    program: String,
    args: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let netns = Netns::find(&args.netns)?;
    let attachment = args.identity.attachment(Some(&netns))?;
    let network = args.places.network(&args.network)?;
    let mut script = Script::new(netns.name_or_path());
    let unexplained = explain(&args.places.runtime(), &network, &attachment, &mut script)?;
    if args.json {
        let commands = script.commands().iter().map(|command| Command {
            comment: command.comment.clone(),
            program: command.program.clone(),
            args: command.args.clone(),
        });
        output.json(&Explanation { commands: commands.collect(), unexplained })?;
        return Ok(Exit::Done);
    }
    output.bytes(script.to_string().as_bytes())?;
    for plugin in unexplained {
        output.line(format_args!(
            "\n# Then plugin {plugin} runs, which is not built in: what it does is not known."
        ))?;
    }
    Ok(Exit::Done)
}

/// Writes down what the `ADD` of a chain makes; returns the plugins of which that is not known.
fn explain(
    runtime: &Runtime,
    list: &NetworkList,
    attachment: &Attachment,
    script: &mut Script,
) -> Result<Vec<String>, Failure> {
    let mut previous: Option<AddResult> = None;
    let mut unexplained = Vec::new();
    for plugin in &list.plugins {
        let Some(Entry::Interface(known)) = plugins::find(plugin.plugin_type.as_str()) else {
            unexplained.push(plugin.plugin_type.to_string());
            continue;
        };
        let call = runtime.request(list, plugin, attachment, previous.as_ref())?;
        let explained = known.explain(&call, script)?;
        explained.plan.apply(script).map_err(|error| Failure::from(error.cause))?;
        previous = Some(explained.result);
    }
    Ok(unexplained)
}
