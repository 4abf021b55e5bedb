//! What a plugin is called with.

use std::path::PathBuf;

use crate::{AttachmentId, CniArgs, ContainerId, IfName, Invocation, NetworkConfig};

/// A call about one attachment: `ADD` and `CHECK`, and as [`DelRequest`] also `DEL`.
#[derive(Clone, Debug)]
pub struct Request<N = PathBuf> {
    /// The container.
    pub container_id: ContainerId,
    /// The container's network namespace: a path, which has not been opened yet.
    pub netns: N,
    /// The interface inside the container.
    pub if_name: IfName,
    /// The runtime's arguments as text (`CNI_ARGS`).
    pub args: CniArgs,
    /// The configuration.
    pub config: NetworkConfig,
    /// How the plugin was executed, for delegation.
    pub invocation: Invocation,
}

/// A `DEL`. The network namespace is `None` if the runtime named none, or if there is none at the path any more:
/// a plain file that an unmount has left, for example, is as good as nothing.
pub type DelRequest = Request<Option<PathBuf>>;

impl From<Request> for DelRequest {
    fn from(request: Request) -> Self {
        let Request { container_id, netns, if_name, args, config, invocation } = request;
        Self { container_id, netns: Some(netns), if_name, args, config, invocation }
    }
}

impl<N> Request<N> {
    /// The attachment's key in its network.
    pub fn attachment(&self) -> AttachmentId {
        AttachmentId { container_id: self.container_id.clone(), if_name: self.if_name.clone() }
    }
}

/// A `GC`.
#[derive(Clone, Debug)]
pub struct GcRequest {
    /// What must be kept, sorted: everything else of this network may be removed.
    pub valid_attachments: Vec<AttachmentId>,
    /// The configuration.
    pub config: NetworkConfig,
    /// How the plugin was executed, for delegation.
    pub invocation: Invocation,
}

/// A `STATUS`.
#[derive(Clone, Debug)]
pub struct StatusRequest {
    /// The configuration.
    pub config: NetworkConfig,
    /// How the plugin was executed, for delegation.
    pub invocation: Invocation,
}
