//! The agent that joins a node to the others.
//!
//! ```text
//! options         what a person wrote: flags, variables and a file are one list
//! settings        what follows: parsed
//! store           where the topology comes from: one trait
//! log             what changed, on stderr
//! ```

mod files;
mod identity;
mod json;
pub mod log;
pub mod pods;
mod options;
mod settings;
pub mod store;

pub use options::{
    CniOptions, DerivedOptions, EtcdOptions, Flags, GossipOptions, HealthOptions, InForce, KubernetesOptions,
    LogOptions, MasqueradeOptions, ModeKind, Options, OptionsError, RoleKind, StaticOptions, StoreKind,
    TunnelOptions, UnderlayOptions,
};
pub use settings::{GossipSettings, Seed, Settings, SettingsError, StoreSettings};
