//! Messages about what not every kernel has, or that are written by number, byte by byte as iproute2 6.1 sends them
//! (`strace -e write`), apart from the NUL behind a kind, which `ip` leaves out, and the flag that says that an attribute
//! is nested (`NLA_F_NESTED`), which `tc` leaves out; the kernel takes either way.

use super::link::{self, Creation, ParentIndex};
use super::{neighbour, next_hop, port, rule, tc};
use crate::linux::netlink::Datagram;
use crate::name::{LinkName, MacAddr};
use crate::place::Place;
use crate::resource::{
    Discipline, FdbEntry, IpvlanMode, Link, LinkKind, LinkSettings, MacvlanMode, NeighbourEntry, NextHop,
    Parent, Port, PortVlan, Rule, TokenBucket, Via,
};

fn sent(write: impl FnOnce(&mut Datagram)) -> Vec<u8> {
    let mut datagram = Datagram::default();
    write(&mut datagram);
    datagram.bytes(0..datagram.len()).unwrap().to_vec()
}

fn vlan_port(vlans: &[PortVlan]) -> Port {
    Port {
        link: LinkName::new("veth1").unwrap(),
        hairpin: false,
        isolated: false,
        vlans: vlans.to_vec(),
        drop_default_vlan: false,
    }
}

fn created(name: &str, kind: LinkKind) -> Vec<u8> {
    created_on(name, kind, None)
}

fn created_on(name: &str, kind: LinkKind, parent: Option<ParentIndex>) -> Vec<u8> {
    let link = Link::new(LinkName::new(name).unwrap(), kind);
    let creation = Creation { link: &link, master: None, peer_namespace: None, parent };
    sent(|datagram| link::create(datagram, &creation))
}

fn parent() -> Parent {
    Parent { place: Place::Host, name: LinkName::new("br0").unwrap() }
}

#[test]
#[rustfmt::skip]
fn an_access_port_as_bridge_vlan_add_pvid_untagged() {
    let vlans = [PortVlan { first: 100, last: 100, access: true }];
    assert_eq!(sent(|d| _ = port::set(d, 4, &vlan_port(&vlans), true)), [
        0x2c, 0, 0, 0, 0x13, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_SETLINK
        7, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // AF_BRIDGE, index 4
        0x0c, 0, 0x1a, 0, 8, 0, 2, 0, 6, 0, 0x64, 0, // IFLA_AF_SPEC, one VLAN
    ]);
}

#[test]
#[rustfmt::skip]
fn a_trunk_as_bridge_vlan_add_of_a_range() {
    let vlans = [PortVlan { first: 200, last: 210, access: false }];
    assert_eq!(sent(|d| _ = port::set(d, 4, &vlan_port(&vlans), true)), [
        0x34, 0, 0, 0, 0x13, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x14, 0, 0x1a, 0, 8, 0, 2, 0, 8, 0, 0xc8, 0, 8, 0, 2, 0, 0x10, 0, 0xd2, 0, // begin, end
    ]);
}

#[test]
#[rustfmt::skip]
fn the_default_vlan_goes_as_with_bridge_vlan_del() {
    let wanted = Port { drop_default_vlan: true, ..vlan_port(&[]) };
    assert_eq!(sent(|d| _ = port::set(d, 4, &wanted, true)), [
        0x2c, 0, 0, 0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_DELLINK
        7, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x0c, 0, 0x1a, 0, 8, 0, 2, 0, 0, 0, 1, 0,
    ]);
}

#[test]
#[rustfmt::skip]
fn a_port_as_bridge_link_set() {
    let wanted = Port { hairpin: true, isolated: true, ..vlan_port(&[]) };
    assert_eq!(sent(|d| _ = port::set(d, 4, &wanted, true)), [
        0x34, 0, 0, 0, 0x13, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x14, 0, 0x0c, 0x80, 5, 0, 4, 0, 1, 0, 0, 0, 5, 0, 0x21, 0, 1, 0, 0, 0, // IFLA_PROTINFO: mode, isolated
    ]);
}

#[test]
fn a_new_port_that_is_as_the_kernel_makes_it_needs_no_message() {
    assert_eq!(sent(|d| _ = port::set(d, 4, &vlan_port(&[]), true)), []);
    assert_ne!(sent(|d| _ = port::set(d, 4, &vlan_port(&[]), false)), []);
}

