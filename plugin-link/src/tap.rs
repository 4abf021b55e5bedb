//! `tap`: an interface for a virtual machine in the container, or whatever else reads and writes frames.

use cni_spec::Error;
use netops::{Kernel, Link, LinkKind, LinkName, MacAddr, Place, Plan, Resource, Tap as Terms};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Remains, Request};
use serde::Deserialize;

use crate::inside::Inside;

/// What the kernel gives a tap (`ETH_DATA_LEN`).
const USUAL_MTU: u32 = 1500;

/// The plugin `tap`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tap;

/// The configuration of [`Tap`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct TapConfig {
    /// Who may open it, and how often at once (`multiQueue`, `owner`, `group`, `selinuxContext`).
    pub terms: Terms,
    /// MTU in bytes (`mtu`); the kernel's if absent.
    pub mtu: Option<u32>,
    /// MAC address (`mac`).
    pub mac: Option<MacAddr>,
    /// The bridge in the container that it is a port of (`bridge`).
    pub bridge: Option<LinkName>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    multi_queue: bool,
    owner: Option<u32>,
    group: Option<u32>,
    selinux_context: String,
    mtu: i64,
    mac: String,
    bridge: String,
}

impl TryFrom<Raw> for TapConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { multi_queue, owner, group, selinux_context, .. } = raw;
        let bridge = Some(raw.bridge).filter(|name| !name.is_empty());
        Ok(Self {
            terms: Terms {
                multi_queue,
                owner,
                group,
                selinux_context: Some(selinux_context).filter(|context| !context.is_empty()),
            },
            mtu: plugin_kit::mtu(raw.mtu)?,
            mac: plugin_kit::mac(&raw.mac)?,
            bridge: bridge
                .map(|name| LinkName::new(&name))
                .transpose()
                .map_err(|e| format!("bridge: {e}"))?,
        })
    }
}

impl Attach for Tap {
    type Config = TapConfig;

    const TYPE: &'static str = "tap";
    const ABOUT: &'static str =
        concat!("cnikit tap ", env!("CARGO_PKG_VERSION"), ": an interface whose cable ends in a program");
    const ADDRESSING: Addressing = Addressing::Optional;
    const REMAINS: Remains = Remains::Interface("tun");

    fn mac(&self, config: &TapConfig) -> Option<MacAddr> {
        config.mac
    }

    fn plan(&self, request: &Request<'_, TapConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let TapConfig { terms, mtu, bridge, .. } = &request.config;
        let mac = Some(request.names.container_mac);
        let mut making = Plan::new();
        let link = Link {
            mtu: *mtu,
            mac,
            master: bridge.clone(),
            mark: Some(request.owner.mark()),
            ..Link::new(request.names.interface.clone(), LinkKind::Tap(terms.clone()))
        };
        making.own(Place::Container, Resource::Link(link));
        let inside = Inside {
            making,
            addresses: request.addresses.clone(),
            // Nobody answers, nor would the kernel begin to ask, before a program has opened it.
            detection: DuplicateDetection::Skipped,
            mac,
            mtu: mtu.or(Some(USUAL_MTU)),
        };
        Ok(inside.attachment(request))
    }
}
