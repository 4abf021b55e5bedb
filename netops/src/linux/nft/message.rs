//! Transactions, and the elements of sets, as bytes (`linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`).

use std::net::IpAddr;

use super::expression::{
    Field, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_LIST_ELEM, NFTA_VERDICT_CHAIN, Verdict, value,
};
use super::rule::Rule;
use crate::foreign::{Family, ForeignChain};
use crate::linux::netlink::{
    Attributes, Datagram, Failure, Reply, Socket, attribute, attribute_be32, attributes, text,
};
use crate::name::{LinkName, MacAddr, Mark};

/// Length of `struct nfgenmsg`.
pub(super) const HEADER: usize = 4;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    /// `NFPROTO_*`: which packets pass through it.
    pub(super) family: i32,
    pub(super) name: &'static str,
}

/// A set or a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) table: Table,
    pub(super) name: &'static str,
    /// What its keys are put together from.
    pub(super) key: &'static [Field],
    /// What each key has.
    pub(super) values: Values,
    /// A map of the same keys, which says the rest of what there is to know of each.
    pub(super) beside: Option<&'static Self>,
}

/// What the keys of a set or map have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Nothing: it is a set.
    None,
    /// A verdict each.
    Verdicts,
    /// Values each, put together as keys are.
    Fields(&'static [Field]),
}

/// Where in the kernel a chain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    /// The chain's type: `filter`, `nat`.
    pub(super) kind: &'static str,
    /// `NF_*_PRE_ROUTING` and so on.
    pub(super) number: i32,
    /// Order among the chains there.
    pub(super) priority: i32,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Key,
    pub(super) verdict: Option<Verdict>,
    pub(super) value: Option<Key>,
    pub(super) comment: Option<String>,
}

