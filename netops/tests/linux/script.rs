//! Scripts against the real kernel: what a person gets who types the commands, what [`LinuxKernel`] makes of the same
//! plan, and what the kernel in memory predicts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use netops::*;
use nix::mount::{MsFlags, mount};
use proptest::prelude::*;
use serde_json::Value;

use crate::in_lab;
use crate::random_plans::{Recipe, recipes};
use crate::support::{Lab, with_random};

/// How the script calls the container's namespace.
#[derive(Debug, Clone, Copy)]
enum Called {
    ByName,
    ByPath,
}

#[test]
fn a_script_gives_what_the_kernel_gives_and_memory_predicts() {
    let called = prop_oneof![Just(Called::ByName), Just(Called::ByPath)];
    with_random(6, &(recipes(1), called), |(recipe, called)| compare(&recipe, called));
}

#[test]
fn a_script_of_everything_gives_what_the_kernel_gives_and_memory_predicts() {
    // All choices with a bridge; every other one, and the others, without.
    for (node, cables) in [(u32::MAX, [u32::MAX, u32::MAX]), (u32::MAX - 1, [0x5555_5555, 0xaaaa_aaaa])] {
        compare(&Recipe { pod: 1, node, cables: cables.to_vec() }, Called::ByName);
    }
}

#[test]
fn the_reverse_leaves_nothing_of_its_own() {
    let plan = Recipe { pod: 1, node: u32::MAX, cables: vec![u32::MAX, 1 << 29 | 1 << 30 | 1 << 12] }.plan();
    in_lab!(|lab| {
        let container = lab.name_container();
        let mut alone = Plan::new();
        for step in plan.steps().iter().filter(|step| step.ownership == Ownership::Shared) {
            alone.share(step.place, step.resource.clone());
        }
        lab.type_in(&alone, &container, |plan, script| drop(plan.apply(script).unwrap()));
        let before = lab.observe();
        let own = plan.without(&alone);
        lab.type_in(&own, &container, |plan, script| drop(plan.apply(script).unwrap()));
        assert_ne!(lab.observe(), before);
        lab.type_in(&own, &container, |plan, script| assert_eq!(plan.remove(script), Vec::new()));
        // What hangs from no container stays, and the address that Linux leaves on loopback.
        let kept = |lines: Vec<String>| -> Vec<_> {
            lines.into_iter().filter(|line| !line.contains("nft") && !line.contains("127.0.0.1/8")).collect()
        };
        assert_same("after", &kept(lab.observe()), "before", &kept(before));
        let left = lab.run(Place::Host, "nft list ruleset");
        assert!(!left.contains("pod 1"), "{left}");
    });
}

fn compare(recipe: &Recipe, called: Called) {
    let plan = recipe.plan();
    let mut memory = MemoryKernel::new();
    plan.apply(&mut memory).unwrap();
    let sysctls: Vec<(Place, SysctlKey)> = plan
        .steps()
        .iter()
        .filter_map(|step| match &step.resource {
            Resource::Sysctl(sysctl) => Some((step.place, sysctl.key.clone())),
            _ => None,
        })
        .collect();

    let observations = Mutex::new(Vec::new());
    in_lab!(|lab| {
        let container = match called {
            Called::ByName => lab.name_container(),
            Called::ByPath => lab.container_path(),
        };
        lab.type_in(&plan, &container, |plan, script| drop(plan.apply(script).unwrap()));
        observations.lock().unwrap().push((lab.observe(), settings(&mut lab.fresh_kernel(), &sysctls)));
    });
    in_lab!(|mut lab| {
        plan.apply(&mut lab.kernel).unwrap();
        observations.lock().unwrap().push((lab.observe(), settings(&mut lab.fresh_kernel(), &sysctls)));
    });
    let [typed, made]: [_; 2] = observations.into_inner().unwrap().try_into().unwrap();
    assert_same("typed", &typed.0, "made by netlink", &made.0);
    assert_eq!(typed.1, made.1, "sysctls, typed and made");

    let ruleset = |line: &String| line.contains("nft");
    let seen: Vec<_> = made.0.into_iter().filter(|line| !ruleset(line)).collect();
    assert_same("made", &seen, "predicted", &predict(&mut memory));
    assert_eq!(made.1, settings(&mut memory, &sysctls), "sysctls, made and predicted");
}

