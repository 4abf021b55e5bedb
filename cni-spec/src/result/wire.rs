//! The forms in which results travel: `ip4`/`ip6` (0.1.0, 0.2.0), and lists with (0.3.0 to 0.4.0) and without
//! (since 1.0.0) the addresses' `version`.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::{
    SpecVersion,
    json::{self, FieldError, Object, empty_as_none},
};

pub(super) fn read(object: &Object, version: SpecVersion, at: &str) -> Result<AddResult, FieldError> {
    if version < SpecVersion::V0_3_0 {
        Ok(json::from_object::<FamilyForm>(object, at)?.into())
    } else {
        Ok(json::from_object::<ListForm>(object, at)?.into())
    }
}

/// A result that is written in a version.
pub(super) struct Versioned<'a> {
    pub(super) result: &'a AddResult,
    pub(super) version: SpecVersion,
}

impl Serialize for Versioned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { result, version } = *self;
        if version < SpecVersion::V0_3_0 {
            FamilyOut {
                cni_version: version,
                ip4: FamilyIp::of(result, |ip| ip.is_ipv4()),
                ip6: FamilyIp::of(result, |ip| ip.is_ipv6()),
                dns: &result.dns,
            }
            .serialize(serializer)
        } else {
            ListOut {
                cni_version: version,
                interfaces: result
                    .interfaces
                    .iter()
                    .map(|interface| old_interface(interface, version))
                    .collect(),
                ips: result.ips.iter().map(|ip| IpOut { version: family(ip, version), ip }).collect(),
                routes: &result.routes,
                dns: &result.dns,
            }
            .serialize(serializer)
        }
    }
}

/// Since 0.3.0.
#[derive(Deserialize)]
struct ListForm {
    #[serde(default)]
    interfaces: Vec<Interface>,
    /// `version` is not read: the address says it better.
    #[serde(default)]
    ips: Vec<IpConfig>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    dns: Dns,
}

impl From<ListForm> for AddResult {
    fn from(ListForm { interfaces, ips, routes, dns }: ListForm) -> Self {
        Self { interfaces, ips, routes, dns }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListOut<'a> {
    cni_version: SpecVersion,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Cow<'a, Interface>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpOut<'a>>,
    #[serde(skip_serializing_if = "<[Route]>::is_empty")]
    routes: &'a [Route],
    /// Written even when empty: the reference's releases do, and comparing outputs byte for byte is worth keeping.
    dns: &'a Dns,
}

#[derive(Serialize)]
struct IpOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(flatten)]
    ip: &'a IpConfig,
}

fn family(ip: &IpConfig, version: SpecVersion) -> Option<&'static str> {
    let text = if ip.address.addr().is_ipv4() { "4" } else { "6" };
    (version < SpecVersion::V1_0_0).then_some(text)
}

fn old_interface(interface: &Interface, version: SpecVersion) -> Cow<'_, Interface> {
    if version >= SpecVersion::V1_0_0 {
        return Cow::Borrowed(interface);
    }
    Cow::Owned(Interface { mtu: None, socket_path: None, pci_id: None, ..interface.clone() })
}

/// 0.1.0 and 0.2.0.
#[derive(Deserialize)]
struct FamilyForm {
    ip4: Option<FamilyIp>,
    ip6: Option<FamilyIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyOut<'a> {
    cni_version: SpecVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<FamilyIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<FamilyIp>,
    dns: &'a Dns,
}

#[derive(Serialize, Deserialize)]
struct FamilyIp {
    ip: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<FamilyRoute>,
}

#[derive(Serialize, Deserialize)]
struct FamilyRoute {
    dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_as_none")]
    gw: Option<IpAddr>,
}

impl FamilyIp {
    fn of(result: &AddResult, is_family: fn(&IpAddr) -> bool) -> Option<Self> {
        let first = result.ips.iter().find(|ip| is_family(&ip.address.addr()))?;
        let routes = result.routes.iter().filter(|route| is_family(&route.dst.addr()));
        Some(Self {
            ip: first.address,
            gateway: first.gateway,
            routes: routes.map(|route| FamilyRoute { dst: route.dst, gw: route.gw }).collect(),
        })
    }
}

impl From<FamilyForm> for AddResult {
    fn from(form: FamilyForm) -> Self {
        let mut result = Self { dns: form.dns, ..Self::default() };
        for family in [form.ip4, form.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { interface: None, address: family.ip, gateway: family.gateway });
            result.routes.extend(
                family.routes.into_iter().map(|route| Route { gw: route.gw, ..Route::new(route.dst) }),
            );
        }
        result
    }
}
