//! `host-local` and `static` alone: histories of calls for several containers, each compared in what is said and in what
//! is on the disk afterwards.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use cnikit_tests::{Implementation, Node, Scene, State, deliberate, differences, isolated, ours};
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::network::{Families, dns, routes, static_addresses};
use super::{each, object};
use crate::pair::agreed;

/// A subnet: its addresses' common part, its prefix's length, and how many addresses at its beginning are played with.
type Subnet = (&'static str, u8, u8);

const SUBNETS: [Subnet; 7] = [
    ("10.5.0.", 29, 8),
    ("10.6.0.", 30, 4),
    ("10.7.0.", 24, 9),
    ("172.20.0.", 28, 9),
    ("fd00:5::", 125, 8),
    ("fd00:6::", 126, 4),
    ("fd00:7::", 64, 9),
];

fn is_v6(subnet: &Subnet) -> bool {
    subnet.0.contains(':')
}

fn range(subnet: Subnet) -> impl Strategy<Value = Value> {
    let (common, bits, size) = subnet;
    let host = move || weighted(0.3, 1..size - 1);
    (host(), host(), host()).prop_map(move |(start, end, gateway)| {
        let zero = if is_v6(&subnet) { "" } else { "0" };
        let mut range = json!({"subnet": format!("{common}{zero}/{bits}")});
        // One that is its gateway alone has nothing to give, and is one of a set all the same.
        let end = end.map(|end| end.max(start.unwrap_or(1)));
        for (key, number) in [("rangeStart", start), ("rangeEnd", end), ("gateway", gateway)] {
            if let Some(number) = number {
                range[key] = json!(format!("{common}{number}"));
            }
        }
        range
    })
}

/// Sets of ranges, each of one family.
fn sets() -> impl Strategy<Value = Vec<Vec<Value>>> {
    let subnets = subsequence(SUBNETS.to_vec(), 1..=4).prop_shuffle();
    let ranges = subnets.prop_flat_map(|subnets| {
        subnets
            .into_iter()
            .map(|subnet| (Just(is_v6(&subnet)), range(subnet), any::<bool>()))
            .collect::<Vec<_>>()
    });
    ranges.prop_map(|ranges| {
        let mut sets: Vec<(bool, Vec<Value>)> = Vec::new();
        for (v6, range, joins) in ranges {
            match sets.last_mut() {
                Some((family, set)) if joins && *family == v6 => set.push(range),
                _ => sets.push((v6, vec![range])),
            }
        }
        sets.into_iter().map(|(_, set)| set).collect()
    })
}

/// One call.
#[derive(Debug, Clone)]
struct Step {
    command: &'static str,
    container: u8,
    interface: &'static str,
    /// Addresses that are asked for, and by which way.
    asked: Option<(&'static str, Vec<String>)>,
}

/// Calls, in which addresses of some kind are asked for.
fn steps(addresses: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<Step>> {
    let asked = (select(vec!["CNI_ARGS", "args", "runtimeConfig"]), vec(addresses, 1..3));
    let command = select(vec!["ADD", "ADD", "ADD", "ADD", "DEL", "DEL", "CHECK"]);
    let step = (command, 0..6_u8, select(vec!["eth0", "eth0", "eth0", "net1"]), weighted(0.25, asked));
    let step = step.prop_map(|(command, container, interface, asked)| Step {
        command,
        container,
        interface,
        // A runtime knows what it asked for until it is there.
        asked: asked.filter(|_| command == "ADD"),
    });
    vec(step, 4..16)
}

/// A configuration and the calls with it.
#[derive(Clone)]
struct History {
    config: Value,
    steps: Vec<Step>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.config)?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "{number}: {step:?}"))
    }
}

