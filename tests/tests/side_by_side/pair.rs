//! Two nodes, one with each implementation.

use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Outcome, Pod, Scene, State, deliberate, differences, ours};
use serde_json::{Value, json};

/// One configuration and how it is called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    pub(crate) plugin: &'static str,
    pub(crate) config: Value,
    pub(crate) args: String,
}

impl Case {
    pub(crate) fn new(plugin: &'static str, config: Value) -> Self {
        Self { plugin, config, args: String::new() }
    }

    pub(crate) fn args(self, args: &str) -> Self {
        Self { args: args.to_owned(), ..self }
    }

    /// The configuration as a runtime would send it.
    pub(crate) fn config(&self, previous: Option<&Value>) -> Value {
        let mut config = json!({"cniVersion": "1.0.0", "name": "blue", "type": self.plugin});
        for (key, value) in self.config.as_object().unwrap() {
            config[key] = value.clone();
        }
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        config
    }

    fn version_knows_check(&self) -> bool {
        !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&self.config(None)["cniVersion"].as_str().unwrap())
    }

    /// All that was asked for, as text.
    fn text(&self) -> String {
        format!("{} {}", self.config, self.args)
    }
}

/// A node with a pod, one implementation that is used there, and another that is there too.
pub(crate) struct Side {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    pub(crate) own: Implementation,
    pub(crate) other: Implementation,
}

impl Side {
    fn new(own: &Implementation, other: &Implementation) -> Self {
        let node = Node::new(own);
        node.install(other);
        // New addresses of the node are used at once: nothing here is about duplicate address detection.
        node.shell("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        let pod = node.pod("blue");
        Self { node, pod, own: own.clone(), other: other.clone() }
    }

    pub(crate) fn call(
        &self,
        plugins: &Implementation,
        command: &str,
        case: &Case,
        previous: Option<&Value>,
    ) -> Outcome {
        let config = case.config(previous);
        self.node.call(plugins, command, case.plugin, &config).on(&self.pod).args(&case.args).run()
    }

    fn scene(&self, case: &Case, said: &Value) -> Scene {
        deliberate::erase(Scene::new(&State::of(&self.node), said.clone(), &case.text()))
    }

    /// That the other implementation takes the attachment for its own: checks it, and removes all of it.
    fn is_served_by_the_other(&self, case: &Case, said: &Value, before: &State) -> Result<(), String> {
        let named = |outcome: Outcome| match outcome.status.success() {
            true => Ok(()),
            false => Err(format!("on an attachment of {:?}: {outcome}", self.own)),
        };
        if case.version_knows_check() {
            named(self.call(&self.other, "CHECK", case, Some(said)))?;
        }
        named(self.call(&self.other, "DEL", case, Some(said)))?;
        let left = |state: &State| left(state, before, said);
        let state = State::when(&self.node, |state| left(state).is_empty());
        match left(&state) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("left by the DEL of {:?} of what was made by {:?}: {}", self.other, self.own, left.join(", "))),
        }
    }
}

/// The two sides.
pub(crate) struct Pair {
    pub(crate) theirs: Side,
    pub(crate) ours: Side,
}

impl Pair {
    /// `None` where there is no reference, and that is said to be right.
    pub(crate) fn new() -> Option<Self> {
        let (reference, ours) = (Implementation::reference()?, ours!());
        Some(Self { theirs: Side::new(&reference, &ours), ours: Side::new(&ours, &reference) })
    }

    /// In what the two sides differ; they are given a little time to become the same.
    fn differences(&self, case: &Case, their_word: &Value, our_word: &Value) -> Vec<String> {
        let started = Instant::now();
        loop {
            let theirs = self.theirs.scene(case, their_word);
            let ours = self.ours.scene(case, our_word);
            let found = differences(&theirs, &ours);
            if found.is_empty() || started.elapsed() > Duration::from_secs(2) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// That an ADD by either implementation says the same and leaves the same kernel, or that both refuse; and that each
/// implementation serves what the other made.
pub(crate) fn same(case: &Case) -> Result<(), String> {
    let Some(Pair { theirs, ours }) = Pair::new() else { return Ok(()) };
    let before = (State::of(&theirs.node), State::of(&ours.node));
    let added = (theirs.call(&theirs.own, "ADD", case, None), ours.call(&ours.own, "ADD", case, None));
    match (added.0.status.success(), added.1.status.success()) {
        (true, true) => {}
        (false, false) => {
            added.1.error();
            return Ok(());
        }
        (false, true) if deliberate::refused_by_the_reference(&added.0.stdout).is_some() => return Ok(()),
        _ => return Err(format!("one of the two fails:\ntheirs: {}\nours: {}", added.0, added.1)),
    }
    let said = (added.0.result(), added.1.result());
    let pair = Pair { theirs, ours };
    let mut found = pair.differences(case, &said.0, &said.1);
    found.extend(pair.theirs.is_served_by_the_other(case, &said.0, &before.0).err());
    found.extend(pair.ours.is_served_by_the_other(case, &said.1, &before.1).err());
    if found.is_empty() { Ok(()) } else { Err(format!("{case:?}:\n{}", found.join("\n"))) }
}

/// What is there of an attachment that should be gone; what all attachments of a node share is fine.
pub(crate) fn left(state: &State, before: &State, said: &Value) -> Vec<String> {
    let mut left = Vec::new();
    let (now, before) = (state.json(), before.json());
    for (pod, content) in now.as_object().unwrap() {
        if content["links"].is_object() && pod != "host" && content["links"] != before[pod]["links"] {
            left.push(format!("in {pod}: {}", content["links"]));
        }
    }
    for link in state.links("host") {
        let shared = link["linkinfo"]["info_kind"] == "bridge" || before["host"]["links"].get(name(link)).is_some();
        if !shared {
            left.push(format!("the link {}", name(link)));
        }
    }
    let addresses = addresses(said);
    let text = |value: &Value| value.to_string();
    for route in now["host"]["routes"].as_array().into_iter().flatten().flat_map(|family| family.as_array().unwrap()) {
        if addresses.iter().any(|address| route["dst"] == **address) {
            left.push(format!("the route {route}"));
        }
    }
    for (network, files) in now["files"]["networks"].as_object().into_iter().flatten() {
        for name in files.as_object().unwrap().keys().filter(|name| addresses.contains(name)) {
            left.push(format!("the lease {network}/{name}"));
        }
    }
    for word in addresses.iter().map(String::as_str).chain(["c1"]) {
        if now["nftables"]["ruleset"].as_str().unwrap().contains(word) {
            left.push(format!("in nftables: {}", text(&now["nftables"]["ruleset"])));
        }
        for family in ["iptables", "ip6tables"] {
            if text(&now["nftables"][family]).contains(word) {
                left.push(format!("in {family}: {}", text(&now["nftables"][family])));
            }
        }
    }
    left
}

fn name(link: &Value) -> &str {
    link["ifname"].as_str().unwrap()
}

/// The addresses of a result of any version, without their prefixes' lengths.
fn addresses(said: &Value) -> Vec<String> {
    let new = said["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].into_iter().map(|family| &said[family]["ip"]);
    let texts = new.chain(old).filter_map(Value::as_str);
    texts.filter_map(|text| text.split('/').next().map(str::to_owned)).collect()
}
