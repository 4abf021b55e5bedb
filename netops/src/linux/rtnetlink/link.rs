//! Links: `RTM_NEWLINK`, `RTM_GETLINK`, `RTM_SETLINK`, `RTM_DELLINK`.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::Emitable;
use netlink_packet_route::RouteNetlinkMessage::{DelLink, GetLink, NewLink, SetLink};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, InfoVrf, InfoVxlan,
    IpVlanFlags, IpVlanMode, LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkInfo, LinkLayerType,
    LinkMessage, MacVlanMode, State, VxlanDf,
};

use super::address::parse_ip;
use crate::kernel::LinkState;
use crate::linux::netlink::{Datagram, attribute, attributes, get_u16, get_u32, text};
use crate::name::{LinkName, MacAddr, Mark};
use crate::resource::{
    DontFragment, IpvlanMode, Link, LinkKind, LinkSettings, MacvlanMode, VethPeer, Vxlan, property,
};

/// Length of `struct ifinfomsg`.
pub(in crate::linux) const HEADER: usize = 16;

/// `IFLA_VRF_TABLE`, which the C library's headers lack.
const IFLA_VRF_TABLE: u16 = 1;

/// A flag of a link that can be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum Flag {
    Up,
    Promiscuous,
}

impl Flag {
    fn bit(self) -> LinkFlags {
        match self {
            Self::Up => LinkFlags::Up,
            Self::Promiscuous => LinkFlags::Promisc,
        }
    }

    /// Whether it is on.
    pub(in crate::linux) fn is_on(self, link: &LinkState) -> bool {
        match self {
            Self::Up => link.up,
            Self::Promiscuous => link.promiscuous,
        }
    }
}

/// A link to be made, with the numbers that stand for other things in it.
#[derive(Debug, Clone, Copy)]
pub(in crate::linux) struct Creation<'a> {
    pub(in crate::linux) link: &'a Link,
    /// The index of its bridge.
    pub(in crate::linux) master: Option<u32>,
    /// Where a veth's other end goes, if not to the same namespace.
    pub(in crate::linux) peer_namespace: Option<BorrowedFd<'a>>,
    /// What it is on.
    pub(in crate::linux) parent: Option<ParentIndex>,
}

/// The interface that another is on.
#[derive(Debug, Clone, Copy)]
pub(in crate::linux) struct ParentIndex {
    pub(in crate::linux) index: u32,
    /// The number, in the other's namespace, of the namespace that it is in, if that is another one.
    pub(in crate::linux) namespace: Option<i32>,
}

/// Makes a link: everything about it that the kernel takes in one message. Its alias is not among that.
///
/// One on a parent elsewhere is made where it belongs, with its final name: told from where the parent is, kernels
/// before 6.15 look for that name among the parent's neighbours, and there is an `eth0` in most places.
pub(in crate::linux) fn create(datagram: &mut Datagram, creation: &Creation<'_>) {
    let Creation { link, master, peer_namespace, parent } = *creation;
    let mut attributes = Vec::new();
    if let Some(parent) = parent {
        attributes.extend(parent.namespace.map(LinkAttribute::LinkNetNsId));
        attributes.push(LinkAttribute::Link(parent.index));
    }
    attributes.extend(basics(&link.name, link.mtu, link.mac));
    attributes.extend(master.map(LinkAttribute::Controller));
    if matches!(link.kind, LinkKind::Veth { .. }) {
        attributes.extend(ONE_QUEUE);
    }
    let kind = LinkInfo::Kind(InfoKind::from(link.kind.name()));
    let data = data(&link.kind, peer_namespace).map(LinkInfo::Data);
    attributes.push(LinkAttribute::LinkInfo([kind].into_iter().chain(data).collect()));
    let mut message = message(0, attributes);
    if link.up {
        switch(&mut message, LinkFlags::Up, true);
    }
    datagram.request(libc::NLM_F_CREATE | libc::NLM_F_EXCL, &NewLink(message));
}

/// What is particular to a kind (`IFLA_INFO_DATA`).
fn data(kind: &LinkKind, peer_namespace: Option<BorrowedFd<'_>>) -> Option<InfoData> {
    Some(match kind {
        LinkKind::Veth { peer } => InfoData::Veth(veth_peer(peer, peer_namespace)),
        LinkKind::Bridge { vlan_filtering: true } => InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]),
        LinkKind::Macvlan { mode, broadcast_queue, .. } => {
            let queue = broadcast_queue.map(InfoMacVlan::BcQueueLen);
            let mode = InfoMacVlan::Mode(MacVlanMode::from(macvlan_mode(*mode)));
            InfoData::MacVlan(queue.into_iter().chain([mode]).collect())
        }
        LinkKind::Ipvlan { mode, .. } => {
            let mode = IpVlanMode::from(ipvlan_mode(*mode));
            InfoData::IpVlan(vec![InfoIpVlan::Mode(mode), InfoIpVlan::Flags(IpVlanFlags::empty())])
        }
        LinkKind::Vlan { id, .. } => InfoData::Vlan(vec![InfoVlan::Id(*id)]),
        LinkKind::Vrf { table } => InfoData::Vrf(vec![InfoVrf::TableId(*table)]),
        LinkKind::Vxlan(vxlan) => InfoData::Vxlan(vxlan_data(vxlan)),
        LinkKind::Bridge { vlan_filtering: false }
        | LinkKind::Dummy
        | LinkKind::Ifb
        | LinkKind::Tap(_)
        | LinkKind::Any => {
            return None;
        }
    })
}