/// An element's key, or its value. What it is put together from begins at multiples of four bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Adds an address.
    pub(super) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(&address.octets(), 4),
            IpAddr::V6(address) => self.with(&address.octets(), 16),
        }
    }

    /// Adds an interface's name.
    pub(super) fn interface(self, name: &LinkName) -> Self {
        self.with(name.as_str().as_bytes(), libc::IFNAMSIZ)
    }

    /// Adds a protocol's number (`IPPROTO_*`).
    pub(super) fn transport(self, number: u8) -> Self {
        self.with(&[number], 4)
    }

    /// Adds a port.
    pub(super) fn port(self, port: u16) -> Self {
        self.with(&port.to_be_bytes(), 4)
    }

    /// Adds a MAC address behind other things.
    pub(super) fn mac(self, mac: MacAddr) -> Self {
        self.with(&mac.bytes(), 8)
    }

    fn with(mut self, value: &[u8], length: usize) -> Self {
        let end = self.0.len() + length;
        self.0.extend(value);
        self.0.resize(end, 0);
        self
    }

    /// The address that it is.
    pub(super) fn as_address(&self) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(self.bytes()).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(self.bytes()).map(IpAddr::from)).ok()
    }

    /// The port behind a protocol's number, if it is such two.
    pub(super) fn as_port(&self) -> Option<u16> {
        match *self.bytes() {
            [_, _, _, _, high, low, _, _] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }

    /// The interface's name, if it is one and nothing else.
    pub(super) fn as_interface(&self) -> Option<LinkName> {
        let bytes: &[u8; libc::IFNAMSIZ] = self.bytes().try_into().ok()?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        LinkName::new(std::str::from_utf8(name).ok()?).ok()
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Changes that happen all at once or not at all.
#[derive(Debug)]
pub(super) struct Transaction {
    datagram: Datagram,
    deletes: bool,
}

impl Default for Transaction {
    fn default() -> Self {
        let mut datagram = Datagram::default();
        datagram.push(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, &batch_header(), |_| {});
        Self { datagram, deletes: false }
    }
}

impl Transaction {
    /// One that is refused (`ERESTART`) if anything in nf_tables has changed since a [`generation`].
    pub(super) fn since(generation: u32) -> Self {
        let mut datagram = Datagram::default();
        datagram.push(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, &batch_header(), |message| {
            message.be32(NFNL_BATCH_GENID, generation);
        });
        Self { datagram, deletes: false }
    }

    /// Sends it. There is one reply for each message: the opening one, then what was put in.
    pub(super) fn send(mut self, socket: &mut Socket) -> Result<Vec<Reply>, Failure> {
        let last = self.datagram.len().saturating_sub(1);
        // The closing message is never acknowledged.
        self.datagram.push(libc::NFNL_MSG_BATCH_END as u16, 0, &batch_header(), |_| {});
        socket.exchange_whole(&mut self.datagram, last)
    }

    /// Whether something goes, or may: the last `close` of the socket then waits until no packet can be looking at it.
    pub(super) fn deletes(&self) -> bool {
        self.deletes
    }

    /// Its bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.datagram.bytes(0..self.datagram.len()).unwrap_or_default().to_vec()
    }

    /// How many messages there are so far.
    pub(super) fn len(&self) -> usize {
        self.datagram.len()
    }

    /// There is a table.
    pub(super) fn table(&mut self, table: Table) {
        self.push(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, table, |message| {
            message.text(NFTA_TABLE_NAME, table.name);
        });
    }

    /// There is no table, and nothing that was in it.
    pub(super) fn delete_table(&mut self, table: Table) {
        self.deletes = true;
        self.push(libc::NFT_MSG_DELTABLE, 0, table, |message| {
            message.text(NFTA_TABLE_NAME, table.name);
        });
    }

    /// There is a set or map.
    pub(super) fn set(&mut self, set: &Set) {
        self.set_of(set, 0);
    }

    /// There is a set of ranges (`flags interval`).
    pub(super) fn set_of_ranges(&mut self, set: &Set) {
        self.set_of(set, libc::NFT_SET_INTERVAL as u32);
    }

    fn set_of(&mut self, set: &Set, flags: u32) {
        let id = self.datagram.len() as u32;
        let map = if set.values == Values::None { 0 } else { libc::NFT_SET_MAP as u32 };
        self.push(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, set.table, |message| {
            message
                .text(NFTA_SET_TABLE, set.table.name)
                .text(NFTA_SET_NAME, set.name)
                .be32(NFTA_SET_FLAGS, map | flags)
                .be32(NFTA_SET_KEY_TYPE, data_type(set.key))
                .be32(NFTA_SET_KEY_LEN, length(set.key))
                // Wanted by the kernel, and used only by those who do not call a set by its name.
                .be32(NFTA_SET_ID, id);
            let values = match set.values {
                Values::None => None,
                Values::Verdicts => Some((libc::NFT_DATA_VERDICT, 0)),
                Values::Fields(fields) => Some((data_type(fields), length(fields))),
            };
            if let Some((data_type, length)) = values {
                message.be32(NFTA_SET_DATA_TYPE, data_type).be32(NFTA_SET_DATA_LEN, length);
            }
            if set.key == [Field::InputInterface] {
                // As text, not as a big number: byte order of the key, host's (libnftnl/udata.h).
                message.bytes(NFTA_SET_USERDATA, &[UDATA_KEY_BYTE_ORDER, 4, 1, 0, 0, 0]);
            }
        });
    }

    /// There is a chain.
    pub(super) fn chain(&mut self, table: Table, name: &str, hook: Option<Hook>) {
        self.push(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, table, |message| {
            message.text(NFTA_CHAIN_TABLE, table.name).text(NFTA_CHAIN_NAME, name);
            if let Some(hook) = hook {
                message.text(NFTA_CHAIN_TYPE, hook.kind).nest(NFTA_CHAIN_HOOK, |nest| {
                    nest.be32(NFTA_HOOK_HOOKNUM, hook.number as u32)
                        .be32(NFTA_HOOK_PRIORITY, hook.priority as u32);
                });
            }
        });
    }

    /// There is a chain, and nothing in it.
    pub(super) fn empty_chain(&mut self, table: Table, name: &str, hook: Option<Hook>) {
        self.chain(table, name, hook);
        self.deletes = true;
        self.push(libc::NFT_MSG_DELRULE, 0, table, |message| {
            message.text(NFTA_RULE_TABLE, table.name).text(NFTA_RULE_CHAIN, name);
        });
    }

    /// A rule, after those that a chain has.
    pub(super) fn rule(&mut self, table: Table, chain: &str, rule: &Rule) {
        self.write_rule(libc::NLM_F_APPEND, table, chain, rule);
    }

    /// A rule, before those that a chain has.
    pub(super) fn first_rule(&mut self, table: Table, chain: &str, rule: &Rule) {
        self.write_rule(0, table, chain, rule);
    }

    fn write_rule(&mut self, flags: i32, table: Table, chain: &str, rule: &Rule) {
        self.push(libc::NFT_MSG_NEWRULE, libc::NLM_F_CREATE | flags, table, |message| {
            message.text(NFTA_RULE_TABLE, table.name).text(NFTA_RULE_CHAIN, chain);
            rule.encode(message);
        });
    }

    /// An element that is not there yet.
    pub(super) fn add(&mut self, set: &Set, element: &Element) {
        self.push(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE | libc::NLM_F_EXCL, set.table, |message| {
            element.encode(set, message);
        });
    }

    /// An element, whether it is there or not.
    pub(super) fn keep(&mut self, set: &Set, element: &Element) {
        self.push(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, set.table, |message| {
            element.encode(set, message);
        });
    }

    /// Ranges that a set has: of each where it begins, and where it has ended, unless it goes on to the last of all.
    pub(super) fn ranges(&mut self, set: &Set, ranges: &[(Key, Option<Key>)]) {
        // A list is an attribute, whose length is of 16 bits.
        for some in ranges.chunks(RANGES) {
            self.push(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, set.table, |message| {
                message
                    .text(NFTA_SET_ELEM_LIST_TABLE, set.table.name)
                    .text(NFTA_SET_ELEM_LIST_SET, set.name)
                    .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                        for (first, end) in some {
                            bound(list, first, 0);
                            end.iter().for_each(|end| bound(list, end, INTERVAL_END));
                        }
                    });
            });
        }
    }

    /// An element goes.
    pub(super) fn delete(&mut self, set: &Set, key: Key) {
        self.deletes = true;
        self.push(libc::NFT_MSG_DELSETELEM, 0, set.table, |message| {
            Element::of_key(key).encode(set, message);
        });
    }

    /// A rule goes, of whichever table.
    pub(super) fn delete_rule(&mut self, chain: &ForeignChain, handle: u64) {
        self.deletes = true;
        let header = header_of(family(chain.family));
        self.datagram.push(message_type(libc::NFT_MSG_DELRULE), 0, &header, |message| {
            message
                .text(NFTA_RULE_TABLE, &chain.table)
                .text(NFTA_RULE_CHAIN, &chain.name)
                .bytes(NFTA_RULE_HANDLE, &handle.to_be_bytes());
        });
    }

    /// A chain goes, of whichever table, and all rules that are in it.
    pub(super) fn delete_chain(&mut self, chain: &ForeignChain) {
        self.deletes = true;
        name_chain(&mut self.datagram, libc::NFT_MSG_DELCHAIN, chain);
    }

    fn push(&mut self, kind: i32, flags: i32, table: Table, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.datagram.push(message_type(kind), flags, &header(table), attributes);
    }
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