fn of_host_local() -> impl Strategy<Value = History> {
    let address = (select(SUBNETS.to_vec()), 0..9_u8).prop_map(|((common, ..), n)| format!("{common}{n}"));
    let version = select(vec!["1.0.0", "1.0.0", "0.4.0", "0.3.1"]);
    let keys = (
        sets(),
        weighted(0.2, range(("10.9.0.", 28, 9))),
        routes(Families::Both),
        weighted(0.3, Just("/run/resolv.conf")),
        weighted(0.2, Just("/var/lib/cni/elsewhere")),
    );
    (version, keys, steps(address)).prop_map(|(version, keys, mut steps)| {
        // To a second ADD the reference gives what is asked for beside the first's; or takes that away, if it fails.
        let mut added = HashSet::new();
        for step in &mut steps {
            match step.command {
                "ADD" if !added.insert((step.container, step.interface)) => step.asked = None,
                "DEL" => drop(added.remove(&(step.container, step.interface))),
                _ => {}
            }
        }
        // The reference's takes one address from there.
        for (way, addresses) in steps.iter_mut().filter_map(|step| step.asked.as_mut()) {
            addresses.truncate(if *way == "CNI_ARGS" { 1 } else { 2 });
        }
        let (sets, from_runtime, routes, resolv_conf, directory) = keys;
        let mut ipam = json!({"type": "host-local", "ranges": sets, "routes": routes});
        for (key, value) in [("resolvConf", resolv_conf), ("dataDir", directory)] {
            if let Some(value) = value {
                ipam[key] = json!(value);
            }
        }
        let mut config = json!({"cniVersion": version, "name": "blue", "type": "some", "ipam": ipam});
        if let Some(range) = from_runtime {
            config["runtimeConfig"] = json!({"ipRanges": [[range]]});
        }
        History { config, steps }
    })
}

fn of_static() -> impl Strategy<Value = History> {
    let address = select(vec!["10.5.0.9/24", "fd00:5::9/64", "172.20.9.9/16"]).prop_map(str::to_owned);
    let ipam = (of(static_addresses(Families::Both)), dns());
    let version = select(vec!["1.0.0", "1.0.0", "0.4.0", "0.3.1"]);
    (version, ipam, steps(address)).prop_map(|(version, (ipam, dns), steps)| {
        let mut section = ipam.unwrap_or_else(|| json!({"type": "static"}));
        section.as_object_mut().unwrap().extend(object([dns]));
        History {
            config: json!({"cniVersion": version, "name": "blue", "type": "some", "ipam": section}),
            steps,
        }
    })
}

const RESOLV_CONF: &str = "printf 'nameserver 10.5.0.53\\nnameserver fd00::53\\n# no\\ndomain a.b\\nsearch a.b c\\noptions ndots:2\\n' > /run/resolv.conf";

/// One implementation's node.
struct Side {
    node: Node,
    plugins: Implementation,
}

impl Side {
    fn new(plugins: Implementation) -> Self {
        let node = Node::new(&plugins);
        node.shell(RESOLV_CONF);
        Self { node, plugins }
    }

    fn call(&self, config: &Value, step: &Step) -> cnikit_tests::Outcome {
        let mut config = config.clone();
        let mut args = String::new();
        match &step.asked {
            Some(("CNI_ARGS", ips)) => args = format!("IgnoreUnknown=1;IP={}", ips.join(",")),
            Some(("args", ips)) => config["args"] = json!({"cni": {"ips": ips}}),
            Some((_, ips)) => config["runtimeConfig"]["ips"] = json!(ips),
            None => {}
        }
        let plugin = config["ipam"]["type"].as_str().unwrap().to_owned();
        let call = self.node.call(&self.plugins, step.command, &plugin, &config).args(&args);
        call.container(&format!("c{}", step.container))
            .env("CNI_IFNAME", step.interface)
            .env("CNI_NETNS", "/run/netns/none")
            .within(Duration::from_secs(60))
            .run()
    }

