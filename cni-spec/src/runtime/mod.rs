//! The runtime half of the protocol: what a container runtime needs to give its containers networks.
//!
//! It stands where Go runtimes have libcni, and gets along with it: the same configuration files, the same
//! environment and stdin for plugins, the same cache. A node can change from one to the other, and back, while its
//! containers run.
//!
//! | step | here |
//! | --- | --- |
//! | find the configuration of a network | [`load`], [`Survey`] |
//! | name a container's interface and its parameters | [`Attachment`] |
//! | attach, check, detach | [`Runtime::add`], [`Runtime::check`], [`Runtime::del`] |
//! | clean up after crashes and reboots | [`Runtime::attachments`], [`Runtime::gc`] |
//! | ask whether a network can be used | [`Runtime::validate`], [`Runtime::status`] |
//!
//! ```no_run
//! use cni_spec::Env;
//! use cni_spec::runtime::{self, Attachment, Runtime};
//!
//! let network = runtime::load([runtime::DEFAULT_CONF_DIR], &"podnet".parse()?)?;
//! for warning in &network.warnings {
//!     eprintln!("{warning}");
//! }
//!
//! let runtime = Runtime::new(Env::from_process()).with_plugin_dirs(["/opt/cni/bin", "/usr/lib/cni"]);
//! let web = Attachment::new("web-1".parse()?, "eth0".parse()?).with_netns("/run/netns/web-1");
//! let result = runtime.add(&network.list, &web)?;
//! println!("{:?}", result.ips);
//! runtime.del(&network.list, &web)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything is synchronous and can be called from several threads. Nothing is printed, and no environment is read
//! but the one that is given.
//!
//! # What is different from libcni
//!
//! - **A broken configuration file blocks only itself.** libcni gives up at the first `*.conflist` that it cannot
//!   parse, whichever network was asked for. Here it becomes a warning, with line and column.
//! - **Nothing is started that cannot be finished.** Every plugin of the chain is looked for before the first is
//!   executed.
//! - **The cache knows of an attachment before its first plugin runs, and again after every plugin.** libcni writes
//!   when all have succeeded: after a crash in between nobody knows that there is something to clean up.
//! - **A failed `ADD` is undone**, by `DEL` of the plugins that were started, in reverse, with the result up to there
//!   as `prevResult`. libcni leaves that to its caller, who has no result: a firewall's rules stay, for example,
//!   because their addresses stood in it.
//! - **`ADD` of what is already attached is refused**, as the specification demands, instead of damaging a working
//!   attachment, or leaking what the forgotten one owns.
//! - **A `DEL` that fails stops nothing.** The plugins before it in the chain get their `DEL` too; every failure is
//!   reported; the cache entry stays until all have succeeded. (libcni never removes the entries of lists older than
//!   0.4.0 at all; here they go too.)
//! - **`GC` uses the configuration that an attachment was made with**, not the current one, which may have other
//!   plugins; and a cache that cannot be listed is an error, not an empty one.
//! - **Cached configurations are complete**: plugins from the sibling folder of a list are in them.
//! - **Cache files are replaced atomically and durably.** An empty or partial one, left by a power failure under
//!   another runtime, stops neither `ADD` nor `DEL`.
//! - **A cache file is only used for the attachment that it names.** Names may contain the `-` that joins them in the
//!   file's name.
//! - **Locks keep the specification's promises between processes**: see [`Runtime`].
//! - **Plugins have time limits**, and what a plugin wrote before it was killed, died or printed garbage is in the
//!   error.
//! - **A plugin must be executable** to be found; libcni takes the first regular file.

mod attach;
mod attachment;
mod cache;
mod chain;
mod conf;
mod error;
mod lock;
mod position;
mod record;
mod upkeep;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use self::attachment::Attachment;
use self::cache::Cache;
pub use self::cache::{CachedAttachments, Unattributed};
pub use self::conf::{
    ConfError, ConfFile, ConfFormat, ConfProblem, DEFAULT_CONF_DIR, LARGEST_CONF_FILE, LoadError, Loaded,
    Standing, Survey, load,
};
pub use self::error::{CacheError, Identity, RuntimeError};
pub use self::position::Position;
pub use self::record::{CachedAttachment, Progress};
use crate::{Env, Exec, ProcessExec};

