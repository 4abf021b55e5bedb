//! One network namespace: what it holds, and how to find things in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Entry, EntryKey};
use crate::error::Errno;
use crate::foreign::ForeignRules;
use crate::kernel::LinkState;
use crate::name::{LinkName, MacAddr};
use crate::resource::{ForwardJump, Isolation, LinkKind, MacvlanMode, OverlayRules, Port, Rule};

use super::addresses::Held;
use super::machine::{NamespaceId, Problem};
use super::overlay::Overlay;
use super::shaping::Shaping;
use super::{routes, rules, sysctls};

/// A network namespace.
pub(super) struct Namespace {
    /// Links by index.
    pub(super) links: BTreeMap<u32, Interface>,
    next_index: u32,
    /// Routes of all tables but `local`.
    pub(super) routes: Vec<routes::Entry>,
    /// Next hops, neighbours and FDB entries.
    pub(super) overlay: Overlay,
    /// Which routes are looked at, and in which order.
    pub(super) rules: Vec<Rule>,
    /// There has been an IPv4 address: until then there is no `local` table, and no gateway passes for a unicast address.
    pub(super) had_ipv4: bool,
    /// Settings by path.
    pub(super) sysctls: BTreeMap<String, String>,
    /// What cnikit's tables hold.
    pub(super) entries: BTreeMap<EntryKey, Entry>,
    /// Netfilter rules of other programs', and their comments.
    pub(super) foreign: BTreeMap<ForeignRules, String>,
    /// Bridges that are isolated.
    pub(super) isolations: BTreeSet<Isolation>,
    /// Ways through the host's own packet filter.
    pub(super) jumps: BTreeSet<ForwardJump>,
    /// What an overlay has the packet filter do.
    pub(super) overlay_rules: Option<OverlayRules>,
}

/// A link.
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: LinkName,
    pub(super) kind: Kind,
    pub(super) mac: MacAddr,
    /// The MAC address was asked for: a bridge does not change it for its ports'.
    pub(super) mac_given: bool,
    pub(super) mtu: u32,
    /// The MTU has been changed since the link was made: a bridge does not change it for its ports'.
    pub(super) mtu_given: bool,
    pub(super) up: bool,
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) transmit_queue: u32,
    pub(super) alias: Option<String>,
    pub(super) membership: Option<Membership>,
    /// The index of the VRF that it is in.
    pub(super) vrf: Option<u32>,
    pub(super) shaping: Shaping,
    pub(super) addresses: Vec<Held>,
    /// It has been up with a carrier since it last went up (`IF_READY`): IPv6 has begun on it.
    pub(super) ready: bool,
}

/// What a link is.
pub(super) enum Kind {
    Loopback,
    Dummy,
    Ifb,
    Vrf {
        table: u32,
    },
    Bridge {
        /// A bridge has a carrier until its first port comes; from then on it has its ports'.
        had_ports: bool,
    },
    Veth {
        place: NamespaceId,
        peer: u32,
    },
    /// On another link: a macvlan, an ipvlan, a VLAN.
    Upper {
        as_made: LinkKind,
        place: NamespaceId,
        parent: u32,
    },
    /// Made as was asked for, and on nothing: a tap, a VXLAN.
    Tap(LinkKind),
}

/// Being a bridge's port.
pub(super) struct Membership {
    pub(super) bridge: u32,
    pub(super) port: Port,
}

impl Namespace {
    /// A namespace as it is born.
    pub(super) fn new(ipv6: bool) -> Self {
        let mut namespace = Self {
            links: BTreeMap::new(),
            next_index: 1,
            routes: Vec::new(),
            overlay: Overlay::default(),
            rules: rules::at_birth(ipv6),
            had_ipv4: false,
            sysctls: sysctls::at_birth(ipv6),
            entries: BTreeMap::new(),
            foreign: BTreeMap::new(),
            isolations: BTreeSet::new(),
            jumps: BTreeSet::new(),
            overlay_rules: None,
        };
        namespace.insert(Interface {
            mac: MacAddr::new([0; 6]),
            mtu: 65536,
            ..Interface::new(LinkName::loopback(), Kind::Loopback, None)
        });
        namespace
    }

    /// Takes a link in, with the next index.
    pub(super) fn insert(&mut self, mut link: Interface) -> u32 {
        let index = self.next_index;
        self.next_index += 1;
        link.index = index;
        sysctls::link_born(&mut self.sysctls, &link);
        self.links.insert(index, link);
        index
    }

    /// Finds a link by name.
    pub(super) fn link(&self, name: &LinkName) -> Option<&Interface> {
        self.links.values().find(|link| link.name == *name)
    }

    /// Finds a link by name.
    ///
    /// # Errors
    /// `ENODEV`.
    pub(super) fn link_mut(&mut self, name: &LinkName) -> Result<&mut Interface, Problem> {
        self.links.values_mut().find(|link| link.name == *name).ok_or(Problem::Refused(Errno::ENODEV, None))
    }

