//! Many calls at once: fifty pods that come together, and go together.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Pod};
use serde_json::{Value, json};

use crate::REST;
use crate::config::{alone, bridge};
use crate::statistics::in_turns;
use crate::table::Table;

const PODS: usize = 50;

/// Compares how long fifty ADDs take, and fifty DELs, with so many at once; per call.
pub(crate) fn compare(implementations: &[Implementation; 2], rounds: usize, table: &mut Table) {
    for (with, keys) in [("", json!({})), (" and `ipMasq`", json!({"ipMasq": true}))] {
        let sides = implementations.each_ref().map(|plugins| Side::new(plugins, bridge(keys.clone())));
        table.section(
            &format!("`bridge` with `host-local`{with}, {PODS} pods that come together: time per call"),
            "reference",
            "cnikit",
        );
        for at_once in [1, 8, 32] {
            let times = in_turns(rounds, |at| {
                ["ADD", "CHECK", "DEL"].map(|command| {
                    let took = sides[at].all(command, at_once);
                    thread::sleep(REST);
                    took
                })
            });
            for (command, times) in ["ADD", "CHECK", "DEL"].iter().zip(&times) {
                table.row(&format!("{command}, {at_once} at once"), times);
            }
        }
    }
}

/// A node with pods that wait for their interfaces.
struct Side {
    node: Node,
    plugins: Implementation,
    config: Value,
    pods: Vec<Pod>,
    results: Mutex<Vec<Option<Value>>>,
}

impl Side {
    fn new(plugins: &Implementation, config: Value) -> Self {
        let node = Node::new(plugins);
        let pods = (0..PODS).map(|number| node.pod(&format!("pod-{number}"))).collect();
        Self { node, plugins: plugins.clone(), config, pods, results: Mutex::new(vec![None; PODS]) }
    }

    /// All pods' calls; how long each took on average.
    fn all(&self, command: &str, at_once: usize) -> Duration {
        let waiting = Mutex::new(self.pods.iter().enumerate());
        let next = || waiting.lock().expect("no panic").next();
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some((number, pod)) = next() {
                        self.call(command, number, pod);
                    }
                });
            }
        });
        began.elapsed() / PODS as u32
    }

    fn call(&self, command: &str, number: usize, pod: &Pod) {
        let previous = self.results.lock().expect("no panic")[number].clone();
        let config = alone(&self.config, previous.filter(|_| command != "ADD"));
        let call = self.node.call(&self.plugins, command, "bridge", &config);
        let (outcome, _) = call.on(pod).container(pod.name()).timed();
        assert!(outcome.status.success(), "{outcome}");
        if command == "ADD" {
            self.results.lock().expect("no panic")[number] = Some(outcome.result());
        }
    }
}
