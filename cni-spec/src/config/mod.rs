//! Network configurations: what a plugin gets on stdin, and the lists that a runtime reads from files.

mod capability;
mod list;
mod network;
mod section;

pub(crate) use self::network::{list, version_text};
pub use self::{
    capability::{
        Bandwidth, Capability, IpRange, PortMapping, Protocol, RequestedIp, RuntimeConfig, RuntimeDns,
    },
    list::{NetworkList, PluginConfig},
    network::{AttachmentId, NetworkConfig},
    section::Section,
};

#[cfg(test)]
mod tests;
