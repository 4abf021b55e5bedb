//! How long, how many, how much.

use std::fmt;
use std::time::{Duration, Instant};

use crate::world::{World, WorldSettings};

/// How often one looks.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(300);

/// What was measured of so many nodes.
#[derive(Debug, Clone)]
pub struct Measured {
    /// How many nodes.
    pub nodes: usize,
    /// How many pods on each.
    pub pods: usize,
    /// From when all are started at once until all have a subnet and know one another.
    pub cold: Duration,
    /// Until a new pod is known everywhere.
    pub pod: Duration,
    /// Until a new node is known everywhere, with its subnet.
    pub node: Duration,
    /// Until everybody counts a crashed node as down.
    pub crash: Duration,
    /// At rest: datagrams of a node in a second.
    pub rest_messages: f64,
    /// At rest: bytes of a node in a second.
    pub rest_bytes: f64,
    /// While one pod in a hundred comes or goes each second: datagrams of a node in a second.
    pub churn_messages: f64,
    /// The same: bytes.
    pub churn_bytes: f64,
    /// How long that took to compute.
    pub took: Duration,
}

/// Measures so many nodes with so many pods each.
pub fn measure(nodes: usize, pods: usize, seed: u64) -> Measured {
    let began = Instant::now();
    // It may take long: who waits is told how far it is.
    let told = |what: &str, world: &World| {
        let (taken, now) = (began.elapsed().as_secs(), world.now.as_secs());
        eprintln!("{nodes} nodes, after {taken} s: {what}, at {now} s, {} steps", world.steps());
    };
    let mut world = World::new(WorldSettings { seed, reads_once: true, ..WorldSettings::default() });
    world.check.limit = u64::MAX;
    world.start_many(nodes);
    let cold =
        until(&mut world, |world| world.everybody_has_a_subnet() && world.count_known() == nodes * nodes);
    told("started", &world);
    for n in 0..nodes {
        for nth in 0..pods {
            world.machines[n].add_pod(1 + nth);
        }
        world.tell(n);
    }
    until(&mut world, |world| world.count_pods() == nodes * (nodes - 1) * pods);
    told("all pods are known", &world);
    world.run(Duration::from_secs(20));
    told("at rest", &world);

    let new = world.add_pod(nodes / 2, 1 + pods).expect("it has a subnet");
    let pod = until(&mut world, |world| world.who_know(nodes / 2, &new.container) == nodes - 1);

    let (rest_messages, rest_bytes) = rate(&mut world, |_, _| {});
    told("measured at rest", &world);
    let mut turn = 0;
    let (churn_messages, churn_bytes) = rate(&mut world, |world, nodes| {
        for _ in 0..(nodes * pods).div_ceil(100).min(nodes * 2) {
            let n = turn % nodes;
            match turn / nodes % 2 {
                0 => world.remove_pod(n),
                _ => drop(world.add_pod(n, 100 + turn / nodes % 100)),
            }
            turn += 1;
        }
    });

    told("measured while pods come and go", &world);
    let late = world.add(&[0]);
    world.start(late);
    let node = until(&mut world, |world| world.count_holding(late) == nodes);
    world.crash(nodes / 3, false);
    let crash = until(&mut world, |world| world.count_down(nodes / 3) == nodes);
    Measured {
        nodes,
        pods,
        cold,
        pod,
        node,
        crash,
        rest_messages,
        rest_bytes,
        churn_messages,
        churn_bytes,
        took: began.elapsed(),
    }
}

fn until(world: &mut World, is_so: impl FnMut(&mut World) -> bool) -> Duration {
    world.run_until(LIMIT, LOOK, is_so).expect("it becomes so")
}

/// Datagrams and bytes of a node in a second, on average over ten, in each of which something is done.
fn rate(world: &mut World, mut each_second: impl FnMut(&mut World, usize)) -> (f64, f64) {
    const SECONDS: u32 = 10;
    let nodes = world.machines.len();
    let (messages, bytes) = world.traffic();
    for _ in 0..SECONDS {
        each_second(world, nodes);
        world.run(Duration::from_secs(1));
    }
    let (messages, bytes) = (world.traffic().0 - messages, world.traffic().1 - bytes);
    let each = |count: u64| count as f64 / nodes as f64 / f64::from(SECONDS);
    (each(messages), each(bytes))
}

impl World {
    /// How many nodes all nodes know, themselves included.
    fn count_known(&self) -> usize {
        let meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        meshes
            .map(|mesh| mesh.topology().members().filter(|member| member.node.id != mesh.id()).count() + 1)
            .sum()
    }

    /// How many pods of others all nodes know.
    fn count_pods(&self) -> usize {
        let meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        let of = |mesh: &overlay::Mesh| {
            let others = mesh.topology().members().filter(|member| member.node.id != mesh.id());
            others.map(|member| member.node.pods.len()).sum::<usize>()
        };
        meshes.map(of).sum()
    }

    /// How many nodes know that one holds a subnet.
    fn count_holding(&self, n: usize) -> usize {
        let id = self.machines[n].local.id;
        let meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        let knows = |mesh: &&overlay::Mesh| {
            mesh.id() != id
                && mesh.topology().get(&id).is_some_and(|member| member.node.held().next().is_some())
        };
        meshes.filter(knows).count()
    }

    /// How many nodes count one as down.
    fn count_down(&self, n: usize) -> usize {
        let id = self.machines[n].local.id;
        let meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        let knows = |mesh: &&overlay::Mesh| {
            mesh.topology().get(&id).is_some_and(|member| member.liveness == overlay::Liveness::Down)
        };
        meshes.filter(knows).count()
    }
}

/// A row of a table in Markdown.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {:.2} s | {:.2} s | {:.2} s | {:.1} s | {:.1} | {:.0} | {:.1} | {:.0} |",
            self.nodes,
            self.pods,
            self.cold.as_secs_f64(),
            self.pod.as_secs_f64(),
            self.node.as_secs_f64(),
            self.crash.as_secs_f64(),
            self.rest_messages,
            self.rest_bytes,
            self.churn_messages,
            self.churn_bytes
        )
    }
}

/// The table's head.
pub const HEAD: &str = "\
| nodes | pods on each | all at once, until all is known | a new pod, until all know it | a new node, and its subnet | a crash | messages/s of a node at rest | bytes/s | messages/s while pods come and go | bytes/s |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";
