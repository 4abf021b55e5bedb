//! `cnikit demo`: a few containers talk, in front of your eyes.
//!
//! ```text
//! seclusion   leaves the host: nothing that follows can be seen outside of this process
//! world       a node, an outside, pods without interfaces; the runtime
//! act         ADD, pings (ping, echo), CHECK, DEL, through the runtime and the plugins that it always uses
//! report      what happened, as values ── story, drawing (canvas) ──▶ text
//! ```

mod act;
mod canvas;
mod drawing;
mod echo;
mod ping;
mod recorder;
mod report;
mod seclusion;
mod story;
mod world;

use std::io;
use std::time::Instant;

use self::report::Report;
use self::story::Teller;
use self::world::World;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Charset, Output};

/// Attach a few pods to a network, let them talk, show what happened, take it all away
///
/// Everything happens in namespaces of this one process: no interface, address or file of this machine is touched,
/// and nothing is left, whichever way it ends. No root needed: an ordinary user gets a user namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many pods
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    pods: u8,

    /// Let it run until Enter is pressed, and say how to enter the namespaces
    #[arg(long)]
    keep: bool,

    /// Draw with ASCII characters only, as where the locale has no others
    #[arg(long)]
    ascii: bool,

    /// Print all that happened as JSON, every call of a plugin included
    #[arg(long, conflicts_with_all = ["keep", "ascii"])]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut teller = Teller { output, charset: Charset::of_process(args.ascii), quiet: args.json };

    let world = World::new(args.pods)?;
    teller.scene(&world.setting, world.pods.len())?;

    let attached = act::attach(&world)?;
    let mut calls = world.calls.take();
    teller.attached(&world.setting, &attached, &calls)?;

    let asked = Instant::now();
    let talks = act::talk(&world, &attached)?;
    teller.talks(&world.setting, &talks, asked.elapsed())?;

    let checked = act::check(&world)?;
    teller.checked(&checked)?;

    let mut kept = std::time::Duration::ZERO;
    if args.keep {
        let since = Instant::now();
        teller.kept(&world.setting, &attached)?;
        // At the end of the input nobody is there to press a key.
        let _ = io::stdin().read_line(&mut String::new());
        kept = since.elapsed();
    }

    let deleted = act::delete(&world)?;
    let left = world.remains()?;
    let bridge = attached.first().map_or("", |pod| &pod.bridge);
    teller.deleted(&deleted, &left, bridge)?;

    calls.extend(world.calls.take());
    let took = start.elapsed().saturating_sub(kept);
    let report = Report { world: world.setting, attached, talks, checked, deleted, left, calls, took };
    teller.verdict(&report)?;
    if args.json {
        output.json(&report)?;
    }
    Ok(if report.is_good() { Exit::Done } else { Exit::Differs })
}
