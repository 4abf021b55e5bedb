//! `macvlan`: a container is on its node's segment, with a MAC address of its own.

use cni_spec::Error;
use netops::{Kernel, LinkKind, MacAddr, MacvlanMode};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Remains, Request};
use serde::Deserialize;

use crate::inside::{self, Inside};
use crate::master::{self, Master};

/// The plugin `macvlan`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Macvlan;

/// The configuration of [`Macvlan`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct MacvlanConfig {
    /// What it is on (`master`, `linkInContainer`).
    pub master: Master,
    /// Who may talk to whom (`mode`).
    pub mode: MacvlanMode,
    /// MTU in bytes (`mtu`); its master's if absent.
    pub mtu: Option<u32>,
    /// MAC address (`mac`).
    pub mac: Option<MacAddr>,
    /// How many broadcast frames may wait (`bcqueuelen`); the kernel's 1000 if absent.
    pub broadcast_queue: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    master: String,
    link_in_container: bool,
    mode: String,
    mtu: i64,
    mac: String,
    bcqueuelen: u32,
}

impl TryFrom<Raw> for MacvlanConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        Ok(Self {
            master: Master::new(&raw.master, raw.link_in_container)?,
            mode: match raw.mode.as_str() {
                "" | "bridge" => MacvlanMode::Bridge,
                "private" => MacvlanMode::Private,
                "vepa" => MacvlanMode::Vepa,
                "passthru" => MacvlanMode::Passthru,
                other => {
                    return Err(format!("mode is {other:?}: it must be bridge, private, vepa or passthru"));
                }
            },
            mtu: plugin_kit::mtu(raw.mtu)?,
            mac: plugin_kit::mac(&raw.mac)?,
            broadcast_queue: Some(raw.bcqueuelen).filter(|length| *length > 0),
        })
    }
}

impl Attach for Macvlan {
    type Config = MacvlanConfig;

    const TYPE: &'static str = "macvlan";
    const ABOUT: &'static str =
        concat!("cnikit macvlan ", env!("CARGO_PKG_VERSION"), ": containers on their node's segment");
    const ADDRESSING: Addressing = Addressing::Optional;
    const REMAINS: Remains = Remains::Interface("macvlan");

    fn mac(&self, config: &MacvlanConfig) -> Option<MacAddr> {
        config.mac
    }

    fn plan(
        &self,
        request: &Request<'_, MacvlanConfig>,
        kernel: &mut dyn Kernel,
    ) -> Result<Attachment, Error> {
        let MacvlanConfig { master, mode, mtu, broadcast_queue, .. } = &request.config;
        let (parent, state) = master.find(request, kernel)?;
        master::must_fit(*mtu, &parent, state.as_ref())?;
        // One that is alone on its parent has the parent's MAC address, whatever it is given.
        let own = (*mode != MacvlanMode::Passthru).then_some(request.names.container_mac);
        let kind = LinkKind::Macvlan { parent, mode: *mode, broadcast_queue: *broadcast_queue };
        let mut making = inside::making(request, kind, *mtu, own);
        master::announce(&mut making, &request.names.interface);
        let inside = Inside {
            making,
            addresses: request.addresses.clone(),
            detection: DuplicateDetection::Usual,
            mac: own.or_else(|| state.as_ref().and_then(|parent| parent.mac)),
            mtu: mtu.or(state.map(|parent| parent.mtu)),
        };
        Ok(inside.attachment(request))
    }

    fn status(&self, config: &MacvlanConfig, kernel: &mut dyn Kernel) -> Result<(), Error> {
        config.master.status(kernel)
    }
}
