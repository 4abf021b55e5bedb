//! What Kubernetes calls a pod, and which addresses are its own: what runtime and plugin have written down.

use std::net::IpAddr;
use std::path::PathBuf;

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{Env, NetworkName};
use ipam::{BootId, DirStore, Owner};
use plugin_kit::MarkedOwner;

use super::PodsConfig;

/// Longer than any name of Kubernetes (RFC 1123: 253 characters).
const LONGEST: usize = 253;

/// A pod's names in Kubernetes, if it has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PodName {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

/// Who knows what the kernel does not.
pub(super) trait Records: Send {
    /// A pod's names; `None` as long as nothing has been written down of it.
    fn name(&self, owner: &MarkedOwner<'_>) -> Option<PodName>;

    /// The addresses that an attachment was given.
    fn leased(&self, owner: &MarkedOwner<'_>) -> Vec<IpAddr>;
}

/// The runtime's cache, and the leases.
pub(super) struct Cache {
    network: NetworkName,
    runtime: Runtime,
    data_dir: PathBuf,
}

impl Cache {
    pub(super) fn new(config: &PodsConfig) -> Self {
        Self {
            network: config.network.clone(),
            runtime: Runtime::new(Env::default()).with_cache_dir(&config.cache_dir),
            data_dir: config.data_dir.clone(),
        }
    }
}

impl Records for Cache {
    fn name(&self, owner: &MarkedOwner<'_>) -> Option<PodName> {
        // Nobody has a name that a mark has cut.
        let attachment = Attachment::new(owner.container.parse().ok()?, owner.interface.parse().ok()?);
        let cached = self.runtime.cached(&self.network, &attachment).ok()??;
        let argument = |key: &str| {
            let (_, value) = cached.attachment.args().iter().find(|(name, _)| name == key)?;
            is_name(value).then(|| value.clone())
        };
        Some(PodName { namespace: argument("K8S_POD_NAMESPACE"), name: argument("K8S_POD_NAME") })
    }

    fn leased(&self, owner: &MarkedOwner<'_>) -> Vec<IpAddr> {
        let find = || {
            let store =
                DirStore::open(&self.data_dir, self.network.as_str(), &BootId::current().ok()?).ok()?;
            ipam::find(&store, &Owner::new(owner.container, owner.interface).ok()?).ok()
        };
        find().into_iter().flatten().map(|lease| lease.address).collect()
    }
}

/// Whether a text may be told to other nodes as a name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.chars().all(|c| c.is_ascii_graphic())
}
