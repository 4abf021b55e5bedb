//! The Container Network Interface specification, 0.1.0 to 1.1.0: types, conversions, and both halves of its protocol.
//!
//! CNI is the contract between a container runtime and a network plugin: the runtime executes the plugin with
//! `CNI_COMMAND=ADD|DEL|CHECK|GC|STATUS|VERSION` and a few more variables in its environment and a JSON configuration
//! on stdin, and reads a JSON result or error from stdout. This crate is that contract, for those who write plugins and
//! for those who write runtimes. It contains no networking.
//!
//! The layers, from the ground up:
//!
//! - **Names**, which cannot hold a bad one: [`ContainerId`], [`NetworkName`], [`IfName`], [`PluginType`]; and the
//!   closed lists [`SpecVersion`] and [`Command`].
//! - **Documents**: [`NetworkConfig`] (a plugin's stdin), [`NetworkList`] (a runtime's file), [`AddResult`],
//!   [`VersionResult`], [`Error`]. Every version of the specification is read and written; in memory there is one form.
//!   JSON is read as Go reads it (names in any case, `null` is absent), because Go programs write it.
//! - **Calls**: [`Env`] is an environment as a value, [`Exec`] executes a plugin with one, [`Invocation`] and
//!   [`Delegate`] let a plugin execute another.
//! - **[`plugin`]**: implement [`plugin::Plugin`], call [`plugin::run`] in `main`.
//! - **[`runtime`]**: find a network's configuration, run its chain of plugins, remember what is attached.
//!
//! Panics: reading never panics, whatever the bytes are.

mod args;
mod config;
mod delegate;
mod env;
mod error;
mod exec;
mod json;
mod name;
pub mod plugin;
mod result;
pub mod runtime;
mod version;

pub use self::{
    args::CniArgs,
    config::{
        AttachmentId, Bandwidth, Capability, IpRange, NetworkConfig, NetworkList, PluginConfig, PortMapping,
        Protocol, RequestedIp, RuntimeConfig, RuntimeDns, Section,
    },
    delegate::{Delegate, Invocation},
    env::Env,
    error::{Error, ErrorCode},
    exec::{Exec, ExecError, Exit, Output, ProcessExec, find_in_path},
    name::{ContainerId, IfName, MAX_IF_NAME_LEN, MAX_NAME_LEN, NameError, NetworkName, PluginType},
    result::{AddResult, Dns, Interface, IpConfig, Route},
    version::{Command, SpecVersion, UnknownCommand, UnknownVersion, VersionResult},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
