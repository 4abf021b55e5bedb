//! Two nodes, one with each implementation.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Outcome, Pod, Scene, State, deliberate, differences, ours};
use serde_json::{Value, json};

/// A list of configurations, mostly of one, and how they are called.
#[derive(Clone)]
pub(crate) struct Case {
    /// Each plugin's, with its `type`. The first says which version and which network, for all.
    pub(crate) list: Vec<Value>,
    pub(crate) args: String,
    /// The container's ID, and its interface's name.
    pub(crate) names: (&'static str, &'static str),
    /// What is done on the node before: shell.
    pub(crate) before: &'static str,
    /// What is different in this case: the beginning of a path, and why.
    pub(crate) except: Option<(&'static str, &'static str)>,
}

const USUAL_NAMES: (&str, &str) = ("c1", "eth0");

impl Case {
    pub(crate) fn new(plugin: &str, mut config: Value) -> Self {
        config["type"] = plugin.into();
        Self::list(vec![config])
    }

    pub(crate) fn list(list: Vec<Value>) -> Self {
        Self { list, args: String::new(), names: USUAL_NAMES, before: "true", except: None }
    }

    pub(crate) fn after(self, before: &'static str) -> Self {
        Self { before, ..self }
    }

    pub(crate) fn args(self, args: &str) -> Self {
        Self { args: args.to_owned(), ..self }
    }

    pub(crate) fn called(self, names: (&'static str, &'static str)) -> Self {
        Self { names, ..self }
    }

    /// Says that what is at a path is meant to be different, and why.
    pub(crate) fn except(self, path: &'static str, why: &'static str) -> Self {
        Self { except: Some((path, why)), ..self }
    }

