//! What links are.

use std::fmt;

use super::overlay::{DontFragment, Vxlan};
use crate::name::{LinkName, MacAddr};
use crate::place::Place;

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind {
    /// A software bridge. Its MAC address should be given: a bridge without one of its own takes its ports' lowest and
    /// changes it as they come and go.
    Bridge {
        /// 802.1Q filtering of its ports (needs a kernel with `CONFIG_BRIDGE_VLAN_FILTERING`).
        vlan_filtering: bool,
    },
    /// One end of a virtual cable; the other is made in the same message. Removing either removes both.
    Veth {
        /// The other end.
        peer: VethPeer,
    },
    /// An interface that drops what is sent to it.
    Dummy,
    /// An intermediate functional block: what is redirected to it ([`crate::Redirect`]) goes through its queueing
    /// discipline and then on its way, as if it had come in a moment later.
    Ifb,
    /// A parent's second self on the same segment, with a MAC address of its own. Gone when its parent is.
    Macvlan {
        /// What it is on.
        parent: Parent,
        /// Who may talk to whom.
        mode: MacvlanMode,
        /// How many broadcast and multicast frames may wait (`IFLA_MACVLAN_BC_QUEUE_LEN`); the kernel's 1000 if absent.
        /// All on one parent share the longest that any of them asks for.
        broadcast_queue: Option<u32>,
    },
    /// A parent's second self with the same MAC address and IP addresses of its own. Gone when its parent is.
    Ipvlan {
        /// What it is on.
        parent: Parent,
        /// Where it switches or routes.
        mode: IpvlanMode,
    },
    /// What of a parent's traffic has an 802.1Q tag. Gone when its parent is; a parent has one of each ID.
    Vlan {
        /// What it is on.
        parent: Parent,
        /// VLAN ID, 0 (tagged with a priority only) to 4094.
        id: u16,
    },
    /// A routing domain of its own (virtual routing and forwarding): what its interfaces receive and send is looked up in
    /// its table alone.
    Vrf {
        /// The routing table.
        table: u32,
    },
    /// A tunnel for Ethernet frames to other machines (RFC 7348). Its MTU should be given: the kernel assumes 1500, whatever
    /// carries it.
    Vxlan(Vxlan),
    /// An Ethernet interface whose cable ends in a program: whoever opens it reads and writes its frames
    /// (`/dev/net/tun`).
    Tap(Tap),
    /// Whatever it is: to remove something that is known by its name. Nothing can be made of it.
    Any,
}

impl LinkKind {
    /// The kernel's word for it (`IFLA_INFO_KIND`).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bridge { .. } => "bridge",
            Self::Veth { .. } => "veth",
            Self::Dummy => "dummy",
            Self::Ifb => "ifb",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Vlan { .. } => "vlan",
            Self::Vrf { .. } => "vrf",
            Self::Vxlan(_) => "vxlan",
            Self::Tap(_) => "tun",
            Self::Any => "interface",
        }
    }

    /// The interface that it is on.
    pub fn parent(&self) -> Option<&Parent> {
        match self {
            Self::Macvlan { parent, .. } | Self::Ipvlan { parent, .. } | Self::Vlan { parent, .. } => {
                Some(parent)
            }
            Self::Bridge { .. }
            | Self::Veth { .. }
            | Self::Dummy
            | Self::Ifb
            | Self::Vrf { .. }
            | Self::Vxlan(_)
            | Self::Tap(_)
            | Self::Any => None,
        }
    }

    /// What is asked for that only this kind has, by name: as [`crate::LinkState::properties`].
    pub(crate) fn properties(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Macvlan { mode, broadcast_queue, .. } => {
                let queue = broadcast_queue.map(|length| (property::BROADCAST_QUEUE, length.to_string()));
                [(property::MODE, mode.to_string())].into_iter().chain(queue).collect()
            }
            Self::Ipvlan { mode, .. } => vec![(property::MODE, mode.to_string())],
            Self::Vlan { id, .. } => vec![(property::VLAN, id.to_string())],
            Self::Vrf { table } => vec![(property::TABLE, table.to_string())],
            Self::Vxlan(vxlan) => {
                let Vxlan { vni, port, local, dont_fragment } = vxlan;
                property::of_vxlan(*vni, *port, *local, *dont_fragment, false)
            }
            Self::Tap(tap) => property::of_tap(true, tap.multi_queue, tap.owner, tap.group),
            Self::Bridge { .. } | Self::Veth { .. } | Self::Dummy | Self::Ifb | Self::Any => Vec::new(),
        }
    }
}

