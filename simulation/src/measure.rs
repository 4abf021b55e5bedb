//! How long, how many, how much.

use std::fmt;
use std::time::{Duration, Instant};

use crate::Machine;
use crate::world::{World, WorldSettings};

/// How often one looks.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than anything takes.
const LIMIT: Duration = Duration::from_secs(300);

/// Over how many seconds traffic is counted.
const SECONDS: u32 = 10;
/// Of more nodes than these the pods come and go at the end, for fewer seconds: it is what takes longest to compute.
const MANY: usize = 2000;
const SECONDS_OF_MANY: u32 = 2;

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

/// How all nodes get to know the pods that all have first: what is measured begins when they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPods {
    /// They are told, by all at once.
    Told,
    /// They are put into the memory of all, as one says them: for so many that it would take hours to tell them.
    Known,
}

/// Measures so many nodes with so many pods each.
pub fn measure(nodes: usize, pods: usize, first: FirstPods, seed: u64) -> Measured {
    let began = Instant::now();
    // It may take long: who waits is told how far it is.
    let told = |what: &str, world: &World| {
        let (taken, now) = (began.elapsed().as_secs(), world.now.as_secs());
        let memory = memory();
        eprintln!("{nodes} nodes, after {taken} s: {what}, at {now} s, {} steps, {memory}", world.steps());
    };
    let mut world = World::new(WorldSettings { seed, reads_once: true, ..WorldSettings::default() });
    world.check.limit = u64::MAX;
    world.start_many(nodes);
    let cold = until(&mut world, |world| world.everybody_has_a_subnet() && world.everybody_knows_all());
    told(&format!("all know one another within {cold:?}"), &world);
    for n in 0..nodes {
        for nth in 0..pods {
            world.machines[n].add_pod(1 + nth);
        }
        world.tell(n);
    }
    if first == FirstPods::Known {
        world.know();
    }
    let mut known = vec![0; nodes];
    until(&mut world, |world| world.everybody_knows_pods(pods, &mut known));
    told("all pods are known", &world);
    world.run(Duration::from_secs(20));
    told("at rest", &world);

    let new = world.add_pod(nodes / 2, 1 + pods).expect("it has a subnet");
    let pod = until(&mut world, |world| world.who_know(nodes / 2, new.container()) == nodes - 1);
    told(&format!("a new pod is known within {pod:?}"), &world);

    let rest = rate(&mut world, SECONDS, |_, _| {});
    told(&format!("at rest, {rest:.1?} messages and bytes a second"), &world);
    let early = (nodes <= MANY).then(|| come_and_go(&mut world, pods, SECONDS));
    told(&format!("while pods come and go, {early:.1?}"), &world);

    let late = world.add(&[0]);
    world.start(late);
    let node = until(&mut world, |world| world.count_holding(late) == nodes);
    told(&format!("a new node is known within {node:?}"), &world);
    world.crash(nodes / 3, false);
    let crash = until(&mut world, |world| world.count_down(nodes / 3) == nodes);
    told(&format!("a crash is known within {crash:?}"), &world);
    let churn = early.unwrap_or_else(|| come_and_go(&mut world, pods, SECONDS_OF_MANY));
    told(&format!("while pods come and go, {churn:.1?}"), &world);
    Measured {
        nodes,
        pods,
        cold,
        pod,
        node,
        crash,
        rest_messages: rest.0,
        rest_bytes: rest.1,
        churn_messages: churn.0,
        churn_bytes: churn.1,
        took: began.elapsed(),
    }
}

/// Datagrams and bytes of a node in a second, while one pod in a hundred comes or goes in each.
fn come_and_go(world: &mut World, pods: usize, seconds: u32) -> (f64, f64) {
    let mut turn = 0;
    rate(world, seconds, |world, nodes| {
        for _ in 0..(nodes * pods).div_ceil(100).min(nodes * 2) {
            let n = turn % nodes;
            match turn / nodes % 2 {
                0 => world.remove_pod(n),
                _ => drop(world.add_pod(n, 100 + turn / nodes % 100)),
            }
            turn += 1;
        }
    })
}

/// How much memory this process has taken at most, as the kernel says it.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.map_or_else(String::new, |most| format!("in {} at most", most.trim()))
}

fn until(world: &mut World, is_so: impl FnMut(&mut World) -> bool) -> Duration {
    world.run_until(LIMIT, LOOK, is_so).expect("it becomes so")
}

/// Datagrams and bytes of a node in a second, on average over some, in each of which something is done.
fn rate(world: &mut World, seconds: u32, mut each_second: impl FnMut(&mut World, usize)) -> (f64, f64) {
    let nodes = world.machines.len();
    let (messages, bytes) = world.traffic();
    for _ in 0..seconds {
        each_second(world, nodes);
        world.run(Duration::from_secs(1));
    }
    let (messages, bytes) = (world.traffic().0 - messages, world.traffic().1 - bytes);
    let each = |count: u64| count as f64 / nodes as f64 / f64::from(seconds);
    (each(messages), each(bytes))
}

impl World {
    /// Each node knows what each other one says, at once.
    fn know(&mut self) {
        let said: Vec<_> = self.machines.iter().filter_map(|machine| machine.mesh.as_ref()?.said()).collect();
        for n in 0..self.machines.len() {
            let machine = &mut self.machines[n];
            if let Some(mesh) = &mut machine.mesh {
                mesh.know(self.now + machine.ahead, &said);
            }
            self.after(n);
        }
    }

    /// Whether each node knows all.
    fn everybody_knows_all(&self) -> bool {
        let mut meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        meshes.all(|mesh| {
            let topology = mesh.topology();
            let others = topology.members().len() - usize::from(topology.get(&mesh.id()).is_some());
            others + 1 == self.machines.len()
        })
    }

    /// Whether each node knows so many pods of each other one. `known` says of how many nodes, from the first on, one is known
    /// to know them: it is not asked again, as long as none goes.
    fn everybody_knows_pods(&self, pods: usize, known: &mut [usize]) -> bool {
        self.machines.iter().zip(known).all(|(machine, known)| {
            let Some(mesh) = &machine.mesh else { return true };
            let knows = |other: &Machine| {
                let id = &other.local.id;
                *id == mesh.id()
                    || mesh.topology().get(id).is_some_and(|member| member.node.pods.len() == pods)
            };
            *known += self.machines.iter().skip(*known).take_while(|other| knows(other)).count();
            *known == self.machines.len()
        })
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
