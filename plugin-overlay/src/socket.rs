//! What an attachment is plugged into.

use cni_spec::Error;
use netops::{LinkName, MacAddr};
use plugin_kit::Request;

use crate::addresses::wrong;
use crate::config::Config;
use crate::node_file::NodeFile;

/// A bridge, and what its ports must know of it.
pub(crate) struct Socket {
    pub(crate) bridge: LinkName,
    /// Should the bridge have to be made.
    pub(crate) mac: Option<MacAddr>,
    /// In bytes; not compared where it is not known.
    pub(crate) mtu: Option<u32>,
}

impl Socket {
    /// As the node has it now: where an attachment is made.
    pub(crate) fn of(node: &NodeFile) -> Result<Self, Error> {
        let bridge = LinkName::new(&node.bridge).map_err(|e| wrong(node, &format!("bridge: {e}")))?;
        let mtu = plugin_kit::mtu(node.mtu.into()).map_err(|reason| wrong(node, &reason))?;
        let mtu = mtu.ok_or_else(|| wrong(node, "mtu is 0"))?;
        Ok(Self { mac: Some(crate::bridge_mac(&node.node, &bridge)), bridge, mtu: Some(mtu) })
    }

    /// As the attachment's own result has it: it was made, perhaps when the node was another, and is as good now as then.
    pub(crate) fn recorded(request: &Request<'_, Config>) -> Option<Self> {
        let interfaces = &request.previous.as_ref()?.interfaces;
        let mut on_host = interfaces.iter().filter(|interface| interface.sandbox.is_none());
        let bridge = on_host.next().filter(|first| first.name != request.names.host_interface.as_str())?;
        on_host.find(|interface| interface.name == request.names.host_interface.as_str())?;
        let inside = interfaces.iter().find(|interface| interface.sandbox.is_some());
        Some(Self {
            bridge: LinkName::new(&bridge.name).ok()?,
            mac: None,
            mtu: inside.and_then(|interface| interface.mtu),
        })
    }
}
