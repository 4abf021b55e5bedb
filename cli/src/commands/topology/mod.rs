//! `cnikit topology`: nodes, bridges, subnets, pods, and what runs between them.
//!
//! ```text
//! Map (an agent's) ─┬─▶ tree ─▶ text
//!                   └─▶ Scene ─┬─▶ dot
//!                              └─▶ svg: layout ─▶ cards, lines
//! ```

mod dot;
mod scene;
mod svg;
mod tree;

use std::path::{Path, PathBuf};

pub(super) use self::scene::Scene;
use crate::agent_socket::AgentSocket;
use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::output::{Charset, Output, note};

const DETAILS: &str = "\
It is this node's agent that is asked: the ways are those that packets from this node take. Between two other nodes \
there is a line only where how they were told to reach others decides it (mode vxlan, route or router).

Examples:
  cnikit topology                     a tree
  cnikit topology --svg network.svg   a picture
  cnikit topology --dot | dot -Tpng > network.png";

/// Show the whole network: nodes, bridges, subnets, pods, and the tunnels and routes between them
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Args {
    /// Show every pod, however many a node has
    #[arg(long)]
    all: bool,

    /// Draw with ASCII characters only, as where the locale has no others
    #[arg(long)]
    ascii: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "dot")]
    json: bool,

    /// Print a graph for graphviz
    #[arg(long)]
    dot: bool,

    /// Draw a picture into a file; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "dot"])]
    svg: Option<PathBuf>,

    #[command(flatten)]
    agent: AgentSocket,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let map = args.agent.topology()?;
    if args.json {
        output.json(&map)?;
    } else if args.dot {
        output.bytes(dot::draw(&Scene::of(std::slice::from_ref(&map))).as_bytes())?;
    } else if let Some(file) = &args.svg {
        let picture = picture(&Scene::of(std::slice::from_ref(&map)));
        if file.as_os_str() == "-" {
            output.bytes(picture.as_bytes())?;
        } else {
            save(file, &picture)?;
            note(format_args!("the picture is in {}", file.display()));
        }
    } else {
        let charset = Charset::of_process(args.ascii);
        let most = if args.all { usize::MAX } else { tree::FEW };
        output.bytes(tree::draw(&map, most, charset, output.style()).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// A scene as SVG.
pub(super) fn picture(scene: &Scene) -> String {
    svg::draw(scene)
}

/// Writes a picture into a file.
pub(super) fn save(file: &Path, picture: &str) -> Result<(), Failure> {
    std::fs::write(file, picture)
        .map_err(|error| Failure::new(exit_of_io(&error), format!("write {}: {error}", file.display())))
}