/// Over IPv6 the kernel makes and wants checksums unless it is told otherwise.
fn vxlan_data(vxlan: &Vxlan) -> Vec<InfoVxlan> {
    let local = vxlan.local.map(|local| match local {
        IpAddr::V4(local) => InfoVxlan::Local(local),
        IpAddr::V6(local) => InfoVxlan::Local6(local),
    });
    let fixed = [
        InfoVxlan::Id(vxlan.vni),
        InfoVxlan::Port(vxlan.port),
        InfoVxlan::Learning(false),
        InfoVxlan::UDPCsum(false),
        InfoVxlan::Df(match vxlan.dont_fragment {
            DontFragment::Unset => VxlanDf::Unset,
            DontFragment::Set => VxlanDf::Set,
            DontFragment::Inherit => VxlanDf::Inherit,
        }),
    ];
    fixed.into_iter().chain(local).collect()
}

/// `MACVLAN_MODE_*`.
fn macvlan_mode(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    }
}

/// `IPVLAN_MODE_*`.
fn ipvlan_mode(mode: IpvlanMode) -> u16 {
    match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    }
}

fn veth_peer(peer: &VethPeer, namespace: Option<BorrowedFd<'_>>) -> InfoVeth {
    let mut attributes = basics(&peer.name, peer.mtu, peer.mac);
    attributes.extend(ONE_QUEUE);
    attributes.extend(namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd())));
    InfoVeth::Peer(message(0, attributes))
}

fn basics(name: &LinkName, mtu: Option<u32>, mac: Option<MacAddr>) -> Vec<LinkAttribute> {
    let mut attributes = vec![named(name)];
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.bytes().to_vec())));
    attributes
}

/// Without this a veth is made with a queue per possible CPU and then cut back to one, which waits for an RCU grace
/// period under the lock of all of rtnetlink (`veth_init_queues()`): 0.9 ms instead of 0.6.
const ONE_QUEUE: [LinkAttribute; 2] = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

/// Asks about a link.
pub(in crate::linux) fn get(datagram: &mut Datagram, name: &LinkName) {
    datagram.request(0, &GetLink(message(0, vec![named(name), without_counters()])));
}

/// Asks about a link by its index.
pub(in crate::linux) fn get_by_index(datagram: &mut Datagram, index: u32) {
    datagram.request(0, &GetLink(message(index, vec![without_counters()])));
}

/// Asks about a link in another namespace, which the socket's own has a number for (Linux 4.20).
pub(in crate::linux) fn get_elsewhere(datagram: &mut Datagram, index: u32, namespace: i32) {
    // IFLA_TARGET_NETNSID's older name.
    let namespace = LinkAttribute::IfNetnsId(namespace);
    datagram.request(0, &GetLink(message(index, vec![without_counters(), namespace])));
}

/// Asks about every link.
pub(in crate::linux) fn get_all(datagram: &mut Datagram) {
    datagram.request(0, &GetLink(message(0, vec![without_counters()])));
}

/// The counters take the kernel longer than all the rest.
fn without_counters() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// Switches a flag of a link, by name.
pub(in crate::linux) fn set_flag(datagram: &mut Datagram, name: &LinkName, flag: Flag, on: bool) {
    let mut message = message(0, vec![named(name)]);
    switch(&mut message, flag.bit(), on);
    datagram.request(0, &SetLink(message));
}

/// Sets what a link that was made by other means is to have.
pub(in crate::linux) fn configure(datagram: &mut Datagram, index: u32, link: &Link, master: Option<u32>) {
    let mtu = link.mtu.map(LinkAttribute::Mtu);
    let mac = link.mac.map(|mac| LinkAttribute::Address(mac.bytes().to_vec()));
    let attributes = [mtu, mac, master.map(LinkAttribute::Controller)];
    let mut message = message(index, attributes.into_iter().flatten().collect());
    if link.up {
        switch(&mut message, LinkFlags::Up, true);
    }
    datagram.request(0, &SetLink(message));
}

