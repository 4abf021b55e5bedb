//! `cnikit node`: what is asked of the agents together about one node.

use overlay::report::{Forgotten, Peer};

use crate::agent_socket::AgentSocket;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, confirm};

/// Have a node forgotten
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Forget(Forget),
}

const DETAILS: &str = "\
For a node that will not come back, its disk with it: no other node keeps routes to it, and its subnets are free for \
others after a while. A node that is merely down needs nothing: the others keep what they know of it until it is back.

A node that is forgotten, and lives, takes another subnet when it hears of it; its pods keep their addresses, and are \
reached by them.

Examples:
  cnikit node forget n3
  cnikit node forget 4b1c0e9a77d24be28c0f3a5e61d2f9aa --yes";

/// Have every node forget one that will not come back, so that its subnets become free
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
struct Forget {
    /// The node: its name, or its id where two have one name
    #[arg(value_name = "NODE")]
    node: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    agent: AgentSocket,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    match &args.command {
        Command::Forget(args) => forget(args, output),
    }
}

fn forget(args: &Forget, output: &mut Output) -> Result<Exit, Failure> {
    if !args.yes {
        confirm(&question(find(&args.node, &args.agent.peers()?)?))?;
    }
    let forgotten = args.agent.forget(&args.node)?;
    if args.json {
        output.json(&forgotten)?;
    } else {
        output.line(answer(&forgotten))?;
    }
    Ok(Exit::Done)
}

/// The peer of a name or an id.
fn find<'a>(node: &str, peers: &'a [Peer]) -> Result<&'a Peer, Failure> {
    let is_meant = |peer: &&Peer| peer.id.to_string() == node || peer.name.as_str() == node;
    let found: Vec<_> = peers.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new(Exit::Usage, format!("this node's agent knows no peer {:?}", node))
            .advise("`cnikit peers` shows all; a node does not forget itself")),
        several => {
            let ids: Vec<_> = several.iter().map(|peer| format!("{} ({})", peer.id, peer.liveness)).collect();
            Err(Failure::new(Exit::Usage, format!("several nodes are called {node}"))
                .advise(format!("say which by its id: {}", ids.join(", "))))
        }
    }
}

fn question(peer: &Peer) -> String {
    let Peer { name, id, liveness, pods, .. } = peer;
    format!(
        "have every node forget {name} ({id}), which is {liveness}, with {pods} pods and {}?",
        subnets(&peer.subnets)
    )
}

fn answer(forgotten: &Forgotten) -> String {
    let Forgotten { node, name, subnets: free } = forgotten;
    format!("forgotten: {name} ({node}), with {}", subnets(free))
}

fn subnets(subnets: &[overlay::Subnet]) -> String {
    let prefixes: Vec<_> = subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    if prefixes.is_empty() { "no subnet".to_owned() } else { format!("subnet {}", prefixes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    #[test]
    fn a_node_is_meant_by_its_name_or_its_id() {
        let mut peers = fixtures::peers();
        assert_eq!(find("n3", &peers).unwrap().id, peers[1].id);
        assert_eq!(find(&"02".repeat(16), &peers).unwrap().name.as_str(), "n2");
        assert_eq!(find("n9", &peers).unwrap_err().exit(), Exit::Usage);
        peers[1].name = peers[0].name.clone();
        let failure = find("n2", &peers).unwrap_err();
        assert!(failure.advice()[0].contains(&"03".repeat(16)), "{failure:?}");
    }

    #[test]
    fn who_is_asked_is_told_what_goes() {
        let expected = format!(
            "have every node forget n2 ({}), which is alive, with 1 pods and subnet 10.244.2.0/24?",
            "02".repeat(16)
        );
        assert_eq!(question(&fixtures::peers()[0]), expected);
    }
}
