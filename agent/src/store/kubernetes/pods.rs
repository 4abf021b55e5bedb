//! The pods of all Nodes, when somebody wants to see them.
//!
//! Routes do not need them, and to keep them up to date would be each pod's start told to each agent. So they are listed when a
//! person asks for the topology, in pages, as nobody has room for the objects of a large cluster, and what was listed is kept
//! for a moment only.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::core::Request;
use overlay::{NodeName, Pod};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::{ListedPods, Listing, PodList};
use super::{Config, causes, client, with_advice};

/// Pods that are told at once: a few MiB.
const PAGE: u32 = 500;
/// How long an answer is good for.
const KEPT: Duration = Duration::from_secs(5);
/// What has ended has addresses, too, which may be another's by now.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The pods of the API. It is a client of its own: the store's work does not wait for it, and at rest it holds nothing.
#[derive(Debug)]
pub(super) struct Pods {
    config: Config,
    /// What was listed last, until it is too old.
    last: Arc<Mutex<Option<Kept>>>,
}

/// An answer.
#[derive(Debug)]
struct Kept {
    listed: Arc<ListedPods>,
    /// It is all that came within this time: more may come to who waits longer.
    cut_short: Option<Duration>,
}

impl Pods {
    pub(super) fn new(config: Config) -> Self {
        Self { config, last: Arc::default() }
    }

    /// Asks until then, which is so long from when somebody came.
    async fn ask(&self, by: Instant, patience: Duration) -> Kept {
        let mut listed = ListedPods::default();
        let told = timeout_at(by, self.read(&mut listed)).await;
        let cut_short = told.is_err().then_some(patience);
        listed.lacking = told.unwrap_or_else(|_| Err(too_late(patience))).err();
        Kept { listed: Arc::new(listed), cut_short }
    }

    async fn read(&self, listed: &mut ListedPods) -> Result<(), String> {
        let client = client(&self.config).await?;
        // Not from the server's cache (resourceVersion 0): that knows no pages before Kubernetes 1.34.
        let mut parameters = ListParams::default().limit(PAGE).fields(RUNNING);
        loop {
            let request = Request::new("/api/v1/pods").list(&parameters).map_err(|error| causes(&error))?;
            let page = client.request::<Page>(request).await;
            let page = page.map_err(|error| format!("list pods: {}", with_advice(causes(&error))))?;
            for (node, pod) in page.items.into_iter().filter_map(Item::pod) {
                listed.pods.entry(node).or_default().push(pod);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(()),
            }
        }
    }
}

impl PodList for Pods {
    fn list(&self, patience: Duration) -> Listing<'_> {
        Box::pin(async move {
            let by = Instant::now() + patience;
            // Who comes meanwhile waits for the same answer.
            let Ok(mut last) = timeout_at(by, self.last.lock()).await else {
                return Arc::new(ListedPods { lacking: Some(too_late(patience)), ..ListedPods::default() });
            };
            let is_enough = |kept: &&Kept| kept.cut_short.is_none_or(|waited| patience <= waited);
            if let Some(kept) = last.as_ref().filter(is_enough) {
                return Arc::clone(&kept.listed);
            }
            let listed = Arc::clone(&last.insert(self.ask(by, patience).await).listed);
            let (last, old) = (Arc::clone(&self.last), Arc::clone(&listed));
            tokio::spawn(async move {
                sleep(KEPT).await;
                let mut last = last.lock().await;
                if last.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.listed, &old)) {
                    *last = None;
                }
            });
            listed
        })
    }
}

fn too_late(patience: Duration) -> String {
    format!("the Kubernetes API did not tell all in {} s", patience.as_secs())
}

/// What is taken from a list of pods.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Deserialize)]
struct PodIp {
    ip: IpAddr,
}

impl Item {
    /// A pod with addresses of its own, and where it is. The API does not know what the runtime calls its sandbox; its
    /// interface is what all runtimes call it (`cni-conventions`).
    fn pod(self) -> Option<(NodeName, Pod)> {
        let Self { metadata: Metadata { namespace, name }, spec, status } = self;
        let node = NodeName::new(&spec.node_name?).ok()?;
        let addresses: Vec<IpAddr> = status.pod_ips.into_iter().map(|PodIp { ip }| ip).collect();
        let has_its_own = !spec.host_network && !addresses.is_empty();
        has_its_own.then(|| (node, Pod::new("", "eth0", addresses).named(Some(&namespace), Some(&name))))
    }
}