#[test]
#[rustfmt::skip]
fn a_filtering_bridge_as_ip_link_add_does() {
    assert_eq!(created("br0", LinkKind::Bridge { vlan_filtering: true }), [
        0x44, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWLINK, CREATE | EXCL
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 3, 0, b'b', b'r', b'0', 0, 0x1c, 0, 0x12, 0, 0x0b, 0, 1, 0, // IFLA_IFNAME, IFLA_LINKINFO
        b'b', b'r', b'i', b'd', b'g', b'e', 0, 0, 0x0c, 0, 2, 0, 5, 0, 7, 0, // kind, data: vlan_filtering
        1, 0, 0, 0,
    ]);
}

#[test]
#[rustfmt::skip]
fn a_rule_as_ip_rule_add_from() {
    let rule = Rule::from("10.1.0.6/32".parse().unwrap(), 100);
    assert_eq!(sent(|d| rule::create(d, &rule)), [
        0x24, 0, 0, 0, 0x20, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWRULE, CREATE | EXCL
        2, 0, 0x20, 0, 100, 0, 0, 1, 0, 0, 0, 0, // AF_INET, source length 32, table, FR_ACT_TO_TBL
        8, 0, 2, 0, 10, 1, 0, 6, // FRA_SRC
    ]);
}

#[test]
#[rustfmt::skip]
fn a_rule_for_a_table_past_what_a_byte_holds_as_ip_rule_add_from() {
    let rule = Rule::from("fd00::6/128".parse().unwrap(), 300);
    assert_eq!(sent(|d| rule::create(d, &rule)), [
        0x38, 0, 0, 0, 0x20, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        10, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, // AF_INET6, source length 128
        0x14, 0, 2, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6,
        8, 0, 15, 0, 0x2c, 1, 0, 0, // FRA_TABLE
    ]);
}

#[test]
#[rustfmt::skip]
fn a_vrf_as_ip_link_add_does() {
    assert_eq!(created("red", LinkKind::Vrf { table: 1000 }), [
        0x40, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 3, 0, b'r', b'e', b'd', 0, 0x18, 0, 0x12, 0, 8, 0, 1, 0, b'v', b'r', b'f', 0,
        0x0c, 0, 2, 0, 8, 0, 1, 0, 0xe8, 3, 0, 0, // data: IFLA_VRF_TABLE
    ]);
}

#[test]
#[rustfmt::skip]
fn a_master_as_ip_link_set_master_does() {
    assert_eq!(sent(|d| link::set_master(d, 4, 7)), [
        0x28, 0, 0, 0, 0x13, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_SETLINK
        0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 0x0a, 0, 7, 0, 0, 0, // IFLA_MASTER
    ]);
}

#[test]
#[rustfmt::skip]
fn a_dummy_as_ip_link_add_does() {
    assert_eq!(created("dummy0", LinkKind::Dummy), [
        0x3c, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x0b, 0, 3, 0, b'd', b'u', b'm', b'm', b'y', b'0', 0, 0, 0x10, 0, 0x12, 0,
        0x0a, 0, 1, 0, b'd', b'u', b'm', b'm', b'y', 0, 0, 0,
    ]);
}

#[test]
#[rustfmt::skip]
fn an_ifb_as_ip_link_add_does() {
    assert_eq!(created("ifb0", LinkKind::Ifb), [
        0x38, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        9, 0, 3, 0, b'i', b'f', b'b', b'0', 0, 0, 0, 0, 0x0c, 0, 0x12, 0,
        8, 0, 1, 0, b'i', b'f', b'b', 0,
    ]);
}

#[test]
#[rustfmt::skip]
fn a_macvlan_as_ip_link_add_does() {
    let on = ParentIndex { index: 2, namespace: None };
    let kind = LinkKind::Macvlan { parent: parent(), mode: MacvlanMode::Private, broadcast_queue: Some(500) };
    assert_eq!(created_on("m0", kind, Some(on)), [
        0x54, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 5, 0, 2, 0, 0, 0, 7, 0, 3, 0, b'm', b'0', 0, 0, // IFLA_LINK, IFLA_IFNAME
        0x24, 0, 0x12, 0, 0x0c, 0, 1, 0, b'm', b'a', b'c', b'v', b'l', b'a', b'n', 0,
        0x14, 0, 2, 0, 8, 0, 7, 0, 0xf4, 1, 0, 0, 8, 0, 1, 0, 1, 0, 0, 0, // bcqueuelen, mode
    ]);
}

