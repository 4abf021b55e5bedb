//! The chain that a node uses, by a runtime that executes each of its plugins.

use std::time::{Duration, Instant};

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{Env, Exec, NetworkList, ProcessExec};
use cnikit_tests::{Implementation, Node, Pod};
use plugins::InProcess;
use serde_json::{Value, json};

use crate::REST;
use crate::config::{bridge, plugin};
use crate::statistics::in_turns;
use crate::table::Table;

/// The port that pods serve on; a published port of each leads there.
pub(crate) const SERVED: u16 = 8000;

/// A node with one implementation's plugins, whose pods get them all: an address and a cable to a bridge that
/// masquerades and is a gateway, published ports, the firewall's consent, and limits of bandwidth in both directions.
pub(crate) struct Chained {
    pub(crate) node: Node,
    plugins: Implementation,
    list: NetworkList,
    in_process: bool,
}

impl Chained {
    pub(crate) fn new(plugins: &Implementation) -> Self {
        Self::of(plugins, chain())
    }

    /// A node whose pods get what these plugins give.
    pub(crate) fn of(plugins: &Implementation, configs: Value) -> Self {
        let list = json!({"cniVersion": "1.0.0", "name": "blue", "plugins": configs});
        let list = NetworkList::from_json(list.to_string().as_bytes()).expect("a network list");
        Self { node: Node::new(plugins), plugins: plugins.clone(), list, in_process: false }
    }

    /// The same, with cnikit's plugins called by the runtime's own process.
    fn in_process(plugins: &Implementation) -> Self {
        Self { in_process: true, ..Self::new(plugins) }
    }

    /// A pod's attachment, not made yet: with so many published ports from a number on.
    pub(crate) fn attachment(&self, pod: &Pod, first_port: u16, ports: u16) -> Attachment {
        let mappings: Vec<Value> = (first_port..first_port + ports).map(mapping).collect();
        Attachment::new(pod.name().parse().expect("an ID"), "eth0".parse().expect("a name"))
            .with_netns(pod.path().to_string_lossy())
            .with_capability("portMappings", Value::Array(mappings))
            .with_capability("bandwidth", limits())
    }

    pub(crate) fn add(&self, attachment: &Attachment) -> Duration {
        self.timed(|runtime| drop(runtime.add(&self.list, attachment).expect("ADD")))
    }

    pub(crate) fn del(&self, attachment: &Attachment) -> Duration {
        self.timed(|runtime| runtime.del(&self.list, attachment).expect("DEL"))
    }

    /// A pod comes and goes: what ADD and DEL took. (The reference's `portmap` fails a CHECK of a pod without an IPv6 address.)
    pub(crate) fn visit(&self, pod: &Pod, port: u16) -> [Duration; 2] {
        let attachment = self.attachment(pod, port, 1);
        [Self::add, Self::del].map(|call| {
            let took = call(self, &attachment);
            std::thread::sleep(REST);
            took
        })
    }

    fn timed(&self, call: impl FnOnce(&Runtime) + Send) -> Duration {
        self.node.inside(|| {
            let env = Env::default().with("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            let processes = ProcessExec::new();
            let exec: Box<dyn Exec> =
                if self.in_process { Box::new(InProcess::new(processes)) } else { Box::new(processes) };
            // To publish a thousand ports takes the reference a minute.
            let runtime = Runtime::new(env)
                .with_plugin_dirs([self.plugins.directory()])
                .with_exec(exec)
                .with_chain_timeout(Duration::from_secs(3600));
            let started = Instant::now();
            call(&runtime);
            started.elapsed()
        })
    }
}

/// The chain's configurations.
pub(crate) fn chain() -> Value {
    json!([
        bridge(json!({"hairpinMode": true, "ipMasq": true})),
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "firewall"},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ])
}

/// A published port.
fn mapping(port: u16) -> Value {
    json!({"hostPort": port, "containerPort": SERVED, "protocol": "tcp"})
}

/// For `bandwidth`.
fn limits() -> Value {
    let bits = 1_000_000_000;
    json!({"ingressRate": bits, "ingressBurst": bits, "egressRate": bits, "egressBurst": bits})
}

/// The configurations of the chain's plugins, as a runtime gives them to each.
pub(crate) fn plugins_of_the_chain() -> [Value; 4] {
    [
        bridge(json!({"hairpinMode": true, "ipMasq": true})),
        plugin("portmap", json!({"runtimeConfig": {"portMappings": [mapping(20_000)]}})),
        plugin("firewall", json!({})),
        plugin("bandwidth", json!({"runtimeConfig": {"bandwidth": limits()}})),
    ]
}

/// Compares a pod's ADD and DEL, on a node with one other pod: each plugin executed, and all of cnikit's in one process.
pub(crate) fn compare(implementations: &[Implementation; 2], pairs: usize, table: &mut Table) {
    let [theirs, ours] = implementations;
    table.section("`bridge`, `portmap`, `firewall`, `bandwidth`, by a runtime", "reference", "cnikit");
    measure(&[Chained::new(theirs), Chained::new(ours)], pairs, "each plugin executed", table);
    measure(&[Chained::new(theirs), Chained::in_process(ours)], pairs, "cnikit's in one process", table);
}

fn measure(sides: &[Chained; 2], pairs: usize, name: &str, table: &mut Table) {
    let pods = sides.each_ref().map(|side| {
        side.add(&side.attachment(&side.node.pod("stays"), 20_000, 1));
        side.node.pod("comes-and-goes")
    });
    let times = in_turns(pairs, |at| sides[at].visit(&pods[at], 20_001));
    for (verb, times) in ["ADD", "DEL"].iter().zip(&times) {
        table.row(&format!("{name}, {verb}"), times);
    }
}
