//! The agent that joins a node to the others.
//!
//! ```text
//! options         what a person wrote: flags, variables and a file are one list
//! store           where the topology comes from: one trait
//! log             what changed, on stderr
//! ```

pub mod log;
pub mod pods;
mod options;
pub mod store;

pub use options::{
    CniOptions, DerivedOptions, EtcdOptions, Flags, GossipOptions, HealthOptions, InForce, KubernetesOptions,
    LogOptions, MasqueradeOptions, ModeKind, Options, OptionsError, RoleKind, StaticOptions, StoreKind,
    TunnelOptions, UnderlayOptions,
};
