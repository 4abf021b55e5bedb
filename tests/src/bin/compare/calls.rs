//! Single plugins: pairs of the same call, one by each implementation.
//!
//! Every call is a process that is started, given its configuration, and waited for, on a node with one other pod.

use std::time::Duration;

use cnikit_tests::{Call, Implementation, Node, Pod};
use serde_json::{Value, json};

use crate::REST;
use crate::config::{alone, bridge, host_local, plugin};
use crate::statistics::Pairs;
use crate::table::Table;

/// Compares all cases: a row for each command.
pub(crate) fn compare_calls(implementations: &[Implementation; 2], pairs: usize, table: &mut Table) {
    let sides = implementations.each_ref().map(Side::new);
    table.section("Plugins one by one", "reference", "cnikit");
    for case in cases() {
        compare(&sides, &case, pairs, table);
    }
}

/// A plugin, its configuration, and the commands that are compared.
struct Case {
    name: &'static str,
    plugin: &'static str,
    config: Value,
    commands: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let both = &["ADD", "DEL"];
    let all = &["ADD", "CHECK", "DEL"];
    vec![
        Case { name: "`bridge`", plugin: "bridge", config: json!({}), commands: &["VERSION"] },
        Case {
            name: "`loopback`",
            plugin: "loopback",
            config: plugin("loopback", json!({})),
            commands: both,
        },
        Case {
            name: "`bridge` with `host-local`",
            plugin: "bridge",
            config: bridge(json!({})),
            commands: all,
        },
        Case {
            name: "the same with `ipMasq`",
            plugin: "bridge",
            config: bridge(json!({"ipMasq": true})),
            commands: all,
        },
        Case {
            name: "`ptp` with `host-local`",
            plugin: "ptp",
            config: plugin("ptp", json!({"ipam": host_local()})),
            commands: both,
        },
    ]
}

/// One implementation's node, with a pod that stays and one that comes and goes.
struct Side {
    node: Node,
    plugins: Implementation,
    pod: Pod,
}

impl Side {
    fn new(plugins: &Implementation) -> Self {
        let node = Node::new(plugins);
        let pod = node.pod("comes-and-goes");
        let side = Self { node, plugins: plugins.clone(), pod };
        for (number, case) in cases().iter().enumerate().filter(|(_, case)| case.config["ipam"].is_object()) {
            let stays = format!("stays-{number}");
            let pod = side.node.pod(&stays);
            side.call("ADD", case, None).on(&pod).container(&stays).run().result();
        }
        side
    }

    fn call(&self, command: &str, case: &Case, previous: Option<&Value>) -> Call<'_> {
        let config = alone(&case.config, previous.cloned());
        self.node.call(&self.plugins, command, case.plugin, &config).on(&self.pod)
    }
}

/// Compares a case's commands: a row for each.
fn compare(sides: &[Side; 2], case: &Case, count: usize, table: &mut Table) {
    let mut times: Vec<Pairs> = case.commands.iter().map(|_| Pairs::default()).collect();
    let mut previous: [Option<Value>; 2] = [None, None];
    // The first round is for the caches.
    for round in 0..=count {
        for (command, times) in case.commands.iter().zip(&mut times) {
            let mut took = [Duration::ZERO; 2];
            for turn in 0..2 {
                let side = (round + turn) % 2;
                let last = match *command {
                    "DEL" => previous[side].take(),
                    "CHECK" => previous[side].clone(),
                    _ => None,
                };
                let (outcome, time) = sides[side].call(command, case, last.as_ref()).timed();
                assert!(outcome.status.success(), "{outcome}");
                took[side] = time;
                if *command == "ADD" {
                    previous[side] = Some(outcome.result());
                }
                std::thread::sleep(REST);
            }
            if round > 0 {
                times.push(took[0], took[1]);
            }
        }
    }
    for (command, times) in case.commands.iter().zip(&times) {
        table.row(&format!("{}, {command}", case.name), times);
    }
}
