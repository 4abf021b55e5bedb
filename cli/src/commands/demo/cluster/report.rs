//! What happened, as values: `--json` prints them as they are, [`super::story`] and [`super::drawing`] for people.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use overlay::report::{Map, Path};
use overlay::{Liveness, Mode};
use serde::Serialize;

use super::super::seclusion::Rights;
use super::super::time::{microseconds, some_microseconds};
use super::frame::Layer;

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) setting: Setting,
    pub(super) joined: Vec<Joined>,
    pub(super) attached: Vec<Attached>,
    /// Until every agent knew every pod.
    #[serde(rename = "knownUs", serialize_with = "microseconds")]
    pub(super) known: Duration,
    pub(super) pings: Vec<Ping>,
    pub(super) capture: Option<Capture>,
    /// What an agent sent through a tunnel to find out whether that is a way, where pings are not wrapped.
    pub(super) probe: Option<Capture>,
    pub(super) cut: Option<Cut>,
    /// Pings between nodes after every agent was killed.
    pub(super) without_agents: Vec<Ping>,
    pub(super) deleted: Deleted,
    /// What each agent knew when all was well.
    pub(super) topology: Vec<Map>,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

/// The scene before anything is attached.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Setting {
    pub(super) rights: Rights,
    /// This process, which is the segment.
    pub(super) pid: u32,
    pub(super) mode: Mode,
    pub(super) nodes: Vec<Place>,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

/// A node, and where it can be entered.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Place {
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) netns: String,
}

/// A node whose agent has joined the others.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Joined {
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) is_router: bool,
    pub(super) bridge: String,
    pub(super) subnets: Vec<IpNet>,
    /// From its agent's start until new pods could get addresses.
    #[serde(rename = "readyUs", serialize_with = "microseconds")]
    pub(super) ready: Duration,
    pub(super) ways: Vec<Reached>,
}

/// A node, and the way to it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reached {
    pub(super) node: String,
    pub(super) path: Path,
}

/// A pod after its `ADD`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attached {
    pub(super) pod: String,
    pub(super) node: String,
    pub(super) netns: String,
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) host_interface: String,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

impl Attached {
    /// The address that others ask.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.addresses.first().map(IpNet::addr)
    }
}

/// A few pings from one pod to another.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ping {
    pub(super) from: String,
    pub(super) to: String,
    /// The source's own address.
    pub(super) source: IpAddr,
    pub(super) address: IpAddr,
    /// They are on different nodes.
    pub(super) between_nodes: bool,
    /// The first answer's time, in which neighbours are looked for.
    #[serde(rename = "firstUs", serialize_with = "some_microseconds")]
    pub(super) first: Option<Duration>,
    /// The fastest of the answers after it.
    #[serde(rename = "thenUs", serialize_with = "some_microseconds")]
    pub(super) then: Option<Duration>,
    /// Why the kernel would not send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Who it came from, as the other pod saw it.
    pub(super) seen_as: Option<IpAddr>,
}

impl Ping {
    /// Whether there was an answer, and the other saw the pod's own address.
    pub(super) fn is_good(&self) -> bool {
        self.then.is_some() && self.seen_as == Some(self.source)
    }
}

/// A packet, as it was on the segment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capture {
    pub(super) from: String,
    pub(super) to: String,
    /// The node whose cable it was caught on.
    pub(super) node: String,
    pub(super) bytes: usize,
    /// From the outside in.
    pub(super) layers: Vec<Layer>,
}

impl Capture {
    /// Whether it went through a tunnel.
    pub(super) fn is_wrapped(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer, Layer::Vxlan { .. }))
    }
}

/// A node's cable was pulled, and plugged in again.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cut {
    pub(super) node: String,
    /// How the others saw it after a while.
    pub(super) seen: Vec<Seen>,
    /// Pings among the others, and within the node that was cut off.
    pub(super) meanwhile: Vec<Ping>,
    /// A pod that was attached there meanwhile.
    pub(super) attached: Option<Attached>,
    /// From plugging it in until a pod there had answered one of every other node.
    #[serde(rename = "backUs", serialize_with = "some_microseconds")]
    pub(super) back: Option<Duration>,
    /// … until the pod that was attached meanwhile answered.
    #[serde(rename = "newPodUs", serialize_with = "some_microseconds")]
    pub(super) new_pod: Option<Duration>,
    /// … until all agents saw one another again.
    #[serde(rename = "healedUs", serialize_with = "some_microseconds")]
    pub(super) healed: Option<Duration>,
}

/// How an agent saw a node.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Seen {
    pub(super) by: String,
    pub(super) liveness: Liveness,
    #[serde(rename = "afterUs", serialize_with = "microseconds")]
    pub(super) after: Duration,
}

impl Cut {
    pub(super) fn is_good(&self) -> bool {
        self.meanwhile.iter().all(Ping::is_good)
            && self.attached.is_some()
            && self.back.is_some()
            && self.new_pod.is_some()
            && self.healed.is_some()
    }
}

/// `DEL` of every pod.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deleted {
    pub(super) pods: usize,
    /// What could still be found; nothing should be.
    pub(super) left: Vec<String>,
    #[serde(rename = "tookUs", serialize_with = "microseconds")]
    pub(super) took: Duration,
}

impl Report {
    /// Whether everything was as it should be.
    pub(super) fn is_good(&self) -> bool {
        self.pings.iter().chain(&self.without_agents).all(Ping::is_good)
            && self.capture.is_some()
            && self.cut.as_ref().is_some_and(Cut::is_good)
            && self.deleted.left.is_empty()
    }
}
