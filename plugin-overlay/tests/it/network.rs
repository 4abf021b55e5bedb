//! A network whose agent is a test.

use std::path::Path;

use plugin_kit::testing::TestCall;
use plugin_overlay::{Assigned, NodeFile};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A network's directories: the agent's and the leases'.
pub(crate) struct Network {
    agent: TempDir,
    leases: TempDir,
    keys: Value,
}

impl Network {
    /// Without a node file.
    pub(crate) fn new(keys: Value) -> Self {
        Self { agent: tempfile::tempdir().unwrap(), leases: tempfile::tempdir().unwrap(), keys }
    }

    /// With the node file of an ordinary node.
    pub(crate) fn served(keys: Value) -> Self {
        let network = Self::new(keys);
        network.write(&node());
        network
    }

    pub(crate) fn config(&self) -> Value {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "overlay",
            "agentDirectory": self.agent.path(), "dataDir": self.leases.path(),
        });
        for (key, value) in self.keys.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }

    pub(crate) fn call(&self, container: &str) -> TestCall {
        TestCall::new(self.config()).container(container)
    }

    /// What the agent says.
    pub(crate) fn write(&self, node: &NodeFile) {
        std::fs::write(self.file(), serde_json::to_vec(node).unwrap()).unwrap();
    }

    /// The agent is gone, and the machine was started again.
    pub(crate) fn forget(&self) {
        std::fs::remove_file(self.file()).unwrap();
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.agent.path().join("pods.json")
    }

    pub(crate) fn leases_dir(&self) -> &Path {
        self.leases.path()
    }

    /// The addresses that are leased, in order.
    pub(crate) fn leases(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.leases.path().join("pods")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut leases: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        leases.sort();
        leases
    }
}

/// An ordinary node.
pub(crate) fn node() -> NodeFile {
    NodeFile {
        node: "0123456789abcdef0123456789abcdef".to_owned(),
        bridge: "cnikit0".to_owned(),
        mtu: 1450,
        subnets: vec![assigned("10.244.3.0/24", 1, 77)],
        cluster: vec!["10.244.0.0/16".parse().unwrap()],
        waiting: None,
        cut_off: None,
        duplicates: Vec::new(),
    }
}

/// A node with both families.
pub(crate) fn dual_stack() -> NodeFile {
    NodeFile {
        subnets: vec![assigned("10.244.3.0/24", 1, 77), assigned("fd00:10:0:3::/64", 1, 77)],
        cluster: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10::/48".parse().unwrap()],
        ..node()
    }
}

/// A subnet, its gateway and its first address by their numbers in it.
pub(crate) fn assigned(subnet: &str, gateway: u32, first: u32) -> Assigned {
    let subnet: ipnet::IpNet = subnet.parse().unwrap();
    let nth = |number: u32| match subnet.network() {
        std::net::IpAddr::V4(base) => std::net::Ipv4Addr::from(u32::from(base) + number).into(),
        std::net::IpAddr::V6(base) => std::net::Ipv6Addr::from(u128::from(base) + u128::from(number)).into(),
    };
    Assigned { subnet, gateway: nth(gateway), first: nth(first) }
}
