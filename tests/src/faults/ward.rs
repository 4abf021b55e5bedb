//! A node on which one pod comes to grief beside another.

use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use serde_json::{Value, json};

use super::scenario::{Inside, Scenario};
use super::tracer::{Arrival, Fault, Tracer};
use crate::call::{Call, Implementation, Outcome};
use crate::difference::differences;
use crate::lan::{LONG_RANGE, Lan};
use crate::node::{Node, Pod};
use crate::scene::Scene;
use crate::state::State;

/// The pod that must not notice.
pub(super) const BYSTANDER: &str = "stays";
/// The pod that it happens to.
const VICTIM: &str = "victim";

/// How long the kernel may take to finish what it has been asked for.
const SOON: Duration = Duration::from_millis(250);
const AT_LAST: Duration = Duration::from_secs(2);
const SERVED: Duration = Duration::from_secs(10);

/// An IPv6 address that nobody else may have is there at once: else each would be waited for, for two seconds, and some would
/// be new in the one picture and not in the other.
const WITHOUT_DETECTION: &str =
    "for all in all default; do echo 0 > /proc/sys/net/ipv6/conf/$all/accept_dad; done";

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// An ADD; a DEL follows, with the namespace there.
    Add,
    /// An ADD; a DEL follows, without the namespace.
    AddThenGone,
    /// A DEL; another follows.
    Del,
    /// A DEL without the namespace; another follows.
    DelWhenGone,
    /// A GC that has an attachment to remove; another follows.
    Gc,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Add, Self::AddThenGone, Self::Del, Self::DelWhenGone, Self::Gc];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::AddThenGone => "ADD, then the namespace is gone",
            Self::Del => "DEL",
            Self::DelWhenGone => "DEL, the namespace is gone",
            Self::Gc => "GC",
        }
    }

    fn is_add(self) -> bool {
        matches!(self, Self::Add | Self::AddThenGone)
    }

    /// Whether the clean-up has no namespace.
    pub fn without_namespace(self) -> bool {
        matches!(self, Self::AddThenGone | Self::DelWhenGone)
    }
}

/// What one fault came to.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Where it happened, if that point was reached.
    pub hit: Option<String>,
    /// The call failed, or was killed.
    pub failed: bool,
    /// It said how, in the specification's form; or could not, for it was killed or its output was what failed.
    pub reported: bool,
    /// It did not end by itself.
    pub hung: bool,
    /// What the call that failed left behind, or a DEL that said it was done.
    pub before: Vec<String>,
    /// What is left after the clean-up.
    pub after: Vec<String>,
    /// Why the clean-up, a CHECK of a success, or a repetition of the ADD failed.
    pub troubles: Vec<String>,
    /// What the call said.
    pub said: String,
}

/// A node, one implementation's plugins, and a pod that is attached and must not notice anything.
#[derive(Debug)]
pub struct Ward {
    scenario: Scenario,
    plugins: Implementation,
    node: Arc<Node>,
    victim: Pod,
    start: Scene,
    /// Whoever gives addresses out, as long as this is needed.
    _lan: Option<Lan>,
}

impl Ward {
    /// A node on which everything that pods share is there.
    pub fn new(scenario: &Scenario, plugins: &Implementation) -> Self {
        let node = Arc::new(Node::new(plugins));
        // Link-local addresses come with time.
        node.shell("echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode; ip link set lo up");
        node.shell(WITHOUT_DETECTION);
        node.shell(scenario.before);
        let lan = scenario.served.then(|| {
            let mut lan = Lan::on(Arc::clone(&node), plugins);
            lan.start_server(&[LONG_RANGE]);
            lan.start_daemon();
            lan
        });
        let bystander = pod(&node, BYSTANDER);
        let victim = pod(&node, VICTIM);
        let start = Scene::owned(&State::of(&node));
        let mut ward = Self { scenario: *scenario, plugins: plugins.clone(), node, victim, start, _lan: lan };
        ward.add(&bystander).unwrap_or_else(|outcome| panic!("{}: {outcome}", scenario.name));
        let result = ward.add(&ward.victim).unwrap_or_else(|outcome| panic!("{}: {outcome}", scenario.name));
        let done = ward.del(Some(&ward.victim), Some(&result), None);
        assert!(done.is_none(), "{}: {}", scenario.name, done.unwrap());
        // Whatever the kernel still has to do.
        std::thread::sleep(SOON);
        ward.start = Scene::owned(&State::of(&ward.node));
        ward
    }

