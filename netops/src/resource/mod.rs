//! What can exist in a network namespace, as values.

mod forwarding;
mod kind;
mod link;
mod overlay;
mod route;
mod settings;
mod shaping;
mod sysctl;

use std::fmt;

use crate::entry::Entry;
use crate::error::Errno;
use crate::foreign::ForeignRules;
use crate::name::LinkName;

pub use forwarding::{ForwardJump, IpVersion, Isolation, Neighbours};
pub(crate) use kind::property;
pub use kind::{IpvlanMode, LinkKind, MacvlanMode, Parent, Tap, VethPeer};
pub use link::{Link, Master, MovedLink, Port, PortVlan};
pub use overlay::{
    DontFragment, FdbEntry, NeighbourEntry, NeighbourProxy, NextHop, OverlayRules, Via, Vxlan,
};
pub(crate) use route::MAIN_TABLE;
pub use route::{Address, OtherAddresses, Route, RouteTarget, Rule, Selector};
#[cfg(feature = "testing")]
pub(crate) use route::{BOOT, V6_METRIC};
pub use settings::LinkSettings;
pub use shaping::{Discipline, Qdisc, Redirect, TokenBucket};
pub use sysctl::Sysctl;

/// One thing that the kernel can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// A network interface.
    Link(Link),
    /// An interface's being up (`IFF_UP`). Apart from [`Link::up`] for two cases: an interface that is to be raised
    /// only after its addresses and sysctls are set, and one that existed before (`lo`).
    LinkUp(LinkName),
    /// An interface's being down, if there is one: what it is before it is [moved](Self::MovedLink). Has no opposite but
    /// what there was before.
    LinkDown(LinkName),
    /// An interface that is brought here from elsewhere; removing it takes it back.
    MovedLink(MovedLink),
    /// An interface's promiscuous mode (`IFF_PROMISC`), on one that may have existed before.
    Promiscuous(LinkName),
    /// Settings of an interface, which may have existed before.
    Settings(LinkSettings),
    /// A bridge's MAC address' being its own. One that never was given an address has its ports' lowest, and another
    /// one as ports come and go; the one that it has is made its own. A bridge that carries packets already is left
    /// alone: whoever made it so has ports in it that are not ours, and its neighbours know its address.
    FixedMac(LinkName),
    /// How a bridge treats one of its ports.
    Port(Port),
    /// An existing interface's being another's. To remove it is to set it free.
    Master(Master),
    /// An address on an interface.
    Address(Address),
    /// An interface's addresses' being usable: IPv6 duplicate address detection is over and found none. Making it so
    /// means to wait, for 10 s at most.
    Settled(LinkName),
    /// A route.
    Route(Route),
    /// A route's not being there. To make it so removes the route; there is no opposite but to make the route.
    NoRoute(Route),
    /// A way that routes take by its number.
    NextHop(NextHop),
    /// A neighbour whose MAC address is known beforehand.
    Neighbour(NeighbourEntry),
    /// A neighbour for which this machine answers. One that is there already is kept.
    Proxy(NeighbourProxy),
    /// To which machine a tunnel sends the frames for a MAC address.
    Fdb(FdbEntry),
    /// A rule of the routing policy. One that is there already is kept.
    Rule(Rule),
    /// A kernel setting.
    Sysctl(Sysctl),
    /// How packets queue that leave an interface, or that they can be told where to go as they come in.
    Qdisc(Qdisc),
    /// Where packets go that come in by an interface.
    Redirect(Redirect),
    /// Something in cnikit's own tables of nf_tables.
    Entry(Entry),
    /// Netfilter rules of another program's, which can be looked for and removed. Making them is `EOPNOTSUPP`.
    Foreign(ForeignRules),
    /// A bridge's isolation from other bridges.
    Isolation(Isolation),
    /// A way through the host's own packet filter.
    ForwardJump(ForwardJump),
    /// What an overlay has the packet filter do. What was there before is replaced.
    OverlayRules(OverlayRules),
}

impl Resource {
    /// The interface, if any, whose removal takes this along.
    pub fn carrier(&self) -> Option<&str> {
        match self {
            Self::Link(_)
            | Self::MovedLink(_)
            | Self::Rule(_)
            | Self::Entry(_)
            | Self::Foreign(_)
            | Self::Isolation(_)
            | Self::ForwardJump(_)
            | Self::OverlayRules(_) => None,
            Self::NextHop(hop) => hop.via.link().map(LinkName::as_str),
            Self::Neighbour(neighbour) => Some(neighbour.link.as_str()),
            Self::Proxy(proxy) => Some(proxy.link.as_str()),
            Self::Fdb(entry) => Some(entry.link.as_str()),
            Self::LinkUp(link)
            | Self::LinkDown(link)
            | Self::Promiscuous(link)
            | Self::FixedMac(link)
            | Self::Settled(link) => Some(link.as_str()),
            Self::Port(port) => Some(port.link.as_str()),
            Self::Master(master) => Some(master.link.as_str()),
            Self::Address(address) => Some(address.link.as_str()),
            Self::Route(route) | Self::NoRoute(route) => route.link().map(LinkName::as_str),
            Self::Sysctl(sysctl) => sysctl.key.link(),
            Self::Settings(settings) => Some(settings.link.as_str()),
            Self::Qdisc(qdisc) => Some(qdisc.link.as_str()),
            Self::Redirect(redirect) => Some(redirect.from.as_str()),
        }
    }
}