    /// Puts a bridge before the plugin in a list.
    pub(crate) fn behind_a_bridge(mut self) -> Self {
        let mut bridge = json!({"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}});
        if let Some(version) = self.list[0].get("cniVersion") {
            bridge["cniVersion"] = version.clone();
        }
        self.list.insert(0, bridge);
        self
    }

    /// The configurations as a runtime would send them.
    pub(crate) fn configs(&self, previous: Option<&Value>) -> Vec<Value> {
        let of_all = |key, usual: &str| self.list[0].get(key).cloned().unwrap_or_else(|| usual.into());
        let sent = |config: &Value| {
            let mut config = config.clone();
            config["cniVersion"] = of_all("cniVersion", "1.0.0");
            config["name"] = of_all("name", "blue");
            if let Some(previous) = previous {
                config["prevResult"] = previous.clone();
            }
            config
        };
        self.list.iter().map(sent).collect()
    }

    /// The only configuration as a runtime would send it.
    pub(crate) fn config(&self) -> Value {
        self.configs(None).remove(0)
    }

    fn version_knows_check(&self) -> bool {
        !["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&self.config()["cniVersion"].as_str().unwrap())
    }

    /// Whether the attachment has something in nf_tables, which each implementation keeps elsewhere.
    fn filters(&self) -> bool {
        self.list.iter().any(|config| {
            config["ipMasq"] == true
                || config["macspoofchk"] == true
                || config["type"] == "portmap"
                || config["type"] == "firewall"
        })
    }

    /// All that was asked for, as text.
    fn text(&self) -> String {
        format!("{} {}", json!(self.list), self.args)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { list, args, names, before, .. } = self;
        write!(f, "{} {names:?} CNI_ARGS={args:?} after {before:?}", json!(list))
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
        let call = |config: &Value| {
            let plugin = config["type"].as_str().unwrap();
            let (container, interface) = case.names;
            let call = self.node.call(plugins, command, plugin, config).on(&self.pod).args(&case.args);
            // Hundreds of cases are tried where others want to work.
            call.container(container).env("CNI_IFNAME", interface).within(Duration::from_secs(60)).run()
        };
        let mut configs = case.configs(previous);
        if command == "DEL" {
            configs.reverse();
        }
        let mut outcome = call(&configs[0]);
        for config in &mut configs[1..] {
            if !outcome.status.success() {
                break;
            }
            if command == "ADD" {
                config["prevResult"] = outcome.result();
            }
            outcome = call(config);
        }
        outcome
    }

    fn scene(&self, case: &Case, said: &Value) -> Scene {
        let scene = Scene::new(&State::of(&self.node), said.clone(), &case.text());
        let ((container, interface), usual) = (case.names, USUAL_NAMES);
        deliberate::erase(scene.called(&[(container, usual.0), (interface, usual.1)]))
    }

    fn check(&self, plugins: &Implementation, case: &Case, said: &Value) -> Result<(), String> {
        if !case.version_knows_check() {
            return Ok(());
        }
        let outcome = self.call(plugins, "CHECK", case, Some(said));
        if deliberate::missed_by_us(&outcome.stdout).is_some() {
            return Ok(());
        }
        self.expect(outcome)
    }

    /// That an implementation removes all of the attachment.
    fn is_removed(
        &self,
        plugins: &Implementation,
        case: &Case,
        said: Option<&Value>,
        before: &State,
    ) -> Result<(), String> {
        match self.expect(self.call(plugins, "DEL", case, said)) {
            // The reference's DEL wants its iptables chains, last of all.
            Err(error) if case.filters() && error.contains("Chain 'CNI-") => {}
            outcome => outcome?,
        }
        // What we keep in nf_tables the reference does not know; it goes with our next GC.
        let unknown = case.filters()
            && matches!((&self.own, plugins), (Implementation::Ours(_), Implementation::Reference(_)));
        let nothing = Value::Null;
        let left = |state: &State| left_of(case.names.0, state, before, said.unwrap_or(&nothing), unknown);
        let state = State::when(&self.node, |state| left(state).is_empty());
        match left(&state) {
            left if left.is_empty() => Ok(()),
            left => {
                Err(format!("left on {:?}'s node by a DEL of {plugins:?}: {}", self.own, left.join(", ")))
            }
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

    /// A call by each, of its own attachment.
    fn agreed(
        &self,
        case: &Case,
        command: &str,
        previous: (Option<&Value>, Option<&Value>),
    ) -> Result<Option<(Value, Value)>, String> {
        let theirs = self.theirs.call(&self.theirs.own, command, case, previous.0);
        let ours = self.ours.call(&self.ours.own, command, case, previous.1);
        agreed(command, &theirs, &ours)
    }

    /// In what the two sides differ; they are given a little time to become the same.
    pub(crate) fn differences(&self, case: &Case, their_word: &Value, our_word: &Value) -> Vec<String> {
        let started = Instant::now();
        loop {
            let theirs = self.theirs.scene(case, their_word);
            let ours = self.ours.scene(case, our_word);
            let mut found = differences(&theirs, &ours);
            found.retain(|difference| case.except.is_none_or(|(path, _why)| !difference.starts_with(path)));
            if found.is_empty() || started.elapsed() > Duration::from_secs(5) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What the two say if both succeed, and `None` if they refuse for one reason, or only the reference does, as is known.
pub(crate) fn agreed(
    command: &str,
    theirs: &Outcome,
    ours: &Outcome,
) -> Result<Option<(Value, Value)>, String> {
    let said = |outcome: &Outcome| if outcome.stdout.is_empty() { Value::Null } else { outcome.result() };
    match (theirs.status.success(), ours.status.success()) {
        (true, true) => Ok(Some((said(theirs), said(ours)))),
        (false, false) if deliberate::same_code(&theirs.error(), &ours.error()) => Ok(None),
        (false, true) if deliberate::refused_by_the_reference(command, &theirs.stdout).is_some() => Ok(None),
        _ => Err(format!("the two do not agree:\ntheirs: {theirs}\nours: {ours}")),
    }
}

/// That an ADD by either implementation says the same and leaves the same kernel, or that both refuse; that another ADD
/// comes to the same; that each implementation serves what the other made; and that a DEL may be repeated.
pub(crate) fn same(case: &Case) -> Result<(), String> {
    let Some(pair) = Pair::new() else { return Ok(()) };
    for side in [&pair.theirs, &pair.ours] {
        side.node.shell(case.before);
    }
    let before = (State::of(&pair.theirs.node), State::of(&pair.ours.node));
    let Some(said) = pair.agreed(case, "ADD", (None, None))? else {
        // Only what does not speak a version refuses to remove what it has not made.
        let refused = |error: &String| error.contains("incompatible CNI versions");
        let removed = pair.ours.is_removed(&pair.ours.own, case, None, &before.1);
        return if removed.as_ref().is_err_and(refused) { Ok(()) } else { removed };
    };
    let mut found = pair.differences(case, &said.0, &said.1);
    let Pair { theirs, ours } = &pair;
    found.extend(theirs.check(&ours.own, case, &said.0).err());
    found.extend(ours.check(&ours.own, case, &said.1).err());
    // What the reference says against its own attachments it says against ours, and it does not find entries of ours.
    if !case.filters() && theirs.check(&theirs.own, case, &said.0).is_ok() {
        found.extend(ours.check(&theirs.own, case, &said.1).err());
    }
    match pair.agreed(case, "ADD", (None, None)) {
        Ok(_) => {
            found.extend(pair.differences(case, &said.0, &said.1).iter().map(|it| format!("ADD again: {it}")))
        }
        Err(error) => found.push(format!("ADD again: {error}")),
    }
    found.extend(theirs.is_removed(&theirs.other, case, Some(&said.0), &before.0).err());
    found.extend(ours.is_removed(&ours.other, case, Some(&said.1), &before.1).err());
    found.extend(pair.agreed(case, "DEL", (Some(&said.0), Some(&said.1))).err());
    if found.is_empty() { Ok(()) } else { Err(format!("{case:?}:\n{}", found.join("\n"))) }
}

/// What is there of an attachment that should be gone; what all attachments of a node share is fine.
pub(crate) fn left(state: &State, before: &State, said: &Value, filters: bool) -> Vec<String> {
    left_of(USUAL_NAMES.0, state, before, said, filters)
}

fn left_of(container: &str, state: &State, before: &State, said: &Value, filters: bool) -> Vec<String> {
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
        let whose = |name: &str| {
            said.is_null() && name.parse::<IpAddr>().is_ok() || addresses.contains(&name.to_owned())
        };
        for name in files.as_object().unwrap().keys().filter(|name| whose(name)) {
            left.push(format!("the lease {network}/{name}"));
        }
    }
    if filters {
        return left;
    }
    for word in addresses.iter().map(String::as_str).chain([container]) {
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
