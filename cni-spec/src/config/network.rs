//! The configuration of one plugin: what it reads on stdin.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{RuntimeConfig, Section};
use crate::{
    AddResult, ContainerId, Dns, Error, ErrorCode, IfName, NetworkName, PluginType, SpecVersion,
    json::{self, Object},
};

/// One plugin's configuration, with its network's name and version.
///
/// Name and version are checked when it is made, for no command makes sense without them. Everything else stays as it
/// was written, unknown fields included, and is parsed when it is asked for, so that a `DEL` is not stopped by a field
/// that it does not need. A plugin reads its own fields into its own type:
///
/// ```
/// use cni_spec::NetworkConfig;
///
/// #[derive(serde::Deserialize)]
/// #[serde(default, rename_all = "camelCase")]
/// struct Bridge {
///     bridge: String,
///     is_gateway: bool,
///     mtu: u32,
/// }
///
/// impl Default for Bridge {
///     fn default() -> Self {
///         Self { bridge: "cni0".to_owned(), is_gateway: false, mtu: 0 }
///     }
/// }
///
/// let config = NetworkConfig::from_json(
///     br#"{"cniVersion": "1.0.0", "name": "blue", "type": "bridge", "ISGATEWAY": true, "ipam": {}, "mtu": null}"#,
/// )?;
/// let bridge: Bridge = config.parse()?;
/// assert!(bridge.is_gateway); // as in Go, the case of names does not matter
/// assert_eq!((bridge.bridge.as_str(), bridge.mtu), ("cni0", 0)); // and null is absent
/// assert_eq!(config.ipam_type()?, None); // `"ipam": {}`: no addresses
///
/// let wrong = NetworkConfig::from_json(br#"{"name": "blue", "mtu": "big"}"#)?;
/// let error = wrong.parse::<Bridge>().err().map(|error| error.to_string());
/// assert_eq!(error.as_deref(), Some("mtu: invalid type: string \"big\", expected u32 (code 7)"));
/// # Ok::<(), cni_spec::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    cni_version: SpecVersion,
    name: NetworkName,
    document: Object,
}

