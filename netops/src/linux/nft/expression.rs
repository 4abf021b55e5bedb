//! Rules: written as a person would say them, encoded as the kernel executes them (`linux/netfilter/nf_tables.h`,
//! `NFTA_RULE_EXPRESSIONS`).
//!
//! The encoding is the one that `nft` itself would choose, so that `nft list ruleset` prints them as they are written
//! here.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::linux::netlink::{Attributes, Datagram, attribute, attributes, messages, nests};
use crate::name::LinkName;
pub(super) use crate::resource::IpVersion as Version;

const FIRST_REGISTER: u32 = libc::NFT_REG_1 as u32;

/// A rule under construction: what has to be true, in order, and then what is done.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    expressions: Vec<Expression>,
}

/// Something of a packet that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `ip saddr`, `ip6 saddr`.
    Source(Version),
    /// `ip daddr`, `ip6 daddr`.
    Destination(Version),
    /// `iifname`.
    InputInterface,
    /// `oifname`.
    OutputInterface,
    /// `ether saddr`, where there is an Ethernet header: in the bridge family.
    EthernetSource,
    /// `meta l4proto`.
    Transport,
    /// `th dport`: that of TCP, UDP and SCTP alike.
    DestinationPort,
}

impl Version {
    /// `NFPROTO_*`.
    pub(super) fn number(self) -> i32 {
        match self {
            Self::V4 => libc::NFPROTO_IPV4,
            Self::V6 => libc::NFPROTO_IPV6,
        }
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is gone.
    Drop,
    /// It passes this base chain.
    Accept,
    /// Back to the chain that this one was jumped to from.
    Return,
    /// On to a chain, and back from it.
    Jump(String),
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
            Field::Source(version) | Field::Destination(version) => self.of_version(version),
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

impl Verdict {
    /// Writes `NFTA_DATA_VERDICT`.
    pub(super) fn encode(&self, data: &mut Attributes<'_>) {
        data.nest(NFTA_DATA_VERDICT, |verdict| {
            let code = match self {
                Self::Drop => libc::NF_DROP,
                Self::Accept => libc::NF_ACCEPT,
                Self::Return => libc::NFT_RETURN,
                Self::Jump(_) => libc::NFT_JUMP,
            };
            verdict.be32(NFTA_VERDICT_CODE, code as u32);
            if let Self::Jump(chain) = self {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }
}

/// One step of a rule. Those that look at something look at the first register.
#[derive(Debug, Clone)]
enum Expression {
    /// Loads something about the packet (`NFT_META_*`).
    Meta(i32),
    /// Loads the first bytes of a field.
    Load { field: Field, length: u32, register: u32 },
    /// Loads what the destination is to this node (`RTN_*`).
    DestinationType,
    /// Loads the state of the packet's connection, as bits.
    ConnectionState,
    /// Keeps some bits, and turns some over.
    Bitwise { mask: Vec<u8>, xor: Vec<u8> },
    /// Ends the rule here unless it compares so.
    Compare { operator: u32, value: Vec<u8> },
    /// Looks into a set or map.
    Lookup { set: &'static str, then: Lookup },
    /// Ends with a verdict.
    Verdict(Verdict),
    /// Gives the packet a mark.
    SetMark,
    /// Destination NAT to the address in the first register and the port behind it.
    DestinationNat(Version),
    /// Source NAT to the address of the interface that the packet leaves by.
    Masquerade,
    /// Counts packets and bytes.
    Counter,
    /// What one of `iptables`' extensions matches.
    Extension { name: &'static str, revision: u32, info: Vec<u8> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookup {
    Match,
    Mismatch,
    Verdict,
    Value,
}

impl Expression {
    /// Keeps some bits.
    fn mask(mask: &[u8]) -> Self {
        Self::Bitwise { mask: mask.to_vec(), xor: vec![0; mask.len()] }
    }

    /// Writes a name and what belongs to it.
    fn encode(&self, element: &mut Attributes<'_>) {
        let mut expression = |name: &str, data: &dyn Fn(&mut Attributes<'_>)| {
            element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, |nest| data(nest));
        };
        match self {
            Self::Meta(key) => expression("meta", &|data| load_meta(data, *key, FIRST_REGISTER)),
            Self::Load { field, length, register } => match field.location() {
                Location::Meta(key) => expression("meta", &|data| load_meta(data, key, *register)),
                Location::Payload(base, offset) => expression("payload", &|data| {
                    data.be32(NFTA_PAYLOAD_DREG, *register)
                        .be32(NFTA_PAYLOAD_BASE, base as u32)
                        .be32(NFTA_PAYLOAD_OFFSET, offset)
                        .be32(NFTA_PAYLOAD_LEN, *length);
                }),
            },
            Self::DestinationType => expression("fib", &|data| {
                data.be32(NFTA_FIB_DREG, FIRST_REGISTER)
                    .be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
                    .be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            }),
            Self::ConnectionState => expression("ct", &|data| {
                data.be32(NFTA_CT_KEY, libc::NFT_CT_STATE as u32).be32(NFTA_CT_DREG, FIRST_REGISTER);
            }),
            Self::Bitwise { mask, xor } => expression("bitwise", &|data| {
                data.be32(NFTA_BITWISE_SREG, FIRST_REGISTER)
                    .be32(NFTA_BITWISE_DREG, FIRST_REGISTER)
                    .be32(NFTA_BITWISE_LEN, mask.len() as u32)
                    .nest(NFTA_BITWISE_MASK, |nest| value(nest, mask))
                    .nest(NFTA_BITWISE_XOR, |nest| value(nest, xor));
            }),
            Self::Compare { operator, value: wanted } => expression("cmp", &|data| {
                data.be32(NFTA_CMP_SREG, FIRST_REGISTER)
                    .be32(NFTA_CMP_OP, *operator)
                    .nest(NFTA_CMP_DATA, |nest| value(nest, wanted));
            }),
            Self::Lookup { set, then } => expression("lookup", &|data| {
                data.text(NFTA_LOOKUP_SET, set).be32(NFTA_LOOKUP_SREG, FIRST_REGISTER);
                match then {
                    Lookup::Match => {}
                    Lookup::Mismatch => drop(data.be32(NFTA_LOOKUP_FLAGS, libc::NFT_LOOKUP_F_INV as u32)),
                    Lookup::Verdict => drop(data.be32(NFTA_LOOKUP_DREG, libc::NFT_REG_VERDICT as u32)),
                    Lookup::Value => drop(data.be32(NFTA_LOOKUP_DREG, FIRST_REGISTER)),
                }
            }),
            Self::Verdict(verdict) => expression("immediate", &|data| {
                data.be32(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32)
                    .nest(NFTA_IMMEDIATE_DATA, |nest| verdict.encode(nest));
            }),
            Self::SetMark => expression("meta", &|data| {
                data.be32(NFTA_META_KEY, libc::NFT_META_MARK as u32).be32(NFTA_META_SREG, FIRST_REGISTER);
            }),
            Self::DestinationNat(version) => expression("nat", &|data| {
                let port = register(Field::Destination(*version).length() / 4);
                data.be32(NFTA_NAT_TYPE, libc::NFT_NAT_DNAT as u32)
                    .be32(NFTA_NAT_FAMILY, version.number() as u32)
                    .be32(NFTA_NAT_REG_ADDR_MIN, FIRST_REGISTER)
                    .be32(NFTA_NAT_REG_PROTO_MIN, port);
            }),
            Self::Masquerade => expression("masq", &|_| {}),
            Self::Counter => expression("counter", &|data| {
                data.bytes(NFTA_COUNTER_BYTES, &[0; 8]).bytes(NFTA_COUNTER_PACKETS, &[0; 8]);
            }),
            Self::Extension { name, revision, info } => expression("match", &|data| {
                data.text(NFTA_MATCH_NAME, name).be32(NFTA_MATCH_REV, *revision).bytes(NFTA_MATCH_INFO, info);
            }),
        }
    }
}

impl Field {
    fn location(self) -> Location {
        let network = |offset| Location::Payload(libc::NFT_PAYLOAD_NETWORK_HEADER, offset);
        match self {
            Self::Source(Version::V4) => network(12),
            Self::Destination(Version::V4) => network(16),
            Self::Source(Version::V6) => network(8),
            Self::Destination(Version::V6) => network(24),
            Self::EthernetSource => Location::Payload(libc::NFT_PAYLOAD_LL_HEADER, 6),
            Self::DestinationPort => Location::Payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2),
            Self::InputInterface => Location::Meta(libc::NFT_META_IIFNAME),
            Self::OutputInterface => Location::Meta(libc::NFT_META_OIFNAME),
            Self::Transport => Location::Meta(libc::NFT_META_L4PROTO),
        }
    }

    /// How many bytes it has.
    pub(super) fn length(self) -> u32 {
        match self {
            Self::Source(Version::V4) | Self::Destination(Version::V4) => 4,
            Self::Source(Version::V6)
            | Self::Destination(Version::V6)
            | Self::InputInterface
            | Self::OutputInterface => 16,
            Self::EthernetSource => 6,
            Self::DestinationPort => 2,
            Self::Transport => 1,
        }
    }

    /// What `nft` calls its type, as a number that means something only to `nft`: what a set was declared with.
    pub(super) fn data_type(self) -> u32 {
        match self {
            Self::Source(Version::V4) | Self::Destination(Version::V4) => 7,
            Self::Source(Version::V6) | Self::Destination(Version::V6) => 8,
            Self::EthernetSource => 9,
            Self::Transport => 12,
            Self::DestinationPort => 13,
            Self::InputInterface | Self::OutputInterface => 41,
        }
    }
}

/// Where a field is.
enum Location {
    /// About the packet (`NFT_META_*`).
    Meta(i32),
    /// In which header, and how far into it (RFC 791, RFC 8200, RFC 9293, IEEE 802.3).
    Payload(i32, u32),
}

/// The number of the register that begins at a word: four long ones lie over sixteen short ones
/// (`enum nft_registers`), and `nft` uses a long one's number wherever it can.
fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { FIRST_REGISTER + word / 4 } else { libc::NFT_REG32_00 as u32 + word }
}

fn load_meta(data: &mut Attributes<'_>, key: i32, register: u32) {
    data.be32(NFTA_META_KEY, key as u32).be32(NFTA_META_DREG, register);
}

/// Writes `NFTA_DATA_VALUE`.
pub(super) fn value(nest: &mut Attributes<'_>, bytes: &[u8]) {
    nest.bytes(NFTA_DATA_VALUE, bytes);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Attributes' numbers (`linux/netfilter/nf_tables.h`).
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;
pub(super) const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_REV: u16 = 2;
pub(super) const NFTA_MATCH_INFO: u16 = 3;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_PAYLOAD_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(super) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(super) const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_CMP_SREG: u16 = 1;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
/// `NF_CT_STATE_BIT(…)` (`linux/netfilter/nf_conntrack_common.h`).
const CT_STATE_ESTABLISHED: u32 = 1 << 1;
const CT_STATE_RELATED: u32 = 1 << 2;
const NFT_CMP_EQ: u32 = libc::NFT_CMP_EQ as u32;
const NFT_CMP_NEQ: u32 = libc::NFT_CMP_NEQ as u32;
