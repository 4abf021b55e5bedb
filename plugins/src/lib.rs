//! Every cnikit CNI plugin in one small executable, which is each of them under its name: `/opt/cni/bin/bridge`,
//! `/opt/cni/bin/host-local`, … are links to it.
//!
//! As a library: [`find`] gives a plugin by name, to be called in process, and [`InProcess`] has a runtime call them so.

mod in_process;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use cni_spec::plugin::Plugin;
use plugin_bridge::Bridge;
use plugin_chain::{Bandwidth, Firewall, Portmap, Sbr, Tuning, Vrf};
use plugin_ipam::{DHCP, HOST_LOCAL, STATIC};
use plugin_kit::{Explain, Kit};
use plugin_link::{Dummy, HostDevice, Ipvlan, Loopback, Macvlan, Ptp, Tap, Vlan};
use plugin_overlay::Overlay;

pub use in_process::InProcess;

static BANDWIDTH: Kit<Bandwidth> = Kit::new(Bandwidth);
static BRIDGE: Kit<Bridge> = Kit::new(Bridge);
static DUMMY: Kit<Dummy> = Kit::new(Dummy);
static FIREWALL: Kit<Firewall> = Kit::new(Firewall::new());
static HOST_DEVICE: Kit<HostDevice> = Kit::new(HostDevice::new());
static IPVLAN: Kit<Ipvlan> = Kit::new(Ipvlan);
static LOOPBACK: Kit<Loopback> = Kit::new(Loopback);
static MACVLAN: Kit<Macvlan> = Kit::new(Macvlan);
static OVERLAY: Kit<Overlay> = Kit::new(Overlay);
static PORTMAP: Kit<Portmap> = Kit::new(Portmap);
static PTP: Kit<Ptp> = Kit::new(Ptp);
static SBR: Kit<Sbr> = Kit::new(Sbr);
static TAP: Kit<Tap> = Kit::new(Tap);
static TUNING: Kit<Tuning> = Kit::new(Tuning::new());
static VLAN: Kit<Vlan> = Kit::new(Vlan);
static VRF: Kit<Vrf> = Kit::new(Vrf);

/// A plugin that can say what it would do, or one that has nothing of its own in the kernel.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Entry {
    /// It makes an interface.
    Interface(&'static dyn Explain),
    /// It manages addresses.
    Addresses(&'static dyn Plugin),
}

impl Entry {
    /// The plugin.
    pub fn plugin(self) -> &'static dyn Plugin {
        match self {
            Self::Interface(plugin) => plugin,
            Self::Addresses(plugin) => plugin,
        }
    }
}

/// Every plugin, by the name that configurations call it by.
pub static ALL: &[(&str, Entry)] = &[
    ("bandwidth", Entry::Interface(&BANDWIDTH)),
    ("bridge", Entry::Interface(&BRIDGE)),
    ("dhcp", Entry::Addresses(&DHCP)),
    ("dummy", Entry::Interface(&DUMMY)),
    ("firewall", Entry::Interface(&FIREWALL)),
    ("host-device", Entry::Interface(&HOST_DEVICE)),
    ("host-local", Entry::Addresses(&HOST_LOCAL)),
    ("ipvlan", Entry::Interface(&IPVLAN)),
    ("loopback", Entry::Interface(&LOOPBACK)),
    ("macvlan", Entry::Interface(&MACVLAN)),
    ("overlay", Entry::Interface(&OVERLAY)),
    ("portmap", Entry::Interface(&PORTMAP)),
    ("ptp", Entry::Interface(&PTP)),
    ("sbr", Entry::Interface(&SBR)),
    ("static", Entry::Addresses(&STATIC)),
    ("tap", Entry::Interface(&TAP)),
    ("tuning", Entry::Interface(&TUNING)),
    ("vlan", Entry::Interface(&VLAN)),
    ("vrf", Entry::Interface(&VRF)),
];

/// The plugin of a name, if it is one of ours.
pub fn find(name: &str) -> Option<Entry> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, entry)| *entry)
}

/// Runs the plugin that the program is called as: its first argument's file name, as in `/opt/cni/bin/bridge`, or
/// else the second, as in `cnikit-plugins bridge`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = |text: OsString| Path::new(&text).file_name()?.to_str().map(str::to_owned);
    match args.into_iter().take(2).filter_map(name).find_map(|name| find(&name)) {
        Some(entry) => cni_spec::plugin::run(entry.plugin()),
        None => {
            let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("this is to be called under a plugin's name: {}", names.join(", "));
            eprintln!("`cnikit install --bin-dir /opt/cni/bin` puts it there");
            ExitCode::FAILURE
        }
    }
}
