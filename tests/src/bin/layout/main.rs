//! Which functions of `cnikit-plugins` ordinary calls execute, as a linker script that puts them together: see `cli/build.rs`.
//!
//! ```text
//! CNIKIT_LINK_MAP=/tmp/map cargo build --release
//! layout target/…/release/cnikit-plugins /tmp/map > cli/hot.ld
//! ```
//!
//! The executable must be one that such a script has had no part in, or one that it has: it makes no difference. The map is `lld`'s.

#![allow(clippy::expect_used)] // a tool for the bench: what it cannot do ends it

mod map;
#[cfg(target_arch = "x86_64")]
mod recorder;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use cnikit_tests::faults::{SCENARIOS, Scenario};
use cnikit_tests::{Call, Implementation, Node, Outcome, isolated};
use serde_json::{Value, json};

use self::map::Map;

/// Where a node has what was seen in it.
const SEEN: &str = "/run/seen";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        #[cfg(target_arch = "x86_64")]
        ["record", map, program] => recorder::record(&Map::read(Path::new(map)), Path::new(SEEN), program),
        [executable, map] => {
            let executable = std::fs::canonicalize(executable).expect("the executable");
            let map = std::fs::canonicalize(map).expect("the map");
            isolated(|| print!("{}", script(&executable, &map)));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("layout EXECUTABLE MAP");
            ExitCode::from(2)
        }
    }
}

fn script(executable: &Path, map: &Path) -> String {
    let mut begun = BTreeMap::new();
    // What asks a daemon waits for that anyway.
    for (n, scenario) in SCENARIOS.iter().filter(|scenario| !scenario.served).enumerate() {
        eprintln!("{}", scenario.name);
        for (stage, functions) in calls(scenario, executable, map) {
            begun.entry((stage, n)).or_insert_with(Vec::new).extend(functions);
        }
    }
    let begun: Vec<u64> = begun.into_values().flatten().collect();
    Map::read(map).script(&begun)
}

/// The order in which it counts what the calls of an attachment's life execute. What comes first on a node is not what is done for
/// each pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Add,
    Del,
    Check,
    Version,
    First,
}

/// The functions that the calls of an attachment's life begin, in the order in which they do.
fn calls(scenario: &Scenario, executable: &Path, map: &Path) -> Vec<(Stage, Vec<u64>)> {
    let plugins = Implementation::Ours(executable.to_owned());
    let node = Node::new(&plugins);
    node.shell("ip link set lo up");
    node.shell(scenario.before);
    let recorder = std::env::current_exe().expect("a path of one's own");
    let wrapper = [&*recorder.to_string_lossy(), "record", &map.to_string_lossy()].map(str::to_owned);
    let wrapper = wrapper.each_ref().map(String::as_str);
    let mut begun = Vec::new();
    let mut run = |stage, call: Call<'_>| -> Outcome {
        let outcome = call.run_through(&wrapper);
        let seen = node.shell(&format!("cat {SEEN}; rm {SEEN}"));
        let functions = seen.lines().map(|line| u64::from_str_radix(line, 16).expect("an address"));
        begun.push((stage, functions.collect()));
        outcome
    };
    for container in ["first", "second"] {
        let pod = node.pod(container);
        let stage = |stage| if container == "first" { Stage::First } else { stage };
        let call = |command: &str, config: &Value, previous: &Value| {
            let mut config = config.clone();
            if !previous.is_null() {
                config["prevResult"] = previous.clone();
            }
            let plugin = config["type"].as_str().expect("a type").to_owned();
            let call = node.call(&plugins, command, &plugin, &config);
            call.on(&pod).container(container).env("CNI_IFNAME", scenario.interface)
        };
        let configs = scenario.configs(container);
        let mut result = Value::Null;
        for config in &configs {
            let version = json!({"cniVersion": "1.0.0", "type": config["type"]});
            run(stage(Stage::Version), call("VERSION", &version, &Value::Null)).result();
            result = run(stage(Stage::Add), call("ADD", config, &result)).result();
        }
        for config in configs.iter().filter(|config| config["type"] != "host-local") {
            // Behind some, it finds something amiss: `sbr` moves routes.
            let _ = run(stage(Stage::Check), call("CHECK", config, &result));
        }
        for config in configs.iter().rev() {
            run(stage(Stage::Del), call("DEL", config, &result)).done();
        }
    }
    begun
}