/// Where plugins are by default: `/opt/cni/bin`.
pub const DEFAULT_PLUGIN_DIR: &str = "/opt/cni/bin";

/// Where every runtime that is built on libcni keeps its cache: `/var/lib/cni` (results are in `results/`).
pub const DEFAULT_CACHE_DIR: &str = "/var/lib/cni";

/// How long a plugin may take by default. A DHCP server may need most of it.
pub const DEFAULT_PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a chain may take by default: less than the four minutes after which a kubelet gives up on a sandbox.
pub const DEFAULT_CHAIN_TIMEOUT: Duration = Duration::from_secs(180);

/// Attaches containers to networks and detaches them.
///
/// # Two at once
///
/// Several threads and processes may work on one cache, with this crate or with libcni:
///
/// - Different attachments never wait for one another. The specification forbids parallel operations on one
///   *container*; keeping that is left to the caller, who knows what belongs together.
/// - `add` and `del` of one attachment wait for one another: the second `add` then finds the first one's attachment
///   and is refused, a `del` undoes it. A lock (`flock(2)`) on the cache file is held during the whole operation; it
///   ends with the process, so a crash leaves none behind.
/// - `gc` of a network waits for every `add` and `del` on it, and they for it, as the specification demands. That
///   lock is on `results/.<network>.lock`.
/// - Readers ([`attachments`](Self::attachments), [`check`](Self::check)) never wait; they see the cache before a
///   change or after it.
/// - libcni takes no locks. What it reads of ours is whole, but nothing keeps it from working on the same attachment
///   at the same time.
///
/// # Time
///
/// A plugin has the time that its [`Exec`] allows. A chain has [`with_chain_timeout`](Self::with_chain_timeout): no
/// lock is waited for longer, and no plugin is started later. Undoing a failed `add` is a chain of its own, and so is
/// every attachment that `gc` deletes.
pub struct Runtime {
    exec: Box<dyn Exec>,
    env: Env,
    plugin_dirs: Vec<PathBuf>,
    cache: Cache,
    chain_timeout: Duration,
}

impl Runtime {
    /// A runtime that executes the plugins in `/opt/cni/bin` as processes and keeps its cache in `/var/lib/cni`.
    ///
    /// `env` is what plugins get besides the `CNI_` variables: usually that of the process, because foreign plugins
    /// need a `PATH` (for `iptables`), `KUBECONFIG`, proxies and more.
    pub fn new(env: Env) -> Self {
        Self {
            exec: Box::new(ProcessExec::new().with_timeout(DEFAULT_PLUGIN_TIMEOUT)),
            env,
            plugin_dirs: vec![DEFAULT_PLUGIN_DIR.into()],
            cache: Cache::new(DEFAULT_CACHE_DIR.as_ref()),
            chain_timeout: DEFAULT_CHAIN_TIMEOUT,
        }
    }

    /// Sets the directories in which plugins are looked for, in this order (`CNI_PATH`).
    #[must_use]
    pub fn with_plugin_dirs(mut self, dirs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.plugin_dirs = dirs.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the directory of the cache. Results are in its subdirectory `results`, which is made when it is needed.
    #[must_use]
    pub fn with_cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Cache::new(&dir.into());
        self
    }

    /// Executes plugins in another way, or with another time limit:
    /// `Box::new(ProcessExec::new().with_timeout(limit))`.
    #[must_use]
    pub fn with_exec(mut self, exec: Box<dyn Exec>) -> Self {
        self.exec = exec;
        self
    }

    /// Sets how long a chain may take until no further plugin of it is started.
    #[must_use]
    pub fn with_chain_timeout(mut self, timeout: Duration) -> Self {
        self.chain_timeout = timeout;
        self
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.chain_timeout).unwrap_or(now + Duration::from_secs(86_400))
    }
}
