//! `vlan`: a container has what of its node's traffic bears an 802.1Q tag.

use cni_spec::Error;
use netops::{Kernel, LinkKind};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Remains, Request};
use serde::Deserialize;

use crate::inside::{self, Inside};
use crate::master::{self, Master};

/// The plugin `vlan`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vlan;

/// The configuration of [`Vlan`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct VlanConfig {
    /// What it is on (`master`, which is required; `linkInContainer`).
    pub master: Master,
    /// VLAN ID, 0 to 4094 (`vlanId`).
    pub id: u16,
    /// MTU in bytes (`mtu`); its master's if absent.
    pub mtu: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    master: String,
    link_in_container: bool,
    vlan_id: i64,
    mtu: i64,
}

impl TryFrom<Raw> for VlanConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if raw.master.is_empty() {
            return Err("master: missing: the interface that the VLAN is on".to_owned());
        }
        Ok(Self {
            master: Master::new(&raw.master, raw.link_in_container)?,
            id: match u16::try_from(raw.vlan_id) {
                Ok(id @ 0..=4094) => id,
                _ => return Err(format!("vlanId is {}: it must be 0 to 4094", raw.vlan_id)),
            },
            mtu: plugin_kit::mtu(raw.mtu)?,
        })
    }
}

impl Attach for Vlan {
    type Config = VlanConfig;

    const TYPE: &'static str = "vlan";
    const ABOUT: &'static str = concat!(
        "cnikit vlan ",
        env!("CARGO_PKG_VERSION"),
        ": containers on a VLAN of their node's interface"
    );
    const ADDRESSING: Addressing = Addressing::Required;
    const REMAINS: Remains = Remains::Interface("vlan");

    fn plan(&self, request: &Request<'_, VlanConfig>, kernel: &mut dyn Kernel) -> Result<Attachment, Error> {
        let VlanConfig { master, id, mtu } = &request.config;
        let (parent, state) = master.find(request, kernel)?;
        master::must_fit(*mtu, &parent, state.as_ref())?;
        let inside = Inside {
            making: inside::making(request, LinkKind::Vlan { parent, id: *id }, *mtu, None),
            addresses: request.addresses.clone(),
            detection: DuplicateDetection::Usual,
            // The kernel gives it its parent's.
            mac: state.as_ref().and_then(|parent| parent.mac),
            mtu: mtu.or(state.map(|parent| parent.mtu)),
        };
        Ok(inside.attachment(request))
    }

    fn status(&self, config: &VlanConfig, kernel: &mut dyn Kernel) -> Result<(), Error> {
        config.master.status(kernel)
    }
}