#[test]
#[rustfmt::skip]
fn ingress_as_tc_qdisc_add_does() {
    assert_eq!(sent(|d| tc::create(d, 3, &Discipline::Ingress)), [
        0x30, 0, 0, 0, 0x24, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWQDISC, CREATE | EXCL
        0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xf1, 0xff, 0xff, 0xff, 0, 0, 0, 0, // ffff:, parent ffff:fff1
        0x0c, 0, 1, 0, b'i', b'n', b'g', b'r', b'e', b's', b's', 0,
    ]);
}

/// `tc` sends a table of times and the burst in bytes besides, so that the kernel remembers the burst a little
/// differently; these are the bytes of the CNI plugin `bandwidth` 1.1.1 for 10 Mbit/s and 80000 bits.
#[test]
#[rustfmt::skip]
fn a_token_bucket_as_the_references_bandwidth_does() {
    let bucket = TokenBucket { rate: 1_250_000, burst: 10_000, limit: 41_250 };
    assert_eq!(sent(|d| tc::create(d, 3, &Discipline::TokenBucket(bucket))), [
        0x58, 0, 0, 0, 0x24, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, // 1:, root
        8, 0, 1, 0, b't', b'b', b'f', 0, 0x2c, 0, 2, 0x80, 0x28, 0, 1, 0, // kind, options, TCA_TBF_PARMS
        0, 0, 0, 0, 0, 0, 0, 0, 0xd0, 0x12, 0x13, 0, // rate
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // no peak rate
        0x22, 0xa1, 0, 0, 0x48, 0xe8, 1, 0, 0, 0, 0, 0, // limit, 125000 ticks
    ]);
}

#[test]
fn a_rate_past_32_bits_goes_as_the_references_bandwidth_sends_it() {
    let bucket = TokenBucket { rate: 5_000_000_000, burst: 10_000_000, limit: 135_000_000 };
    let bytes = sent(|d| tc::create(d, 3, &Discipline::TokenBucket(bucket)));
    #[rustfmt::skip]
    assert_eq!(bytes[44..], [
        0x38, 0, 2, 0x80, 0x28, 0, 1, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // the reference has the lower 32 bits, which are not looked at
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0xc0, 0xef, 0x0b, 8, 0x12, 0x7a, 0, 0, 0, 0, 0, 0,
        0x0c, 0, 4, 0, 0, 0xf2, 5, 0x2a, 1, 0, 0, 0, // TCA_TBF_RATE64
    ]);
}

#[test]
#[rustfmt::skip]
fn a_redirection_as_tc_filter_add_does() {
    assert_eq!(sent(|d| tc::redirect(d, 3, 4)), [
        0x8c, 0, 0, 0, 0x2c, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWTFILTER
        0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 3, 1, 0, // parent ffff:, all protocols, priority 1
        8, 0, 1, 0, b'u', b'3', b'2', 0, 0x60, 0, 2, 0x80,
        0x38, 0, 7, 0x80, 0x34, 0, 1, 0x80, // TCA_U32_ACT, the first action
        0x0b, 0, 1, 0, b'm', b'i', b'r', b'r', b'e', b'd', 0, 0, 0x24, 0, 2, 0x80, 0x20, 0, 2, 0, // TCA_MIRRED_PARMS
        0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, // stolen, to index 4
        0x24, 0, 5, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // TCA_U32_SEL: terminal, one key
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
}

#[test]
#[rustfmt::skip]
fn a_vlan_as_ip_link_add_does() {
    let on = ParentIndex { index: 2, namespace: None };
    assert_eq!(created_on("v0", LinkKind::Vlan { parent: parent(), id: 5 }, Some(on)), [
        0x4c, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 5, 0, 2, 0, 0, 0, 7, 0, 3, 0, b'v', b'0', 0, 0,
        0x1c, 0, 0x12, 0, 9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0,
        0x0c, 0, 2, 0, 6, 0, 1, 0, 5, 0, 0, 0, // IFLA_VLAN_ID
    ]);
}

#[test]
#[rustfmt::skip]
fn an_ipvlan_as_ip_link_add_does_with_link_netnsid() {
    let on = ParentIndex { index: 2, namespace: Some(3) };
    assert_eq!(created_on("i0", LinkKind::Ipvlan { parent: parent(), mode: IpvlanMode::L3s }, Some(on)), [
        0x5c, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 0x25, 0, 3, 0, 0, 0, 8, 0, 5, 0, 2, 0, 0, 0, // IFLA_LINK_NETNSID, IFLA_LINK
        7, 0, 3, 0, b'i', b'0', 0, 0,
        0x24, 0, 0x12, 0, 0x0b, 0, 1, 0, b'i', b'p', b'v', b'l', b'a', b'n', 0, 0,
        0x14, 0, 2, 0, 6, 0, 1, 0, 2, 0, 0, 0, 6, 0, 2, 0, 0, 0, 0, 0, // mode, flags
    ]);
}

#[test]
#[rustfmt::skip]
fn settings_as_ip_link_set_does() {
    let settings = LinkSettings {
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 7])), mtu: Some(1400), transmit_queue: Some(500),
        promiscuous: Some(true), all_multicast: Some(false),
        ..LinkSettings::none(LinkName::new("eth0").unwrap())
    };
    // `ip` sets what it is told in the order of its words.
    assert_eq!(sent(|d| link::set(d, 3, &settings)), [
        0x3c, 0, 0, 0, 0x13, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_SETLINK
        0, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, // IFF_PROMISC of PROMISC | ALLMULTI
        0x0a, 0, 1, 0, 2, 0, 0, 0, 0, 7, 0, 0, // IFLA_ADDRESS
        8, 0, 4, 0, 0x78, 5, 0, 0, 8, 0, 0x0d, 0, 0xf4, 1, 0, 0, // IFLA_MTU, IFLA_TXQLEN
    ]);
}

