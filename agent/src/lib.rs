//! The agent that joins a node to the others.
//!
//! ```text
//! run             the parts at work, and what ties them together
//! options         what a person wrote: flags, variables and a file are one list
//! settings        what follows: parsed
//! store           where the topology comes from: one trait
//! dataplane       this node's kernel, kept as the topology wants it; probes
//! known           what the agent knows, and says of it
//! api             who asks for it: HTTP on a unix socket; health and metrics over TCP
//! told            who is told of it: the plugin, by a file; the service manager
//! uninstall       the way back: what agents have made of a node is taken away again
//! log             what changed, on stderr
//! ```

mod api;
mod choice;
mod conf_list;
mod counters;
mod dataplane;
mod error;
mod events;
mod files;
mod identity;
mod json;
mod keys;
mod known;
mod local;
pub mod log;
mod options;
mod plugin_file;
pub mod pods;
mod run;
mod settings;
pub mod store;
mod systemd;
mod told;
mod uninstall;

pub use error::Error;
pub use options::{
    CniOptions, DerivedOptions, EtcdOptions, Flags, GossipOptions, HealthOptions, InForce, KubernetesOptions,
    LogOptions, MasqueradeOptions, ModeKind, Options, OptionsError, RoleKind, StaticOptions, StoreKind,
    TunnelOptions, UnderlayOptions,
};
pub use run::run;
pub use settings::{GossipSettings, Seed, Settings, SettingsError, StoreSettings};
pub use systemd::ServiceManager;
pub use uninstall::{Uninstalled, uninstall};
