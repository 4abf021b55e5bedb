//! Nodes and subnets of the Kubernetes API.
//!
//! ```text
//! object   a Node of the API, and the node that it is
//! known    all of them, kept up to date by a watch
//! watch    the watch, which goes on after failures
//! pods     pods of all Nodes, when somebody wants to see them
//! ```
//!
//! Subnets are `spec.podCIDRs`, which kube-controller-manager gives (`--allocate-node-cidrs`), each once, and takes back when
//! a Node is deleted. What the API has no field for, an agent says in an annotation of its own Node. A Node without one is
//! left out: where no agent has run, there is no pod to be reached.
//!
//! Pods are *not* told: each start of one would write to a Node, and all agents would be sent that Node. Who looks for an
//! address finds the node by its subnet; which pod it is, the API knows, and is asked when a person wants to know. Only pods
//! outside of their node's subnets are in its annotation, as they take routes of their own: after a Node was deleted and came
//! back with another subnet, those that were there before.

mod known;
mod object;
mod pods;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as Object;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use overlay::report::{Problem, Severity};
use overlay::{Liveness, Local, Pool, Range, Role, Subnet, View};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::saved::{Memory, Saved, SavedFile, check_network, held_and_lost};
use super::{Links, PodList, Request, Running, Store};
use known::Known;
use object::{ANNOTATION, Seen};
use pods::Pods;
use watch::Watch;

/// How long the API may take to answer a request.
const ANSWER: Duration = Duration::from_secs(10);
/// As many characters of an error are told.
const MOST_OF_AN_ERROR: usize = 500;
/// How long nothing at all may come from the server: a watch without news ends sooner.
const SILENCE: Duration = Duration::from_secs(watch::LIFE as u64 + 30);
/// How often it is looked whether something has to be tried again.
const BEAT: Duration = Duration::from_secs(5);
/// How soon an annotation that somebody else has changed is written again.
const QUARREL: Duration = Duration::from_secs(30);

/// How the Kubernetes API is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// A kubeconfig. Without one, as a pod does: by `KUBERNETES_SERVICE_HOST`, with its service account's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
}

/// Nodes and subnets of the Kubernetes API. The node's name must be that of its Node.
#[derive(Debug)]
pub struct Kubernetes {
    config: Config,
    pool: Pool,
    file: SavedFile,
}

impl Kubernetes {
    /// For a network. The pool is what the controller manager's `--cluster-cidr` is; it is only compared. In the directory
    /// `state` it remembers `kubernetes-NETWORK.json`. The API is not asked yet.
    ///
    /// # Errors
    /// What is wrong with the network's name.
    pub fn new(config: Config, network: &str, pool: Pool, state: &Path) -> Result<Self, String> {
        check_network(network)?;
        Ok(Self { config, pool, file: SavedFile::new(state, "kubernetes", network) })
    }
}

impl Store for Kubernetes {
    fn kind(&self) -> &'static str {
        "kubernetes"
    }

    fn endpoints(&self) -> Vec<String> {
        match &self.config.kubeconfig {
            Some(file) => vec![file.display().to_string()],
            None => {
                let variable = |name| std::env::var(format!("KUBERNETES_SERVICE_{name}")).unwrap_or_default();
                vec![url(&variable("HOST"), &variable("PORT"))]
            }
        }
    }

    fn pods(&self) -> Option<Box<dyn PodList>> {
        Some(Box::new(Pods::new(self.config.clone())))
    }

    fn run(self: Box<Self>, links: Links) -> Running {
        Box::pin(async move {
            let client = match client(&self.config).await {
                Ok(client) => client,
                Err(why) => return why,
            };
            let memory = Memory::of(self.file, links.local.borrow().id);
            let api = Api::all(client);
            Work {
                watch: Watch::new(api.clone()),
                api,
                pool: self.pool,
                links,
                known: Known::default(),
                previous: memory.saved().subnets.clone(),
                memory,
                unsaved: false,
                written: None,
                refused: None,
                cut_off: None,
            }
            .run()
            .await
        })
    }
}

/// Where a pod finds the API, for people.
fn url(host: &str, port: &str) -> String {
    match host.contains(':') {
        true => format!("https://[{host}]:{port}"),
        false => format!("https://{host}:{port}"),
    }
}

async fn client(config: &Config) -> Result<kube::Client, String> {
    // Fails if the program has chosen one already: as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = match &config.kubeconfig {
        Some(file) => {
            let named =
                |error: kube::config::KubeconfigError| format!("{}: {}", file.display(), causes(&error));
            let kubeconfig = Kubeconfig::read_from(file).map_err(named)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(named)?
        }
        None => kube::Config::incluster().map_err(|error| {
            format!("this is no pod of Kubernetes ({}): give \"kubeconfig\"", causes(&error))
        })?,
    };
    config.read_timeout = Some(SILENCE);
    kube::Client::try_from(config).map_err(|error| causes(&error))
}