/// Moves a link into another namespace, where it gets a name and an alias.
pub(in crate::linux) fn move_to(
    datagram: &mut Datagram,
    index: u32,
    namespace: BorrowedFd<'_>,
    name: &LinkName,
    alias: &str,
) {
    let attributes = vec![
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        named(name),
        LinkAttribute::IfAlias(alias.to_owned()),
    ];
    datagram.request(0, &SetLink(message(index, attributes)));
}

/// Sets a link's alias.
pub(in crate::linux) fn set_alias(datagram: &mut Datagram, index: u32, alias: &Mark) {
    let alias = LinkAttribute::IfAlias(alias.as_str().to_owned());
    datagram.request(0, &SetLink(message(index, vec![alias])));
}

/// Sets a link's MAC address.
pub(in crate::linux) fn set_mac(datagram: &mut Datagram, index: u32, mac: MacAddr) {
    datagram.request(0, &SetLink(message(index, vec![LinkAttribute::Address(mac.bytes().to_vec())])));
}

/// A setting of an interface that rtnetlink takes as well as the file below `/proc/sys` that is called so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum IpSetting {
    /// `arp_notify`, of IPv4.
    ArpNotify(bool),
    /// `addr_gen_mode`, of IPv6: `IN6_ADDR_GEN_MODE_EUI64` or, without a link-local address, `…_NONE`.
    AddrGenMode(u8),
}

/// Sets it.
pub(in crate::linux) fn set_ip(datagram: &mut Datagram, index: u32, setting: IpSetting) {
    let mut header = [0; HEADER];
    LinkHeader { index, ..LinkHeader::default() }.emit(&mut header);
    datagram.push(libc::RTM_SETLINK, 0, &header, |attributes| {
        attributes.nest(libc::IFLA_AF_SPEC, |families| {
            match setting {
                IpSetting::ArpNotify(on) => families.nest(libc::AF_INET as u16, |inet| {
                    inet.nest(IFLA_INET_CONF, |settings| {
                        settings.u32(IPV4_DEVCONF_ARP_NOTIFY, on.into());
                    });
                }),
                IpSetting::AddrGenMode(mode) => families.nest(libc::AF_INET6 as u16, |inet6| {
                    inet6.bytes(IFLA_INET6_ADDR_GEN_MODE, &[mode]);
                }),
            };
        });
    });
}

/// Makes a link another's; 0 sets it free.
pub(in crate::linux) fn set_master(datagram: &mut Datagram, index: u32, master: u32) {
    datagram.request(0, &SetLink(message(index, vec![LinkAttribute::Controller(master)])));
}

/// Changes settings of a link.
pub(in crate::linux) fn set(datagram: &mut Datagram, index: u32, settings: &LinkSettings) {
    let mut attributes = Vec::new();
    attributes.extend(settings.mac.map(|mac| LinkAttribute::Address(mac.bytes().to_vec())));
    attributes.extend(settings.mtu.map(LinkAttribute::Mtu));
    attributes.extend(settings.transmit_queue.map(LinkAttribute::TxQueueLen));
    let mut message = message(index, attributes);
    let flags = [(LinkFlags::Promisc, settings.promiscuous), (LinkFlags::Allmulti, settings.all_multicast)];
    for (flag, on) in flags.into_iter().filter_map(|(flag, on)| Some((flag, on?))) {
        message.header.change_mask |= flag;
        message.header.flags.set(flag, on);
    }
    datagram.request(0, &SetLink(message));
}

/// Removes a link, by name.
pub(in crate::linux) fn delete(datagram: &mut Datagram, name: &LinkName) {
    datagram.request(0, &DelLink(message(0, vec![named(name)])));
}

fn named(name: &LinkName) -> LinkAttribute {
    LinkAttribute::IfName(name.as_str().to_owned())
}

fn switch(message: &mut LinkMessage, flag: LinkFlags, on: bool) {
    message.header.change_mask = flag;
    message.header.flags = if on { flag } else { LinkFlags::empty() };
}

/// A message of no particular family.
pub(super) fn message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

/// The index of the link that a message is about.
pub(in crate::linux) fn index(body: &[u8]) -> Option<u32> {
    Some(LinkHeader::parse(body).ok()?.index)
}

