//! What the agent knows, and what it says of that when it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay::report::{Map, MapNode, Path, Peer, PeerCounts, Problem, Severity, Status, StoreStatus, Way};
use overlay::{Conflict, Identity, Liveness, Local, Member, Node, NodeId, Range, Role, Topology, View};
use tokio::sync::{mpsc, watch};

use crate::counters::{KernelWork, Traffic};
use crate::settings::Settings;
use crate::store::{ListedPods, PodList, Request};

/// What the agent knows. Each part is told by the one task that knows it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) settings: Settings,
    pub(crate) id: NodeId,
    pub(crate) started: Instant,
    pub(crate) store: StoreFacts,
    pub(crate) local: watch::Receiver<Arc<Local>>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) ways: watch::Receiver<Arc<Ways>>,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) kernel: Arc<KernelWork>,
}

/// What a store says of itself.
#[derive(Debug)]
pub(crate) struct StoreFacts {
    pub(crate) kind: &'static str,
    pub(crate) endpoints: Vec<String>,
    /// Who knows the pods of other nodes, if the store's views do not have them.
    pub(crate) pods: Option<Box<dyn PodList>>,
}

/// What has become of the topology in this node's kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// The way to each peer.
    pub(crate) paths: BTreeMap<NodeId, Path>,
    /// The largest packet to and from pods, in bytes.
    pub(crate) mtu: u32,
    /// What a person should know.
    pub(crate) problems: Vec<Problem>,
    /// The kernel holds what it must: it did at least once.
    pub(crate) reconciled: bool,
}

impl Known {
    /// Why a pod could not be attached now.
    pub(crate) fn unready(&self) -> Option<String> {
        let view = self.view.borrow();
        let lacking: Vec<_> = self.settings.pool.lacking(&view.subnets).map(Range::family).collect();
        if !lacking.is_empty() && self.settings.role == Role::Worker {
            let why = view.waiting.as_deref().unwrap_or("the agent has just been started");
            return Some(format!("no subnet of {}: {why}", lacking.join(" and ")));
        }
        let reconciled = self.ways.borrow().reconciled;
        (!reconciled).then(|| "the kernel does not hold the network's routes yet".to_owned())
    }

    /// Why other nodes cannot be reached: the store is out of reach, and no node answers either.
    pub(crate) fn cut_off(&self) -> Option<String> {
        let view = self.view.borrow();
        let nobody_answers = counts(&view.topology, &self.id).alive == 0;
        view.cut_off.clone().filter(|_| nobody_answers)
    }

    /// `GET /v1/status`
    pub(crate) fn status(&self) -> Status {
        let (view, local) = (self.view.borrow().clone(), self.local.borrow().clone());
        let unready = self.unready();
        Status {
            node: self.id,
            name: local.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed().as_secs(),
            network: self.settings.network.to_string(),
            bridge: self.settings.bridge.to_string(),
            addresses: local.addresses.clone(),
            subnets: view.subnets.clone(),
            mode: local.mode,
            store: StoreStatus {
                kind: self.store.kind.to_owned(),
                endpoints: self.store.endpoints.clone(),
                cut_off: view.cut_off.clone(),
            },
            peers: counts(&view.topology, &self.id),
            pods: local.pods.len(),
            ready: unready.is_none(),
            problems: self.problems(&view, unready),
            ports: Some(self.settings.ports()),
        }
    }

    /// What a person should know or do, worst first.
    fn problems(&self, view: &View, unready: Option<String>) -> Vec<Problem> {
        let mut problems = view.problems.clone();
        problems.extend(self.ways.borrow().problems.iter().cloned());
        problems.extend(unready.map(|why| Problem {
            severity: Severity::Error,
            what: format!("no pod can be attached here: {why}"),
            advice: "the agent's log says what it waits for".to_owned(),
        }));
        problems.extend(view.cut_off.as_ref().map(|why| Problem {
            severity: Severity::Warning,
            what: format!("the store {} is out of reach: {why}", self.store.kind),
            advice: "what was known is kept; changes elsewhere are not seen until it answers".to_owned(),
        }));
        problems
            .extend(view.topology.conflicts().iter().map(|conflict| of_conflict(conflict, &view.topology)));
        problems.sort_by_key(|problem| problem.severity);
        problems
    }