/// The store at work.
struct Work {
    api: Api<Object>,
    watch: Watch,
    pool: Pool,
    links: Links,
    known: Known,
    memory: Memory,
    /// The subnets that the node has had.
    previous: Vec<Subnet>,
    /// Something that peers say is not on disk yet.
    unsaved: bool,
    /// The annotation as this agent wrote it last, and when.
    written: Option<(String, Instant)>,
    /// Why the annotation could not be written.
    refused: Option<String>,
    cut_off: Option<String>,
}

impl Work {
    async fn run(mut self) -> String {
        self.publish();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.watch.next() => match event {
                    Some(event) => self.hear(event).await,
                    None => return "the watch of the Kubernetes API has ended".to_owned(),
                },
                changed = self.links.local.changed() => match changed {
                    Ok(()) => self.tell().await,
                    Err(_) => return "the agent has ended".to_owned(),
                },
                _ = beat.tick() => self.beat().await,
                Some(Request::Forget { node, reply }) = self.links.requests.recv() => {
                    // Who asked may have gone.
                    let _ = reply.send(Err(format!(
                        "nodes come from the Kubernetes API: kubectl delete node {}",
                        node.escape_debug()
                    )));
                }
            }
            self.publish();
        }
    }

    async fn hear(&mut self, event: watcher::Result<Event<Object>>) {
        match event {
            Ok(event) => {
                // A list has only begun: that it ends is what counts.
                if !matches!(event, Event::Init | Event::InitApply(_)) {
                    self.cut_off = None;
                }
                if self.known.take(event) {
                    self.unsaved = true;
                    self.tell().await;
                }
            }
            // The watch goes on by itself, with a list.
            Err(error) if watch::has_forgotten(&error) => {}
            Err(error) => self.cut_off = Some(format!("the Kubernetes API: {}", with_advice(causes(&error)))),
        }
    }

    async fn beat(&mut self) {
        // A watch that goes on where it was says nothing until something happens.
        if self.cut_off.is_some() {
            let one = ListParams::default().limit(1);
            if let Ok(Ok(list)) = timeout(ANSWER, self.api.list_metadata(&one)).await {
                let is_at_work = self.watch.server_answers(list.metadata.resource_version.as_deref());
                if is_at_work && self.known.is_complete() {
                    self.cut_off = None;
                }
            }
        }
        self.tell().await;
        self.save(true);
    }

    /// Says in this node's annotation what it is, where that is not what is there.
    async fn tell(&mut self) {
        let local = self.links.local.borrow_and_update().clone();
        let Some(seen) = self.known.get(&local.name) else { return self.refused = None };
        let wanted = match object::annotation(&local, &self.subnets(&local)) {
            Ok(wanted) => wanted,
            Err(why) => return self.refused = Some(why),
        };
        if seen.annotation.as_ref() == Some(&wanted) {
            return self.refused = None;
        }
        // What has been written and is gone again, somebody else has changed: no reason to do it in turns.
        if let Some((text, when)) = &self.written
            && *text == wanted
            && when.elapsed() < QUARREL
        {
            return;
        }
        let patch = serde_json::json!({ "metadata": { "annotations": { ANNOTATION: wanted } } });
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let answer = timeout(ANSWER, self.api.patch(local.name.as_str(), &parameters, &patch)).await;
        self.refused = match answer {
            Ok(Ok(object)) => {
                self.written = Some((wanted, Instant::now()));
                self.unsaved |= self.known.put(&object);
                None
            }
            Ok(Err(error)) => {
                Some(format!("Node {} cannot be changed: {}", local.name, with_advice(causes(&error))))
            }
            Err(_) => {
                Some(format!("Node {} cannot be changed: no answer in {} s", local.name, ANSWER.as_secs()))
            }
        };
    }

    /// This node's subnets: what its Node has; until that has been seen, what it had.
    fn subnets(&self, local: &Local) -> Vec<Subnet> {
        if !self.known.is_complete() {
            return self.previous.clone();
        }
        let held = self.known.get(&local.name).map_or_else(Vec::new, |seen| seen.pod_cidrs.clone());
        let held = if local.role == Role::Worker { held } else { Vec::new() };
        held_and_lost(held, &self.previous, local)
    }

    /// Tells the agent what is known, if that is something else than before. Subnets are on disk first.
    fn publish(&mut self) {
        self.save(false);
        let view = self.view();
        self.links.view.send_if_modified(|shown| {
            let differs = **shown != view;
            if differs {
                *shown = Arc::new(view);
            }
            differs
        });
    }

    fn view(&self) -> View {
        let local = self.links.local.borrow().clone();
        let subnets = self.subnets(&local);
        let mut topology = match self.known.is_complete() {
            true => self.known.topology().clone(),
            false => self.memory.saved().topology(),
        };
        let seen = self.known.get(&local.name);
        let liveness = seen.map_or(Liveness::Unknown, |seen| seen.liveness);
        let mut own = local.with_subnets(subnets.clone());
        if let Some(node) = seen.and_then(Seen::node) {
            own.machine = own.machine.or(node.machine);
        }
        topology.insert(Arc::new(own), liveness);
        View {
            waiting: self.waiting(&local, &subnets),
            problems: self.problems(&local),
            topology: Arc::new(topology),
            subnets,
            cut_off: self.cut_off.clone(),
        }
    }

    fn waiting(&self, local: &Local, subnets: &[Subnet]) -> Option<String> {
        let name = &local.name;
        let lacking: Vec<_> = self.pool.lacking(subnets).map(Range::family).collect();
        if local.role != Role::Worker || lacking.is_empty() {
            return None;
        }
        if !self.known.is_complete() {
            let why = self.cut_off.clone();
            return Some(why.unwrap_or_else(|| "the Kubernetes API has not answered yet".to_owned()));
        }
        Some(match self.known.get(name) {
            None => format!(
                "there is no Node {name} in the Kubernetes API: has the kubelet registered it, and is that its name? In a pod, \
                 spec.nodeName says it"
            ),
            Some(_) => format!(
                "Node {name} has no podCIDR of {} yet: kube-controller-manager gives it one if it has --allocate-node-cidrs and \
                 --cluster-cidr (kubeadm init --pod-network-cidr)",
                lacking.join(" and ")
            ),
        })
    }

    fn problems(&self, local: &Local) -> Vec<Problem> {
        let mut problems = self.known.problems();
        let seen = self.known.get(&local.name);
        let is_ours = |prefix: &IpNet| self.pool.ranges().iter().any(|range| range.cluster.contains(prefix));
        if let Some(prefix) = seen.and_then(|seen| seen.pod_cidrs.iter().find(|prefix| !is_ours(prefix))) {
            problems.push(Problem {
                severity: Severity::Error,
                what: format!(
                    "Node {} has {prefix}, which is in no range that the agent was told",
                    local.name
                ),
                advice: "give the agents the ranges of kube-controller-manager's --cluster-cidr".to_owned(),
            });
        }
        if let Some(why) = &self.refused {
            problems.push(Problem {
                severity: Severity::Error,
                what: why.clone(),
                advice: "until it can be, other nodes do not know how to reach this one".to_owned(),
            });
        }
        if let (Some((text, _)), Some(seen)) = (&self.written, seen)
            && self.refused.is_none()
            && seen.node().is_some_and(|node| node.id != local.id)
            && seen.annotation.as_ref() != Some(text)
        {
            problems.push(Problem {
                severity: Severity::Error,
                what: format!("somebody else writes the annotation {ANNOTATION} of Node {}", local.name),
                advice: "two agents have been given one node's name: each needs its own Node's".to_owned(),
            });
        }
        problems.extend(self.memory.problem());
        problems
    }

    /// Brings what is on disk up to date, the peers only when there is time.
    fn save(&mut self, peers_too: bool) {
        if !self.known.is_complete() {
            return;
        }
        let local = self.links.local.borrow().clone();
        let subnets = self.subnets(&local);
        if subnets.iter().any(|subnet| subnet.state == overlay::SubnetState::Held) {
            self.previous.clone_from(&subnets);
        }
        let nodes = (peers_too && std::mem::take(&mut self.unsaved))
            .then(|| Saved::peers(self.known.topology(), &local.id));
        self.memory.keep(subnets, None, nodes);
    }
}

fn with_advice(why: String) -> String {
    let forbidden = why.contains("forbidden") || why.contains("Forbidden");
    let advice = match forbidden {
        true => {
            " (the service account needs a ClusterRole that may list, watch and patch nodes, and list pods: deploy/cnikit.yaml)"
        }
        false if why.contains("Unauthorized") => " (the token or certificate is not valid here)",
        false => "",
    };
    why + advice
}

/// An error and what it comes from, in one line. What is in front of a server may answer with a page for browsers.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Many repeat what they come from.
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    match text.char_indices().nth(MOST_OF_AN_ERROR) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_api_is_can_be_read_in_both_families() {
        assert_eq!(url("10.96.0.1", "443"), "https://10.96.0.1:443");
        assert_eq!(url("fd00:96::1", "443"), "https://[fd00:96::1]:443");
    }

    #[test]
    fn of_an_error_without_end_only_the_beginning_is_told() {
        let told = causes(&std::io::Error::other("ä".repeat(5000)));
        assert_eq!((told.chars().count(), told.ends_with("ä …")), (MOST_OF_AN_ERROR + 2, true));
        assert_eq!(causes(&std::io::Error::other("refused")), "refused");
    }
}
