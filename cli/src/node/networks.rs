//! The networks that this node knows: by configuration, by what was attached with another one, and the built-in one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cni_spec::runtime::{CachedAttachment, Survey};
use cni_spec::{NetworkConfig, NetworkList};
use ipam::Pool;
use plugin_kit::Attach;
use plugin_kit::ipam::HostLocal;
use plugin_overlay::Overlay;

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

    /// The pool of addresses that are leased in a network; `None` if nothing is known of one.
    pub(crate) fn pool(&self, network: &str) -> Option<Pool> {
        self.leasing(network).find_map(|leasing| leasing.pool())
    }

    /// Whether a network's addresses can be leased: also if nothing is known of it.
    pub(crate) fn may_lease(&self, network: &str) -> bool {
        !self.lists.contains_key(network) || self.leasing(network).next().is_some()
    }

    /// Where the networks' leases are.
    pub(crate) fn data_dirs(&self) -> BTreeSet<PathBuf> {
        let leasing = self.lists.keys().flat_map(|network| self.leasing(network));
        leasing.filter_map(|leasing| leasing.data_dir()).collect()
    }

    /// The configurations of a network's plugins that lease addresses, as host-local does.
    fn leasing(&self, network: &str) -> impl Iterator<Item = Leasing> {
        let list = self.lists.get(network);
        list.into_iter().flat_map(|list| {
            list.plugins.iter().filter_map(|plugin| {
                let mut document = plugin.document.clone();
                document.insert("name".to_owned(), list.name.as_str().into());
                document.insert("cniVersion".to_owned(), list.cni_version.as_str().into());
                let config = NetworkConfig::from_document(document).ok()?;
                if plugin.plugin_type.as_str() == Overlay::TYPE {
                    return Some(Leasing::Overlay(config));
                }
                let kind = config.ipam_type().ok()??;
                (kind.as_str() == HostLocal::TYPE).then_some(Leasing::HostLocal(config))
            })
        })
    }
}

/// The configuration of a plugin that leases addresses in host-local's directory.
enum Leasing {
    /// By its section `ipam`.
    HostLocal(NetworkConfig),
    /// Of the subnet that the node's agent says.
    Overlay(NetworkConfig),
}

impl Leasing {
    fn pool(&self) -> Option<Pool> {
        match self {
            Self::HostLocal(config) => HostLocal::pool(config).ok(),
            Self::Overlay(config) => Some(plugin_overlay::supply(config).ok()?.pool),
        }
    }

    fn data_dir(&self) -> Option<PathBuf> {
        match self {
            Self::HostLocal(config) => HostLocal::data_dir(config).ok(),
            Self::Overlay(config) => plugin_overlay::data_dir(config).ok(),
        }
    }
}
