//! What every message begins with, and questions about chains and rules (`linux/netfilter/nf_tables.h`,
//! `linux/netfilter/nfnetlink.h`).

use crate::foreign::{Family, ForeignChain};
use crate::linux::netlink::{Datagram, attribute_be32};

/// Length of `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    /// `NFPROTO_*`: which packets pass through it.
    pub(super) family: i32,
    pub(super) name: &'static str,
}

/// Asks for one chain.
pub(super) fn get_chain(datagram: &mut Datagram, chain: &ForeignChain) {
    name_chain(datagram, libc::NFT_MSG_GETCHAIN, chain);
}

/// Asks for every chain of every table.
pub(super) fn get_chains(datagram: &mut Datagram) {
    datagram.push(message_type(libc::NFT_MSG_GETCHAIN), 0, &header_of(libc::NFPROTO_UNSPEC), |_| {});
}

/// Asks for the rules of one chain.
pub(super) fn get_rules(datagram: &mut Datagram, chain: &ForeignChain) {
    let header = header_of(family(chain.family));
    datagram.push(message_type(libc::NFT_MSG_GETRULE), 0, &header, |message| {
        message.text(NFTA_RULE_TABLE, &chain.table).text(NFTA_RULE_CHAIN, &chain.name);
    });
}

/// Asks for the rules of a chain of a table of ours.
pub(super) fn get_rules_of(datagram: &mut Datagram, table: Table, chain: &str) {
    datagram.push(message_type(libc::NFT_MSG_GETRULE), 0, &header(table), |message| {
        message.text(NFTA_RULE_TABLE, table.name).text(NFTA_RULE_CHAIN, chain);
    });
}

pub(super) fn name_chain(datagram: &mut Datagram, kind: i32, chain: &ForeignChain) {
    datagram.push(message_type(kind), 0, &header_of(family(chain.family)), |message| {
        message.text(NFTA_CHAIN_TABLE, &chain.table).text(NFTA_CHAIN_NAME, &chain.name);
    });
}

/// What an answer says of what it is about: its attributes.
pub(super) fn content(body: &[u8]) -> &[u8] {
    body.get(HEADER..).unwrap_or_default()
}

/// Asks how often nf_tables has changed.
pub(super) fn get_generation(datagram: &mut Datagram) {
    let header = [libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8, 0, 0];
    datagram.push(message_type(libc::NFT_MSG_GETGEN), 0, &header, |_| {});
}

/// How often, from the answer.
pub(super) fn generation(body: &[u8]) -> Option<u32> {
    attribute_be32(content(body), NFTA_GEN_ID)
}

pub(super) fn message_type(kind: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16
}

/// `struct nfgenmsg` for a table's messages.
pub(super) fn header(table: Table) -> [u8; HEADER] {
    header_of(table.family)
}

pub(super) fn header_of(family: i32) -> [u8; HEADER] {
    [family as u8, libc::NFNETLINK_V0 as u8, 0, 0]
}

pub(super) fn family(family: Family) -> i32 {
    match family {
        Family::Ipv4 => libc::NFPROTO_IPV4,
        Family::Ipv6 => libc::NFPROTO_IPV6,
        Family::Inet => libc::NFPROTO_INET,
        Family::Bridge => libc::NFPROTO_BRIDGE,
    }
}

const NFTA_GEN_ID: u16 = 1;
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
