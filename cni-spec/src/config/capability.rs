//! Well-known capabilities: what runtimes fill in for a plugin that declares them (CNI conventions, "Dynamic Plugin
//! specific fields").

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::Section;
use crate::{Error, json::empty_as_none};

/// The names of the well-known capabilities, as they stand in `capabilities` and `runtimeConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Ports of the host that lead into the container.
    PortMappings,
    /// Ranges to allocate addresses from, in place of configured ones.
    IpRanges,
    /// Limits for the container's traffic.
    Bandwidth,
    /// What the resolver should use.
    Dns,
    /// Addresses that the container must get.
    Ips,
    /// The hardware address that the container's interface must get.
    Mac,
    /// The InfiniBand GUID that the interface must get.
    InfinibandGuid,
    /// The device to attach, usually a PCI address.
    DeviceId,
    /// Names under which the container can be found in this network.
    Aliases,
    /// The path of the container's control group.
    CgroupPath,
    /// The annotations of the Kubernetes pod.
    PodAnnotations,
}

impl Capability {
    /// Every well-known capability.
    pub const ALL: &'static [Self] = &[
        Self::PortMappings,
        Self::IpRanges,
        Self::Bandwidth,
        Self::Dns,
        Self::Ips,
        Self::Mac,
        Self::InfinibandGuid,
        Self::DeviceId,
        Self::Aliases,
        Self::CgroupPath,
        Self::PodAnnotations,
    ];

    /// The capability's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PortMappings => "portMappings",
            Self::IpRanges => "ipRanges",
            Self::Bandwidth => "bandwidth",
            Self::Dns => "dns",
            Self::Ips => "ips",
            Self::Mac => "mac",
            Self::InfinibandGuid => "infinibandGUID",
            Self::DeviceId => "deviceID",
            Self::Aliases => "aliases",
            Self::CgroupPath => "cgroupPath",
            Self::PodAnnotations => "io.kubernetes.cri.pod-annotations",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The section `runtimeConfig` of a configuration.
///
/// Every method reads one capability; one that is wrong does not stop a plugin that does not ask for it. Names match in
/// any case: containerd sends `HostPort`, `IngressRate` and `Servers`.
#[derive(Clone, Debug)]
pub struct RuntimeConfig<'a> {
    section: Section<'a>,
}

impl<'a> RuntimeConfig<'a> {
    pub(super) fn new(section: Section<'a>) -> Self {
        Self { section }
    }

    /// A capability that this crate does not know; `None` if the runtime did not fill it in.
    ///
    /// # Errors
    /// This and all other methods: [`ErrorCode::INVALID_CONFIG`](crate::ErrorCode::INVALID_CONFIG) with the path of
    /// what is wrong: `runtimeConfig.portMappings[0].hostPort: …`.
    pub fn get<T: DeserializeOwned>(&self, capability: &str) -> Result<Option<T>, Error> {
        self.section.get(capability)
    }