    /// An ADD that fails leaves nothing of ours, while the reference goes on behind the addresses that it gave back.
    fn go_on_from(&self, other: &Self) {
        let last = other.node.shell(
            "mkdir -p /var/lib/cni; cd /var/lib/cni; grep -rH '' --include 'last_reserved_ip.*' . || true",
        );
        for (file, address) in last.lines().filter_map(|line| line.split_once(':')) {
            self.node.shell(&format!("mkdir -p /var/lib/cni; cd /var/lib/cni; mkdir -p $(dirname {file}); printf %s {address} > {file}"));
        }
    }

    fn disk(&self) -> Scene {
        deliberate::erase(Scene::new(&State::of_disk(&self.node), Value::Object(Map::new()), ""))
    }
}

fn same_history(history: &History) -> Result<(), String> {
    let Some(reference) = Implementation::reference() else { return Ok(()) };
    let (theirs, ours) = (Side::new(reference), Side::new(ours!()));
    for (number, step) in history.steps.iter().enumerate() {
        let at = |error| format!("call {number} of {history:?}:\n{error}");
        let said =
            agreed(step.command, &theirs.call(&history.config, step), &ours.call(&history.config, step))
                .map_err(at)?;
        match said {
            Some((theirs, ours)) if theirs != ours => {
                return Err(at(format!("theirs says {theirs}, ours {ours}")));
            }
            Some(_) => {}
            None => ours.go_on_from(&theirs),
        }
        let found = differences(&theirs.disk(), &ours.disk());
        if !found.is_empty() {
            return Err(at(found.join("\n")));
        }
    }
    Ok(())
}

#[test]
fn host_local_with_random_ranges_and_histories() {
    isolated(|| each(30, &of_host_local(), same_history));
}

#[test]
fn static_with_random_addresses_and_requests() {
    isolated(|| each(10, &of_static(), same_history));
}

#[test]
fn host_local_passes_over_ranges_with_nothing_to_give() {
    isolated(|| {
        let gateway = |common: &str| {
            let address = format!("{common}1");
            json!({"subnet": format!("{common}0/24"), "rangeStart": address, "rangeEnd": address})
        };
        let (some, others) = (json!({"subnet": "10.6.0.0/30"}), json!({"subnet": "fd00:6::/126"}));
        for sets in [
            json!([[gateway("10.5.0."), some]]),
            json!([[some, gateway("10.5.0.")]]),
            json!([[gateway("10.5.0."), some, gateway("10.7.0.")], [others]]),
            // A set of nothing else is refused, and nothing is taken from the other.
            json!([[gateway("10.5.0.")]]),
            json!([[gateway("10.5.0."), gateway("10.7.0.")], [others]]),
            json!([[some], [gateway("10.5.0.")]]),
        ] {
            let ipam = json!({"type": "host-local", "ranges": sets});
            let config = json!({"cniVersion": "1.0.0", "name": "blue", "type": "some", "ipam": ipam});
            let step = |command, container, ip: Option<&str>| Step {
                command,
                container,
                interface: "eth0",
                asked: ip.map(|ip| ("runtimeConfig", vec![ip.to_owned()])),
            };
            let steps = vec![
                step("ADD", 0, Some("10.5.0.1")),
                step("ADD", 0, None),
                step("CHECK", 0, None),
                step("ADD", 1, None),
                step("DEL", 0, None),
                step("ADD", 1, None),
                step("DEL", 1, None),
            ];
            same_history(&History { config, steps }).unwrap();
        }
    });
}

/// What random histories found.
#[test]
fn static_without_addresses_wants_to_be_told_of_none_in_check() {
    isolated(|| {
        let config =
            json!({"cniVersion": "1.0.0", "name": "blue", "type": "some", "ipam": {"type": "static"}});
        let step = |command| Step { command, container: 0, interface: "eth0", asked: None };
        same_history(&History { config, steps: vec![step("ADD"), step("CHECK")] }).unwrap();
    });
}