    /// A round in which nothing happens, and the points that there were.
    pub fn census(&mut self, verb: Verb) -> (Round, Vec<Arrival>) {
        let mut tracer = Tracer::counting();
        (self.round(verb, &mut tracer, false), tracer.seen)
    }

    /// Has a call traced, to which something may happen, and does what a runtime would do then.
    pub fn round(&mut self, verb: Verb, tracer: &mut Tracer, killing: bool) -> Round {
        let mut round = Round::default();
        let (failure, before) = match verb {
            Verb::Add | Verb::AddThenGone => self.failing_add(tracer, &mut round),
            Verb::Del | Verb::DelWhenGone => (self.failing_del(verb, tracer, &mut round), None),
            Verb::Gc => (self.failing_gc(tracer, &mut round), None),
        };
        round.hit = tracer.hit.take();
        round.hung = tracer.hung;
        round.failed = failure.is_some();
        // Who cannot leave a container's namespace must do nothing more, and kills itself.
        let is_dead =
            killing || failure.as_ref().is_some_and(|outcome| outcome.status.signal() == Some(libc::SIGABRT));
        if let Some(outcome) = &failure {
            round.reported = is_dead || is_reported(outcome, round.hit.as_deref());
            round.said = outcome.to_string();
        }
        let before = match failure {
            Some(_) if !is_dead => before,
            Some(_) => None,
            // A removal that failed need not have done anything; one that says it did must have.
            None => (!verb.is_add()).then(|| self.start.clone()),
        };
        if let Some(before) = before {
            let ended = verb != Verb::AddThenGone && self.ends_container(verb);
            round.before = self.left(&before, unlike(ended, ended), self.patience(SOON));
        }
        self.clean_up(verb, &mut round);
        // A server is told of an end through the container's interface only, which does not stay for a daemon that was not asked.
        let is_untold = self.ends_container(verb) || !verb.is_add() && round.failed;
        round.after =
            self.left(&self.start, unlike(self.ends_container(verb), is_untold), self.patience(AT_LAST));
        self.repeat(verb, &mut round);
        round
    }

    /// How long something may take: a server is another process, and hears of an end some time later.
    fn patience(&self, usual: Duration) -> Duration {
        if self.scenario.served { SERVED } else { usual }
    }

    /// Whether the container's namespace is gone in the end.
    fn ends_container(&self, verb: Verb) -> bool {
        verb.without_namespace() || (verb == Verb::Gc && self.scenario.inside == Inside::Own)
    }

    /// An ADD that may fail; also, what the node was like before it. A plugin that stands behind others takes back its
    /// own only; of a list in which all may fail, nothing can be said.
    fn failing_add(&self, tracer: &mut Tracer, round: &mut Round) -> (Option<Outcome>, Option<Scene>) {
        let last = self.scenario.configs(VICTIM).len() - 1;
        let (first, before) = match last {
            0 => (Ok(Value::Null), Some(self.start.clone())),
            _ if self.scenario.everywhere => (Ok(Value::Null), None),
            _ => (self.add_part(&self.victim, 0..last, Value::Null, None), None),
        };
        let first = match first {
            Ok(first) => first,
            Err(outcome) => {
                round.troubles.push(format!("ADD: {outcome}"));
                return (None, None);
            }
        };
        let (part, before) = match before {
            None if !self.scenario.everywhere => (last..last + 1, Some(Scene::owned(&State::of(&self.node)))),
            before => (0..last + 1, before),
        };
        let result = match self.add_part(&self.victim, part, first, Some(tracer)) {
            Ok(result) => result,
            Err(outcome) => return (Some(outcome), before),
        };
        // What says that it succeeded must have.
        for (number, config) in self.scenario.configs(VICTIM).into_iter().enumerate() {
            if tracer.hit.is_some() && self.suffers(number) && config["type"] != "host-local" {
                let outcome = self.call(config, "CHECK", Some(&self.victim), VICTIM, Some(&result)).run();
                if !outcome.status.success() {
                    round.troubles.push(format!("CHECK after a success: {outcome}"));
                }
            }
        }
        (None, None)
    }

