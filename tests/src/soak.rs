//! Many calls at once on one network.

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::call::{Call, Implementation, Outcome};
use crate::difference::differences;
use crate::node::{Node, Pod};
use crate::scene::Scene;
use crate::state::State;

/// The name under which our plugins find the reference's `host-local`.
const THEIRS: &str = "their-host-local";

/// What takes longer hangs, on however busy a machine.
const HANGS: Duration = Duration::from_secs(60);

/// How long workers go on.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// Each makes so many rounds.
    Rounds(usize),
    /// Each begins its last round before this is over.
    Over(Duration),
}

/// Processes that attach and detach pods at once on one network: ADD, CHECK, DEL, in every eighth round an ADD that is
/// forgotten, and in another a GC, which is to find it.
#[derive(Debug)]
pub struct Soak {
    /// Whose plugins.
    pub plugins: Implementation,
    /// If given, every fourth pod gets its addresses from this one's `host-local`, in the same directory.
    pub reference: Option<Implementation>,
    /// How many workers there are, each with a pod, at most 100.
    pub workers: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many calls there were, by command.
    pub calls: BTreeMap<&'static str, usize>,
    /// The longest call.
    pub longest: Duration,
    /// How long all of it took.
    pub took: Duration,
    /// Everything that went wrong.
    pub wrong: Vec<String>,
}

impl Soak {
    /// Runs it on a node of its own. At the end nothing must be left of what was not there before.
    ///
    /// # Panics
    /// If a call hangs, or the node cannot be made.
    pub fn run(&self, until: Until) -> Tally {
        let place = Place::new(self.plugins.clone(), self.reference.as_ref(), self.workers);
        // What pods share is there before, and after.
        place.call("ADD", 0, None).run().result();
        place.call("DEL", 0, None).run().done();
        let before = Scene::owned(&State::of(&place.node));
        let tally = Mutex::new(Tally::default());
        let holders = Mutex::new(BTreeMap::new());
        let started = Instant::now();
        thread::scope(|scope| {
            for number in 0..self.workers {
                let worker = Worker { place: &place, number, tally: &tally, holders: &holders };
                scope.spawn(move || {
                    for round in 0.. {
                        let over = match until {
                            Until::Rounds(rounds) => round >= rounds,
                            Until::Over(time) => started.elapsed() >= time,
                        };
                        if over {
                            break;
                        }
                        worker.round(round);
                    }
                });
            }
        });
        let mut tally = tally.into_inner().unwrap();
        tally.took = started.elapsed();
        place.gc(&[]).run().done();
        let is_as_before = |state: &State| Scene::owned(state) == before;
        let after = Scene::owned(&State::when(&place.node, is_as_before));
        tally.wrong.extend(left(&before, &after));
        tally
    }
}

/// Pods that are attached at once to a node on which there was nothing, and detached at once.
#[derive(Debug)]
pub struct Cold {
    plugins: Implementation,
    pods: usize,
    /// What a node is like on which one pod has come and gone.
    expected: Scene,
}

impl Cold {
    /// So many pods, at most 100.
    ///
    /// # Panics
    /// If one alone cannot be attached and detached, or the node cannot be made.
    pub fn new(plugins: &Implementation, pods: usize) -> Self {
        let place = Place::new(plugins.clone(), None, pods);
        let result = place.call("ADD", 0, None).run().result();
        place.call("DEL", 0, Some(&result)).run().done();
        // Whatever the kernel still has to do.
        thread::sleep(Duration::from_millis(500));
        let expected = Scene::owned_by_name(&State::of(&place.node));
        Self { plugins: plugins.clone(), pods, expected }
    }

    /// Does it on a node of its own. At the end nothing must be left but what one pod leaves: what all of them share.
    ///
    /// # Panics
    /// If a call hangs, or the node cannot be made.
    pub fn run(&self) -> Tally {
        let place = Place::new(self.plugins.clone(), None, self.pods);
        let tally = Mutex::new(Tally::default());
        let holders = Mutex::new(BTreeMap::new());
        let started = Instant::now();
        let (ready, attached) = (Barrier::new(self.pods), Barrier::new(self.pods));
        thread::scope(|scope| {
            for number in 0..self.pods {
                let worker = Worker { place: &place, number, tally: &tally, holders: &holders };
                let (ready, attached) = (&ready, &attached);
                scope.spawn(move || {
                    ready.wait();
                    let said = worker.add();
                    attached.wait();
                    worker.leave(said.as_ref());
                });
            }
        });
        let mut tally = tally.into_inner().unwrap();
        tally.took = started.elapsed();
        let is_as_expected = |state: &State| Scene::owned_by_name(state) == self.expected;
        let after = Scene::owned_by_name(&State::when(&place.node, is_as_expected));
        tally.wrong.extend(left(&self.expected, &after));
        tally
    }
}

fn left(before: &Scene, after: &Scene) -> impl Iterator<Item = String> {
    let left = differences(before, after).into_iter();
    left.map(|left| format!("left (theirs: before, ours: after): {left}"))
}

