//! Rules, written as a person would say them.
//!
//! They are encoded as `nft` itself would (`NFTA_RULE_EXPRESSIONS`), so that `nft list ruleset` prints them as they are
//! written here.

use std::net::IpAddr;

use ipnet::IpNet;

use super::expression::{
    Expression, FIRST_REGISTER, Field, Lookup, NFTA_EXPR_NAME, NFTA_LIST_ELEM, Verdict, Version, register,
};
use crate::linux::netlink::{Attributes, Datagram, attribute, attributes, messages, nests};
use crate::name::LinkName;

/// A rule under construction: what has to be true, in order, and then what is done.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    expressions: Vec<Expression>,
    /// Which packets get this far, if only those of one version of IP.
    version: Option<Version>,
}

impl Rule {
    /// `FIELD PREFIX`: an address is within a prefix.
    pub(super) fn within(self, field: fn(Version) -> Field, prefix: IpNet) -> Self {
        self.compare(field, prefix, NFT_CMP_EQ)
    }

    /// `FIELD != PREFIX`: it is not.
    pub(super) fn outside(self, field: fn(Version) -> Field, prefix: IpNet) -> Self {
        self.compare(field, prefix, NFT_CMP_NEQ)
    }

    /// `iifname NAME`.
    pub(super) fn comes_in_by(self, interface: &LinkName) -> Self {
        self.compare_interface(interface, NFT_CMP_EQ)
    }

    /// `iifname != NAME`.
    pub(super) fn comes_in_elsewhere(self, interface: &LinkName) -> Self {
        self.compare_interface(interface, NFT_CMP_NEQ)
    }

    /// `meta nfproto VERSION`.
    pub(super) fn of_version(self, version: Version) -> Self {
        self.meta(libc::NFT_META_NFPROTO)
            .then(Expression::Compare { operator: NFT_CMP_EQ, value: vec![version.number() as u8] })
    }

    /// `meta l4proto != PROTOCOL`, one of `IPPROTO_*`.
    pub(super) fn not_of_transport(self, protocol: i32) -> Self {
        self.load(&[Field::Transport])
            .then(Expression::Compare { operator: NFT_CMP_NEQ, value: vec![protocol as u8] })
    }

    /// `th dport != PORT`.
    pub(super) fn not_to_port(self, port: u16) -> Self {
        self.load(&[Field::DestinationPort])
            .then(Expression::Compare { operator: NFT_CMP_NEQ, value: port.to_be_bytes().into() })
    }

    /// `fib daddr type local`: it is for this node.
    pub(super) fn for_this_node(self) -> Self {
        let value = u32::from(libc::RTN_LOCAL).to_ne_bytes().into();
        self.then(Expression::DestinationType).then(Expression::Compare { operator: NFT_CMP_EQ, value })
    }

    /// `meta mark & BIT == BIT`.
    pub(super) fn with_mark(self, bit: u32) -> Self {
        let value = bit.to_ne_bytes().into();
        self.meta(libc::NFT_META_MARK)
            .then(Expression::mask(&bit.to_ne_bytes()))
            .then(Expression::Compare { operator: NFT_CMP_EQ, value })
    }

    /// `ct state established,related`: it belongs to a connection that is known already.
    pub(super) fn in_connection(self) -> Self {
        let states = (CT_STATE_ESTABLISHED | CT_STATE_RELATED).to_ne_bytes();
        let none = vec![0; states.len()];
        self.then(Expression::ConnectionState)
            .then(Expression::mask(&states))
            .then(Expression::Compare { operator: NFT_CMP_NEQ, value: none })
    }

    /// What one of `iptables`' extensions matches, with the structure that it keeps its parameters in.
    pub(super) fn extension(self, name: &'static str, revision: u32, mut info: Vec<u8>) -> Self {
        // XT_ALIGN: as any number (struct _xt_align).
        info.resize(info.len().next_multiple_of(align_of::<u64>()), 0);
        self.then(Expression::Extension { name, revision, info })
    }

    /// `FIELD . FIELD … @SET`: a set has them, put together.
    pub(super) fn in_set(self, fields: &[Field], set: &'static str) -> Self {
        self.load(fields).then(Expression::Lookup { set, then: Lookup::Match })
    }

    /// `FIELD . FIELD … != @SET`: it has not.
    pub(super) fn not_in_set(self, fields: &[Field], set: &'static str) -> Self {
        self.load(fields).then(Expression::Lookup { set, then: Lookup::Mismatch })
    }

    /// `FIELD . FIELD … vmap @MAP`: does what a map says of them, and nothing if that has them not.
    pub(super) fn verdict_map(self, fields: &[Field], map: &'static str) -> Self {
        self.load(fields).then(Expression::Lookup { set: map, then: Lookup::Verdict })
    }

