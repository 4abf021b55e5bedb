//! The content of a cache file, in libcni's format.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Attachment, Identity};
use crate::json::{self, Object};
use crate::{AddResult, ContainerId, Error, IfName, NetworkList, NetworkName, SpecVersion};

/// The only kind of cache file that there is, besides those without a kind.
const KIND: &str = "cniCacheV1";

/// An attachment as the cache remembers it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CachedAttachment {
    /// The network that the container is attached to.
    pub network: NetworkName,
    /// What the caller gave to `ADD`.
    pub attachment: Attachment,
    /// The configuration list that the attachment was made with, as JSON; see [`network_list`](Self::network_list).
    pub config: Vec<u8>,
    /// The result of the last plugin that succeeded; `None` if none has yet.
    pub result: Option<AddResult>,
    /// Whether the whole chain has succeeded.
    pub progress: Progress,
}

/// How far the `ADD` of an attachment got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Every plugin has succeeded.
    Complete,
    /// `ADD` is running, or was cut off by a crash, or failed and could not be undone. Only `DEL` makes sense.
    Partial,
}

impl CachedAttachment {
    /// The configuration that the attachment was made with: what to `DEL` it with when the files have changed since.
    ///
    /// # Errors
    /// As [`NetworkList::from_json`], if another program wrote something else into the cache.
    pub fn network_list(&self) -> Result<NetworkList, Error> {
        NetworkList::from_json(&self.config)
    }

    /// What identifies the attachment.
    pub fn identity(&self) -> Identity {
        Identity::new(&self.network, &self.attachment)
    }
}

/// What a cache file holds.
#[derive(Debug)]
pub(super) enum Content {
    /// The file is empty, or there is none.
    Nothing,
    /// Everything: libcni's format since 0.8.
    Attachment(Box<CachedAttachment>),
    /// The result alone: libcni's format before that.
    BareResult(AddResult),
    /// Neither, and why.
    Broken(String),
}

/// Field for field what libcni writes, in its order.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Record {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Object::is_empty")]
    capability_args: Object,
    #[serde(skip_serializing_if = "Value::is_null")]
    result: Value,
    /// Ours, and only there until `ADD` is through. libcni skips fields that it does not know.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// One line of JSON, with the result in `version`: the one of the list that made it.
pub(super) fn to_line(cached: &CachedAttachment, version: SpecVersion) -> Vec<u8> {
    let attachment = &cached.attachment;
    let record = Record {
        kind: KIND.to_owned(),
        container_id: attachment.container_id().to_string(),
        config: BASE64.encode(&cached.config),
        if_name: attachment.if_name().to_string(),
        network_name: cached.network.to_string(),
        netns: attachment.netns().unwrap_or_default().to_owned(),
        cni_args: attachment.args().to_vec(),
        capability_args: attachment.capability_args().clone(),
        result: cached.result.as_ref().map(|result| result.to_value(version)).unwrap_or_default(),
        partial: cached.progress == Progress::Partial,
    };
    // Every key is a string and every value plain data, so there is nothing to fail on.
    serde_json::to_vec(&record).unwrap_or_default()
}

pub(super) fn from_bytes(bytes: &[u8]) -> Content {
    if bytes.trim_ascii().is_empty() {
        return Content::Nothing;
    }
    let document = match json::parse_object(bytes) {
        Ok(document) => document,
        Err(reason) => return Content::Broken(reason),
    };
    let kind = json::field(&document, "kind");
    let content = match kind.and_then(Value::as_str) {
        Some(KIND) => attachment(&document).map(|cached| Content::Attachment(Box::new(cached))),
        None if kind.is_none() => bare_result(&document).map(Content::BareResult),
        _ => Err("the kind of cache file is unknown".to_owned()),
    };
    content.unwrap_or_else(Content::Broken)
}

fn attachment(document: &Object) -> Result<CachedAttachment, String> {
    let record: Record = json::from_object(document, "").map_err(|error| error.to_string())?;
    let container_id: ContainerId =
        record.container_id.parse().map_err(|error| format!("containerId: {error}"))?;
    let if_name: IfName = record.if_name.parse().map_err(|error| format!("ifName: {error}"))?;
    let network = record.network_name.parse().map_err(|error| format!("networkName: {error}"))?;
    let config = BASE64.decode(record.config).map_err(|error| format!("config: {error}"))?;

    let mut attachment = Attachment::new(container_id, if_name).with_netns(record.netns);
    for (key, value) in record.cni_args {
        attachment = attachment.with_arg(key, value);
    }
    for (capability, value) in record.capability_args {
        attachment = attachment.with_capability(capability, value);
    }
    // A result that cannot be read must not hide whose the file is: DEL and GC go on without it.
    let result = AddResult::from_value(&record.result, version_of(&config)).ok();
    let progress = if record.partial || result.is_none() { Progress::Partial } else { Progress::Complete };
    Ok(CachedAttachment { network, attachment, config, result, progress })
}

fn bare_result(document: &Object) -> Result<AddResult, String> {
    // Any object could pass for a result without entries; a real one has the version of the time, or addresses.
    if !["cniVersion", "ips", "ip4", "ip6"].iter().any(|key| json::field(document, key).is_some()) {
        return Err("neither a cached attachment nor a result".to_owned());
    }
    AddResult::from_object(document, SpecVersion::V0_1_0, "").map_err(|error| error.to_string())
}

fn version_of(config: &[u8]) -> SpecVersion {
    NetworkList::from_json(config).map_or(SpecVersion::V0_1_0, |list| list.cni_version)
}