/// As people say it: a tap is a `tun` to the kernel.
impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if let Self::Tap(_) = self { "tap" } else { self.name() })
    }
}

/// The names of what only some kinds of links have.
pub(crate) mod property {
    /// The mode of a macvlan or an ipvlan.
    pub(crate) const MODE: &str = "mode";
    /// See [`super::LinkKind::Macvlan`].
    pub(crate) const BROADCAST_QUEUE: &str = "broadcast queue";
    /// The routing table of a VRF.
    pub(crate) const TABLE: &str = "table";
    /// The number of a VXLAN's network.
    pub(crate) const VNI: &str = "VNI";
    /// The ID of a VLAN.
    pub(crate) const VLAN: &str = "VLAN";

    /// What there is to say of a VXLAN.
    pub(crate) fn of_vxlan(
        vni: u32,
        port: u16,
        local: Option<std::net::IpAddr>,
        dont_fragment: super::DontFragment,
        learns: bool,
    ) -> Vec<(&'static str, String)> {
        vec![
            (VNI, vni.to_string()),
            ("port", port.to_string()),
            (
                "local address",
                local
                    .filter(|local| !local.is_unspecified())
                    .map_or_else(|| "any".to_owned(), |local| local.to_string()),
            ),
            ("don't fragment", dont_fragment.to_string()),
            ("learning", learns.to_string()),
        ]
    }

    /// What there is to say of a tun or tap.
    pub(crate) fn of_tap(
        ethernet: bool,
        multi_queue: bool,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> Vec<(&'static str, String)> {
        let who = |id: Option<u32>| id.map_or_else(|| "nobody in particular".to_owned(), |id| id.to_string());
        vec![
            ("type", if ethernet { "tap" } else { "tun" }.to_owned()),
            ("multiple queues", multi_queue.to_string()),
            ("owner", who(owner)),
            ("group", who(group)),
        ]
    }
}

/// The other end of a [`LinkKind::Veth`]. It cannot be created up (the kernel answers `ENOTCONN`: the ends are joined
/// after the peer is configured), so raise it with [`crate::Resource::LinkUp`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VethPeer {
    /// Where it is put.
    pub place: Place,
    /// Its name there.
    pub name: LinkName,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address.
    pub mac: Option<MacAddr>,
}

/// The interface that another one is on, which may be in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parent {
    /// Where it is.
    pub place: Place,
    /// Its name there.
    pub name: LinkName,
}

/// Whom a macvlan reaches (`IFLA_MACVLAN_MODE`, `linux/if_link.h`). None reaches its own parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MacvlanMode {
    /// Nobody on the same parent.
    Private,
    /// Others on the same parent by way of the switch beyond it, which must send frames back to where they came from.
    Vepa,
    /// Others on the same parent directly.
    Bridge,
    /// It is alone on its parent, and has its MAC address.
    Passthru,
}

/// `ip link`'s word.
impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Bridge => "bridge",
            Self::Passthru => "passthru",
        })
    }
}

/// Where an ipvlan's packets find their way (`IFLA_IPVLAN_MODE`, `linux/if_link.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IpvlanMode {
    /// In its own namespace: it takes part in ARP and neighbour discovery.
    L2,
    /// In its parent's: it sends and receives no broadcast or multicast.
    L3,
    /// As L3, by way of netfilter and connection tracking in the parent's namespace.
    L3s,
}

/// `ip link`'s word.
impl fmt::Display for IpvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        })
    }
}

/// A [`LinkKind::Tap`]'s terms. It stays when the program that has opened it ends (`TUNSETPERSIST`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tap {
    /// Several descriptors may be open at once, each a queue of its own (`IFF_MULTI_QUEUE`).
    pub multi_queue: bool,
    /// The user who may open it; without owner and group, whoever has `CAP_NET_ADMIN`.
    pub owner: Option<u32>,
    /// The group whose members may open it.
    pub group: Option<u32>,
    /// The SELinux context that it belongs to. Of no effect where SELinux is off.
    pub selinux_context: Option<String>,
}
