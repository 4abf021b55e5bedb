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
    /// The configuration of the plugin before it in a list.
    pub(crate) behind: Option<Value>,
    /// What is done on the node before: shell.
    pub(crate) before: &'static str,
    /// What is different in this case: the beginning of a path, and why.
    pub(crate) except: Option<(&'static str, &'static str)>,
}

impl Case {
    pub(crate) fn new(plugin: &'static str, config: Value) -> Self {
        Self { plugin, config, ..Self::default() }
    }

    pub(crate) fn after(self, before: &'static str) -> Self {
        Self { before, ..self }
    }

    pub(crate) fn args(self, args: &str) -> Self {
        Self { args: args.to_owned(), ..self }
    }

    /// Says that what is at a path is meant to be different, and why.
    pub(crate) fn except(self, path: &'static str, why: &'static str) -> Self {
        Self { except: Some((path, why)), ..self }
    }

    /// Puts a bridge before the plugin in a list.
    pub(crate) fn behind_a_bridge(self) -> Self {
        let mut bridge = json!({"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}});
        for key in ["cniVersion", "name"] {
            bridge[key] = self.config(None)[key].clone();
        }
        Self { behind: Some(bridge), ..self }
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

    /// Whether the attachment has something in nf_tables, which each implementation keeps elsewhere.
    fn filters(&self) -> bool {
        self.config["ipMasq"] == true || self.config["macspoofchk"] == true
    }

    /// All that was asked for, as text.
    fn text(&self) -> String {
        format!("{} {}", self.config, self.args)
    }
}

/// Where duplicates are looked for they are not waited for: nothing here is about how long that takes.
pub(crate) const NO_PROBES: &str = "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits
    echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitation_delay";

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
        let pod = node.pod("blue");
        node.shell(NO_PROBES);
        node.pod_shell(&pod, NO_PROBES);
        Self { node, pod, own: own.clone(), other: other.clone() }
    }

    pub(crate) fn call(
        &self,
        plugins: &Implementation,
        command: &str,
        case: &Case,
        previous: Option<&Value>,
    ) -> Outcome {
        let call = |plugin: &str, config: &Value| {
            self.node.call(plugins, command, plugin, config).on(&self.pod).args(&case.args).run()
        };
        let Some(first) = &case.behind else { return call(case.plugin, &case.config(previous)) };
        let plugin = first["type"].as_str().unwrap();
        match command {
            "ADD" => call(case.plugin, &case.config(Some(&call(plugin, first).result()))),
            "DEL" => {
                let outcome = call(case.plugin, &case.config(previous));
                let mut first = first.clone();
                first["prevResult"] = previous.cloned().unwrap_or_default();
                if outcome.status.success() { call(plugin, &first) } else { outcome }
            }
            _ => call(case.plugin, &case.config(previous)),
        }
    }

    fn scene(&self, case: &Case, said: &Value) -> Scene {
        deliberate::erase(Scene::new(&State::of(&self.node), said.clone(), &case.text()))
    }

    fn check(&self, plugins: &Implementation, case: &Case, said: &Value) -> Result<(), String> {
        if !case.version_knows_check() {
            return Ok(());
        }
        self.expect(self.call(plugins, "CHECK", case, Some(said)))
    }

    /// That the other implementation removes all of the attachment.
    fn is_removed_by_the_other(&self, case: &Case, said: &Value, before: &State) -> Result<(), String> {
        let del = || self.expect(self.call(&self.other, "DEL", case, Some(said)));
        match del() {
            // The reference's first DEL wants its iptables chains, last of all.
            Err(error) if case.filters() && error.contains("Chain 'CNI-") => del()?,
            outcome => outcome?,
        }
        // What we keep in nf_tables the reference does not know; it goes with our next GC.
        let unknown = case.filters() && matches!(self.own, Implementation::Ours(_));
        let left = |state: &State| left(state, before, said, unknown);
        let state = State::when(&self.node, |state| left(state).is_empty());
        match left(&state) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("left on {:?}'s node by the other's DEL: {}", self.own, left.join(", "))),
        }
    }

    fn expect(&self, outcome: Outcome) -> Result<(), String> {
        match outcome.status.success() {
            true => Ok(()),
            false => Err(format!("on an attachment of {:?}: {outcome}", self.own)),
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
    pub(crate) fn differences(&self, case: &Case, their_word: &Value, our_word: &Value) -> Vec<String> {
        let started = Instant::now();
        loop {
            let theirs = self.theirs.scene(case, their_word);
            let ours = self.ours.scene(case, our_word);
            let mut found = differences(&theirs, &ours);
            found.retain(|difference| case.except.is_none_or(|(path, _why)| !difference.starts_with(path)));
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
    for side in [&theirs, &ours] {
        side.node.shell(case.before);
    }
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
    let Pair { theirs, ours } = &pair;
    found.extend(theirs.check(&ours.own, case, &said.0).err());
    found.extend(ours.check(&ours.own, case, &said.1).err());
    // What the reference says against its own attachments it says against ours.
    if theirs.check(&theirs.own, case, &said.0).is_ok() {
        found.extend(ours.check(&theirs.own, case, &said.1).err());
    }
    found.extend(theirs.is_removed_by_the_other(case, &said.0, &before.0).err());
    found.extend(ours.is_removed_by_the_other(case, &said.1, &before.1).err());
    if found.is_empty() { Ok(()) } else { Err(format!("{case:?}:\n{}", found.join("\n"))) }
}

/// What is there of an attachment that should be gone; what all attachments of a node share is fine.
pub(crate) fn left(state: &State, before: &State, said: &Value, filters: bool) -> Vec<String> {
    let mut left = Vec::new();
    let (now, before) = (state.json(), before.json());
    for (place, content) in now.as_object().unwrap() {
        for (name, link) in content["links"].as_object().into_iter().flatten() {
            let shared = place == "host" && link["linkinfo"]["info_kind"] == "bridge";
            if !shared && link["flags"] != before[place]["links"][name]["flags"] {
                left.push(format!("in {place}: {link}"));
            }
        }
    }
    let addresses = addresses(said);
    let text = |value: &Value| value.to_string();
    for route in
        now["host"]["routes"].as_array().into_iter().flatten().flat_map(|family| family.as_array().unwrap())
    {
        if addresses.iter().any(|address| route["dst"] == **address) {
            left.push(format!("the route {route}"));
        }
    }
    for (network, files) in now["files"]["networks"].as_object().into_iter().flatten() {
        for name in files.as_object().unwrap().keys().filter(|name| addresses.contains(name)) {
            left.push(format!("the lease {network}/{name}"));
        }
    }
    if filters {
        return left;
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

/// The addresses of a result of any version, without their prefixes' lengths.
fn addresses(said: &Value) -> Vec<String> {
    let new = said["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].into_iter().map(|family| &said[family]["ip"]);
    let texts = new.chain(old).filter_map(Value::as_str);
    texts.filter_map(|text| text.split('/').next().map(str::to_owned)).collect()
}