/// A node with pods.
struct Place {
    node: Node,
    plugins: Implementation,
    mixed: bool,
    pods: Vec<Pod>,
}

impl Place {
    fn new(plugins: Implementation, reference: Option<&Implementation>, pods: usize) -> Self {
        assert!((1..=100).contains(&pods), "1 to 100 pods");
        let node = Node::new(&plugins);
        // A link-local address of a bridge comes, goes and changes with its ports.
        node.shell("echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode");
        if let Some(reference) = reference {
            node.install_as(reference, "host-local", plugins.directory(), THEIRS);
        }
        let pods = (0..pods).map(|number| node.pod(&format!("pod-{number}"))).collect();
        Self { node, plugins, mixed: reference.is_some(), pods }
    }

    fn config(&self, number: usize, keys: &Value) -> Value {
        let allocator = if self.mixed && number % 4 == 3 { THEIRS } else { "host-local" };
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "blue", "type": "bridge", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": allocator, "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        if allocator == THEIRS {
            // They know no later one.
            config["cniVersion"] = "1.0.0".into();
        }
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn call(&self, command: &str, number: usize, previous: Option<&Value>) -> Call<'_> {
        let keys = previous.map_or_else(|| json!({}), |previous| json!({"prevResult": previous}));
        let config = self.config(number, &keys);
        let pod = &self.pods[number];
        self.node.call(&self.plugins, command, "bridge", &config).on(pod).container(pod.name())
    }

    /// An ADD of an allocator alone, to which no DEL belongs.
    fn forgotten(&self, number: usize, id: &str) -> Call<'_> {
        let config = self.config(number, &json!({}));
        let plugin = config["ipam"]["type"].as_str().unwrap();
        let call = self.node.call(&self.plugins, "ADD", plugin, &config);
        call.container(id).env("CNI_NETNS", "/run/netns/none")
    }

    fn gc(&self, valid: &[Pod]) -> Call<'_> {
        let attachment = |pod: &Pod| json!({"containerID": pod.name(), "ifname": "eth0"});
        let valid: Value = valid.iter().map(attachment).collect();
        let config = self.config(0, &json!({"cni.dev/valid-attachments": valid}));
        let call = self.node.call(&self.plugins, "GC", "bridge", &config);
        call.without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS")
    }
}

/// Who makes the calls about one pod.
struct Worker<'a> {
    place: &'a Place,
    number: usize,
    tally: &'a Mutex<Tally>,
    /// Which pod has an address, from the answer of its ADD until its DEL.
    holders: &'a Mutex<BTreeMap<String, usize>>,
}

impl Worker<'_> {
    fn round(&self, round: usize) {
        let said = self.add();
        if let Some(said) = &said {
            self.make("CHECK", &self.place.call("CHECK", self.number, Some(said)));
        }
        if round % 8 == self.number % 8 {
            let id = format!("forgotten-{}-{round}", self.number);
            self.make("ADD", &self.place.forgotten(self.number, &id));
        }
        if round % 8 == (self.number + 3) % 8 {
            // Every pod may be attached at this moment.
            self.make("GC", &self.place.gc(&self.place.pods));
        }
        self.leave(said.as_ref());
    }

    fn add(&self) -> Option<Value> {
        let outcome = self.make("ADD", &self.place.call("ADD", self.number, None));
        let said = outcome.status.success().then(|| outcome.result())?;
        for address in addresses(&said) {
            let other = self.holders.lock().unwrap().insert(address.clone(), self.number);
            if let Some(other) = other {
                self.wrong(format!("{address} was given to pods {} and {other}", self.number));
            }
        }
        Some(said)
    }

    fn leave(&self, said: Option<&Value>) {
        for address in said.into_iter().flat_map(addresses) {
            self.holders.lock().unwrap().remove(&address);
        }
        self.make("DEL", &self.place.call("DEL", self.number, said));
    }

    fn make(&self, command: &'static str, call: &Call<'_>) -> Outcome {
        let started = Instant::now();
        let outcome = call.clone().within(HANGS).run();
        let mut tally = self.tally.lock().unwrap();
        *tally.calls.entry(command).or_default() += 1;
        tally.longest = tally.longest.max(started.elapsed());
        if !outcome.status.success() {
            tally.wrong.push(format!("{command}: {outcome}"));
        }
        outcome
    }

    fn wrong(&self, what: String) {
        self.tally.lock().unwrap().wrong.push(what);
    }
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()).map(str::to_owned).collect()
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        for (command, count) in other.calls {
            *self.calls.entry(command).or_default() += count;
        }
        self.longest = self.longest.max(other.longest);
        self.took += other.took;
        self.wrong.extend(other.wrong);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (command, count) in &self.calls {
            write!(f, "{count} {command}, ")?;
        }
        let (took, longest) = (self.took.as_secs_f64(), self.longest.as_secs_f64());
        write!(f, "in {took:.1} s, the longest {longest:.2} s; {} went wrong", self.wrong.len())
    }
}
