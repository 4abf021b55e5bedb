//! Bridge ports: `RTM_SETLINK` and `RTM_DELLINK` of family `AF_BRIDGE` (`linux/if_bridge.h`).

use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::{DelLink, SetLink};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkMessage, LinkProtoInfoBridge,
};

use super::link::{self, HEADER};
use crate::linux::netlink::{Datagram, attribute, attributes, get_u16, get_u32, text};
use crate::name::LinkName;
use crate::resource::{Port, PortVlan};

/// `IFLA_BRPORT_*` (`linux/if_link.h`).
const MODE: u16 = 4;
const ISOLATED: u16 = 33;
/// The VLAN that every port of a filtering bridge starts in.
const DEFAULT_VLAN: PortVlan = PortVlan { first: 1, last: 1, access: false };

/// Sets everything about a port, or, on a port that is new, what differs from the kernel's defaults. Returns how many
/// messages that took.
pub(in crate::linux) fn set(datagram: &mut Datagram, index: u32, port: &Port, new: bool) -> usize {
    let before = datagram.len();
    // The default VLAN goes first: an access port's own VLAN then becomes the PVID on a clean slate.
    if port.drop_default_vlan {
        datagram.request(0, &DelLink(message(index, vec![vlans(&[DEFAULT_VLAN])])));
    }
    let mut attributes = Vec::new();
    if !new || port.hairpin || port.isolated {
        let flag = |kind, on: bool| LinkProtoInfoBridge::Other(DefaultNla::new(kind, vec![on.into()]));
        let flags = vec![flag(MODE, port.hairpin), flag(ISOLATED, port.isolated)];
        attributes.push(LinkAttribute::ProtoInfoBridge(flags));
    }
    if !port.vlans.is_empty() {
        attributes.push(vlans(&port.vlans));
    }
    if !attributes.is_empty() {
        datagram.request(0, &SetLink(message(index, attributes)));
    }
    datagram.len() - before
}

fn message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = link::message(index, attributes);
    message.header.interface_family = AddressFamily::Bridge;
    message
}

/// A range is two entries, a single VLAN one. The kernel refuses a range that is to be the PVID.
fn vlans(ranges: &[PortVlan]) -> LinkAttribute {
    let mut entries = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut flags = BridgeVlanInfoFlags::empty();
        if range.access {
            flags |= BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        }
        let entry = |more, vid| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags: flags | more, vid });
        if range.first == range.last {
            entries.push(entry(BridgeVlanInfoFlags::empty(), range.first));
        } else {
            entries.push(entry(BridgeVlanInfoFlags::RangeBegin, range.first));
            entries.push(entry(BridgeVlanInfoFlags::RangeEnd, range.last));
        }
    }
    LinkAttribute::AfSpecBridge(entries)
}

/// Whether a port is as wanted already.
pub(in crate::linux) fn has_all(port: &Port, wanted: &Port) -> bool {
    let in_default = |vlans: &[PortVlan]| vlans.iter().any(|range| range.first <= DEFAULT_VLAN.first);
    port.hairpin == wanted.hairpin
        && port.isolated == wanted.isolated
        && wanted.vlans.iter().all(|vlan| port.vlans.contains(vlan))
        && (!wanted.drop_default_vlan || in_default(&wanted.vlans) || !in_default(&port.vlans))
}

/// What a link's own message says about its being a port; `None` if it is no bridge's.
pub(in crate::linux) fn parse(name: &LinkName, body: &[u8]) -> Option<Port> {
    let info = attribute(body.get(HEADER..)?, libc::IFLA_LINKINFO)?;
    let kind = attribute(info, libc::IFLA_INFO_SLAVE_KIND)?;
    if text(kind) != Some("bridge") {
        return None;
    }
    let data = attribute(info, libc::IFLA_INFO_SLAVE_DATA).unwrap_or_default();
    let is_on = |kind| attribute(data, kind).and_then(|value| value.first()).is_some_and(|value| *value != 0);
    Some(Port {
        link: name.clone(),
        hairpin: is_on(MODE),
        isolated: is_on(ISOLATED),
        vlans: Vec::new(),
        drop_default_vlan: false,
    })
}

/// `RTM_GETVLAN` (Linux 5.6), which the library does not have, and which unlike a dump of `AF_BRIDGE` links can be asked about one port.
const RTM_GETVLAN: u16 = 114;
/// `BRIDGE_VLANDB_ENTRY`, `BRIDGE_VLANDB_ENTRY_INFO`, `BRIDGE_VLANDB_ENTRY_RANGE` (`linux/if_bridge.h`).
const ENTRY: u16 = 1;
const ENTRY_INFO: u16 = 1;
const ENTRY_RANGE: u16 = 2;
/// Length of `struct br_vlan_msg`.
const VLAN_HEADER: usize = 8;

/// Asks for the VLANs of a port. A kernel without VLAN filtering answers `EOPNOTSUPP`.
pub(in crate::linux) fn get_vlans(datagram: &mut Datagram, index: u32) {
    let mut header = [0; VLAN_HEADER];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    datagram.push(RTM_GETVLAN, 0, &header, |_| {});
}

/// The VLANs in one message of the answer.
pub(in crate::linux) fn parse_vlans(body: &[u8]) -> impl Iterator<Item = PortVlan> {
    let entries = attributes(body.get(VLAN_HEADER..).unwrap_or_default());
    entries.filter(|(kind, _)| *kind == ENTRY).filter_map(|(_, entry)| {
        let info = attribute(entry, ENTRY_INFO)?;
        let (flags, first) = (get_u16(info, 0)?, get_u16(info, 2)?);
        let last = attribute(entry, ENTRY_RANGE).and_then(|value| get_u16(value, 0)).unwrap_or(first);
        Some(PortVlan { first, last, access: flags & BridgeVlanInfoFlags::Pvid.bits() != 0 })
    })
}

/// The index of the interface that an answer is about.
pub(in crate::linux) fn vlans_index(body: &[u8]) -> Option<u32> {
    get_u32(body, 4)
}
