//! Port mappings: maps from the node's ports to chains, which are the same for all ports that are treated alike, and to
//! where these lead.
//!
//! A port is in the maps of its version, of the mappings at one address or at any, and of those that count or are spare.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::element::{Element, Key, Set, Values};
use super::expression::{Field, Verdict, Version};
use super::rule::Rule;
use super::ruleset::{INET, Placed, Whereabouts};
use super::transaction::{Hook, Transaction};
use crate::entry::Entry;
use crate::linux::rtnetlink::address::parse_ip;
use crate::name::Mark;
use crate::port_mapping::{Aspect, Condition, HostPort, PortMapping, PortMasquerade, Transport};
use crate::ruleset::{PORT_MAPS, Ports, chain_of_bit, parse_port_chain, port_chain, port_maps, ports};

const ANY: &[Field] = &[Field::Transport, Field::DestinationPort];
const AT4: &[Field] = &[Field::Destination(Version::V4), Field::Transport, Field::DestinationPort];
const AT6: &[Field] = &[Field::Destination(Version::V6), Field::Transport, Field::DestinationPort];
const TO4: &[Field] = &[Field::Destination(Version::V4), Field::DestinationPort];
const TO6: &[Field] = &[Field::Destination(Version::V6), Field::DestinationPort];

/// As [`port_maps`] numbers them.
const KEYS: [&[Field]; 8] = [ANY, ANY, AT4, AT6, ANY, ANY, AT4, AT6];

static HOSTPORTS: [Set; 8] = [
    hostports(0),
    hostports(1),
    hostports(2),
    hostports(3),
    hostports(4),
    hostports(5),
    hostports(6),
    hostports(7),
];

static BACKENDS: [Set; 8] =
    [backends(0), backends(1), backends(2), backends(3), backends(4), backends(5), backends(6), backends(7)];

pub(super) static SETS: [&Set; 8] = [
    &HOSTPORTS[0],
    &HOSTPORTS[1],
    &HOSTPORTS[2],
    &HOSTPORTS[3],
    &HOSTPORTS[4],
    &HOSTPORTS[5],
    &HOSTPORTS[6],
    &HOSTPORTS[7],
];

const fn hostports(n: usize) -> Set {
    let set = Set::new(INET, PORT_MAPS[n].0, KEYS[n]);
    Set { values: Values::Verdicts, beside: Some(&BACKENDS[n]), ..set }
}

const fn backends(n: usize) -> Set {
    let to = if n.is_multiple_of(2) { TO4 } else { TO6 };
    Set { values: Values::Fields(to), ..Set::new(INET, PORT_MAPS[n].1, KEYS[n]) }
}

/// `dstnat`, before anything looks at where a packet goes (`NF_IP_PRI_NAT_DST`).
const DESTINATION_NAT: i32 = -100;
/// Before `srcnat`, where the same connection may be masqueraded for another reason, or be let be.
const BEFORE_SOURCE_NAT: i32 = 99;

/// The element that says by which chain connections go, and that which says where to.
pub(super) fn elements(mapping: &PortMapping) -> [Placed; 2] {
    let (n, key) = (port_maps(&mapping.port), key(&mapping.port));
    let to = Key::default().address(mapping.to.ip()).port(mapping.to.port());
    let way = Element {
        verdict: Some(Verdict::Jump(port_chain(mapping))),
        comment: Some(mapping.mark.to_string()),
        ..Element::of_key(key.clone())
    };
    [(&HOSTPORTS[n], way), (&BACKENDS[n], Element { value: Some(to), ..Element::of_key(key) })]
}

pub(super) fn whereabouts(port: &HostPort) -> Whereabouts {
    Whereabouts::Element(&HOSTPORTS[port_maps(port)], key(port))
}

fn key(port: &HostPort) -> Key {
    let address = if port.is_any() { Key::default() } else { Key::default().address(port.address.ip()) };
    address.transport(port.transport.number()).port(port.address.port())
}

pub(super) fn parse(element: &Element, mark: Mark) -> Option<PortMapping> {
    let to = parse_address(element.value.as_ref()?.bytes())?;
    let (key, address) = match element.key.bytes().split_last_chunk::<8>()? {
        ([], key) => (key, any_of_version(to)),
        (address, key) => (key, parse_ip(address)?),
    };
    let [number, _, _, _, high, low, _, _] = *key;
    let transport = *Transport::ALL.iter().find(|transport| transport.number() == number)?;
    let address = SocketAddr::new(address, u16::from_be_bytes([high, low]));
    let Some(Verdict::Jump(chain)) = &element.verdict else { return None };
    let (spare, masquerade, conditions) = parse_port_chain(chain)?;
    let port = HostPort { transport, address, spare };
    Some(PortMapping { port, to, masquerade, conditions, mark })
}

