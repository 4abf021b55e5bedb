//! Which attachment.

use std::fmt;

use cni_spec::{AttachmentId, ContainerId, IfName, NetworkName};
use serde::{Deserialize, Serialize};

/// The three names of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    pub(crate) network: NetworkName,
    pub(crate) container: ContainerId,
    pub(crate) interface: IfName,
}

impl Key {
    /// What identifies the client to servers, as the reference has it: `CONTAINER/NETWORK/INTERFACE`.
    pub(crate) fn client_name(&self) -> String {
        format!("{}/{}/{}", self.container, self.network, self.interface)
    }

    /// The key as a file's name.
    pub(crate) fn digest(&self) -> String {
        plugin_kit::ipam::dhcp::digest(&self.network, &self.container, &self.interface)
    }

    /// Whether it is one of these of its network.
    pub(crate) fn is_among(&self, attachments: &[AttachmentId]) -> bool {
        attachments
            .iter()
            .any(|valid| valid.container_id == self.container && valid.if_name == self.interface)
    }
}

/// `NETWORK CONTAINER INTERFACE`, as marks in the kernel have it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.network, self.container, self.interface)
    }
}
