//! Several nodes, one pod network.
//!
//! ```text
//! world       a segment and nodes, each a namespace with a runtime; pods without interfaces
//! agents      `cnikit agent` in each node's namespace
//! act         ADD, pings, a capture (frame), DEL            cut    a node is cut off and comes back
//! report      what happened, as values ── story, drawing, matrix ──▶ text
//! ```

mod act;
mod agents;
mod cut;
mod drawing;
mod frame;
mod matrix;
mod report;
#[cfg(test)]
mod samples;
mod story;
mod world;

use std::time::{Duration, Instant};

use overlay::report::Map;
use overlay::{Mode, SubnetState};

use self::act::{Home, Pairs};
use self::agents::{Agents, sees_all};
use self::report::{Attached, Joined, Place, Reached, Report, Setting};
use self::story::Teller;
use self::world::World;
use super::prose::Prose;
use super::{Args, Way, wait_for_enter};
use crate::commands::topology;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Charset, Output};

/// Pods on each node, if nobody says how many.
const USUAL_PODS: u8 = 2;

/// Tells the story of some nodes that become one network.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let start = Instant::now();
    let charset = Charset::of_process(args.ascii);
    let pods = usize::from(args.pods.unwrap_or(USUAL_PODS));
    let mut teller = Teller(Prose { output, charset, quiet: args.json });

    // What is made later would be made where nobody else sees it.
    let file = args.svg.as_deref().map(topology::PictureFile::create).transpose()?;
    let world = World::new(args.nodes, args.mode == Way::Router)?;
    let setting = setting(&world, args.mode.into());
    teller.scene(&setting)?;

    let tap = world.nodes.first().map(|node| act::Tap::on(&world, node)).transpose()?;
    let began = Instant::now();
    let (mut agents, joined) = join(&world, args.mode.into())?;
    teller.joined(&setting, &joined, began.elapsed())?;
    let probe = tap.map_or(Ok(None), |tap| tap.probe(&world))?;

    let mut homes = act::attach(&world, pods)?;
    let began = Instant::now();
    let topology = agents.until_known("for all agents to know all pods", |map| knows(map, &homes))?;
    let known = began.elapsed();
    let attached: Vec<Attached> = homes.iter().map(|home| home.attached.clone()).collect();
    teller.attached(&joined, &attached, known)?;
    if let Some(file) = file {
        file.fill(&topology::Scene::of(&topology))?;
    }

    let began = Instant::now();
    let pings = act::talk(&homes, Pairs::All)?;
    teller.pings(&attached, &pings, began.elapsed())?;

    let other = homes.iter().find(|home| Some(home.pod.node) != homes.first().map(|first| first.pod.node));
    let capture = match homes.first().zip(other) {
        Some((from, to)) => act::capture(&world, from, to)?,
        None => None,
    };
    // Where pings are wrapped themselves, this shows nothing that they do not.
    let probe = probe.filter(|_| !capture.as_ref().is_some_and(report::Capture::is_wrapped));
    teller.capture(capture.as_ref(), probe.as_ref())?;

    let mut kept = Duration::ZERO;
    if args.keep {
        teller.kept(&setting, &attached)?;
        kept = wait_for_enter();
    }

    let began = Instant::now();
    let cut = cut::cut(&world, &mut agents, &mut homes, pods)?;
    teller.cut(cut.as_ref(), began.elapsed())?;

    agents.kill();
    let without_agents = act::talk(&homes, Pairs::OneOfEachNode)?;
    teller.without_agents(&without_agents)?;

    let deleted = act::delete(&world, &homes)?;
    teller.deleted(&deleted)?;

    let took = start.elapsed().saturating_sub(kept);
    let report = Report {
        setting,
        joined,
        attached,
        known,
        pings,
        capture,
        probe,
        cut,
        without_agents,
        deleted,
        topology,
        took,
    };
    teller.verdict(&report)?;
    if args.json {
        output.json(&report)?;
    }
    Ok(if report.is_good() { Exit::Done } else { Exit::Differs })
}

fn setting(world: &World, mode: Mode) -> Setting {
    let place = |node: &world::Node| Place {
        node: node.name.clone(),
        address: node.address,
        netns: node.netns.clone(),
    };
    Setting {
        rights: world.rights,
        pid: std::process::id(),
        mode,
        nodes: world.nodes.iter().map(place).collect(),
        took: world.took,
    }
}

/// Starts the agents, and waits until all nodes have a subnet and a way to all others.
fn join(world: &World, mode: Mode) -> Result<(Agents, Vec<Joined>), Failure> {
    let mut agents = Agents::start(world, mode)?;
    let ready = agents.until_ready()?;
    let nodes = world.nodes.len();
    let maps = agents.until_known("for all to see all, and the way to each", |map| {
        sees_all(map, nodes) && is_settled(map, mode)
    })?;
    let joined = world.nodes.iter().zip(ready).zip(&maps);
    let joined = joined.map(|((node, (ready, status)), map)| Joined {
        node: node.name.clone(),
        address: node.address,
        is_router: node.is_router,
        bridge: status.bridge,
        subnets: held(&status.subnets),
        ready,
        ways: ways(map),
    });
    Ok((agents, joined.collect()))
}

/// Whether it is known which way is the best: all nodes are on one segment, so it is no tunnel, but a node finds out by
/// trying, unless it was told.
fn is_settled(map: &Map, mode: Mode) -> bool {
    let tunnels = |node: &overlay::report::MapNode| {
        node.path.as_ref().is_some_and(|path| matches!(path.way, overlay::report::Way::Vxlan { .. }))
    };
    !matches!(mode, Mode::Auto | Mode::Router) || !map.nodes.iter().any(tunnels)
}

fn held(subnets: &[overlay::Subnet]) -> Vec<ipnet::IpNet> {
    subnets.iter().filter(|subnet| subnet.state == SubnetState::Held).map(|subnet| subnet.prefix).collect()
}

fn ways(map: &Map) -> Vec<Reached> {
    let others = map.nodes.iter().filter_map(|node| Some((node.node.name.to_string(), node.path.clone()?)));
    others.map(|(node, path)| Reached { node, path }).collect()
}

/// Whether an agent knows every pod by its address.
fn knows(map: &Map, homes: &[Home]) -> bool {
    let known = |home: &Home| {
        let mut pods = map.nodes.iter().flat_map(|node| &node.node.pods);
        pods.any(|pod| home.attached.address().is_some_and(|address| pod.addresses().contains(&address)))
    };
    homes.iter().all(known)
}
