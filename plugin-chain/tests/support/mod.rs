//! A list of two plugins, `bridge` and one behind it, on a node in memory.

#![allow(dead_code)] // not every test needs all of it

use std::path::Path;

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, Error};
use plugin_bridge::Bridge;
use plugin_kit::testing::{MemoryNode, TestCall, Trial};
use plugin_kit::{Attach, Kit};
use serde_json::{Value, json};

/// A node, and the two configurations.
pub(crate) struct Chain {
    pub(crate) node: MemoryNode,
    pub(crate) bridge: Value,
    pub(crate) config: Value,
    leases: tempfile::TempDir,
}

impl Chain {
    pub(crate) fn new(plugin: &str, keys: Value) -> Self {
        let leases = tempfile::tempdir().unwrap();
        let (bridge, config) = (bridge(leases.path()), configuration(plugin, keys));
        Self { node: MemoryNode::new(), bridge, config, leases }
    }

    /// What `bridge` says of a container.
    pub(crate) fn add_bridge(&self, container: &str) -> AddResult {
        add_bridge(&self.node, &self.bridge, container)
    }

    pub(crate) fn call(&self, container: &str) -> TestCall {
        TestCall::new(self.config.clone()).container(container)
    }

    pub(crate) fn add<P: Attach>(
        &self,
        plugin: P,
        container: &str,
        before: &AddResult,
    ) -> Result<AddResult, Error> {
        let call = self.call(container).previous(before);
        Kit::with_kernels(plugin, &self.node).add(&call.request())
    }

    pub(crate) fn check<P: Attach>(
        &self,
        plugin: P,
        container: &str,
        result: &AddResult,
    ) -> Result<(), Error> {
        let call = self.call(container).previous(result);
        Kit::with_kernels(plugin, &self.node).check(&call.request())
    }

    pub(crate) fn del<P: Attach>(&self, plugin: P, container: &str) -> Result<(), Error> {
        Kit::with_kernels(plugin, &self.node).del(&self.call(container).del_request())
    }
}

/// A plugin that is to fail behind `bridge`.
pub(crate) fn behind_bridge<P: Attach + Copy>(plugin: P, config: &Value) -> Trial<'static, P> {
    Trial::new(plugin, config).behind(|node, call| {
        let made = Kit::with_kernels(Bridge, node).add(&plain_bridge(&call).request()).unwrap();
        call.previous(&made)
    })
}

/// The DEL of that bridge.
pub(crate) fn del_bridge(node: &MemoryNode, call: &TestCall) {
    Kit::with_kernels(Bridge, node).del(&plain_bridge(call).del_request()).unwrap();
}

fn plain_bridge(call: &TestCall) -> TestCall {
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge"});
    TestCall::new(config).container(call.container_id())
}

/// That each command fails well, at so many points at least.
pub(crate) fn fails_well<P: Attach + Copy>(trial: &Trial<'_, P>, least: [usize; 3]) {
    let points = [
        trial.assert_add_is_all_or_nothing(),
        trial.assert_del_is_completed_by_the_next(),
        trial.assert_gc_is_completed_by_the_next(),
    ];
    assert!(points.iter().zip(least).all(|(found, least)| *found >= least), "{points:?}");
}

/// The configuration of the first plugin.
pub(crate) fn bridge(leases: &Path) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge",
        "ipam": {"type": "host-local", "dataDir": leases, "subnet": "10.22.0.0/24"},
    })
}

/// The configuration of the second.
pub(crate) fn configuration(plugin: &str, keys: Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": plugin});
    for (key, value) in keys.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// What `bridge` says of a container.
pub(crate) fn add_bridge(node: &MemoryNode, config: &Value, container: &str) -> AddResult {
    let call = TestCall::new(config.clone()).container(container);
    Kit::with_kernels(Bridge, node).add(&call.request()).unwrap()
}
