//! One hostile call, and what must come of it.

use std::time::{Duration, Instant};

use cnikit_tests::{Call, Implementation, Node, Outcome, Pod, Scene, State, differences, ours};
use serde_json::{Value, json};

/// How long any call may take.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The codes that calls are refused with.
pub(crate) const VERSION: u64 = 1;
pub(crate) const ENVIRONMENT: u64 = 4;
pub(crate) const IO: u64 = 5;
pub(crate) const DECODING: u64 = 6;
pub(crate) const CONFIG: u64 = 7;
pub(crate) const NETNS: u64 = 8;
pub(crate) const TRY_AGAIN: u64 = 11;
pub(crate) const KERNEL: u64 = 100;
pub(crate) const CONFLICT: u64 = 101;

/// A node with a pod, where calls can be made that are honest until somebody changes them.
pub(crate) struct Victim {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    plugins: Implementation,
}

impl Victim {
    pub(crate) fn new() -> Self {
        let plugins = ours!();
        let node = Node::new(&plugins);
        // A link-local address that comes later would be a difference.
        node.shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
        let pod = node.pod("blue");
        Self { node, pod, plugins }
    }

    /// An honest call of `bridge`.
    pub(crate) fn call(&self, command: &str) -> Call<'_> {
        self.with(command, json!({}))
    }

    /// A call of `bridge` with other keys.
    pub(crate) fn with(&self, command: &str, keys: Value) -> Call<'_> {
        self.plugin(command, "bridge", keys)
    }

    /// A call of a plugin with other keys.
    pub(crate) fn plugin(&self, command: &str, plugin: &str, keys: Value) -> Call<'_> {
        let mut config = honest();
        config["type"] = json!(plugin);
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        self.node.call(&self.plugins, command, plugin, &config).on(&self.pod)
    }

    /// That a call is refused as it should be.
    pub(crate) fn refuses(&self, name: &str, code: u64, call: &Call<'_>) {
        let before = State::of(&self.node);
        let outcome = at_once(name, call);
        let error = outcome.error();
        assert_eq!(error["code"], code, "{name}: {outcome}");
        self.is_as(name, &before);
    }

    /// That everything is as it was.
    pub(crate) fn is_as(&self, name: &str, before: &State) {
        let before = Scene::owned(before);
        let after = State::when(&self.node, |after| Scene::owned(after) == before);
        let found = differences(&before, &Scene::owned(&after));
        assert!(
            found.is_empty(),
            "{name}: something is left (theirs: before, ours: after):\n{}",
            found.join("\n")
        );
    }
}

/// A configuration with nothing wrong in it.
pub(crate) fn honest() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "bridge", "isGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/29", "routes": [{"dst": "0.0.0.0/0"}]},
    })
}

/// A call that does not hang, does not panic, and says what it says in the specification's form.
pub(crate) fn at_once(name: &str, call: &Call<'_>) -> Outcome {
    let started = Instant::now();
    let outcome = call.run();
    assert!(started.elapsed() < AT_ONCE, "{name}: took {:?}", started.elapsed());
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(!said.contains("panicked"), "{name}: {outcome}");
    assert!(outcome.stdout.len() < 10_000, "{name}: says {} bytes", outcome.stdout.len());
    outcome
}

/// The address range with other keys.
pub(crate) fn ipam(keys: Value) -> Value {
    let mut ipam = honest()["ipam"].clone();
    for (key, value) in keys.as_object().unwrap() {
        ipam[key] = value.clone();
    }
    json!({"ipam": ipam})
}