impl Resource {
    /// What the kernel says of a refusal, and what it lacks if that is why.
    pub(crate) fn explain(&self, errno: Errno, detail: Option<String>) -> Option<String> {
        let option = match (self, errno) {
            // Without these words it is something about the link, and not its kind.
            (Self::Link(link), Errno::EOPNOTSUPP) if detail.as_deref() == Some("Unknown device type") => {
                match &link.kind {
                    LinkKind::Bridge { .. } => "CONFIG_BRIDGE (module bridge)",
                    LinkKind::Veth { .. } => "CONFIG_VETH (module veth)",
                    LinkKind::Dummy => "CONFIG_DUMMY (module dummy)",
                    LinkKind::Ifb => "CONFIG_IFB (module ifb)",
                    LinkKind::Macvlan { .. } => "CONFIG_MACVLAN (module macvlan)",
                    LinkKind::Ipvlan { .. } => "CONFIG_IPVLAN (module ipvlan)",
                    LinkKind::Vlan { .. } => "CONFIG_VLAN_8021Q (module 8021q)",
                    LinkKind::Tap(_) => "CONFIG_TUN (module tun)",
                    LinkKind::Any => return detail,
                    LinkKind::Vrf { .. } => "CONFIG_NET_VRF (module vrf)",
                    LinkKind::Vxlan(_) => "CONFIG_VXLAN (module vxlan)",
                }
            }
            (Self::Qdisc(qdisc), Errno::ENOENT) => match qdisc.discipline {
                Discipline::TokenBucket(_) => "CONFIG_NET_SCH_TBF (module sch_tbf)",
                Discipline::Ingress => "CONFIG_NET_SCH_INGRESS (module sch_ingress)",
            },
            (Self::Redirect(_), Errno::ENOENT) => {
                "CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED (modules cls_u32, act_mirred)"
            }
            (Self::Qdisc(_) | Self::Redirect(_), Errno::EOPNOTSUPP) => "CONFIG_NET_SCHED",
            _ => return detail,
        };
        let said = detail.map(|detail| format!("{detail}; ")).unwrap_or_default();
        Some(format!("{said}it takes {option}"))
    }
}

/// What it is, as errors name it: `veth "eth0"`, `address 10.22.0.5/16 on "eth0"`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "{} \"{}\"", link.kind, link.name),
            Self::LinkUp(link) => write!(f, "state up of \"{link}\""),
            Self::LinkDown(link) => write!(f, "state down of \"{link}\""),
            Self::MovedLink(moved) => {
                write!(f, "interface \"{}\" (\"{}\" of the {})", moved.name, moved.original, moved.from)
            }
            Self::Promiscuous(link) => write!(f, "promiscuous mode of \"{link}\""),
            Self::Settings(settings) => write!(f, "settings of \"{}\"", settings.link),
            Self::FixedMac(link) => write!(f, "MAC address of \"{link}\""),
            Self::Master(Master { link, master }) => write!(f, "\"{link}\"'s being of \"{master}\""),
            Self::Port(port) => write!(f, "bridge port \"{}\"", port.link),
            Self::Address(address) => write!(f, "address {} on \"{}\"", address.net, address.link),
            Self::Settled(link) => write!(f, "usable addresses on \"{link}\""),
            Self::Route(route) => route.fmt(f),
            Self::NoRoute(route) => write!(f, "absence of {route}"),
            Self::NextHop(hop) => write!(f, "next hop {}", hop.id),
            Self::Neighbour(neighbour) => {
                write!(f, "neighbour {} on \"{}\"", neighbour.address, neighbour.link)
            }
            Self::Proxy(proxy) => write!(f, "proxy for {} on \"{}\"", proxy.address, proxy.link),
            Self::Fdb(entry) => write!(f, "FDB entry {} of \"{}\"", entry.mac, entry.link),
            Self::Rule(rule) => write!(f, "rule for {}", rule.selector),
            Self::Sysctl(sysctl) => write!(f, "sysctl {} = {}", sysctl.key, sysctl.value),
            Self::Qdisc(Qdisc { link, discipline: Discipline::TokenBucket(_) }) => {
                write!(f, "token bucket on \"{link}\"")
            }
            Self::Qdisc(Qdisc { link, discipline: Discipline::Ingress }) => {
                write!(f, "ingress of \"{link}\"")
            }
            Self::Redirect(redirect) => {
                write!(f, "redirection of \"{}\" to \"{}\"", redirect.from, redirect.to)
            }
            Self::Entry(entry) => entry.fmt(f),
            Self::Foreign(rules) => rules.fmt(f),
            Self::Isolation(isolation) => isolation.fmt(f),
            Self::ForwardJump(jump) => jump.fmt(f),
            Self::OverlayRules(_) => f.write_str("packet filter of the overlay"),
        }
    }
}