    /// Ports of the host that lead into the container.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn port_mappings(&self) -> Result<Vec<PortMapping>, Error> {
        self.list(Capability::PortMappings)
    }

    /// Ranges to allocate from: the outer list holds one set of ranges for each address to allocate.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn ip_ranges(&self) -> Result<Vec<Vec<IpRange>>, Error> {
        self.list(Capability::IpRanges)
    }

    /// Limits for the container's traffic.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn bandwidth(&self) -> Result<Option<Bandwidth>, Error> {
        self.get(Capability::Bandwidth.as_str())
    }

    /// What the resolver should use.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn dns(&self) -> Result<Option<RuntimeDns>, Error> {
        self.get(Capability::Dns.as_str())
    }

    /// Addresses that the container must get.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn ips(&self) -> Result<Vec<RequestedIp>, Error> {
        self.list(Capability::Ips)
    }

    /// The hardware address that the interface must get, as text.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn mac(&self) -> Result<Option<String>, Error> {
        self.text(Capability::Mac)
    }

    /// The InfiniBand GUID that the interface must get, as text.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn infiniband_guid(&self) -> Result<Option<String>, Error> {
        self.text(Capability::InfinibandGuid)
    }

    /// The device to attach.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn device_id(&self) -> Result<Option<String>, Error> {
        self.text(Capability::DeviceId)
    }

    /// Names under which the container can be found in this network.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn aliases(&self) -> Result<Vec<String>, Error> {
        self.list(Capability::Aliases)
    }

    /// The path of the container's control group.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn cgroup_path(&self) -> Result<Option<String>, Error> {
        self.text(Capability::CgroupPath)
    }

    /// The annotations of the Kubernetes pod.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn pod_annotations(&self) -> Result<BTreeMap<String, String>, Error> {
        self.get(Capability::PodAnnotations.as_str()).map(Option::unwrap_or_default)
    }

    fn list<T: DeserializeOwned>(&self, capability: Capability) -> Result<Vec<T>, Error> {
        self.get(capability.as_str()).map(Option::unwrap_or_default)
    }

    /// Go writes an absent text as an empty one.
    fn text(&self, capability: Capability) -> Result<Option<String>, Error> {
        Ok(self.get::<String>(capability.as_str())?.filter(|text| !text.is_empty()))
    }
}

/// A port of the host that leads into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port on the host.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// The transport protocol; TCP if the runtime does not say.
    #[serde(default)]
    pub protocol: Protocol,
    /// The host's address to listen on; `None`: all of them.
    #[serde(
        default,
        rename = "hostIP",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "empty_as_none"
    )]
    pub host_ip: Option<IpAddr>,
}

/// The transport protocol of a [`PortMapping`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `tcp`
    #[default]
    Tcp,
    /// `udp`
    Udp,
    /// `sctp`
    Sctp,
}

impl Protocol {
    /// The name that the conventions use, which is also that of nftables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = [Self::Tcp, Self::Udp, Self::Sctp];
        match known.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(&text)) {
            Some(protocol) => Ok(protocol),
            None if text.is_empty() => Ok(Self::default()),
            None => Err(serde::de::Error::custom(format!("protocol {text:?} is none of tcp, udp, sctp"))),
        }
    }
}

/// Limits for a container's traffic. 0 means no limit.
///
/// "Ingress" is the container's view: traffic into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bits per second into the container.
    pub ingress_rate: u64,
    /// Bits into the container in one burst.
    pub ingress_burst: u64,
    /// Bits per second out of the container.
    pub egress_rate: u64,
    /// Bits out of the container in one burst.
    pub egress_burst: u64,
}

/// A range to allocate addresses from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The subnet of the addresses.
    pub subnet: IpNet,
    /// The first address; `None`: the subnet's first usable one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub range_start: Option<IpAddr>,
    /// The last address; `None`: the subnet's last usable one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub range_end: Option<IpAddr>,
    /// The gateway; `None`: the subnet's first usable address.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    pub gateway: Option<IpAddr>,
}

/// What the resolver should use, with the runtime's names for it (compare [`Dns`](crate::Dns)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeDns {
    /// Addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Domains to search for short names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Options for the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// An address that a container must get, with or without the prefix length of its subnet: `10.1.0.5`, `10.1.0.5/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestedIp {
    /// The address.
    pub addr: IpAddr,
    /// The prefix length, if one was given.
    pub prefix_len: Option<u8>,
}

impl FromStr for RequestedIp {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(addr) = text.parse() {
            return Ok(Self { addr, prefix_len: None });
        }
        let net: IpNet = text.parse()?;
        Ok(Self { addr: net.addr(), prefix_len: Some(net.prefix_len()) })
    }
}

impl fmt::Display for RequestedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_len {
            None => fmt::Display::fmt(&self.addr, f),
            Some(len) => write!(f, "{}/{len}", self.addr),
        }
    }
}

impl Serialize for RequestedIp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestedIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