fn name_chain(datagram: &mut Datagram, kind: i32, chain: &ForeignChain) {
    datagram.push(message_type(kind), 0, &header_of(family(chain.family)), |message| {
        message.text(NFTA_CHAIN_TABLE, &chain.table).text(NFTA_CHAIN_NAME, &chain.name);
    });
}

/// Asks for one element of a set.
pub(super) fn get(datagram: &mut Datagram, set: &Set, key: Key) {
    datagram.push(message_type(libc::NFT_MSG_GETSETELEM), 0, &header(set.table), |message| {
        Element::of_key(key).encode(set, message);
    });
}

/// Asks for all elements of a set.
pub(super) fn get_all(datagram: &mut Datagram, set: &Set) {
    datagram.push(message_type(libc::NFT_MSG_GETSETELEM), 0, &header(set.table), |message| {
        message.text(NFTA_SET_ELEM_LIST_TABLE, set.table.name).text(NFTA_SET_ELEM_LIST_SET, set.name);
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

/// The elements in an answer.
pub(super) fn parse(body: &[u8]) -> impl Iterator<Item = Element> {
    let list = attribute(content(body), NFTA_SET_ELEM_LIST_ELEMENTS);
    attributes(list.unwrap_or_default()).filter_map(|(_, element)| Element::parse(element))
}

/// Where ranges begin (`false`) and have ended, of those in an answer.
pub(super) fn parse_bounds(body: &[u8]) -> impl Iterator<Item = (Key, bool)> {
    let list = attribute(content(body), NFTA_SET_ELEM_LIST_ELEMENTS);
    attributes(list.unwrap_or_default()).filter_map(|(_, element)| {
        let flags = attribute(element, NFTA_SET_ELEM_FLAGS).unwrap_or(&[0; 4]);
        let flags = u32::from_be_bytes(flags.try_into().ok()?);
        Some((Element::parse(element)?.key, flags & INTERVAL_END != 0))
    })
}

fn bound(list: &mut Attributes<'_>, key: &Key, flags: u32) {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.nest(NFTA_SET_ELEM_KEY, |nest| value(nest, key.bytes()));
        if flags != 0 {
            element.be32(NFTA_SET_ELEM_FLAGS, flags);
        }
    });
}

impl Element {
    /// No more than a key.
    fn of_key(key: Key) -> Self {
        Self { key, verdict: None, value: None, comment: None }
    }

    /// With what another element of the same key says.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            key: self.key,
            verdict: self.verdict.or(other.verdict),
            value: self.value.or(other.value),
            comment: self.comment.or(other.comment),
        }
    }

    /// Writes which set it is in, and it as the only one of a list.
    fn encode(&self, set: &Set, message: &mut Attributes<'_>) {
        message.text(NFTA_SET_ELEM_LIST_TABLE, set.table.name).text(NFTA_SET_ELEM_LIST_SET, set.name).nest(
            NFTA_SET_ELEM_LIST_ELEMENTS,
            |list| {
                list.nest(NFTA_LIST_ELEM, |element| {
                    element.nest(NFTA_SET_ELEM_KEY, |key| value(key, self.key.bytes()));
                    if let Some(verdict) = &self.verdict {
                        element.nest(NFTA_SET_ELEM_DATA, |data| verdict.encode(data));
                    }
                    if let Some(data) = &self.value {
                        element.nest(NFTA_SET_ELEM_DATA, |nest| value(nest, data.bytes()));
                    }
                    if let Some(comment) = &self.comment {
                        element.bytes(NFTA_SET_ELEM_USERDATA, &comment_userdata(comment));
                    }
                });
            },
        );
    }

    fn parse(element: &[u8]) -> Option<Self> {
        let key = attribute(attribute(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
        let data = attribute(element, NFTA_SET_ELEM_DATA).unwrap_or_default();
        let verdict = attribute(data, NFTA_DATA_VERDICT).unwrap_or_default();
        let chain = attribute(verdict, NFTA_VERDICT_CHAIN).and_then(text);
        let userdata = attribute(element, NFTA_SET_ELEM_USERDATA).unwrap_or_default();
        Some(Self {
            key: Key(key.to_vec()),
            verdict: chain.map(|chain| Verdict::Jump(chain.to_owned())),
            value: attribute(data, NFTA_DATA_VALUE).map(|value| Key(value.to_vec())),
            comment: parse_comment(userdata).map(str::to_owned),
        })
    }
}

/// What `nft` prints as `comment`: one of the entries that it keeps in a place which the kernel does not look into
/// (type, length, value; `libnftnl/udata.h`).
fn comment_userdata(comment: &str) -> Vec<u8> {
    // A mark is short enough; the length counts the NUL.
    let comment: Vec<u8> = comment.bytes().take(Mark::MAX).chain([0]).collect();
    [UDATA_ELEMENT_COMMENT, comment.len() as u8].into_iter().chain(comment).collect()
}

pub(super) fn parse_comment(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_ELEMENT_COMMENT {
            return text(value);
        }
        userdata = rest.get(value.len()..)?;
    }
    None
}