fn assert_same(a: &str, lines: &[String], b: &str, others: &[String]) {
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    assert!(lines == others, "only {a}:\n  {}\nonly {b}:\n  {}", only(lines, others), only(others, lines));
}

fn settings(kernel: &mut dyn Kernel, keys: &[(Place, SysctlKey)]) -> Vec<String> {
    let mut read = |(place, key): &(Place, SysctlKey)| {
        let answers = kernel.read(*place, &[Query::Sysctl(key.clone())]).unwrap();
        format!("{place}: {key}: {answers:?}")
    };
    keys.iter().map(&mut read).collect()
}

impl Lab {
    /// Runs what a plan comes to as a shell script.
    fn type_in(&self, plan: &Plan, container: &str, of: impl FnOnce(&Plan, &mut Script)) {
        let mut script = Script::new(container);
        of(plan, &mut script);
        let output = Command::new("sh").args(["-c", &script.to_string()]).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        // A script that says something has something to say.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
    }

    fn container_path(&self) -> String {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&self.container));
        format!("/proc/{}/fd/{fd}", std::process::id())
    }

    /// Gives the container's namespace a name, as `ip netns` would; in this test's mount namespace only.
    fn name_container(&self) -> String {
        mount(None::<&str>, "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir("/run/netns").unwrap();
        let file = Path::new("/run/netns/blue");
        fs::write(file, "").unwrap();
        let namespace = self.container_path();
        mount(Some(namespace.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        "blue".to_owned()
    }

    /// What `ip` and `nft` see, as lines.
    fn observe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for place in [Place::Host, Place::Container] {
            for link in list(&self.ip(place, "link show")) {
                lines.push(format!("{place}: {}", Line::of_link(link)));
            }
            for link in list(&self.ip(place, "address show")) {
                let addresses = list(&link["addr_info"]).iter().filter(|address| address["scope"] != "link");
                lines.extend(addresses.map(|address| {
                    format!(
                        "{place}: address {}/{} on {} noprefixroute {} broadcast {}",
                        text(&address["local"]),
                        address["prefixlen"],
                        text(&link["ifname"]),
                        address["noprefixroute"] == true,
                        text(&address["broadcast"]),
                    )
                }));
            }
            for family in ["-4", "-6"] {
                let routes = self.ip(place, &format!("{family} route show table all"));
                let unicast = |route: &&Value| route["type"] == "unicast" && route["table"] != "local";
                for route in list(&routes).iter().filter(unicast) {
                    let hops = if route["nexthops"].is_array() {
                        list(&route["nexthops"])
                    } else {
                        std::slice::from_ref(route)
                    };
                    lines.extend(
                        hops.iter()
                            .filter_map(|hop| Line::of_route(route, hop))
                            .map(|line| format!("{place}: {line}")),
                    );
                }
            }
            lines.extend(self.shaping(place).into_iter().map(|line| format!("{place}: {line}")));
            for family in ["-4", "-6"] {
                for rule in list(&self.ip(place, &format!("{family} rule show"))) {
                    let from = match text(&rule["src"]).as_str() {
                        "all" => continue,
                        from => from.to_owned(),
                    };
                    let (table, priority) = (text(&rule["table"]), &rule["priority"]);
                    lines.push(format!("{place}: rule {from} {table} {priority}"));
                }
            }
            // Marks may hold what nft cannot write.
            let ruleset = self.run(place, "nft list ruleset").replace("(\"it's\"", "('it's'");
            lines.push(format!("{place}: nft {}", unordered(&ruleset)));
        }
        lines.sort();
        lines
    }
}

/// A ruleset without the order in which its sets and chains were made.
fn unordered(ruleset: &str) -> String {
    let mut parts: Vec<_> = ruleset
        .split("\n}\n")
        .flat_map(|table| {
            let (name, parts) = table.split_once('\n').unwrap_or((table, ""));
            parts.split("\n\n").map(move |part| format!("{name}\n{part}\n"))
        })
        .collect();
    parts.sort();
    parts.concat()
}

impl Lab {
    /// What `tc` sees, as lines.
    fn shaping(&self, place: Place) -> Vec<String> {
        let tc = |arguments: &str| -> Value {
            serde_json::from_str(&self.run(place, &format!("tc -j {arguments}"))).unwrap()
        };
        let mut lines = Vec::new();
        for qdisc in list(&tc("qdisc show")) {
            let device = text(&qdisc["dev"]);
            if qdisc["kind"] == "tbf" {
                let options = &qdisc["options"];
                let burst = text(&options["burst"]);
                let burst = burst.split('b').next().unwrap_or_default();
                lines.push(format!("qdisc {device} rate {} burst {burst}", options["rate"]));
            } else if qdisc["kind"] == "ingress" {
                lines.push(format!("qdisc {device} ingress"));
                let filters = tc(&format!("filter show dev {device} parent ffff:"));
                let actions = list(&filters).iter().flat_map(|filter| list(&filter["options"]["actions"]));
                lines.extend(actions.map(|a| format!("redirect {device} to {}", text(&a["to_dev"]))));
            }
        }
        lines
    }
}

/// What the kernel in memory says, in the same lines (but for nft's).
fn predict(memory: &mut MemoryKernel) -> Vec<String> {
    let mut lines = Vec::new();
    for place in [Place::Host, Place::Container] {
        let links = read_links(memory, place).unwrap();
        for link in &links {
            let queries = [
                Query::Port(link.name.clone()),
                Query::Addresses(link.name.clone()),
                Query::Routes(link.name.clone()),
                Query::Qdiscs(link.name.clone()),
                Query::Redirects(link.name.clone()),
            ];
            let master = link.master.and_then(|index| links.iter().find(|link| link.index == index));
            let mut line = Line {
                name: link.name.to_string(),
                kind: link.kind.clone(),
                mtu: u64::from(link.mtu),
                up: link.up,
                promiscuous: link.promiscuous,
                master: master.map(|master| master.name.to_string()).unwrap_or_default(),
                alias: link.alias.clone().unwrap_or_default(),
                mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                ..Line::default()
            };
            for answer in memory.read(place, &queries).unwrap() {
                match answer {
                    Answer::Port(Some(port)) => (line.hairpin, line.isolated) = (port.hairpin, port.isolated),
                    Answer::Addresses(addresses) => {
                        let global =
                            addresses.iter().filter(|address| !is_link_local(&address.net.to_string()));
                        lines.extend(global.map(|address| {
                            let broadcast = address.broadcast().filter(|_| link.name != LinkName::loopback());
                            format!(
                                "{place}: address {} on {} noprefixroute {} broadcast {}",
                                address.net,
                                link.name,
                                !address.prefix_route,
                                broadcast.map(|b| b.to_string()).unwrap_or_default(),
                            )
                        }));
                    }
                    Answer::Routes(routes) => {
                        let global =
                            routes.iter().filter(|route| !is_link_local(&route.destination.to_string()));
                        lines.extend(global.map(|route| {
                            format!(
                                "{place}: route {} via {} dev {} onlink {} metric {} table {} src {} mtu {} advmss {} by {}",
                                route.destination,
                                route.gateway().map(|gateway| gateway.to_string()).unwrap_or_default(),
                                route.link().unwrap(),
                                matches!(route.target, RouteTarget::Link { onlink: true, .. }),
                                route.metric.unwrap_or(0),
                                route.table.unwrap_or(254),
                                route.source.map(|source| source.to_string()).unwrap_or_default(),
                                route.mtu.unwrap_or(0),
                                route.advmss.unwrap_or(0),
                                route.protocol.unwrap_or(3),
                            )
                        }));
                    }
                    Answer::Qdiscs(qdiscs) => lines.extend(qdiscs.iter().map(|qdisc| {
                        let what = match qdisc.discipline {
                            Discipline::TokenBucket(b) => format!("rate {} burst {}", b.rate, b.burst),
                            _ => "ingress".to_owned(),
                        };
                        format!("{place}: qdisc {} {what}", qdisc.link)
                    })),
                    Answer::Redirects(redirects) => {
                        lines.extend(
                            redirects.iter().map(|r| format!("{place}: redirect {} to {}", r.from, r.to)),
                        );
                    }
                    _ => {}
                }
            }
            lines.push(format!("{place}: {line}"));
        }
        if let [Answer::Rules(rules)] = memory.read(place, &[Query::Rules]).unwrap().as_slice() {
            let of_sources = rules.iter().filter_map(|rule| Some((rule.source()?, rule)));
            for (from, rule) in of_sources.filter(|(from, _)| from.prefix_len() > 0) {
                let priority = rule.priority.unwrap();
                lines.push(format!("{place}: rule {} {} {priority}", from.addr(), rule.table));
            }
        }
    }
    lines.sort();
    lines
}

/// A link, as both sides describe it.
#[derive(Debug, Default)]
struct Line {
    name: String,
    kind: String,
    mtu: u64,
    up: bool,
    promiscuous: bool,
    master: String,
    alias: String,
    mac: String,
    hairpin: bool,
    isolated: bool,
}

impl Line {
    fn of_link(link: &Value) -> Self {
        let flag = |flag: &str| list(&link["flags"]).iter().any(|value| value == flag);
        Self {
            name: text(&link["ifname"]),
            kind: text(&link["linkinfo"]["info_kind"]),
            mtu: link["mtu"].as_u64().unwrap(),
            up: flag("UP"),
            promiscuous: flag("PROMISC"),
            master: text(&link["master"]),
            alias: text(&link["ifalias"]),
            mac: text(&link["address"]),
            hairpin: link["linkinfo"]["info_slave_data"]["hairpin"] == true,
            isolated: link["linkinfo"]["info_slave_data"]["isolated"] == true,
        }
    }

    /// A route out of one of its next hops.
    fn of_route(route: &Value, hop: &Value) -> Option<String> {
        let gateway = text(&hop["gateway"]);
        let mut destination = text(&route["dst"]);
        if destination == "default" {
            // The family shows in the metric: IPv6's always has one.
            destination = if route["pref"].is_string() { "::/0" } else { "0.0.0.0/0" }.to_owned();
        } else if !destination.contains('/') {
            destination.push_str(if destination.contains(':') { "/128" } else { "/32" });
        }
        if is_link_local(&destination) {
            return None;
        }
        let table = match text(&route["table"]).as_str() {
            "" | "main" => "254".to_owned(),
            other => other.to_owned(),
        };
        let metric = |name: &str| {
            list(&route["metrics"]).iter().find_map(|metrics| metrics[name].as_u64()).unwrap_or(0)
        };
        let onlink = [route, hop].iter().any(|v| list(&v["flags"]).iter().any(|flag| flag == "onlink"));
        Some(format!(
            "route {destination} via {gateway} dev {} onlink {onlink} metric {} table {table} src {} mtu {} advmss {} by {}",
            text(&hop["dev"]),
            route["metric"].as_u64().unwrap_or(0),
            text(&route["prefsrc"]),
            metric("mtu"),
            metric("advmss"),
            if route["protocol"] == "kernel" { 2 } else { 3 },
        ))
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // One that was asked for; the others are random.
        let mac = if self.mac.starts_with("02:00:00:") { &self.mac } else { "" };
        write!(
            f,
            "link {} {} mtu {} up {} promiscuous {} master {} alias {} mac {mac} hairpin {} isolated {}",
            self.name,
            self.kind,
            self.mtu,
            self.up,
            self.promiscuous,
            self.master,
            self.alias,
            self.hairpin,
            self.isolated
        )
    }
}

/// Link-local addresses come when the kernel has time, and most are random.
fn is_link_local(text: &str) -> bool {
    text.starts_with("fe80::")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