    /// Finds a link's index by name.
    ///
    /// # Errors
    /// `ENODEV`.
    pub(super) fn index(&self, name: &LinkName) -> Result<u32, Problem> {
        self.link(name).map(|link| link.index).ok_or(Problem::Refused(Errno::ENODEV, None))
    }

    /// The routing table of a link's own routes, if it is in a VRF.
    pub(super) fn vrf_table(&self, index: u32) -> Option<u32> {
        match self.links.get(&self.links.get(&index)?.vrf?)?.kind {
            Kind::Vrf { table } => Some(table),
            _ => None,
        }
    }

    /// The ports of a bridge.
    pub(super) fn ports(&self, bridge: u32) -> impl Iterator<Item = &Interface> {
        self.links.values().filter(move |link| link.bridge() == Some(bridge))
    }
}

impl Interface {
    /// A link that is down, not yet in a namespace.
    pub(super) fn new(name: LinkName, kind: Kind, mac: Option<MacAddr>) -> Self {
        let transmit_queue = kind.transmit_queue();
        Self {
            index: 0,
            name,
            kind,
            mac: mac.unwrap_or(MacAddr::new([0; 6])),
            mac_given: mac.is_some(),
            mtu: 1500,
            mtu_given: false,
            up: false,
            promiscuous: false,
            all_multicast: false,
            transmit_queue,
            alias: None,
            membership: None,
            vrf: None,
            shaping: Shaping::default(),
            addresses: Vec::new(),
            ready: false,
        }
    }

    /// The index of the bridge that it is a port of.
    pub(super) fn bridge(&self) -> Option<u32> {
        self.membership.as_ref().map(|membership| membership.bridge)
    }

    /// Whether its MAC address is that of the link that it is on, whichever of the two one changes.
    pub(super) fn has_parents_mac(&self) -> bool {
        let Kind::Upper { as_made, .. } = &self.kind else { return false };
        match as_made {
            LinkKind::Macvlan { mode, .. } => *mode == MacvlanMode::Passthru,
            LinkKind::Ipvlan { .. } => true,
            LinkKind::Vlan { .. } => !self.mac_given,
            _ => false,
        }
    }

    /// What the kernel shows of it.
    pub(super) fn state(&self, here: NamespaceId, carrier: bool) -> LinkState {
        let peer = match self.kind {
            Kind::Veth { place, peer } => Some((place, peer)),
            Kind::Upper { place, parent, .. } => Some((place, parent)),
            _ => None,
        };
        LinkState {
            mac: Some(self.mac),
            mtu: self.mtu,
            up: self.up,
            carrier,
            operational: self.up
                && carrier
                && !matches!(self.kind, Kind::Loopback | Kind::Ifb | Kind::Bridge { had_ports: false }),
            promiscuous: self.promiscuous,
            all_multicast: self.all_multicast,
            transmit_queue: self.transmit_queue,
            master: self.bridge().or(self.vrf),
            alias: self.alias.clone(),
            peer_index: peer.map(|(_, index)| index),
            peer_namespace: peer.filter(|(place, _)| *place != here).map(|(place, _)| place.number()),
            properties: self.kind.properties(),
            ..LinkState::new(self.index, self.name.clone(), self.kind.name())
        }
    }
}

impl Kind {
    /// The kernel's word for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "",
            Self::Dummy => LinkKind::Dummy.name(),
            Self::Ifb => LinkKind::Ifb.name(),
            Self::Vrf { .. } => "vrf",
            Self::Bridge { .. } => "bridge",
            Self::Veth { .. } => "veth",
            Self::Upper { as_made, .. } | Self::Tap(as_made) => as_made.name(),
        }
    }

    /// What only this kind has, by name.
    pub(super) fn properties(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Upper { as_made, .. } | Self::Tap(as_made) => as_made.properties(),
            Self::Vrf { table } => LinkKind::Vrf { table: *table }.properties(),
            _ => Vec::new(),
        }
    }

    /// The link, and where it is, that a link is on.
    pub(super) fn parent(&self) -> Option<(NamespaceId, u32)> {
        match self {
            Self::Upper { place, parent, .. } => Some((*place, *parent)),
            _ => None,
        }
    }

    /// The length of its transmit queue at first (`DEFAULT_TX_QUEUE_LEN`; `TX_Q_LIMIT` of an ifb).
    pub(super) fn transmit_queue(&self) -> u32 {
        if matches!(self, Self::Ifb) { 32 } else { 1000 }
    }

    /// Whether it hands packets on at once (`IFF_NO_QUEUE`).
    pub(super) fn needs_no_queue(&self) -> bool {
        !matches!(self, Self::Ifb | Self::Tap(LinkKind::Tap(_)))
    }

    pub(super) fn is_loopback(&self) -> bool {
        matches!(self, Self::Loopback)
    }
}
