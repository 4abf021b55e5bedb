//! A node with a healthy pod, on which others come to grief.

use std::collections::BTreeMap;

use cnikit_tests::{Call, Implementation, Node, Outcome, Pod, Scene, State, differences, ours, system_calls};
use serde_json::{Value, json};

/// How many of the points where something can happen are tried.
pub(crate) fn step() -> usize {
    if std::env::var_os("CNIKIT_EVERY_CALL").is_some() { 1 } else { 3 }
}

pub(crate) struct Ward {
    pub(crate) node: Node,
    plugins: Implementation,
    plugin: &'static str,
    config: Value,
    healthy: Scene,
}

impl Ward {
    /// A node on which a plugin has made one attachment already, so that what pods share is there.
    pub(crate) fn warm(plugin: &'static str, keys: Value) -> Self {
        let mut ward = Self::cold(plugin, keys);
        let stays = ward.node.pod("stays");
        ward.call("ADD", &stays).run().result();
        let goes = ward.node.pod("goes");
        ward.call("ADD", &goes).run().result();
        ward.call("DEL", &goes).run().done();
        ward.node.end(&goes);
        ward.healthy = ward.settled();
        ward
    }

    /// A node on which nothing has happened yet.
    pub(crate) fn cold(plugin: &'static str, keys: Value) -> Self {
        let plugins = ours!();
        let node = Node::new(&plugins);
        let no_link_local = "echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode";
        node.shell(no_link_local);
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "blue", "type": plugin,
            "ipam": {
                "type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        });
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        let healthy = Scene::owned(&State::of(&node));
        Self { node, plugins, plugin, config, healthy }
    }

    pub(crate) fn call<'a>(&'a self, command: &str, pod: &Pod) -> Call<'a> {
        self.node.call(&self.plugins, command, self.plugin, &self.config).on(pod).container(pod.name())
    }

    pub(crate) fn call_with<'a>(&'a self, command: &str, pod: &Pod, previous: &Value) -> Call<'a> {
        let mut config = self.config.clone();
        config["prevResult"] = previous.clone();
        self.node.call(&self.plugins, command, self.plugin, &config).on(pod).container(pod.name())
    }

    /// A call to which something happens, as `strace` has it.
    pub(crate) fn injected(&self, call: &Call<'_>, what: &str) -> Outcome {
        let what = format!("inject={what}");
        call.run_through(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &what])
    }

    /// The system calls that a call makes, by name; and how many its busiest thread makes, and how many of those before
    /// it has read its configuration.
    pub(crate) fn census(&self, call: &Call<'_>) -> Census {
        let (mut names, mut threads, mut start) = (BTreeMap::new(), BTreeMap::new(), None);
        let (_, made) = system_calls(call, &self.node);
        for one in made {
            let count: &mut usize = threads.entry(one.thread.clone()).or_insert(0);
            *count += 1;
            if start.is_none() && one.reads_configuration() {
                start = Some(*count);
            }
            *names.entry(one.name).or_insert(0) += 1;
        }
        Census { names, calls: threads.into_values().max().unwrap(), start: start.unwrap() }
    }

    /// That nothing is left of whatever happened to a pod that is gone; the pod that stays has all it had.
    pub(crate) fn is_healthy(&self, after: &str) {
        let found = differences(&self.healthy, &self.settled());
        assert!(found.is_empty(), "{after}: (theirs: before, ours: after)\n{}", found.join("\n"));
    }

    /// The node's state once the kernel has finished what it does in the background.
    fn settled(&self) -> Scene {
        let healthy = |state: &State| Scene::owned(state) == self.healthy;
        Scene::owned(&State::when(&self.node, healthy))
    }
}

#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) names: BTreeMap<String, usize>,
    pub(crate) calls: usize,
    pub(crate) start: usize,
}