    fn failing_del(&self, verb: Verb, tracer: &mut Tracer, round: &mut Round) -> Option<Outcome> {
        let result = match self.add(&self.victim) {
            Ok(result) => Some(result),
            Err(outcome) => {
                round.troubles.push(format!("ADD: {outcome}"));
                None
            }
        };
        let gone = verb == Verb::DelWhenGone;
        if gone {
            self.node.end(&self.victim);
        }
        self.del((!gone).then_some(&self.victim), result.as_ref(), Some(tracer))
    }

    fn failing_gc(&self, tracer: &mut Tracer, round: &mut Round) -> Option<Outcome> {
        if let Err(outcome) = self.add(&self.victim) {
            round.troubles.push(format!("ADD: {outcome}"));
        }
        self.gc(Some(tracer))
    }

    fn clean_up(&self, verb: Verb, round: &mut Round) {
        if verb == Verb::AddThenGone {
            self.node.end(&self.victim);
        }
        let failure = match verb {
            Verb::Gc => {
                let failure = self.gc(None);
                if self.ends_container(verb) {
                    self.node.end(&self.victim);
                }
                failure
            }
            _ => self.del((!verb.without_namespace()).then_some(&self.victim), None, None),
        };
        round.troubles.extend(failure.map(|outcome| format!("the clean-up: {outcome}")));
    }

    /// An ADD must be possible again.
    fn repeat(&mut self, verb: Verb, round: &mut Round) {
        if self.ends_container(verb) {
            self.victim = pod(&self.node, VICTIM);
        }
        match self.add(&self.victim) {
            Ok(result) => {
                let failure = self.del(Some(&self.victim), Some(&result), None);
                round.troubles.extend(failure.map(|outcome| format!("DEL: {outcome}")));
            }
            Err(outcome) => round.troubles.push(format!("ADD once more: {outcome}")),
        }
    }

    /// What is different from a state before, but in some places.
    fn left(&self, start: &Scene, unlike: &[&str], patience: Duration) -> Vec<String> {
        let start = start.clone().without(unlike);
        let now = |state: &State| Scene::owned(state).without(unlike);
        let state = State::within(patience, &self.node, |state| now(state) == start);
        differences(&start, &now(&state))
    }

    /// The list's ADD. Returns its result, or what the plugin said that failed.
    fn add(&self, pod: &Pod) -> Result<Value, Outcome> {
        self.add_part(pod, 0..usize::MAX, Value::Null, None)
    }

    /// The ADD of a part of the list, after a result of those before it.
    fn add_part(
        &self,
        pod: &Pod,
        part: Range<usize>,
        mut result: Value,
        mut tracer: Option<&mut Tracer>,
    ) -> Result<Value, Outcome> {
        let configs = self.scenario.configs(pod.name()).into_iter().enumerate();
        for (number, config) in configs.filter(|(number, _)| part.contains(number)) {
            let previous = (number > 0).then_some(&result);
            let call = self.call(config, "ADD", Some(pod), pod.name(), previous);
            let outcome = self.execute(number, &call, tracer.as_deref_mut());
            match serde_json::from_str(&outcome.stdout) {
                Ok(printed) if outcome.status.success() => result = printed,
                _ => return Err(outcome),
            }
        }
        Ok(result)
    }

    /// The list's DEL, which ends with the first that fails, as libcni's does. Returns what that plugin said.
    fn del(
        &self,
        pod: Option<&Pod>,
        result: Option<&Value>,
        mut tracer: Option<&mut Tracer>,
    ) -> Option<Outcome> {
        let configs = self.scenario.configs(VICTIM).into_iter().enumerate().rev();
        for (number, config) in configs {
            let call = self.call(config, "DEL", pod, VICTIM, result);
            let outcome = self.execute(number, &call, tracer.as_deref_mut());
            if !outcome.status.success() {
                return Some(outcome);
            }
        }
        None
    }

