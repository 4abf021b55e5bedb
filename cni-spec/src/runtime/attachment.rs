//! What the caller knows about one attachment.

use serde_json::{Map, Value};

use crate::{AttachmentId, ContainerId, IfName};

/// A container on a network: what `ADD` is called for, and later `CHECK` and `DEL`.
///
/// [`container_id`](Self::container_id) and [`if_name`](Self::if_name) identify it on its network; the rest are
/// parameters (CNI specification, section 3, "Attachment Parameters"), to be given to `DEL` as they were given to
/// `ADD`.
///
/// ```
/// use cni_spec::runtime::Attachment;
/// use serde_json::json;
///
/// let web = Attachment::new("web-1".parse()?, "eth0".parse()?)
///     .with_netns("/run/netns/web-1")
///     .with_arg("K8S_POD_NAME", "web")
///     .with_capability("portMappings", json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]));
/// assert_eq!(web.netns(), Some("/run/netns/web-1"));
/// # Ok::<(), cni_spec::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    container_id: ContainerId,
    if_name: IfName,
    netns: Option<String>,
    args: Vec<(String, String)>,
    capability_args: Map<String, Value>,
}

impl Attachment {
    /// An attachment without a network namespace, arguments and capabilities.
    pub fn new(container_id: ContainerId, if_name: IfName) -> Self {
        Self { container_id, if_name, netns: None, args: Vec::new(), capability_args: Map::new() }
    }

    /// Sets the path of the container's network namespace (`CNI_NETNS`); empty means none.
    ///
    /// `ADD` and `CHECK` need one. `DEL` does without when the namespace is gone.
    #[must_use]
    pub fn with_netns(mut self, path: impl Into<String>) -> Self {
        self.netns = Some(path.into()).filter(|path| !path.is_empty());
        self
    }

    /// Adds a key and its value to `CNI_ARGS`. The order is kept. Capabilities are the better way where there is one.
    #[must_use]
    pub fn with_arg(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.push((key.into(), value.into()));
        self
    }

    /// Offers the value of a capability. It goes to those plugins whose `capabilities` ask for it, in
    /// `runtimeConfig`.
    #[must_use]
    pub fn with_capability(mut self, name: impl Into<String>, value: Value) -> Self {
        self.capability_args.insert(name.into(), value);
        self
    }

    /// The container.
    pub fn container_id(&self) -> &ContainerId {
        &self.container_id
    }

    /// The interface inside of the container.
    pub fn if_name(&self) -> &IfName {
        &self.if_name
    }

    /// The path of the container's network namespace.
    pub fn netns(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    /// What goes into `CNI_ARGS`, in order.
    pub fn args(&self) -> &[(String, String)] {
        &self.args
    }

    /// The values of capabilities, by name.
    pub fn capability_args(&self) -> &Map<String, Value> {
        &self.capability_args
    }

    /// What identifies the attachment on its network.
    pub fn id(&self) -> AttachmentId {
        AttachmentId { container_id: self.container_id.clone(), if_name: self.if_name.clone() }
    }
}
