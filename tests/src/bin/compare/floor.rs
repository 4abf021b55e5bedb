//! Our `bridge`, and the reference's, beside the least that one could do: the program `floor`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cnikit_tests::{Call, Implementation, Node, Pod};
use serde_json::{Value, json};

use crate::REST;
use crate::config::{alone, bridge};
use crate::statistics::in_turns;
use crate::table::Table;

/// Compares `ADD` and `DEL`, with so many pods on the node already.
pub(crate) fn compare(ours: &Implementation, pairs: usize, others: &[usize], table: &mut Table) {
    table.section("`bridge` with `host-local`, beside the least that one could do", "floor", "cnikit");
    let mut side = Side::new(ours);
    for &others in others {
        side.crowd(others);
        let [adds, dels] = in_turns(pairs, |who| if who == 0 { side.floor() } else { side.plugin() });
        table.row(&format!("ADD beside {others} pods"), &adds);
        table.row(&format!("DEL beside {others} pods"), &dels);
    }
}

/// Compares the reference's `ADD` and `DEL`, on a node with one other pod: so many times as fast as it nobody can be.
pub(crate) fn bound(reference: &Implementation, pairs: usize, table: &mut Table) {
    table.section(
        "The reference's `bridge` with `host-local`, beside the least that one could do",
        "reference",
        "floor",
    );
    let side = Side::new(reference);
    let [adds, dels] = in_turns(pairs, |who| if who == 0 { side.plugin() } else { side.floor() });
    table.row("ADD", &adds);
    table.row("DEL", &dels);
}

/// A node, with a pod that comes and goes.
struct Side {
    node: Node,
    plugins: Implementation,
    pod: Pod,
    floor: PathBuf,
    crowd: usize,
}

impl Side {
    fn new(plugins: &Implementation) -> Self {
        let node = Node::new(plugins);
        let pod = node.pod("comes-and-goes");
        let floor = std::env::current_exe().expect("a path of one's own").with_file_name("floor");
        assert!(
            floor.exists(),
            "{} is missing: cargo build --release -p cnikit-tests --bin floor",
            floor.display()
        );
        let mut side = Self { node, plugins: plugins.clone(), pod, floor, crowd: 0 };
        side.crowd(1);
        side
    }

    /// Sees to it that there are so many other pods.
    fn crowd(&mut self, others: usize) {
        for number in self.crowd..others {
            let name = format!("stays-{number}");
            let pod = self.node.pod(&name);
            self.call("ADD", &pod, &name, None).run().result();
        }
        self.crowd = self.crowd.max(others);
    }

    fn call(&self, command: &str, pod: &Pod, name: &str, previous: Option<&Value>) -> Call<'_> {
        let config = alone(&bridge(json!({})), previous.cloned());
        self.node.call(&self.plugins, command, "bridge", &config).on(pod).container(name)
    }

    fn plugin(&self) -> [Duration; 2] {
        let (added, add) = self.call("ADD", &self.pod, "c1", None).timed();
        let result = added.result();
        std::thread::sleep(REST);
        let (deleted, del) = self.call("DEL", &self.pod, "c1", Some(&result)).timed();
        assert!(deleted.status.success(), "{deleted}");
        std::thread::sleep(REST);
        [add, del]
    }

    fn floor(&self) -> [Duration; 2] {
        let netns = self.pod.path().display().to_string();
        let add = self.timed(&["add", &netns, "floor0", "cni0", "10.1.255.2/16", "10.1.0.1"]);
        std::thread::sleep(REST);
        let del = self.timed(&["del", "floor0"]);
        std::thread::sleep(REST);
        [add, del]
    }

    fn timed(&self, arguments: &[&str]) -> Duration {
        self.node.inside(|| {
            let mut program = Command::new(&self.floor);
            program.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
            let began = Instant::now();
            let status = program.spawn().and_then(|mut child| child.wait()).expect("the floor");
            let took = began.elapsed();
            assert!(status.success(), "floor {arguments:?}");
            took
        })
    }
}
