//! Changes of nf_tables, as one transaction.

use super::element::{Element, Key, Set, Values, encode_ranges};
use super::expression::Field;
use super::message::{
    HEADER, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_HANDLE, NFTA_RULE_TABLE, Table,
    family, header, header_of, message_type, name_chain,
};
use super::rule::Rule;
use crate::foreign::ForeignChain;
use crate::linux::netlink::{Attributes, Datagram, Failure, Reply, Socket};

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
    /// One that is refused (`ERESTART`) if anything in nf_tables has changed since a [`generation`](super::message::generation).
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
                encode_ranges(set, some, message);
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

/// `struct nfgenmsg` for a transaction's first and last message, with the subsystem in network byte order.
fn batch_header() -> [u8; HEADER] {
    [libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8, 0, libc::NFNL_SUBSYS_NFTABLES as u8]
}

const NFNL_BATCH_GENID: u16 = 1;
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
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
/// How many ranges are written into one message.
const RANGES: usize = 256;
const UDATA_KEY_BYTE_ORDER: u8 = 0;
