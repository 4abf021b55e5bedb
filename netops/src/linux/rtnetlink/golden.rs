//! Messages about what not every kernel has, byte by byte as iproute2 6.1 sends them (`strace -e write`), apart from
//! the NUL behind a kind, which iproute2 leaves out and the kernel takes either way.

use crate::linux::netlink::Datagram;
use crate::linux::rtnetlink::{link, port};
use crate::name::LinkName;
use crate::resource::{Link, LinkKind, Port, PortVlan};

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
    let link = Link::new(LinkName::new(name).unwrap(), kind);
    sent(|datagram| {
        link::create(datagram, &link::Creation { link: &link, master: None, peer_namespace: None });
    })
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
fn a_dummy_as_ip_link_add_does() {
    assert_eq!(created("dummy0", LinkKind::Dummy), [
        0x3c, 0, 0, 0, 0x10, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x0b, 0, 3, 0, b'd', b'u', b'm', b'm', b'y', b'0', 0, 0, 0x10, 0, 0x12, 0,
        0x0a, 0, 1, 0, b'd', b'u', b'm', b'm', b'y', 0, 0, 0,
    ]);
}