    /// `GET /v1/peers`
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let (view, ways) = (self.view.borrow().clone(), self.ways.borrow().clone());
        let peer = |member: &Member| Peer {
            id: member.node.id,
            name: member.node.name.clone(),
            liveness: member.liveness,
            addresses: member.node.addresses.clone(),
            subnets: member.node.subnets.clone(),
            pods: member.node.pods.len(),
            path: ways.path(&member.node.id),
        };
        let mut peers: Vec<Peer> = view.topology.peers(&self.id).map(peer).collect();
        peers.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        peers
    }

    /// `GET /v1/topology`. Where somebody else than the store's views knows the pods of other nodes, it may be waited for so
    /// long; if that is no time, nobody is asked.
    pub(crate) async fn map(&self, patience: Duration) -> Map {
        let listed = match &self.store.pods {
            Some(pods) if !patience.is_zero() => pods.list(patience).await,
            Some(_) => Arc::new(ListedPods {
                lacking: Some("nobody was asked for them".to_owned()),
                ..ListedPods::default()
            }),
            None => Arc::default(),
        };
        let (view, ways) = (self.view.borrow().clone(), self.ways.borrow().clone());
        let node = |member: &Member| MapNode {
            node: if member.node.id == self.id {
                (*member.node).clone()
            } else {
                with_pods(&member.node, &listed)
            },
            liveness: member.liveness,
            incarnation: member.incarnation,
            path: (member.node.id != self.id).then(|| ways.path(&member.node.id)),
        };
        let mut nodes: Vec<MapNode> = view.topology.members().map(node).collect();
        nodes.sort_by(|one, other| (&one.node.name, one.node.id).cmp(&(&other.node.name, other.node.id)));
        Map {
            node: self.id,
            network: self.settings.network.to_string(),
            bridge: self.settings.bridge.to_string(),
            nodes,
            lacking_pods: listed.lacking.clone(),
            conflicts: view.topology.conflicts(),
        }
    }
}

impl Ways {
    /// What something follows from.
    pub(crate) fn essence(&self) -> (u32, &[Problem], bool) {
        (self.mtu, &self.problems, self.reconciled)
    }

    fn path(&self, peer: &NodeId) -> Path {
        self.paths.get(peer).cloned().unwrap_or_else(|| Path {
            way: Way::None,
            reason: "the node has just become known".into(),
            mtu: 0,
            mtu_confirmed: false,
            round_trip: None,
            answered: None,
        })
    }
}

/// A node, and what is listed of its pods in place of what it says itself, of which there is less.
fn with_pods(node: &Node, listed: &ListedPods) -> Node {
    let Some(pods) = listed.pods.get(&node.name) else { return node.clone() };
    let is_listed = |address| pods.iter().any(|pod| pod.addresses().contains(address));
    let more = node.pods.iter().filter(|pod| !pod.addresses().iter().any(is_listed));
    Node { pods: pods.iter().chain(more).cloned().collect(), ..node.clone() }
}

/// How many there are, by how they are.
pub(crate) fn counts(topology: &Topology, of: &NodeId) -> PeerCounts {
    let mut counts = PeerCounts::default();
    for member in topology.peers(of) {
        *match member.liveness {
            Liveness::Alive => &mut counts.alive,
            Liveness::Suspect => &mut counts.suspect,
            Liveness::Down => &mut counts.down,
            Liveness::Unknown => &mut counts.unknown,
        } += 1;
    }
    counts
}

fn advice(shared: Identity) -> &'static str {
    match shared {
        Identity::Name => "give each its own: hostnamectl set-hostname NAME, or the agent's nodeName",
        Identity::MachineId => {
            "one is a copy of another's disk: there, rm /etc/machine-id && systemd-machine-id-setup, and start the agent \
             again; it is another node then, with another subnet"
        }
        Identity::Mac => {
            "on one segment each gets the other's packets: give one of the interfaces another address"
        }
    }
}

fn of_conflict(conflict: &Conflict, topology: &Topology) -> Problem {
    let name =
        |id: &NodeId| topology.get(id).map_or_else(|| id.to_string(), |member| member.node.name.to_string());
    match conflict {
        Conflict::Subnet { first: (one, outer), second: (other, inner) } => Problem {
            severity: Severity::Warning,
            what: format!("{outer} of {} and {inner} of {} overlap", name(one), name(other)),
            advice: "one of them takes another subnet; pods that have addresses of both stay reachable"
                .to_owned(),
        },
        Conflict::Address { address, first: (one, pod), second: (other, twin) } => Problem {
            severity: Severity::Error,
            what: format!("{address} is that of {pod} on {} and of {twin} on {}", name(one), name(other)),
            advice: "delete one of the two pods: what comes in its place gets another address".to_owned(),
        },
        Conflict::Identity { what, nodes } => Problem {
            severity: if *what == Identity::Name { Severity::Error } else { Severity::Warning },
            what: what.told(nodes, name),
            advice: advice(*what).to_owned(),
        },
    }
}