    /// A verdict.
    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        self.then(Expression::Verdict(verdict))
    }

    /// `meta mark set meta mark | BIT`.
    pub(super) fn mark(self, bit: u32) -> Self {
        let (mask, xor) = ((!bit).to_ne_bytes().into(), bit.to_ne_bytes().into());
        self.meta(libc::NFT_META_MARK).then(Expression::Bitwise { mask, xor }).then(Expression::SetMark)
    }

    /// `meta mark set meta mark & ~BIT`.
    pub(super) fn unmark(self, bit: u32) -> Self {
        self.meta(libc::NFT_META_MARK).then(Expression::mask(&(!bit).to_ne_bytes())).then(Expression::SetMark)
    }

    /// `counter`, which every rule of `iptables` has.
    pub(super) fn counter(self) -> Self {
        self.then(Expression::Counter)
    }

    /// `dnat VERSION to FIELD . FIELD … map @MAP`: to the address and port that a map has for them.
    pub(super) fn destination_nat(self, version: Version, fields: &[Field], map: &'static str) -> Self {
        self.load(fields)
            .then(Expression::Lookup { set: map, then: Lookup::Value })
            .then(Expression::DestinationNat(version))
    }

    /// `masquerade`.
    pub(super) fn masquerade(self) -> Self {
        self.then(Expression::Masquerade)
    }

    /// `masquerade fully-random`.
    pub(super) fn masquerade_fully_random(self) -> Self {
        self.then(Expression::MasqueradeFullyRandom)
    }

    fn then(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    /// Puts fields into registers, one behind another.
    fn load(mut self, fields: &[Field]) -> Self {
        let mut word = 0;
        for field in fields {
            let load = Expression::Load { field: *field, length: field.length(), register: register(word) };
            self = self.only_version_of(*field).then(load);
            word += field.length().div_ceil(4);
        }
        self
    }

    fn compare(self, field: fn(Version) -> Field, prefix: IpNet, operator: u32) -> Self {
        let field = field(Version::of(prefix.addr()));
        let (address, mask) = (octets(prefix.network()), octets(prefix.netmask()));
        let bits = usize::from(prefix.prefix_len());
        // As nft: whole bytes are compared by themselves, without a mask.
        let length = if bits % 8 == 0 && bits > 0 { bits / 8 } else { address.len() };
        let cut = |bytes: Vec<u8>| bytes.into_iter().take(length).collect::<Vec<_>>();
        let mut rule = self.only_version_of(field);
        rule = rule.then(Expression::Load { field, length: length as u32, register: FIRST_REGISTER });
        if length == address.len() && bits < 8 * length {
            rule = rule.then(Expression::mask(&mask));
        }
        rule.then(Expression::Compare { operator, value: cut(address) })
    }

    fn compare_interface(self, interface: &LinkName, operator: u32) -> Self {
        let mut value = interface.as_str().as_bytes().to_vec();
        value.resize(libc::IFNAMSIZ, 0);
        self.load(&[Field::InputInterface]).then(Expression::Compare { operator, value })
    }

    /// Where both versions of IP pass, a look into one's header is preceded by one at the version.
    fn only_version_of(self, field: Field) -> Self {
        match field {
            // As nft: once is enough.
            Field::Source(version) | Field::Destination(version) if self.version == Some(version) => self,
            Field::Source(version) | Field::Destination(version) => {
                Self { version: Some(version), ..self.of_version(version) }
            }
            Field::InputInterface
            | Field::OutputInterface
            | Field::EthernetSource
            | Field::Transport
            | Field::DestinationPort => self,
        }
    }

    fn meta(self, key: i32) -> Self {
        self.then(Expression::Meta(key))
    }

    /// Writes `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn encode(&self, rule: &mut Attributes<'_>) {
        rule.nest(NFTA_RULE_EXPRESSIONS, |list| {
            for expression in &self.expressions {
                list.nest(NFTA_LIST_ELEM, |element| expression.encode(element));
            }
        });
    }

    /// Whether a rule as the kernel has it is this one: its expressions are the same ones, and all that is written of these
    /// is so there. What they have besides is what a counter has counted, or what a kernel of another time adds.
    pub(super) fn is(&self, rule: &[u8]) -> bool {
        let mut written = Datagram::default();
        written.push(0, 0, &[], |attributes| self.encode(attributes));
        let written = written.bytes(0..1).and_then(|bytes| messages(bytes).next());
        let list = |rule| attribute(rule, NFTA_RULE_EXPRESSIONS).into_iter().flat_map(attributes);
        let mut there = list(rule);
        let same = |(_, written): (u16, &[u8])| match there.next() {
            Some((_, there)) if attribute(written, NFTA_EXPR_NAME) == Some(b"counter\0") => {
                attribute(there, NFTA_EXPR_NAME) == Some(b"counter\0")
            }
            Some((_, there)) => says(there, written),
            None => false,
        };
        list(written.map(|message| message.body).unwrap_or_default()).all(same) && there.next().is_none()
    }
}

/// Whether all that is written in some attributes is so in others.
fn says(there: &[u8], written: &[u8]) -> bool {
    nests(written).all(|(kind, is_nest, written)| match attribute(there, kind) {
        Some(there) if is_nest => says(there, written),
        there => there == Some(written),
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
/// `NF_CT_STATE_BIT(…)` (`linux/netfilter/nf_conntrack_common.h`).
const CT_STATE_ESTABLISHED: u32 = 1 << 1;
const CT_STATE_RELATED: u32 = 1 << 2;
const NFT_CMP_EQ: u32 = libc::NFT_CMP_EQ as u32;
const NFT_CMP_NEQ: u32 = libc::NFT_CMP_NEQ as u32;