/// Several types put together, in six bits each; nft alone can tell what they mean.
fn data_type(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| (number << 6) | field.data_type())
}

/// How many bytes several fields take, put together.
fn length(fields: &[Field]) -> u32 {
    match fields {
        [field] => field.length(),
        fields => fields.iter().map(|field| field.length().next_multiple_of(4)).sum(),
    }
}

fn message_type(kind: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16
}

/// `struct nfgenmsg` for a table's messages.
fn header(table: Table) -> [u8; HEADER] {
    header_of(table.family)
}

fn header_of(family: i32) -> [u8; HEADER] {
    [family as u8, libc::NFNETLINK_V0 as u8, 0, 0]
}

fn family(family: Family) -> i32 {
    match family {
        Family::Ipv4 => libc::NFPROTO_IPV4,
        Family::Ipv6 => libc::NFPROTO_IPV6,
        Family::Inet => libc::NFPROTO_INET,
        Family::Bridge => libc::NFPROTO_BRIDGE,
    }
}

/// `struct nfgenmsg` for a transaction's first and last message, with the subsystem in network byte order.
fn batch_header() -> [u8; HEADER] {
    [libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8, 0, libc::NFNL_SUBSYS_NFTABLES as u8]
}

const NFNL_BATCH_GENID: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// How many ranges are written into one message.
const RANGES: usize = 256;
const UDATA_ELEMENT_COMMENT: u8 = 0;
const UDATA_KEY_BYTE_ORDER: u8 = 0;
