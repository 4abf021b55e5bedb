//! Interfaces, and the ports of bridges.

use std::fmt;

use super::kind::LinkKind;
use crate::name::{LinkName, MacAddr, Mark};
use crate::place::Place;

/// A network interface to be created (`RTM_NEWLINK`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its name.
    pub name: LinkName,
    /// What it is.
    pub kind: LinkKind,
    /// MTU in bytes; the kernel's default if absent.
    pub mtu: Option<u32>,
    /// MAC address; one of the kernel's choice if absent.
    pub mac: Option<MacAddr>,
    /// Created up.
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<LinkName>,
    /// Its alias (`ip link show` prints it; `/sys/class/net/LINK/ifalias`).
    pub mark: Option<Mark>,
    /// Ignores IPv6 router advertisements (`accept_ra = 0`), set before anyone can send one: a pod must not be
    /// able to give its node a default route (CVE-2020-10749).
    pub ignore_router_advertisements: bool,
}

impl Link {
    /// An interface of a kind, with everything else left to the kernel.
    pub fn new(name: LinkName, kind: LinkKind) -> Self {
        Self {
            name,
            kind,
            mtu: None,
            mac: None,
            up: false,
            master: None,
            mark: None,
            ignore_router_advertisements: false,
        }
    }
}

/// An interface that was made elsewhere and is brought here: a machine's network card into a container. Where it comes
/// from it leaves its name, and what it had there: being up, addresses, routes, its being a bridge's port.
///
/// The name is kept as its alias, as the CNI plugin `host-device` does, so that whoever takes it back knows it. Taking
/// it back, it is down. Bridges and `lo` cannot be moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MovedLink {
    /// Its name here.
    pub name: LinkName,
    /// Where it comes from.
    pub from: Place,
    /// Its name there.
    pub original: LinkName,
    /// The MAC address that it is known to have: it is compared, and never set.
    pub mac: Option<MacAddr>,
}

impl Link {
    /// The interfaces that it consists of, and where they are: itself, made in a place, and a veth's other end.
    pub(crate) fn ends(&self, place: Place) -> impl Iterator<Item = (Place, &LinkName)> {
        let peer = match &self.kind {
            LinkKind::Veth { peer } => Some((peer.place, &peer.name)),
            _ => None,
        };
        [(place, &self.name)].into_iter().chain(peer)
    }
}

/// Whose an existing link is (`IFLA_MASTER`): a port of a bridge, or an interface of a VRF.
///
/// A VRF takes it down and up again (`cycle_netdev()`): its IPv4 addresses stay, its IPv6 addresses where the setting
/// `keep_addr_on_down` says so, and of its routes those that come with addresses, now in the VRF's table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Master {
    /// The interface.
    pub link: LinkName,
    /// The one that it belongs to.
    pub master: LinkName,
}

/// How a bridge treats a port (`IFLA_BRPORT_*`). Goes with its link: never removed by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Port {
    /// The port's interface.
    pub link: LinkName,
    /// Frames may go back out of the port they came in by: a pod that reaches itself through a published port.
    pub hairpin: bool,
    /// No frames between this and other isolated ports.
    pub isolated: bool,
    /// VLANs; empty leaves the bridge's default.
    pub vlans: Vec<PortVlan>,
    /// Removes the bridge's default VLAN (1) from the port.
    pub drop_default_vlan: bool,
}

/// VLANs `first..=last` of a bridge port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortVlan {
    /// First VLAN ID, 1 to 4094.
    pub first: u16,
    /// Last VLAN ID, 1 to 4094.
    pub last: u16,
    /// Frames without a tag belong to it (PVID) and leave without one: an access port. Else a trunk's, tagged.
    pub access: bool,
}

/// `100`, `100-200`, and ` (access)` where it is one.
impl fmt::Display for PortVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        f.write_str(if self.access { " (access)" } else { "" })
    }
}
