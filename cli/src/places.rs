//! Where configurations, plugins and results are: flags, else cnitool's environment, else what everybody uses.

use std::ffi::OsString;
use std::path::PathBuf;

use cni_spec::runtime::{DEFAULT_CACHE_DIR, DEFAULT_CONF_DIR, DEFAULT_PLUGIN_TIMEOUT, Runtime};
use cni_spec::{Env, NetworkList, NetworkName, ProcessExec};
use plugins::InProcess;

use crate::failure::Failure;
use crate::network;

/// Where distributions have their plugins: upstream's place, Debian's, Fedora's.
const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// Where a network's configuration is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfDir {
    /// Where network configurations are [env: NETCONFPATH] [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR", help_heading = "Places")]
    conf_dir: Option<PathBuf>,
}

/// Where results are kept.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CacheDir {
    /// Where results are kept, in `results/`, for `del` and `check` [default: /var/lib/cni]
    #[arg(long, value_name = "DIR", help_heading = "Places", default_value = DEFAULT_CACHE_DIR, hide_default_value = true)]
    cache_dir: PathBuf,
}

/// Where plugins are, and who runs them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BinDirs {
    /// Where plugins are that are not built in; may be repeated [env: CNI_PATH]
    /// [default: /opt/cni/bin, /usr/lib/cni, /usr/libexec/cni]
    #[arg(long = "bin-dir", value_name = "DIR", help_heading = "Places")]
    bin_dirs: Vec<PathBuf>,

    /// Execute plugins from these directories even if they are built in
    #[arg(long, help_heading = "Places")]
    no_built_in: bool,
}

/// Whether plugins that are built in are used, or their executables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    /// They are.
    Used,
    /// They are not: as other runtimes have it.
    Unused,
}

/// All that a runtime needs to know.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Places {
    #[command(flatten)]
    conf_dir: ConfDir,
    #[command(flatten)]
    bin_dirs: BinDirs,
    #[command(flatten)]
    cache_dir: CacheDir,
}

impl ConfDir {
    /// The directory.
    pub(crate) fn path(&self) -> PathBuf {
        let told = self.conf_dir.clone().or_else(|| Some(variable("NETCONFPATH")?.into()));
        told.unwrap_or_else(|| DEFAULT_CONF_DIR.into())
    }
}

impl CacheDir {
    /// A runtime that knows what this cache knows, for reading it.
    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(Env::default()).with_cache_dir(&self.cache_dir)
    }
}

impl BinDirs {
    /// Whether plugins that are built in are used.
    pub(crate) fn built_in(&self) -> BuiltIn {
        if self.no_built_in { BuiltIn::Unused } else { BuiltIn::Used }
    }

    /// The directories.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        if !self.bin_dirs.is_empty() {
            return self.bin_dirs.iter().flat_map(std::env::split_paths).collect();
        }
        match variable("CNI_PATH") {
            Some(paths) => std::env::split_paths(&paths).collect(),
            None => PLUGIN_DIRS.map(PathBuf::from).to_vec(),
        }
    }

    /// A runtime that executes these plugins and remembers in this cache.
    pub(crate) fn runtime(&self, cache: &CacheDir) -> Runtime {
        let processes = ProcessExec::new().with_timeout(DEFAULT_PLUGIN_TIMEOUT);
        let runtime =
            Runtime::new(Env::from_process()).with_plugin_dirs(self.paths()).with_cache_dir(&cache.cache_dir);
        if self.no_built_in {
            runtime.with_exec(Box::new(processes))
        } else {
            runtime.with_exec(Box::new(InProcess::new(processes)))
        }
    }
}

impl Places {
    /// The network of a name.
    pub(crate) fn network(&self, name: &NetworkName) -> Result<NetworkList, Failure> {
        network::find(name, &self.conf_dir.path())
    }

    /// The runtime.
    pub(crate) fn runtime(&self) -> Runtime {
        self.bin_dirs.runtime(&self.cache_dir)
    }
}

/// A variable of the environment. As for cnitool, an empty one is none.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
