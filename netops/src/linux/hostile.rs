//! Whatever bytes come back, nothing here panics, and nothing makes up what they do not say.

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::link::LinkMessage;
use proptest::prelude::*;

use super::answers::read_as_answers;
use super::netlink::{Datagram, attributes, messages};
use super::nft::hostile as nft;
use super::rtnetlink::{address, link, port, route, rule, tc};
use crate::entry::{Forwarded, Masquerade, SpoofCheck};
use crate::name::{LinkName, MacAddr, Mark};
use crate::port_mapping::{HostPort, PortMapping, Transport};
use crate::resource::{
    Address, Discipline, Link, LinkKind, Port, PortVlan, Route, Rule, TokenBucket, VethPeer,
};

fn name() -> LinkName {
    LinkName::new("eth0").unwrap()
}

/// One message of each kind, with everything in it.
fn genuine() -> Vec<u8> {
    let mut datagram = Datagram::default();
    let peer = VethPeer { place: crate::Place::Host, name: name(), mtu: Some(1400), mac: None };
    let mut wanted = Link::new(name(), LinkKind::Veth { peer });
    wanted.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
    wanted.mtu = Some(1400);
    let creation = link::Creation { link: &wanted, master: Some(3), peer_namespace: None, parent: None };
    link::create(&mut datagram, &creation);
    link::set_alias(&mut datagram, 1, &Mark::new("mark").unwrap());
    let vlans = vec![PortVlan { first: 1, last: 9, access: false }];
    port::set(
        &mut datagram,
        1,
        &Port { link: name(), hairpin: true, isolated: true, vlans, drop_default_vlan: true },
        true,
    );
    for net in ["10.22.0.5/16", "fd00:10::5/64"] {
        let net: ipnet::IpNet = net.parse().unwrap();
        address::create(&mut datagram, 1, &Address { prefix_route: false, ..Address::new(name(), net) });
        let wanted = Route { mtu: Some(1), table: Some(1000), ..Route::new(net, Some(net.addr()), name()) };
        route::create(&mut datagram, Some(1), &wanted);
        rule::create(&mut datagram, &Rule { priority: Some(1), ..Rule::from(net.trunc(), 1000) });
    }
    let bucket = TokenBucket { rate: 1 << 33, burst: 1, limit: 1 };
    tc::create(&mut datagram, 1, &Discipline::TokenBucket(bucket));
    tc::redirect(&mut datagram, 1, 2);
    let mut bytes = datagram.bytes(0..datagram.len()).unwrap().to_vec();
    let mark = Mark::new("mark").unwrap();
    let source = IpAddr::from([10, 22, 0, 5]);
    bytes.extend(nft::genuine(&[
        Masquerade { source, within: "10.22.0.0/16".parse().unwrap(), mark: mark.clone() }.into(),
        PortMapping {
            port: HostPort {
                transport: Transport::Tcp,
                address: "192.0.2.1:8080".parse().unwrap(),
                spare: false,
            },
            to: "10.22.0.5:80".parse().unwrap(),
            masquerade: None,
            conditions: Vec::new(),
            mark: mark.clone(),
        }
        .into(),
        SpoofCheck { port: name(), mac: MacAddr::new([2, 0, 0, 0, 0, 1]), mark: mark.clone() }.into(),
        Forwarded { address: source, mark }.into(),
    ]));
    bytes
}

proptest! {
    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_answers(&bytes);
    }

    #[test]
    fn damaged_messages_can_be_read(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = genuine();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        read_as_answers(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        values in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let mut datagram = Datagram::default();
        datagram.push(77, 0, &[1, 2, 3, 4], |message| {
            for (kind, value) in &values {
                message.bytes(*kind, value);
            }
        });
        let bytes = datagram.bytes(0..1).unwrap();
        let all: Vec<_> = messages(bytes).collect();
        prop_assert_eq!(all.len(), 1);
        prop_assert_eq!((all[0].kind, &all[0].body[..4]), (77, &[1, 2, 3, 4][..]));
        let read: Vec<_> = attributes(&all[0].body[4..]).map(|(kind, value)| (kind, value.to_vec())).collect();
        prop_assert_eq!(read, values);
    }
}

#[test]
fn the_genuine_messages_are_whole() {
    let bytes = genuine();
    let all: Vec<_> = messages(&bytes).collect();
    assert_eq!(
        all.iter().map(|message| (message.body.len() + 16).next_multiple_of(4)).sum::<usize>(),
        bytes.len()
    );
    assert!(all.len() > 10);
}

#[test]
fn what_does_not_fit_its_length_field_is_never_sent() {
    let mut datagram = Datagram::default();
    datagram.push(1, 0, &[], |message| {
        message.nest(1, |nest| {
            for _ in 0..2 {
                nest.bytes(1, &[0; 40_000]);
            }
        });
    });
    assert_eq!(datagram.bytes(0..1), None);
}

#[test]
fn a_request_longer_than_an_attribute_can_be_is_never_sent() {
    let all = |count| Port {
        link: name(),
        hairpin: false,
        isolated: false,
        vlans: vec![PortVlan { first: 1, last: 4094, access: false }; count],
        drop_default_vlan: false,
    };
    let mut datagram = Datagram::default();
    port::set(&mut datagram, 1, &all(4000), true);
    assert!(datagram.bytes(0..1).is_some_and(|bytes| bytes.len() > 64_000));
    port::set(&mut datagram, 1, &all(5000), true);
    assert_eq!((datagram.len(), datagram.bytes(0..2)), (2, None));
}

#[test]
fn one_strange_attribute_hides_no_link() {
    let mut datagram = Datagram::default();
    datagram.push(libc::RTM_NEWLINK, 0, &[0; link::HEADER], |message| {
        message.bytes(libc::IFLA_IFALIAS, &[0xff]).text(libc::IFLA_IFNAME, "eth0");
    });
    let body = &datagram.bytes(0..1).unwrap()[16..];
    assert_eq!(link::parse(body).map(|link| link.name), Some(name()));
    // Should this change, answers can be read by the library.
    assert!(LinkMessage::parse(body).is_err());
}
