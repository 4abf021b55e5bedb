//! The configurations whose plugins are compared.

use serde_json::{Value, json};

/// A plugin's own part of a configuration, with more keys.
pub(crate) fn plugin(name: &str, more: Value) -> Value {
    let mut plugin = more;
    plugin["type"] = name.into();
    plugin
}

/// `bridge`, which is its pods' gateway, with `host-local` and more keys.
pub(crate) fn bridge(more: Value) -> Value {
    let mut bridge = plugin("bridge", more);
    bridge["isGateway"] = true.into();
    bridge["ipam"] = host_local();
    bridge
}

/// `host-local`, of which a pod has one address and a default route.
pub(crate) fn host_local() -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]})
}

/// A configuration with which a plugin is executed by itself; of a pod that is there, with its result.
pub(crate) fn alone(plugin: &Value, previous: Option<Value>) -> Value {
    let mut config = plugin.clone();
    config["cniVersion"] = "1.0.0".into();
    config["name"] = "blue".into();
    if let Some(previous) = previous {
        config["prevResult"] = previous;
    }
    config
}
