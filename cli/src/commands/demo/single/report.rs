//! What happened, as values: `--json` prints them as they are, [`super::story`] and [`super::drawing`] for people.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::super::seclusion::Rights;
use super::super::time::{microseconds, some_microseconds};

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) world: Setting,
    pub(super) attached: Vec<Attached>,
    pub(super) talks: Vec<Talk>,
    pub(super) checked: Vec<Done>,
    pub(super) deleted: Vec<Done>,
    pub(super) left: Remains,
    /// Every call of a plugin, in order: environment, standard input, answer.
    pub(super) calls: Vec<Call>,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

/// The scene before anything is attached.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Setting {
    pub(super) rights: Rights,
    /// This process, which is the node.
    pub(super) pid: u32,
    pub(super) network: Value,
    /// The path of the namespace that stands for everything outside of the node.
    pub(super) outside_netns: String,
    pub(super) outside_addresses: Vec<IpNet>,
    pub(super) uplink: String,
    pub(super) uplink_addresses: Vec<IpNet>,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

/// A pod after its `ADD`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attached {
    pub(super) pod: String,
    pub(super) netns: String,
    pub(super) interface: String,
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
    /// The other end of the pod's cable.
    pub(super) host_interface: String,
    pub(super) bridge: String,
    /// How long each plugin took.
    pub(super) plugins: Vec<Done>,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

/// A few pings from one to another.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Talk {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) address: IpAddr,
    /// The first answer's time, in which neighbours are looked for.
    #[serde(rename = "firstUs", serialize_with = "some_microseconds")]
    pub(super) first: Option<Duration>,
    /// The fastest of the answers after it.
    #[serde(rename = "thenUs", serialize_with = "some_microseconds")]
    pub(super) then: Option<Duration>,
    /// Why the kernel would not send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Who it came from, as the outside saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seen_as: Option<IpAddr>,
}

/// Something that took its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    pub(super) what: String,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

/// What could still be found after `DEL`; nothing of it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remains {
    /// Interfaces in the pods, but for their loopback.
    pub(super) pod_interfaces: Vec<String>,
    /// Interfaces on the node, but for its own and the bridge, which waits for the next pod.
    pub(super) node_interfaces: Vec<String>,
    pub(super) entries: Vec<String>,
    pub(super) leases: Vec<String>,
    pub(super) cached_results: Vec<String>,
}

/// A plugin's call, as the specification has it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    pub(super) plugin: String,
    /// The variables of the specification.
    pub(super) env: std::collections::BTreeMap<String, String>,
    pub(super) stdin: Value,
    pub(super) stdout: Value,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

impl Report {
    /// Whether everything was as it should be.
    pub(super) fn is_good(&self) -> bool {
        self.talks.iter().all(|talk| talk.is_good(&self.world)) && self.left.all().next().is_none()
    }
}

impl Talk {
    /// Whether there was an answer, and whether the outside saw the node's address instead of the pod's.
    pub(super) fn is_good(&self, world: &Setting) -> bool {
        let hidden = |seen: IpAddr| world.uplink_addresses.iter().any(|uplink| uplink.addr() == seen);
        self.then.is_some() && (self.to != OUTSIDE || self.seen_as.is_some_and(hidden))
    }
}

/// The name of everything that is neither node nor pod.
pub(super) const OUTSIDE: &str = "outside";

impl Remains {
    /// Each thing that is left.
    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        let Self { pod_interfaces, node_interfaces, entries, leases, cached_results } = self;
        [pod_interfaces, node_interfaces, entries, leases, cached_results].into_iter().flatten()
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    pub(in super::super) fn world() -> Setting {
        Setting {
            rights: Rights::Root,
            pid: 4711,
            network: serde_json::json!({"name": "default", "plugins": [{"type": "bridge"}, {"type": "loopback"}]}),
            outside_netns: "/proc/4711/fd/3".to_owned(),
            outside_addresses: nets(["192.0.2.1/24", "2001:db8::1/64"]),
            uplink: "uplink".to_owned(),
            uplink_addresses: nets(["192.0.2.2/24", "2001:db8::2/64"]),
            took: Duration::from_micros(2100),
        }
    }

    pub(in super::super) fn pod(number: u8) -> Attached {
        let host = number + 1;
        Attached {
            pod: format!("pod-{number}"),
            netns: format!("/proc/4711/fd/{}", number + 3),
            interface: "eth0".to_owned(),
            addresses: nets([&format!("10.203.0.{host}/16"), &format!("fd63:6e69:6b69::{host:x}/64")]),
            gateways: ["10.203.0.1", "fd63:6e69:6b69::1"].map(|text| text.parse().unwrap()).to_vec(),
            host_interface: format!("vethabcdefghij{}", number % 10),
            bridge: "cnikit0".to_owned(),
            plugins: vec![
                Done { what: "bridge".to_owned(), took: Duration::from_micros(1900) },
                Done { what: "loopback".to_owned(), took: Duration::from_micros(310) },
            ],
            took: Duration::from_micros(2400),
        }
    }

    fn nets(texts: [&str; 2]) -> Vec<IpNet> {
        texts.map(|text| text.parse().unwrap()).to_vec()
    }
}