/// Reads the index alone in a message about a link (`struct ifinfomsg`).
pub(in crate::linux) fn parse_index(body: &[u8]) -> Option<u32> {
    body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A link as the kernel shows it; `None` for bytes that do not, or whose name could not be ours to use.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<LinkState> {
    let header = LinkHeader::parse(body).ok()?;
    let details = body.get(HEADER..)?;
    let name = LinkName::new(text(attribute(details, libc::IFLA_IFNAME)?)?).ok()?;
    let mut link = LinkState::new(header.index, name, "");
    link.up = header.flags.contains(LinkFlags::Up);
    link.carrier = header.flags.contains(LinkFlags::LowerUp);
    link.promiscuous = header.flags.contains(LinkFlags::Promisc);
    link.all_multicast = header.flags.contains(LinkFlags::Allmulti);
    let is_ethernet = header.link_layer_type == LinkLayerType::Ether;
    for (kind, value) in attributes(details) {
        match kind {
            libc::IFLA_ADDRESS if is_ethernet => link.mac = value.try_into().ok().map(MacAddr::new),
            libc::IFLA_MTU => link.mtu = get_u32(value, 0)?,
            libc::IFLA_TXQLEN => link.transmit_queue = get_u32(value, 0)?,
            libc::IFLA_OPERSTATE => {
                link.operational = value.first().copied().map(State::from) == Some(State::Up)
            }
            libc::IFLA_MASTER => link.master = get_u32(value, 0),
            libc::IFLA_IFALIAS => link.alias = text(value).map(str::to_owned),
            libc::IFLA_LINK => link.peer_index = get_u32(value, 0),
            libc::IFLA_LINK_NETNSID => {
                // Negative: that namespace has no number here.
                link.peer_namespace = get_u32(value, 0).map(|number| number as i32);
            }
            libc::IFLA_LINKINFO => {
                let kind = attribute(value, libc::IFLA_INFO_KIND).and_then(text);
                link.kind = kind.unwrap_or_default().to_owned();
                let data = attribute(value, libc::IFLA_INFO_DATA).unwrap_or_default();
                link.properties = properties(&link.kind, data).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// What is particular to a kind; `None` if it is not all there.
fn properties(kind: &str, data: &[u8]) -> Option<Vec<(&'static str, String)>> {
    let number = |kind| attribute(data, kind).and_then(|value| get_u32(value, 0));
    let short = |kind| attribute(data, kind).and_then(|value| get_u16(value, 0));
    let is_set = |kind| attribute(data, kind).is_some_and(|value| value.first() == Some(&1));
    Some(match kind {
        "macvlan" => {
            let number_of_mode = number(IFLA_MACVLAN_MODE)?;
            let mode = MACVLAN_MODES.iter().find(|mode| macvlan_mode(**mode) == number_of_mode);
            let mode = mode.map_or_else(|| format!("number {number_of_mode}"), ToString::to_string);
            let queue = number(IFLA_MACVLAN_BC_QUEUE_LEN);
            let queue = queue.map(|length| (property::BROADCAST_QUEUE, length.to_string()));
            [(property::MODE, mode)].into_iter().chain(queue).collect()
        }
        "ipvlan" => {
            let number_of_mode = short(IFLA_IPVLAN_MODE)?;
            let mode = IPVLAN_MODES.iter().find(|mode| ipvlan_mode(**mode) == number_of_mode);
            vec![(
                property::MODE,
                mode.map_or_else(|| format!("number {number_of_mode}"), ToString::to_string),
            )]
        }
        "vlan" => vec![(property::VLAN, short(IFLA_VLAN_ID)?.to_string())],
        "vrf" => vec![(property::TABLE, number(IFLA_VRF_TABLE)?.to_string())],
        "vxlan" => {
            let port = attribute(data, IFLA_VXLAN_PORT)?.try_into().ok().map(u16::from_be_bytes)?;
            let local =
                [IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6].into_iter().find_map(|kind| attribute(data, kind));
            let local = local.and_then(parse_ip);
            let dont_fragment = match attribute(data, IFLA_VXLAN_DF).and_then(|value| value.first()) {
                Some(1) => DontFragment::Set,
                Some(2) => DontFragment::Inherit,
                _ => DontFragment::Unset,
            };
            let learns = is_set(IFLA_VXLAN_LEARNING);
            property::of_vxlan(number(IFLA_VXLAN_ID)?, port, local, dont_fragment, learns)
        }
        "tun" => {
            let ethernet = *attribute(data, IFLA_TUN_TYPE)?.first()? == IFF_TAP;
            let (owner, group) = (number(IFLA_TUN_OWNER), number(IFLA_TUN_GROUP));
            property::of_tap(ethernet, is_set(IFLA_TUN_MULTI_QUEUE), owner, group)
        }
        _ => Vec::new(),
    })
}

const MACVLAN_MODES: [MacvlanMode; 4] =
    [MacvlanMode::Private, MacvlanMode::Vepa, MacvlanMode::Bridge, MacvlanMode::Passthru];
const IPVLAN_MODES: [IpvlanMode; 3] = [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s];
// linux/if_link.h, linux/ip.h, linux/if_tun.h
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_DF: u16 = 29;
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_GROUP: u16 = 2;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;
const IFF_TAP: u8 = 2;
