//! How soon fifty nodes know, and reach, what is new.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, PATIENCE, Voice, one_and_everybody};

use crate::common::{Families, cluster, config, lab_alone, logs, pods};

/// What is promised: of the time in which nothing on this machine waited for a processor, of which fifty agents want more than
/// there are.
const PROMISED: Duration = Duration::from_secs(1);
/// On whatever machine.
const SOON: Duration = Duration::from_secs(10);

/// How long something takes.
struct Watch {
    since: Instant,
    waited: Option<Duration>,
}

impl Watch {
    fn start() -> Self {
        Self { since: Instant::now(), waited: waited() }
    }

    /// How long it took, and how long of that nothing waited for a processor: all of it, where the kernel does not tell.
    fn elapsed(&self) -> (Duration, Duration) {
        let elapsed = self.since.elapsed();
        let busy = waited().zip(self.waited).map(|(now, before)| now.saturating_sub(before));
        (elapsed, elapsed.saturating_sub(busy.unwrap_or_default()))
    }
}

/// For how long something has waited for a processor since the machine was booted: the kernel's pressure stall information.
fn waited() -> Option<Duration> {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split(' ').find_map(|word| word.strip_prefix("total="))?;
    Some(Duration::from_micros(total.parse().ok()?))
}

#[test]
fn a_new_pod_and_a_new_node_are_known_and_reached_by_fifty_nodes_at_once() {
    isolated(|| {
        let lab = lab_alone();
        let config = config("vxlan", Families::V4);
        let mut machines = cluster(&lab, 50, &config);
        let (_pods, voices) = pods(&machines);

        let (_pod, new) = machines[0].pod("new-pod");
        assert_soon("a new pod", &Watch::start(), &machines, "new-pod", &new, &voices);

        let newcomer = lab.machine(51, &config);
        machines.push(newcomer);
        lab.introduce(&machines);
        let newcomer = machines.last_mut().unwrap();
        let pod = newcomer.node.pod("newcomer");
        let started = Watch::start();
        newcomer.start();
        newcomer.wait_ready();
        eprintln!("a new node: ready {:?} after its start", started.since.elapsed());
        let new = newcomer.voice(&pod, &newcomer.add(&pod));
        // Its agent's start is part of it.
        assert_soon("a new node", &started, &machines, "n51", &new, &voices);
    });
}

/// All agents know a name, and all pods hear the new one and are heard by it, soon after something has happened.
fn assert_soon(what: &str, since: &Watch, machines: &[Machine], name: &str, new: &Voice, voices: &[Voice]) {
    // Whoever asks agents takes time from them: packets are first.
    let missing = one_and_everybody(new, voices, PATIENCE);
    let (reached, alone) = since.elapsed();
    assert!(missing.is_empty(), "{what}: {missing:#?}\n{}", logs(machines));
    let name = format!("\"{name}\"");
    for machine in machines {
        machine.wait(what, |machine| {
            machine.ask("/v1/topology").is_some_and(|map| map.to_string().contains(&name))
        });
    }
    let (known, _) = since.elapsed();
    eprintln!(
        "{what}: reached by all after {reached:?} (without waiting for processors: {alone:?}), known to all after {known:?} \
         at the latest"
    );
    let is_soon = alone < PROMISED && reached < SOON && known < SOON;
    assert!(is_soon, "{what}: {reached:?} ({alone:?}), {known:?}\n{}", logs(machines));
}
