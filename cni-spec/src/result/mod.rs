//! What `ADD` made: interfaces, addresses, routes and DNS settings.

mod wire;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    Error, ErrorCode, SpecVersion,
    json::{self, Object, empty_as_none, zero_as_none},
};

/// The result of `ADD`, in one form for all versions of the specification.
///
/// A plugin prints it, the next plugin of a chain gets it as `prevResult`, the runtime keeps it for `CHECK` and `DEL`.
/// In memory it is what 1.1.0 says; [`to_json`](Self::to_json) and [`from_json`](Self::from_json) convert:
///
/// | version | what it cannot say, and what becomes of it |
/// | --- | --- |
/// | 1.1.0 | |
/// | 1.0.0 | nothing: the fields of 1.1.0 are written as well, as the reference does; readers skip unknown fields |
/// | 0.3.0, 0.3.1, 0.4.0 | an interface's `mtu`, `socketPath`, `pciID`: dropped. `ips[].version` is derived from the address |
/// | 0.1.0, 0.2.0 | interfaces, a route's attributes, a second address of a family, routes of a family without address: dropped |
///
/// ```
/// use cni_spec::{AddResult, SpecVersion};
///
/// let old = br#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16", "routes": [{"dst": "0.0.0.0/0"}]}}"#;
/// let result = AddResult::from_json(old, SpecVersion::V0_2_0)?;
/// assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/16");
/// assert!(result.to_json(SpecVersion::V0_4_0).contains(r#""version": "4""#));
/// # Ok::<(), cni_spec::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Every interface of the attachment, inside and outside of the container.
    pub interfaces: Vec<Interface>,
    /// Every address.
    pub ips: Vec<IpConfig>,
    /// Every route.
    pub routes: Vec<Route>,
    /// What the container's resolver should use.
    pub dns: Dns,
}

impl AddResult {
    /// Reads a result that a plugin printed or a runtime cached.
    ///
    /// `fallback` is the version of a result without `cniVersion`; it is the version of the configuration that the
    /// result was made with.
    ///
    /// # Errors
    /// [`ErrorCode::DECODING_FAILURE`] with the path of the wrong field, or [`ErrorCode::INCOMPATIBLE_VERSION`].
    pub fn from_json(bytes: &[u8], fallback: SpecVersion) -> Result<Self, Error> {
        let document = json::parse_object(bytes)
            .map_err(|reason| Error::decoding(format!("the result cannot be read: {reason}")))?;
        Self::from_object(&document, fallback, "")
    }

    /// Reads a result from a parsed document, as [`from_json`](Self::from_json) does.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: &Value, fallback: SpecVersion) -> Result<Self, Error> {
        match value {
            Value::Object(object) => Self::from_object(object, fallback, ""),
            _ => Err(Error::decoding("the result is not an object")),
        }
    }

    /// `at`: the path of the result in its document, for errors.
    pub(crate) fn from_object(object: &Object, fallback: SpecVersion, at: &str) -> Result<Self, Error> {
        let version = match json::field(object, "cniVersion") {
            None => fallback,
            Some(Value::String(text)) if text.is_empty() => fallback,
            Some(Value::String(text)) => text.parse().map_err(|unknown| {
                Error::new(ErrorCode::INCOMPATIBLE_VERSION, format!("the result cannot be read: {unknown}"))
            })?,
            Some(_) => return Err(Error::decoding("the result's cniVersion is not a string")),
        };
        wire::read(object, version, at)
            .map_err(|error| Error::decoding(format!("the result is wrong: {error}")))
    }

    /// The result in a version, as the reference prints it: indented by four spaces, no final newline.
    pub fn to_json(&self, version: SpecVersion) -> String {
        json::to_pretty(&wire::Versioned { result: self, version })
    }

    /// The result in a version, as a document: for `prevResult`.
    pub fn to_value(&self, version: SpecVersion) -> Value {
        // Serialising to a tree fails only for maps whose keys are not strings, and there are none.
        serde_json::to_value(wire::Versioned { result: self, version }).unwrap_or_default()
    }

    /// The interface that an address belongs to, if its index says so and is not out of range.
    pub fn interface_of(&self, ip: &IpConfig) -> Option<&Interface> {
        self.interfaces.get(ip.interface?)
    }
}

/// An interface of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// The interface's name where it is (see [`sandbox`](Self::sandbox)).
    #[serde(default)]
    pub name: String,
    /// The hardware address, as text; `None` where there is no meaningful one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub mac: Option<String>,
    /// The MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zero_as_none")]
    pub mtu: Option<u32>,
    /// The path of the network namespace or the hypervisor's identifier; `None`: the interface is on the host.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub sandbox: Option<String>,
    /// The path of a vhost-user socket (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub socket_path: Option<String>,
    /// The PCI address of the device (since 1.1.0).
    #[serde(
        default,
        rename = "pciID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "empty_as_none"
    )]
    pub pci_id: Option<String>,
}

impl Interface {
    /// An interface on the host.
    pub fn on_host(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An interface in a network namespace, given by its path.
    pub fn in_sandbox(name: impl Into<String>, sandbox: impl Into<String>) -> Self {
        Self { name: name.into(), sandbox: Some(sandbox.into()), ..Self::default() }
    }
}

/// An address of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The index in [`AddResult::interfaces`]; `None` in the results of IPAM plugins, which know no interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "index")]
    pub interface: Option<usize>,
    /// The address with its prefix length: `10.1.0.5/16`, host bits and all.
    pub address: IpNet,
    /// The gateway of the address's subnet.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub gateway: Option<IpAddr>,
}

impl IpConfig {
    /// An address without interface and gateway.
    pub const fn new(address: IpNet) -> Self {
        Self { interface: None, address, gateway: None }
    }
}

/// A route, in a result or in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination. Host bits are kept as they were written (`1100:200::1/24`); the kernel wants
    /// [`IpNet::trunc`].
    pub dst: IpNet,
    /// The next hop; `None` means the gateway of the address, where the plugin needs one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub gw: Option<IpAddr>,
    /// `RTAX_MTU` in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zero_as_none")]
    pub mtu: Option<u32>,
    /// `RTAX_ADVMSS` in bytes: the maximal segment size to advertise (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zero_as_none")]
    pub advmss: Option<u32>,
    /// `RTA_PRIORITY`: the metric, lower wins (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "zero_as_none")]
    pub priority: Option<u32>,
    /// `RTA_TABLE`: the routing table; `None` means main, 254 (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// `rtm_scope`: 0 global, 253 link, 254 host (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route to a destination, without next hop and attributes.
    pub const fn new(dst: IpNet) -> Self {
        Self { dst, gw: None, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    /// A route to a destination through a gateway.
    pub const fn via(dst: IpNet, gw: IpAddr) -> Self {
        Self { gw: Some(gw), ..Self::new(dst) }
    }
}

/// DNS settings, in a result or in a configuration.
///
/// Entries are texts: runtimes copy them to `resolv.conf` as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, in the order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain for short names.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub domain: Option<String>,
    /// Domains to search for short names, in the order of preference; preferred over [`domain`](Self::domain).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options for the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.nameservers.is_empty()
            && self.domain.is_none()
            && self.search.is_empty()
            && self.options.is_empty()
    }
}

/// Plugins of the time of 0.3.0 wrote -1 for "no interface".
fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(usize::try_from(i64::deserialize(deserializer)?).ok())
}

#[cfg(test)]
mod tests;