/// `NLM_F_CREATE | NLM_F_EXCL`.
const NEW: i32 = 0x600;

#[test]
#[rustfmt::skip]
fn a_next_hop_as_ip_nexthop_add_does() {
    let link = LinkName::new("tun0").unwrap();
    let via = Via::Gateway { address: "fe80::2".parse().unwrap(), link, onlink: true };
    let hop = NextHop { id: 3, via, protocol: 87 };
    assert_eq!(sent(|d| next_hop::put(d, NEW, Some(2), &hop)), [
        0x3c, 0, 0, 0, 0x68, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWNEXTHOP
        10, 0, 87, 0, 4, 0, 0, 0, 8, 0, 1, 0, 3, 0, 0, 0, // AF_INET6, protocol, RTNH_F_ONLINK, NHA_ID
        0x14, 0, 6, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // NHA_GATEWAY
        0, 0, 0, 2, 8, 0, 5, 0, 2, 0, 0, 0, // NHA_OIF
    ]);
}

#[test]
#[rustfmt::skip]
fn a_neighbour_as_ip_neighbour_add_does() {
    let neighbour = NeighbourEntry {
        link: LinkName::new("tun0").unwrap(),
        address: "fe80::2".parse().unwrap(),
        mac: MacAddr::new([2, 0, 0, 0, 0, 2]),
        protocol: 87,
    };
    assert_eq!(sent(|d| neighbour::put(d, NEW, 2, &neighbour)), [
        0x44, 0, 0, 0, 0x1c, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWNEIGH
        10, 0, 0, 0, 2, 0, 0, 0, 0x80, 0, 0, 0, 5, 0, 12, 0, // AF_INET6, index 2, NUD_PERMANENT, NDA_PROTOCOL
        87, 0, 0, 0, 0x14, 0, 1, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, // NDA_DST
        0, 0, 0, 0, 0, 0, 0, 2, 0x0a, 0, 2, 0, 2, 0, 0, 0, // NDA_LLADDR
        0, 2, 0, 0,
    ]);
}

#[test]
#[rustfmt::skip]
fn an_fdb_entry_as_bridge_fdb_add_does() {
    let entry = FdbEntry {
        link: LinkName::new("tun0").unwrap(),
        mac: MacAddr::new([2, 0, 0, 0, 0, 2]),
        remote: "192.0.2.2".parse().unwrap(),
    };
    assert_eq!(sent(|d| neighbour::put_fdb(d, NEW, 2, &entry)), [
        0x30, 0, 0, 0, 0x1c, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWNEIGH
        7, 0, 0, 0, 2, 0, 0, 0, 0xc0, 0, 2, 0, 0x0a, 0, 2, 0, // AF_BRIDGE, NUD_PERMANENT | NUD_NOARP, NTF_SELF
        2, 0, 0, 0, 0, 2, 0, 0, 8, 0, 1, 0, 192, 0, 2, 2, // NDA_LLADDR, NDA_DST
    ]);
}