fn any_of_version(of: SocketAddr) -> IpAddr {
    if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn parse_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<4>()?;
    let [high, low, _, _] = *port;
    Some(SocketAddr::new(parse_ip(address)?, u16::from_be_bytes([high, low])))
}

/// Makes the maps, the rules that look into them, and the chains by which connections go.
pub(super) fn lay_out(transaction: &mut Transaction, entries: &[&Entry]) {
    let mut done = BTreeSet::new();
    transaction.table(INET);
    for entry in entries {
        let Entry::PortMapping(mapping) = entry else { continue };
        let Ports { lookups, .. } = ports(mapping.port.spare);
        if done.insert(lookups.to_owned()) {
            lay_out_lookups(transaction, mapping.port.spare);
        }
        let chain = port_chain(mapping);
        if done.insert(chain.clone()) {
            lay_out_way(transaction, &chain, mapping);
        }
        let Some(PortMasquerade { bit, .. }) = mapping.masquerade else { continue };
        let chain = chain_of_bit(bit);
        if done.insert(chain.clone()) {
            let hook = Hook { kind: "nat", number: libc::NF_INET_POST_ROUTING, priority: BEFORE_SOURCE_NAT };
            transaction.empty_chain(INET, &chain, Some(hook));
            transaction.rule(INET, &chain, &Rule::default().with_mark(1 << bit).masquerade());
        }
    }
}

fn lay_out_lookups(transaction: &mut Transaction, spare: bool) {
    let Ports { prerouting, output, later, lookups } = ports(spare);
    let first = if spare { 4 } else { 0 };
    transaction.empty_chain(INET, lookups, None);
    // One address of the node stands before any.
    for n in [2, 0, 3, 1].map(|n| n + first) {
        let (hostports, backends) = (&HOSTPORTS[n], &BACKENDS[n]);
        transaction.set(hostports);
        transaction.set(backends);
        let version = if n.is_multiple_of(2) { Version::V4 } else { Version::V6 };
        let rule = match hostports.key {
            [Field::Destination(_), ..] => Rule::default(),
            _ => Rule::default().of_version(version),
        };
        transaction.rule(INET, lookups, &rule.verdict_map(hostports.key, hostports.name));
    }
    for (chain, number) in [(prerouting, libc::NF_INET_PRE_ROUTING), (output, libc::NF_INET_LOCAL_OUT)] {
        let hook = Hook { kind: "nat", number, priority: DESTINATION_NAT + later };
        transaction.empty_chain(INET, chain, Some(hook));
        let jump = Rule::default().for_this_node().verdict(Verdict::Jump(lookups.to_owned()));
        transaction.rule(INET, chain, &jump);
    }
}

/// The chain by which connections of some ports go: back, if they are not as they must be; with a bit, if they are to be
/// masqueraded; and on to the container.
fn lay_out_way(transaction: &mut Transaction, chain: &str, mapping: &PortMapping) {
    let n = port_maps(&mapping.port);
    let version = Version::of(mapping.to.ip());
    transaction.empty_chain(INET, chain, None);
    for condition in &mapping.conditions {
        let rule = unless(condition).verdict(Verdict::Return);
        transaction.rule(INET, chain, &rule);
    }
    if let Some(PortMasquerade { from, bit }) = mapping.masquerade {
        let mut sources = vec![from];
        // From the node's loopback addresses, nothing could be answered.
        if from.addr().is_ipv4() && from.prefix_len() > 0 {
            sources.push(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)));
        }
        for source in sources {
            let rule = match source.prefix_len() {
                0 => Rule::default(),
                _ => Rule::default().within(Field::Source, source),
            };
            transaction.rule(INET, chain, &rule.mark(1 << bit));
        }
    }
    let backends = &BACKENDS[n];
    transaction.rule(INET, chain, &Rule::default().destination_nat(version, backends.key, backends.name));
}

/// What a packet is like that does not meet a condition.
fn unless(condition: &Condition) -> Rule {
    let rule = Rule::default();
    match (&condition.what, condition.inverted) {
        (Aspect::Source(net), false) => rule.outside(Field::Source, *net),
        (Aspect::Source(net), true) => rule.within(Field::Source, *net),
        (Aspect::Destination(net), false) => rule.outside(Field::Destination, *net),
        (Aspect::Destination(net), true) => rule.within(Field::Destination, *net),
        (Aspect::Interface(name), false) => rule.comes_in_elsewhere(name),
        (Aspect::Interface(name), true) => rule.comes_in_by(name),
    }
}