    /// The list's GC, in which all plugins have their turn. Returns what the first said that failed.
    fn gc(&self, mut tracer: Option<&mut Tracer>) -> Option<Outcome> {
        let mut failure = None;
        for (number, mut config) in self.scenario.configs(VICTIM).into_iter().enumerate() {
            config["cniVersion"] = "1.1.0".into();
            config["cni.dev/valid-attachments"] =
                json!([{"containerID": BYSTANDER, "ifname": self.scenario.interface}]);
            let call = self.call(config, "GC", None, VICTIM, None);
            let outcome = self.execute(number, &call, tracer.as_deref_mut());
            if !outcome.status.success() {
                failure.get_or_insert(outcome);
            }
        }
        failure
    }

    fn call(
        &self,
        mut config: Value,
        command: &str,
        pod: Option<&Pod>,
        container: &str,
        result: Option<&Value>,
    ) -> Call<'_> {
        if let Some(result) = result {
            config["prevResult"] = result.clone();
        }
        let plugin = config["type"].as_str().unwrap_or_default().to_owned();
        let call = self.node.call(&self.plugins, command, &plugin, &config).container(container);
        let call = call.env("CNI_IFNAME", self.scenario.interface);
        if let Some(pod) = pod { call.on(pod) } else { call }
    }

    /// Executes a plugin of the list; under the tracer, if it is one that faults happen to.
    fn execute(&self, number: usize, call: &Call<'_>, tracer: Option<&mut Tracer>) -> Outcome {
        match tracer {
            Some(tracer) if self.suffers(number) => call.traced(tracer),
            _ => call.run(),
        }
    }

    /// Whether faults happen to a plugin of the list.
    fn suffers(&self, number: usize) -> bool {
        self.scenario.everywhere || number + 1 == self.scenario.configs(VICTIM).len()
    }
}

/// A container.
fn pod(node: &Node, name: &str) -> Pod {
    let pod = node.pod(name);
    node.pod_shell(&pod, WITHOUT_DETECTION);
    pod
}

/// Which places of a scene are not compared: a container's that is gone, a server's that could not be told of it.
fn unlike(gone: bool, untold: bool) -> &'static [&'static str] {
    match (gone, untold) {
        (false, false) => &[],
        (false, true) => &["served"],
        (true, false) => &[VICTIM],
        (true, true) => &[VICTIM, "served"],
    }
}

/// Whether an error is told as the specification has it. An answer that cannot be written is one that nobody reads.
fn is_reported(outcome: &Outcome, hit: Option<&str>) -> bool {
    if hit.is_some_and(|hit| hit.starts_with("write(1 ")) {
        return true;
    }
    let Ok(error) = serde_json::from_str::<Value>(&outcome.stdout) else { return false };
    outcome.status.code().is_some()
        && error["code"].as_u64().is_some_and(|code| code > 0)
        && error["msg"].as_str().is_some_and(|msg| !msg.is_empty())
}

impl Round {
    /// Whether nothing happened that must not.
    pub fn is_clean(&self) -> bool {
        (!self.failed || self.reported)
            && !self.hung
            && self.before.is_empty()
            && self.after.is_empty()
            && self.troubles.is_empty()
    }

    /// Whether the node can be used again.
    pub(super) fn leaves_the_node(&self) -> bool {
        !self.hung && self.after.is_empty() && self.troubles.is_empty()
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {}", self.hit.as_deref().unwrap_or("no point"))?;
        if self.hung {
            write!(f, "\n  hung")?;
        }
        if self.failed && !self.reported {
            write!(f, "\n  failed without saying so")?;
        }
        for (what, list) in [
            ("left before the clean-up", &self.before),
            ("left after it", &self.after),
            ("trouble", &self.troubles),
        ] {
            for line in list {
                write!(f, "\n  {what}: {line}")?;
            }
        }
        if !self.said.is_empty() {
            write!(f, "\n  said: {}", self.said.replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

impl Fault {
    /// What people call it.
    pub fn name(self) -> String {
        match self {
            Self::Fail(errno) => format!("{errno:?}"),
            Self::Refuse { request, errno } => format!("request {} refused: {errno:?}", request + 1),
            Self::Kill { tree, after } => {
                format!(
                    "the {} dies {} the call",
                    if tree { "tree" } else { "process" },
                    if after { "after" } else { "before" }
                )
            }
        }
    }
}
