//! `cnikit trace`
//!
//! ```text
//! ends       who is meant            pods     who is there, and in which namespace
//! collect    the kernel's look-ups ─▶ facts ─▶ walk (judge, words) ─▶ hops and findings ─▶ show
//! ```

mod collect;
mod ends;
mod facts;
mod judge;
mod peer;
mod pods;
mod show;
#[cfg(test)]
mod tests;
mod walk;
mod words;

use overlay::report::{Map, MapNode};
use serde::Serialize;

use self::ends::Begin;
use self::facts::{Destination, Facts, Source};
use self::walk::Trace;
use super::state::State;
use crate::agent_socket::{AgentSocket, OthersPods};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Charset, Output};

const DETAILS: &str = "\
SRC is a pod of this node (namespace/name as Kubernetes has it, the beginning of a container ID, or an address), or \
`node`: the node itself. DST is an address, or the name of a pod or node anywhere.

Each hop is the kernel's own look-up, in the pod's namespace and on the node: routes, next hops, neighbours, FDB. What \
is beyond this node is what the agent knows of it. Nothing is sent, so a packet filter that drops by ports is not seen. \
Started on the other node, with DST as SRC, it shows the way back.

The exit status is 5 if the packet would be lost.

Examples:
  cnikit trace default/web-1 10.244.3.2
  cnikit trace node n3
  cnikit trace 4b1c0e9a default/db-2 --size 1500";

/// Show the way of a packet, hop by hop, and where and why it would be dropped
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Args {
    /// Where it begins: a pod of this node, or `node`
    #[arg(value_name = "SRC")]
    source: String,

    /// Where it is to go: an address, a pod or a node
    #[arg(value_name = "DST")]
    destination: String,

    /// How large it is, in bytes, from the IP header on
    #[arg(long, value_name = "BYTES")]
    size: Option<u32>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    agent: AgentSocket,
    #[command(flatten)]
    state: State,
}

/// The answer in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    source: Option<std::net::IpAddr>,
    destination: std::net::IpAddr,
    #[serde(flatten)]
    trace: &'a Trace,
    verdict: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let facts = facts(args)?;
    let trace = walk::walk(&facts);
    if args.json {
        let (source, destination) = (facts.source.address, facts.destination.address);
        output.json(&Answer { source, destination, trace: &trace, verdict: show::verdict(&trace) })?;
    } else {
        show::show(&facts, &trace, Charset::of_process(false), output)?;
    }
    Ok(if trace.lost_at.is_some() { Exit::Differs } else { Exit::Done })
}

/// Asks the agent and the kernel.
fn facts(args: &Args) -> Result<Facts, Failure> {
    let map = args.agent.topology(OthersPods::Welcome);
    let here = map.as_ref().ok().and_then(this_node);
    let pods = pods::here(&args.state.read().attachments()?, here);
    let begin = ends::source(&args.source, &pods, here)?;
    let speaks = |to| match &begin {
        Begin::Node => true,
        Begin::Pod(interfaces) => collect::speaks(interfaces, to),
    };
    let to = ends::destination(&args.destination, &pods, map.as_ref().ok(), speaks)?;
    let met = match &begin {
        Begin::Node => collect::from_node(to, &pods)?,
        Begin::Pod(interfaces) => collect::from_pod(interfaces, to, &pods)?,
    };
    let known = map.as_ref().ok();
    Ok(Facts {
        source: Source {
            pod: begin.pod(),
            node: here.map_or_else(host_name, |node| node.node.name.to_string()),
            address: met.source,
        },
        destination: Destination {
            address: to,
            pod: peer::pod_name(known, to).or_else(|| met.neighbour_pod.as_ref().map(|pod| pod.name.clone())),
            is_in_cluster: known.is_some_and(|map| peer::is_in_cluster(map, to)),
        },
        size: args.size,
        pod: met.pod,
        host_end: met.host_end,
        bridge: met.bridge,
        node: met.node,
        neighbour_pod: met.neighbour_pod,
        peer: known.and_then(|map| peer::of(map, to)),
        duplicates: known.map(|map| peer::duplicates(map, met.source, to)).unwrap_or_default(),
        lacking_pods: known.and_then(|map| map.lacking_pods.clone()),
        agent: map.as_ref().err().map(|failure| failure.message().unwrap_or_default().to_owned()),
    })
}

fn this_node(map: &Map) -> Option<&MapNode> {
    map.nodes.iter().find(|node| node.node.id == map.node)
}

/// What this machine calls itself.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this node".to_owned() } else { name.trim().to_owned() }
}
