//! `ipvlan`: a container shares its node's interface, MAC address included.

use cni_spec::{AddResult, Error};
use netops::{IpvlanMode, Kernel, LinkKind, LinkName};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Remains, Request};
use serde::Deserialize;

use crate::inside::{self, Inside};
use crate::master::{self, Master};

/// The plugin `ipvlan`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ipvlan;

/// The configuration of [`Ipvlan`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct IpvlanConfig {
    /// What it is on (`master`, `linkInContainer`): if it is not said, what a plugin before it in a list has made.
    pub master: Master,
    /// Where it switches or routes (`mode`).
    pub mode: IpvlanMode,
    /// MTU in bytes (`mtu`); its master's if absent.
    pub mtu: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    master: String,
    link_in_container: bool,
    mode: String,
    mtu: i64,
}

impl TryFrom<Raw> for IpvlanConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        Ok(Self {
            master: Master::new(&raw.master, raw.link_in_container)?,
            mode: match raw.mode.as_str() {
                "" | "l2" => IpvlanMode::L2,
                "l3" => IpvlanMode::L3,
                "l3s" => IpvlanMode::L3s,
                other => return Err(format!("mode is {other:?}: it must be l2, l3 or l3s")),
            },
            mtu: plugin_kit::mtu(raw.mtu)?,
        })
    }
}

impl Attach for Ipvlan {
    type Config = IpvlanConfig;

    const TYPE: &'static str = "ipvlan";
    const ABOUT: &'static str = concat!(
        "cnikit ipvlan ",
        env!("CARGO_PKG_VERSION"),
        ": containers that share their node's interface"
    );
    const ADDRESSING: Addressing = Addressing::Optional;
    const REMAINS: Remains = Remains::Interface("ipvlan");

    fn plan(
        &self,
        request: &Request<'_, IpvlanConfig>,
        kernel: &mut dyn Kernel,
    ) -> Result<Attachment, Error> {
        let IpvlanConfig { master, mode, mtu } = &request.config;
        let (parent, state) = match (&master.name, chained_on(request)?) {
            (None, Some(name)) => Master { name: Some(name), place: master.place }.find(request, kernel)?,
            _ => master.find(request, kernel)?,
        };
        let mut making = inside::making(request, LinkKind::Ipvlan { parent, mode: *mode }, *mtu, None);
        master::announce(&mut making, &request.names.interface);
        let inside = Inside {
            making,
            addresses: addresses(request)?,
            detection: DuplicateDetection::Usual,
            // The kernel gives it its parent's.
            mac: state.as_ref().and_then(|parent| parent.mac),
            mtu: mtu.or(state.map(|parent| parent.mtu)),
        };
        Ok(inside.attachment(request))
    }

    fn status(&self, config: &IpvlanConfig, kernel: &mut dyn Kernel) -> Result<(), Error> {
        // Without a name it may be what another plugin makes.
        if config.master.name.is_some() { config.master.status(kernel) } else { Ok(()) }
    }
}

/// The addresses that IPAM gave, or, where none is configured, those of the plugins before.
fn addresses(request: &Request<'_, IpvlanConfig>) -> Result<AddResult, Error> {
    if !request.addresses.ips.is_empty() || request.call.config.ipam_type()?.is_some() {
        return Ok(request.addresses.clone());
    }
    match &request.previous {
        Some(previous) if !previous.ips.is_empty() => {
            Ok(AddResult { interfaces: Vec::new(), ..previous.clone() })
        }
        _ => Err(Error::config("ipam.type: missing: ipvlan needs addresses, from there or from prevResult")),
    }
}

/// What the plugins before have made, if there are any: the attachment's own interface is none of it.
fn chained_on(request: &Request<'_, IpvlanConfig>) -> Result<Option<LinkName>, Error> {
    let Some(previous) = &request.previous else { return Ok(None) };
    match previous.interfaces.as_slice() {
        [one] if one.name == request.names.interface.as_str() && one.sandbox.is_some() => Ok(None),
        [one] => {
            let name = LinkName::new(&one.name);
            name.map(Some).map_err(|e| Error::config(format!("prevResult.interfaces[0].name: {e}")))
        }
        _ => Err(Error::config("master: missing, and prevResult has not just one interface to take")),
    }
}
