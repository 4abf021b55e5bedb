//! What a plugin that is part of this program is called with.

use cni_spec::plugin::Request;
use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{AddResult, CniArgs, Error, NetworkConfig, NetworkList, PluginConfig};

/// A call about an attachment, as a plugin that is built in gets it.
///
/// # Errors
/// When the configuration makes no sense.
pub(crate) fn request(
    runtime: &Runtime,
    list: &NetworkList,
    plugin: &PluginConfig,
    attachment: &Attachment,
    previous: Option<&AddResult>,
) -> Result<Request, Error> {
    let invocation = runtime.invocation(list, plugin, attachment, previous);
    Ok(Request {
        container_id: attachment.container_id().clone(),
        netns: attachment.netns().unwrap_or_default().into(),
        if_name: attachment.if_name().clone(),
        args: CniArgs::parse(&invocation.env().get("CNI_ARGS").unwrap_or_default().to_string_lossy()),
        config: NetworkConfig::from_json(invocation.stdin())?,
        invocation,
    })
}
