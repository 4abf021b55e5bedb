//! The steps of rules, as the kernel executes them (`linux/netfilter/nf_tables.h`, `NFTA_EXPR_*`).

use crate::linux::netlink::Attributes;
pub(super) use crate::resource::IpVersion as Version;

/// The one that a step works on unless it says otherwise.
pub(super) const FIRST_REGISTER: u32 = libc::NFT_REG_1 as u32;

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
pub(super) enum Expression {
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
    /// The same, with a port that nobody can foresee, and that two connections at once do not both get.
    MasqueradeFullyRandom,
    /// Counts packets and bytes.
    Counter,
    /// What one of `iptables`' extensions matches.
    Extension { name: &'static str, revision: u32, info: Vec<u8> },
}

/// What is done with what a look-up finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Match,
    Mismatch,
    Verdict,
    Value,
}

impl Expression {
    /// Keeps some bits.
    pub(super) fn mask(mask: &[u8]) -> Self {
        Self::Bitwise { mask: mask.to_vec(), xor: vec![0; mask.len()] }
    }

    /// Writes a name and what belongs to it.
    pub(super) fn encode(&self, element: &mut Attributes<'_>) {
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
            Self::MasqueradeFullyRandom => expression("masq", &|data| {
                data.be32(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
            }),
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
pub(super) fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { FIRST_REGISTER + word / 4 } else { libc::NFT_REG32_00 as u32 + word }
}

fn load_meta(data: &mut Attributes<'_>, key: i32, register: u32) {
    data.be32(NFTA_META_KEY, key as u32).be32(NFTA_META_DREG, register);
}

/// Writes `NFTA_DATA_VALUE`.
pub(super) fn value(nest: &mut Attributes<'_>, bytes: &[u8]) {
    nest.bytes(NFTA_DATA_VALUE, bytes);
}

/// Attributes' numbers (`linux/netfilter/nf_tables.h`).
pub(super) const NFTA_LIST_ELEM: u16 = 1;
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
const NFTA_MASQ_FLAGS: u16 = 1;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
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
