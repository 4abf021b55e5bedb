//! Sets and maps, and their elements: as values, and as bytes.

use std::net::IpAddr;

use super::expression::{
    Field, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_LIST_ELEM, NFTA_VERDICT_CHAIN, Verdict, value,
};
use super::message::{Table, content, header, message_type};
use crate::linux::netlink::{Attributes, Datagram, attribute, attributes, text};
use crate::name::{LinkName, MacAddr, Mark};

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

impl Set {
    /// A set.
    pub(super) const fn new(table: Table, name: &'static str, key: &'static [Field]) -> Self {
        Self { table, name, key, values: Values::None, beside: None }
    }
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

/// Writes which set some elements are in, and them.
fn encode(set: &Set, message: &mut Attributes<'_>, elements: impl FnOnce(&mut Attributes<'_>)) {
    message
        .text(NFTA_SET_ELEM_LIST_TABLE, set.table.name)
        .text(NFTA_SET_ELEM_LIST_SET, set.name)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, elements);
}

/// Writes ranges of a set: of each where it begins, and where it has ended, unless it goes on to the last of all.
pub(super) fn encode_ranges(set: &Set, ranges: &[(Key, Option<Key>)], message: &mut Attributes<'_>) {
    encode(set, message, |list| {
        for (first, end) in ranges {
            bound(list, first, 0);
            end.iter().for_each(|end| bound(list, end, INTERVAL_END));
        }
    });
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
    pub(super) fn of_key(key: Key) -> Self {
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
    pub(super) fn encode(&self, set: &Set, message: &mut Attributes<'_>) {
        encode(set, message, |list| {
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
        });
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

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
const UDATA_ELEMENT_COMMENT: u8 = 0;
