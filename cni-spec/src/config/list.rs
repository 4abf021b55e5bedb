//! Network configuration lists: what an administrator writes and a runtime reads.

use std::collections::BTreeMap;

use serde_json::Value;

use super::network::{name, version_text};
use crate::{
    Error, ErrorCode, NetworkName, PluginType, SpecVersion,
    json::{self, Object},
};

/// A network: a chain of plugins with a name (a `.conflist` file; CNI specification, section 1).
///
/// ```
/// use cni_spec::{NetworkList, SpecVersion};
///
/// let list = NetworkList::from_json(br#"{
///     "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"], "name": "blue", "disableCheck": "true",
///     "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap", "capabilities": {"portMappings": true}}]
/// }"#)?;
/// assert_eq!(list.cni_version, SpecVersion::V1_1_0); // the newest that both sides know
/// assert!(list.disable_check && list.plugins[1].wants("portMappings"));
/// # Ok::<(), cni_spec::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// The newest version among `cniVersion` and `cniVersions` that this crate knows; 0.1.0 if there are neither.
    pub cni_version: SpecVersion,
    /// The network's name.
    pub name: NetworkName,
    /// The runtime must not call `CHECK` for this network.
    pub disable_check: bool,
    /// The runtime must not call `GC` for this network.
    pub disable_gc: bool,
    /// Only the plugins of the list are used; otherwise those in the files of a folder beside the list, named as the
    /// network, follow them.
    pub load_only_inlined_plugins: bool,
    /// The chain, in the order of `ADD`.
    pub plugins: Vec<PluginConfig>,
    /// The whole document as it was read, unknown fields included.
    pub document: serde_json::Map<String, Value>,
}

/// One plugin of a [`NetworkList`], before a runtime adds name, version, `prevResult` and `runtimeConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// The plugin's type: the name of its executable.
    pub plugin_type: PluginType,
    /// The capabilities that the plugin declares, and whether it wants them.
    pub capabilities: BTreeMap<String, bool>,
    /// The whole document as it was read, unknown fields included.
    pub document: serde_json::Map<String, Value>,
}

impl NetworkList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`ErrorCode::DECODING_FAILURE`], [`ErrorCode::INVALID_CONFIG`] or [`ErrorCode::INCOMPATIBLE_VERSION`], with
    /// the path of what is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let document = json::parse_object(bytes)
            .map_err(|reason| Error::decoding(format!("the configuration list cannot be read: {reason}")))?;
        let plugins = match json::field(&document, "plugins") {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(i, item)| PluginConfig::from_item(item, i))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(Error::config("plugins: not an array")),
        };
        let list = Self {
            cni_version: negotiate(&document)?,
            name: name(&document)?,
            disable_check: flag(&document, "disableCheck")?,
            disable_gc: flag(&document, "disableGC")?,
            load_only_inlined_plugins: flag(&document, "loadOnlyInlinedPlugins")?,
            plugins,
            document,
        };
        if list.plugins.is_empty() && list.load_only_inlined_plugins {
            return Err(Error::config(
                "plugins: missing or empty, and loadOnlyInlinedPlugins allows no others",
            ));
        }
        Ok(list)
    }

    /// Reads a configuration of one plugin outside of a list (`.conf`, `.json`; gone since 1.0.0 but still written) as
    /// a list of that plugin.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_single_json(bytes: &[u8]) -> Result<Self, Error> {
        let plugin = PluginConfig::from_json(bytes)?;
        let mut document = Object::new();
        for key in ["cniVersion", "name"] {
            if let Some(value) = json::field(&plugin.document, key) {
                document.insert(key.to_owned(), value.clone());
            }
        }
        document.insert("plugins".to_owned(), Value::from(vec![Value::Object(plugin.document.clone())]));
        Ok(Self {
            cni_version: negotiate(&document)?,
            name: name(&document)?,
            disable_check: false,
            disable_gc: false,
            load_only_inlined_plugins: true,
            plugins: vec![plugin],
            document,
        })
    }
}

impl PluginConfig {
    /// Reads one plugin's configuration, for example a file in the folder beside a list.
    ///
    /// # Errors
    /// As [`NetworkList::from_json`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let document = json::parse_object(bytes).map_err(|reason| {
            Error::decoding(format!("the plugin's configuration cannot be read: {reason}"))
        })?;
        Self::from_object(&document, "")
    }

    /// Whether the plugin declares a capability as `true`.
    pub fn wants(&self, capability: &str) -> bool {
        self.capabilities.get(capability).copied().unwrap_or_default()
    }

    fn from_item(item: &Value, index: usize) -> Result<Self, Error> {
        let at = format!("plugins[{index}].");
        match item {
            Value::Object(object) => Self::from_object(object, &at),
            _ => Err(Error::config(format!("plugins[{index}]: not an object"))),
        }
    }

    /// `at`: the path of the plugin in its document, with a dot at its end.
    fn from_object(object: &Object, at: &str) -> Result<Self, Error> {
        let wrong = |error: json::FieldError| Error::config(error.to_string());
        let plugin_type =
            json::field(object, "type").ok_or_else(|| Error::config(format!("{at}type: missing")))?;
        let capabilities = json::field(object, "capabilities")
            .map(|value| json::from_value(value, &format!("{at}capabilities")).map_err(wrong))
            .transpose()?;
        Ok(Self {
            plugin_type: json::from_value(plugin_type, &format!("{at}type")).map_err(wrong)?,
            capabilities: capabilities.unwrap_or_default(),
            document: object.clone(),
        })
    }
}

/// The newest known version among `cniVersion` and `cniVersions`.
fn negotiate(document: &Object) -> Result<SpecVersion, Error> {
    let mut texts: Vec<String> = version_text(document)?.map(str::to_owned).into_iter().collect();
    if let Some(versions) = json::field(document, "cniVersions") {
        let more: Vec<String> =
            json::from_value(versions, "cniVersions").map_err(|error| Error::decoding(error.to_string()))?;
        texts.extend(more);
    }
    if texts.is_empty() {
        return Ok(SpecVersion::V0_1_0);
    }
    texts.iter().filter_map(|text| text.parse().ok()).max().ok_or_else(|| {
        Error::new(
            ErrorCode::INCOMPATIBLE_VERSION,
            format!("cniVersion: none of {} is known", texts.join(", ")),
        )
    })
}

/// A boolean that may be written as a text, as libcni accepts it.
fn flag(document: &Object, key: &str) -> Result<bool, Error> {
    match json::field(document, key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(Error::config(format!("{key}: {other} is neither true nor false"))),
    }
}
