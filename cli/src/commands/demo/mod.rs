//! `cnikit demo`: containers talk, in front of your eyes.
//!
//! ```text
//! seclusion   leaves the host: nothing that follows can be seen outside of this process and its children
//! cluster     nodes on a segment, with agents: one pod network
//! single      one node: what a runtime and its plugins do
//! ping, echo  who answers whom, and as whom they are seen
//! canvas, prose   pictures and words
//! ```

mod canvas;
mod cluster;
mod echo;
mod namespaces;
mod ping;
mod prose;
mod seclusion;
mod single;
mod time;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use overlay::Mode;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

const DETAILS: &str = "\
With several nodes, each is a network namespace on one segment (192.168.1.11 and on), in which a real agent runs: the \
agents find one another by gossip and agree on who has which subnet. Pods are attached by the plugin `overlay`; every \
pod asks every other, packets are caught on the wire, and a node is cut off and comes back.

With --nodes 1 it is about one node: what a container runtime says to its plugins, what they answer, and what is left.

Examples:
  cnikit demo                            three nodes
  cnikit demo --mode vxlan --svg net.svg every packet between nodes goes through a tunnel
  cnikit demo --nodes 1 --json           every word between a runtime and its plugins";

/// Let nodes join one network and their pods talk, show what happens, take it all away
///
/// Everything happens in namespaces of this one process and its children: no interface, address or file of this machine
/// is touched, and nothing is left, whichever way it ends. No root needed: an ordinary user gets a user namespace.
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    nodes: u8,

    /// How nodes reach one another's pods
    #[arg(long, value_enum, default_value_t = Way::Auto)]
    mode: Way,

    /// How many pods on each node [default: 2; with one node 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pods: Option<u8>,

    /// Draw the network into a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Let it run until Enter is pressed, and say how to enter the namespaces
    #[arg(long)]
    keep: bool,

    /// Draw with ASCII characters only, as where the locale has no others
    #[arg(long)]
    ascii: bool,

    /// Print all that happened as JSON
    #[arg(long, conflicts_with_all = ["keep", "ascii"])]
    json: bool,
}

/// A [`Mode`], as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A plain route where the peer is on the same segment and probes come back; else a tunnel
    Auto,
    /// A tunnel
    Vxlan,
    /// A plain route
    Route,
    /// By one more node, which has no pods
    Router,
}

impl From<Way> for Mode {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Vxlan => Self::Vxlan,
            Way::Route => Self::Route,
            Way::Router => Self::Router,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    if args.nodes > 1 {
        return cluster::run(args, output);
    }
    if args.svg.is_some() || args.mode != Way::Auto {
        return Err(Failure::new(Exit::Usage, "--svg and --mode are about several nodes")
            .advise("leave --nodes away, or give more than one"));
    }
    single::run(args, output)
}

/// Waits for Enter. Returns how long that took.
fn wait_for_enter() -> Duration {
    let since = Instant::now();
    // At the end of the input nobody is there to press a key.
    let _ = io::stdin().read_line(&mut String::new());
    since.elapsed()
}
