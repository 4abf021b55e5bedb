//! Reading bytes as every answer that they could be, for tests and fuzzing.

use super::netlink::{attributes, messages, refusal};
use super::rtnetlink::{address, link, neighbour, next_hop, port, route, rule, tc};
use super::{conntrack, forward_jump, nft};
use crate::name::LinkName;

/// Reads a datagram, or the body of a message, as every answer of the kernel that is known. Not part of the API.
///
/// # Panics
/// If that goes wrong.
#[cfg_attr(not(feature = "fuzzing"), allow(unreachable_pub))] // exported with that feature only
pub fn read_as_answers(bytes: &[u8]) {
    for message in messages(bytes) {
        read_body(message.body);
        let _ = refusal(&message);
    }
    read_body(bytes);
}

fn read_body(body: &[u8]) {
    let Ok(name) = LinkName::new("eth0") else { return };
    for (_, value) in attributes(body) {
        assert!(value.len() <= body.len());
    }
    let _ = link::parse(body);
    let _ = port::parse(&name, body);
    let _ = port::parse_vlans(body).count();
    let _ = port::vlans_index(body);
    let _ = address::parse(body, 1, &name);
    let _ = address::detection(body, 1);
    let _ = route::parse(body, 1, &name);
    let _ = route::parse_direct(body);
    let _ = tc::parse(body);
    let _ = tc::parse_redirect(body);
    let _ = route::table(body);
    let _ = route::parse_as_made(body);
    let _ = route::parse_way(body);
    let _ = next_hop::identity(body);
    let _ = next_hop::parse(body);
    let _ = neighbour::parse(body);
    let _ = neighbour::parse_fdb(body);
    let _ = rule::parse(body);
    let _ = rule::table(body);
    nft::read_as_elements(body);
    nft::iptables::read_as_rule(body);
    forward_jump::read_as_table(body);
    conntrack::read_as_connection(body);
    let _ = nft::foreign::parse(body);
    super::watch::read_as_changes(body);
}
