//! The networks that this node knows: by configuration, by what was attached with another one, and the built-in one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cni_spec::runtime::{CachedAttachment, Survey};
use cni_spec::{NetworkConfig, NetworkList};
use ipam::Pool;
use plugin_kit::ipam::HostLocal;

use crate::network::built_in;

/// Configurations by network name.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    lists: BTreeMap<String, NetworkList>,
}

impl Networks {
    /// Collects them. Where there are several of a name, a runtime's order decides; files that cannot be used are
    /// nobody's.
    pub(crate) fn collect(conf_dir: &Path, cached: &[CachedAttachment]) -> Self {
        let survey = Survey::of([conf_dir]);
        let files = survey.files();
        let mut usable: Vec<_> = files.iter().filter(|file| file.outcome.is_ok()).collect();
        usable.sort_by_key(|file| file.format);
        let configured = usable.into_iter().filter_map(|file| file.outcome.as_ref().ok().cloned());
        let attached = cached.iter().filter_map(|cached| cached.network_list().ok());
        Self::of(configured.chain(attached).chain(built_in().ok()))
    }

    /// From lists; the first of a name counts.
    pub(crate) fn of(lists: impl IntoIterator<Item = NetworkList>) -> Self {
        let mut networks = Self::default();
        for list in lists {
            networks.lists.entry(list.name.to_string()).or_insert(list);
        }
        networks
    }

    /// The configuration of a network.
    pub(crate) fn list(&self, network: &str) -> Option<&NetworkList> {
        self.lists.get(network)
    }

    /// The pool of host-local's addresses in a network; `None` if nothing is known of one.
    pub(crate) fn pool(&self, network: &str) -> Option<Pool> {
        self.host_local(network).find_map(|config| HostLocal::pool(&config).ok())
    }

    /// Whether a network's addresses can be host-local's: also if nothing is known of it.
    pub(crate) fn may_lease(&self, network: &str) -> bool {
        !self.lists.contains_key(network) || self.host_local(network).next().is_some()
    }

    /// Where host-local keeps the networks' leases.
    pub(crate) fn data_dirs(&self) -> BTreeSet<PathBuf> {
        let configs = self.lists.keys().flat_map(|network| self.host_local(network));
        configs.filter_map(|config| HostLocal::data_dir(&config).ok()).collect()
    }

    /// The configurations of a network's plugins that use host-local.
    fn host_local(&self, network: &str) -> impl Iterator<Item = NetworkConfig> {
        let list = self.lists.get(network);
        list.into_iter().flat_map(|list| {
            list.plugins.iter().filter_map(|plugin| {
                let mut document = plugin.document.clone();
                document.insert("name".to_owned(), list.name.as_str().into());
                document.insert("cniVersion".to_owned(), list.cni_version.as_str().into());
                let config = NetworkConfig::from_document(document).ok()?;
                let kind = config.ipam_type().ok()??;
                (kind.as_str() == HostLocal::TYPE).then_some(config)
            })
        })
    }
}
