//! What this node knows of itself: its addresses, and its pods.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use netops::{LinkName, LinkState, LinuxKernel, MacAddr, Place, read_default_link, read_link};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use overlay::{Local, Machine, Node, NodeId, Pod};
use tokio::sync::watch;

use crate::events::{self, Events};
use crate::identity;
use crate::log;
use crate::settings::Settings;

/// How long is waited for what belongs to a change.
const SETTLES: Duration = Duration::from_millis(100);
/// An interface's, if it is not known: Ethernet's.
const USUAL_MTU: u32 = 1500;

/// Keeps what is said of this node as it is, as the kernel has it and `pods` tells.
pub(crate) async fn keep(
    settings: Settings,
    mut pods: watch::Receiver<Vec<Pod>>,
    told: watch::Sender<Arc<Local>>,
) -> String {
    let mut events = match Events::open(events::LINKS | events::ADDRESSES) {
        Ok(events) => events,
        Err(error) => return error.to_string(),
    };
    loop {
        let under = Underlay::look(&settings);
        if under.addresses != told.borrow().addresses {
            say(&under);
        }
        let pods_now = pods.borrow_and_update().clone();
        told.send_if_modified(|local| {
            let now = Local {
                addresses: under.addresses,
                mtu: under.mtu,
                machine: Machine { mac: under.mac, ..local.machine },
                pods: pods_now,
                ..(**local).clone()
            };
            let differs = **local != now;
            if differs {
                *local = Arc::new(now);
            }
            differs
        });
        tokio::select! {
            changed = events.changed() => {
                tokio::time::sleep(SETTLES).await;
                if let Err(error) = changed.and_then(|()| events.drain()) {
                    return error.to_string();
                }
            }
            changed = pods.changed() => if changed.is_err() { return "nobody tells of pods".to_owned() },
        }
    }
}

fn say(under: &Underlay) {
    let addresses: Vec<_> = under.addresses.iter().map(ToString::to_string).collect();
    match &under.interface {
        _ if addresses.is_empty() => log::warning(
            "this node has no address that others could reach: underlay.interface or underlay.addresses say which",
        ),
        Some(interface) => {
            log::info(format_args!("others reach this node at {} ({interface})", addresses.join(", ")));
        }
        None => log::info(format_args!("others reach this node at {}", addresses.join(", "))),
    }
}

/// What the node knows of itself at first.
pub(crate) fn first(settings: &Settings, id: NodeId) -> Local {
    let Underlay { addresses, mtu, mac, .. } = Underlay::look(settings);
    Local {
        id,
        name: settings.name.clone(),
        addresses,
        role: settings.role,
        mode: settings.mode,
        tunnel: Some(settings.tunnel),
        mtu,
        machine: Machine { mac, ..identity::machine() },
        pods: Vec::new(),
    }
}

/// What leads to other nodes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    pub(crate) interface: Option<LinkName>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mtu: u32,
    /// Unless it is a tunnel.
    pub(crate) mac: Option<MacAddr>,
}

impl Underlay {
    /// As settings say; what they do not say, as the kernel has it.
    pub(crate) fn look(settings: &Settings) -> Self {
        let found = addresses(settings);
        let interface = settings.underlay.clone().or_else(|| {
            let told = settings.addresses.first();
            let has_told = told.and_then(|told| found.iter().find(|(_, address)| address == told));
            let name = has_told.map(|(name, _)| name.clone());
            name.or_else(of_default_route).or_else(|| found.first().map(|(name, _)| name.clone()))
        });
        let of_interface = || {
            let on_it = found.iter().filter(|(name, _)| Some(name) == interface.as_ref());
            on_it.map(|(_, address)| *address).collect()
        };
        let addresses =
            if settings.addresses.is_empty() { of_interface() } else { settings.addresses.clone() };
        let link = interface.as_ref().and_then(link_of);
        let mtu = link.as_ref().map_or(USUAL_MTU, |link| link.mtu);
        let mac = link.and_then(|link| link.mac).filter(|mac| mac.is_unicast());
        Self { interface, addresses, mtu, mac }
    }
}

/// The addresses that others might reach, in the kernel's order.
fn addresses(settings: &Settings) -> Vec<(LinkName, IpAddr)> {
    let clusters: Vec<IpNet> = settings.pool.ranges().iter().map(|range| range.cluster).collect();
    let ours = [&settings.bridge, &settings.tunnel_device];
    let usable = |entry: InterfaceAddress| {
        let up = InterfaceFlags::IFF_UP;
        if !entry.flags.contains(up) || entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            return None;
        }
        let name = LinkName::new(&entry.interface_name).ok().filter(|name| !ours.contains(&name))?;
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        let address = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))?;
        let is_fine = is_reachable(address) && !clusters.iter().any(|range| range.contains(&address));
        is_fine.then_some((name, address))
    };
    getifaddrs().map(|entries| entries.filter_map(usable).collect()).unwrap_or_default()
}

/// Whether another host could reach it without knowing by which interface.
fn is_reachable(address: IpAddr) -> bool {
    let on_its_link = matches!(address, IpAddr::V4(address) if address.is_link_local());
    Node::can_be_at(address) && !on_its_link
}

fn of_default_route() -> Option<LinkName> {
    read_default_link(&mut LinuxKernel::new(None), Place::Host).ok()?
}

fn link_of(interface: &LinkName) -> Option<LinkState> {
    read_link(&mut LinuxKernel::new(None), Place::Host, interface).ok()?
}

/// The MTU of pods' interfaces, if nothing else was told.
pub(crate) fn pods_mtu(local: &Local) -> u32 {
    overlay::fabric::pods_mtu(local.mode, &local.addresses, local.mtu)
}
