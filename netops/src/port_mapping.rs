//! Ports of the node that lead into containers, as values.

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::name::{LinkName, Mark};
use crate::ruleset;

/// Destination NAT for what comes to a port of the node.
///
/// Elements of maps in cnikit's own nf_tables table: a new connection costs a few look-ups, however many ports there are.
/// What conntrack remembers goes along: with a UDP mapping's beginning, that the port led elsewhere; with any mapping's
/// end, that it led there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// The node's port; at most one mapping each.
    pub port: HostPort,
    /// The container's address and port.
    pub to: SocketAddr,
    /// Whose connections through it take the node's address; `None`: nobody's.
    pub masquerade: Option<PortMasquerade>,
    /// What a connection must be like, all of it.
    pub conditions: Vec<Condition>,
    /// Who owns it.
    pub mark: Mark,
}

/// A port of the node, as it is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The protocol.
    pub transport: Transport,
    /// The node's address, and the port. `0.0.0.0` is any IPv4 address of the node, and `::` any IPv6 address.
    pub address: SocketAddr,
    /// It counts only as long as nobody else's mapping of the same port does: a container that publishes its ports in
    /// two networks holds them through the other when it leaves the one.
    pub spare: bool,
}

/// Protocols with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
    /// SCTP (RFC 9260).
    Sctp,
}

/// Source NAT for some of what goes through a mapped port, so that answers come back by way of the node. Such connections
/// carry a bit of the packet mark from where their destination is changed to where their source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortMasquerade {
    /// From where a connection comes that is masqueraded, besides the node's loopback addresses (IPv4).
    pub from: IpNet,
    /// The bit's number, 0 to 31.
    pub bit: u8,
}

/// Something that must be so of a connection, or must not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition {
    /// What.
    pub what: Aspect,
    /// It must not be so.
    pub inverted: bool,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Aspect {
    /// The source is within a prefix.
    Source(IpNet),
    /// The destination, one of the node's own addresses, is within a prefix.
    Destination(IpNet),
    /// It comes in by an interface. What the node itself sends comes in by none.
    Interface(LinkName),
}

impl Transport {
    /// Every protocol.
    pub const ALL: &'static [Self] = &[Self::Tcp, Self::Udp, Self::Sctp];

    /// Its number (`IPPROTO_*`).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
            Self::Sctp => libc::IPPROTO_SCTP as u8,
        }
    }
}

impl HostPort {
    /// Whether any of the node's addresses will do.
    pub(crate) fn is_any(&self) -> bool {
        self.address.ip().is_unspecified()
    }
}

impl PortMapping {
    /// What it says of its port, by name.
    pub(crate) fn properties(&self) -> Vec<(&'static str, String)> {
        let masquerade = match self.masquerade {
            Some(PortMasquerade { from, bit }) => format!("from {} by bit {bit}", from.trunc()),
            None => "none".to_owned(),
        };
        let conditions: Vec<_> =
            self.conditions.iter().map(|condition| condition.kept().to_string()).collect();
        vec![
            ("target", self.to.to_string()),
            ("masquerading", masquerade),
            ("conditions", if conditions.is_empty() { "none".to_owned() } else { conditions.join(", ") }),
        ]
    }

    /// Why it makes no sense, if it does not.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let is_ipv4 = self.port.address.is_ipv4();
        let differs = |net: &IpNet| net.addr().is_ipv4() != is_ipv4;
        let of_condition = |condition: &Condition| match &condition.what {
            Aspect::Source(net) | Aspect::Destination(net) => differs(net),
            Aspect::Interface(_) => false,
        };
        if self.to.is_ipv4() != is_ipv4
            || self.masquerade.is_some_and(|masquerade| differs(&masquerade.from))
            || self.conditions.iter().any(of_condition)
        {
            return Some("the addresses are of different versions of IP");
        }
        if self.masquerade.is_some_and(|masquerade| masquerade.bit > 31) {
            return Some("a mark has the bits 0 to 31");
        }
        (ruleset::port_chain(self).len() > ruleset::LONGEST_NAME).then_some("that is too many conditions")
    }

    /// The same mapping as the kernel keeps it.
    #[cfg(feature = "testing")]
    pub(crate) fn kept(&self) -> Self {
        let masquerade =
            self.masquerade.map(|masquerade| PortMasquerade { from: masquerade.from.trunc(), ..masquerade });
        let conditions = self.conditions.iter().map(Condition::kept).collect();
        Self { masquerade, conditions, ..self.clone() }
    }
}

impl Condition {
    /// The same condition without bits that do not count.
    pub(crate) fn kept(&self) -> Self {
        let what = match &self.what {
            Aspect::Source(net) => Aspect::Source(net.trunc()),
            Aspect::Destination(net) => Aspect::Destination(net.trunc()),
            Aspect::Interface(name) => Aspect::Interface(name.clone()),
        };
        Self { what, inverted: self.inverted }
    }
}

/// As `nft` has it: `tcp`.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// As errors name it: `port 0.0.0.0:8080/tcp`.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spare = if self.spare { " (spare)" } else { "" };
        write!(f, "port {}/{}{spare}", self.address, self.transport)
    }
}

/// As `nft` has it: `ip saddr != 10.0.0.0/8`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.inverted { "!= " } else { "" };
        let ip = |net: &IpNet| if net.addr().is_ipv4() { "ip" } else { "ip6" };
        match &self.what {
            Aspect::Source(net) => write!(f, "{} saddr {operator}{net}", ip(net)),
            Aspect::Destination(net) => write!(f, "{} daddr {operator}{net}", ip(net)),
            Aspect::Interface(name) => write!(f, "iifname {operator}\"{name}\""),
        }
    }
}
