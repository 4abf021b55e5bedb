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

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) use self::scene::Scene;
use crate::agent_socket::{AgentSocket, OthersPods};
use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::output::{Charset, Output, harmless, note};

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
    let map = args.agent.topology(OthersPods::Wanted)?;
    if let Some(why) = &map.lacking_pods {
        note(format_args!("pods of other nodes are missing: {}", harmless(why)));
    }
    if args.json {
        output.json(&map)?;
    } else if args.dot {
        output.bytes(dot::draw(&Scene::of(std::slice::from_ref(&map))).as_bytes())?;
    } else if let Some(file) = &args.svg {
        let scene = Scene::of(std::slice::from_ref(&map));
        if file.as_os_str() == "-" {
            output.bytes(svg::draw(&scene).as_bytes())?;
        } else {
            PictureFile::create(file)?.fill(&scene)?;
        }
    } else {
        let charset = Charset::of_process(args.ascii);
        let most = if args.all { usize::MAX } else { tree::FEW };
        output.bytes(tree::draw(&map, most, charset, output.style()).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// A file that a picture goes into.
pub(super) struct PictureFile<'a> {
    file: File,
    path: &'a Path,
}

impl<'a> PictureFile<'a> {
    /// Makes it, or empties it.
    pub(super) fn create(path: &'a Path) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(unwritten(path, &error)),
        }
    }

    /// Draws into it.
    pub(super) fn fill(mut self, scene: &Scene) -> Result<(), Failure> {
        let written = self.file.write_all(svg::draw(scene).as_bytes());
        written.map_err(|error| unwritten(self.path, &error))?;
        note(format_args!("the picture is in {}", self.path.display()));
        Ok(())
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit_of_io(error), format!("write {}: {error}", path.display()))
}