impl NetworkConfig {
    /// Reads a configuration. The caller bounds the size; depth is bounded to 128 levels.
    ///
    /// # Errors
    /// [`ErrorCode::DECODING_FAILURE`], [`ErrorCode::INCOMPATIBLE_VERSION`] (a version that nobody knows),
    /// [`ErrorCode::INVALID_CONFIG`] (the name is missing or malformed).
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let document = json::parse_object(bytes).map_err(|reason| {
            Error::decoding(format!("the network configuration cannot be read: {reason}"))
        })?;
        Self::from_document(document)
    }

    /// Makes a configuration of a document, as [`from_json`](Self::from_json) does of its text.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_document(document: serde_json::Map<String, Value>) -> Result<Self, Error> {
        // In the reference's order: a name that is wrong is reported before a version that is not spoken.
        let name = name(&document)?;
        let cni_version = match version_text(&document)? {
            None => SpecVersion::V0_1_0,
            Some(text) => text.parse().map_err(|_| {
                Error::new(ErrorCode::INCOMPATIBLE_VERSION, "incompatible CNI versions").with_details(
                    format!("the configuration is {text:?}, known are {}", list(SpecVersion::ALL)),
                )
            })?,
        };
        Ok(Self { cni_version, name, document })
    }

    /// The version of the specification to speak; 0.1.0 if the configuration does not say.
    pub fn cni_version(&self) -> SpecVersion {
        self.cni_version
    }

    /// The network's name.
    pub fn name(&self) -> &NetworkName {
        &self.name
    }

    /// The plugin's type.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`] if it is missing or no file name.
    pub fn plugin_type(&self) -> Result<PluginType, Error> {
        self.get("type")?.ok_or_else(|| Error::config("type: missing"))
    }

    /// The configuration as a plugin's own type.
    ///
    /// As in Go, field names match in any case and `null` is absent. Inside of a `#[serde(flatten)]` field serde does
    /// not tell us the names to expect, and case matters.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`] with the path of what is wrong: `ipam.ranges[0][1].subnet: …`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        json::from_object(&self.document, "").map_err(|error| Error::config(error.to_string()))
    }

    /// One field's value; `None` if it is missing or `null`.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`] with the path of what is wrong.
    pub fn get<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>, Error> {
        let decode = |value| json::from_value(value, field).map_err(|error| Error::config(error.to_string()));
        json::field(&self.document, field).map(decode).transpose()
    }

    /// A section that is read field by field, for example `ipam`.
    pub fn section(&self, field: &str) -> Section<'_> {
        Section::new(json::field(&self.document, field), field.to_owned())
    }

    /// The IPAM plugin to delegate to; `None` if there is no `ipam`, or it has no type: the attachment gets no address.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`].
    pub fn ipam_type(&self) -> Result<Option<PluginType>, Error> {
        let ipam = self.section("ipam");
        match ipam.get::<String>("type")? {
            Some(text) if !text.is_empty() => ipam.get("type"),
            _ => Ok(None),
        }
    }

    /// DNS settings for the result.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`].
    pub fn dns(&self) -> Result<Dns, Error> {
        self.get("dns").map(Option::unwrap_or_default)
    }

    /// What the runtime filled in for the plugin's capabilities (`runtimeConfig`).
    pub fn runtime_config(&self) -> RuntimeConfig<'_> {
        RuntimeConfig::new(self.section("runtimeConfig"))
    }

    /// The section `args.cni`: optional requests of the runtime, such as `ips` and `mac` (CNI conventions).
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`] if `args` is not an object.
    pub fn cni_args(&self) -> Result<Section<'_>, Error> {
        self.section("args").section("cni")
    }

    /// The result of the plugin before in the chain (`ADD`), or of the whole chain (`CHECK`, `DEL`).
    ///
    /// # Errors
    /// As [`AddResult::from_json`].
    pub fn prev_result(&self) -> Result<Option<AddResult>, Error> {
        let Some(value) = json::field(&self.document, "prevResult") else {
            return Ok(None);
        };
        let Value::Object(object) = value else {
            return Err(Error::decoding("prevResult: not an object"));
        };
        AddResult::from_object(object, self.cni_version, "prevResult").map(Some)
    }

    /// The attachments that `GC` must keep: everything else of this network may be removed.
    ///
    /// libcni sends them under `cni.dev/valid-attachments` and, because an edition of the specification said so,
    /// under `cni.dev/attachments`; an attachment under either is valid. `null` is an empty list here, as Go writes one.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`] if both are absent (removing everything must be asked for) or an entry is
    /// malformed.
    pub fn valid_attachments(&self) -> Result<Vec<AttachmentId>, Error> {
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        if !keys.iter().any(|key| self.document.contains_key(*key)) {
            return Err(Error::config(format!("{}: missing", keys[0])));
        }
        let mut valid = Vec::new();
        for key in keys {
            valid.extend(self.get::<Vec<AttachmentId>>(key)?.unwrap_or_default());
        }
        valid.sort();
        valid.dedup();
        Ok(valid)
    }

    /// The whole document.
    pub fn document(&self) -> &serde_json::Map<String, Value> {
        &self.document
    }

    /// The document, for the next one to change.
    pub fn into_document(self) -> serde_json::Map<String, Value> {
        self.document
    }

    /// The configuration as text, for a plugin's stdin.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.document).unwrap_or_default()
    }
}

/// The key of an attachment in its network (CNI specification, section 3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: ContainerId,
    /// The interface inside the container.
    #[serde(rename = "ifname")]
    pub if_name: IfName,
}

/// The `cniVersion` as it is written; `None` if it is absent or empty.
pub(crate) fn version_text(document: &Object) -> Result<Option<&str>, Error> {
    match json::field(document, "cniVersion") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Error::decoding("cniVersion: not a string")),
    }
}

pub(super) fn name(document: &Object) -> Result<NetworkName, Error> {
    match json::field(document, "name") {
        None => Err(Error::config("name: missing")),
        Some(Value::String(text)) => text.parse().map_err(|error| Error::config(format!("name: {error}"))),
        Some(_) => Err(Error::decoding("name: not a string")),
    }
}

pub(crate) fn list(versions: &[SpecVersion]) -> String {
    let texts: Vec<_> = versions.iter().map(|version| version.as_str()).collect();
    texts.join(", ")
}
