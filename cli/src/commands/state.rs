//! What `list`, `ipam` and `gc` know of this node besides the kernel, and where that is.

use std::path::PathBuf;

use cni_spec::runtime::CachedAttachment;
use ipam::DirStore;
use netops::LinuxKernel;

use crate::failure::Failure;
use crate::node::{self, Attachment, Networks, Sources, Store};
use crate::output::note;
use crate::places::{CacheDir, ConfDir};

/// Where this node's state is, besides the kernel.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct State {
    #[command(flatten)]
    pub(super) conf_dir: ConfDir,
    #[command(flatten)]
    pub(super) cache_dir: CacheDir,

    /// Where host-local's leases are, besides the places that configurations name
    /// [default: /var/lib/cni/networks]
    #[arg(long, value_name = "DIR", help_heading = "Places", default_value = DirStore::DEFAULT_DATA_DIR, hide_default_value = true)]
    data_dir: PathBuf,
}

/// The state, read.
pub(super) struct Node {
    pub(super) cached: Vec<CachedAttachment>,
    pub(super) networks: Networks,
    /// Why leases are not known, where they are not.
    pub(super) stores: Result<Vec<Store>, Failure>,
}

impl State {
    /// Reads everything but the kernel. A cache that cannot be read is told of on stderr.
    pub(super) fn read(&self) -> Node {
        let cached = match self.cache_dir.runtime().attachments() {
            Ok(cached) => {
                for file in &cached.unattributed {
                    note(format_args!("warning: {}: {}", file.path.display(), file.reason));
                }
                cached.attachments
            }
            Err(error) => {
                note(format_args!("warning: {error}"));
                Vec::new()
            }
        };
        let networks = Networks::collect(&self.conf_dir.path(), &cached);
        let mut data_dirs = networks.data_dirs();
        data_dirs.insert(self.data_dir.clone());
        let stores = Store::all(&data_dirs).map_err(Failure::from);
        Node { cached, networks, stores }
    }
}

impl Node {
    /// Every attachment, read from the kernel.
    pub(super) fn attachments(&self) -> Result<Vec<Attachment>, Failure> {
        let stores = self.stores.as_deref().unwrap_or_default();
        let sources = Sources { cached: &self.cached, stores, networks: &self.networks };
        Ok(node::attachments(&mut LinuxKernel::new(None), sources)?)
    }
}
