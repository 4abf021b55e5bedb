//! One node: what a container runtime and its plugins do, step by step.
//!
//! ```text
//! world       a node, an outside, pods without interfaces; the runtime
//! act         ADD, pings, CHECK, DEL, through the runtime and the plugins that it always uses
//! report      what happened, as values ── story, drawing ──▶ text
//! ```

mod act;
mod drawing;
mod recorder;
mod report;
mod story;
mod world;

use std::time::Instant;

use self::report::Report;
use self::story::Teller;
use self::world::World;
use super::prose::Prose;
use super::{Args, wait_for_enter};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Charset, Output};

/// Pods, if nobody says how many.
const USUAL_PODS: u8 = 3;

/// Tells the story of some pods on one node.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let start = Instant::now();
    let charset = Charset::of_process(args.ascii);
    let mut teller = Teller(Prose { output, charset, quiet: args.json });

    let world = World::new(args.pods.unwrap_or(USUAL_PODS))?;
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
        teller.kept(&world.setting, &attached)?;
        kept = wait_for_enter();
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
