use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A run of consecutive addresses of one subnet from which containers are given theirs, with the subnet's gateway.
///
/// Made only by [`Range::new`], so that a `Range` always holds at least one address that can be handed out.
/// Defaults are host-local's:
///
/// | subnet | first | last | gateway |
/// | --- | --- | --- | --- |
/// | IPv4 up to `/30` | network + 1 | broadcast − 1 | network + 1 |
/// | IPv6 up to `/126` | network + 1 | last address | network + 1 |
/// | `/31`, `/127` | network | last address | none |
/// | `/32`, `/128` | the address | the address | none |
///
/// The network address and the IPv4 broadcast address are never handed out, even if the configured `start` or `end`
/// name them (host-local does hand them out then); nor is the IPv6 subnet-router anycast address
/// ([RFC 4291, section 2.6.1](https://www.rfc-editor.org/rfc/rfc4291#section-2.6.1)), which is the same as the
/// network address.
///
/// host-local refuses prefixes longer than `/30` and `/126`. They have a meaning, though: both addresses of a `/31`
/// ([RFC 3021](https://www.rfc-editor.org/rfc/rfc3021)) or a `/127`
/// ([RFC 6164](https://www.rfc-editor.org/rfc/rfc6164)) are hosts on a point-to-point link, and a `/32` or `/128` is a
/// fixed address that is routed to. So they are accepted; since there is no room for a gateway by convention, there is
/// one only if it is configured, and a `/32` or `/128` cannot have any.
///
/// ```
/// # fn main() -> Result<(), ipam::RangeError> {
/// let range = ipam::Range::new("10.1.2.0/24".parse().unwrap(), None, None, None)?;
/// assert_eq!(range.to_string(), "10.1.2.1-10.1.2.254");
/// assert_eq!(range.gateway(), Some("10.1.2.1".parse().unwrap()));
/// assert_eq!(range.capacity(), 253); // the gateway is nobody's lease
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    gateway: Option<IpAddr>,
    beginning: IpAddr,
}

impl Range {
    /// Parses a range from its configuration (`subnet`, `rangeStart`, `rangeEnd`, `gateway`).
    ///
    /// IPv4-mapped IPv6 addresses (`::ffff:10.0.0.1`) in `start`, `end` and `gateway` are taken as the IPv4 address
    /// that they are.
    ///
    /// # Errors
    ///
    /// Every contradiction in the configuration, see [`RangeError`].
    pub fn new(
        subnet: IpNet,
        start: Option<IpAddr>,
        end: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Self, RangeError> {
        if subnet.addr() != subnet.network() {
            return Err(RangeError::HostBits { subnet });
        }
        if let IpNet::V6(net) = subnet
            && (net.contains(&MAPPED_BLOCK) || net.network().to_ipv4_mapped().is_some())
        {
            return Err(RangeError::MappedSubnet { subnet });
        }
        let inside = |address: IpAddr, role: Role| {
            let address = address.to_canonical();
            if subnet.contains(&address) {
                Ok(address)
            } else {
                Err(RangeError::OutsideSubnet { subnet, address, role })
            }
        };

        let network = Bits::from(subnet.network());
        let top = Bits::from(subnet.broadcast());
        let spare = subnet.max_prefix_len() - subnet.prefix_len();
        let (lowest, highest) = match (subnet, spare) {
            (_, 0 | 1) => (network, top),
            (IpNet::V4(_), _) => (network.plus(1), top.minus(1)),
            (IpNet::V6(_), _) => (network.plus(1), top),
        };

        let gateway = match gateway {
            Some(gateway) => Some(inside(gateway, Role::Gateway)?),
            None if spare < 2 => None,
            None => Some(lowest.address()),
        };
        let start = start.map(|start| inside(start, Role::Start)).transpose()?;
        let end = end.map(|end| inside(end, Role::End)).transpose()?;
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(RangeError::EndBeforeStart { start, end });
        }
        let first = start.map_or(lowest, |start| Bits::from(start).max(lowest));
        let last = end.map_or(highest, |end| Bits::from(end).min(highest));

        let beginning = first.address();
        let range = Self { subnet, first: beginning, last: last.address(), gateway, beginning };
        if first > last || range.capacity() == 0 {
            return Err(RangeError::Empty { subnet });
        }
        Ok(range)
    }

    /// The same range, whose addresses are handed out from another one than its first, as long as none was before; those
    /// below come when it is round. Where two nodes may come to have one subnet for a while, they have fewer addresses in
    /// common if each begins elsewhere.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let range = ipam::Range::new("10.1.2.0/24".parse()?, None, None, None)?.beginning_at("10.1.2.254".parse()?)?;
    /// let set = ipam::RangeSet::new(vec![range])?;
    /// let first: Vec<_> = set.candidates(None).take(2).map(|address| address.to_string()).collect();
    /// assert_eq!(first, ["10.1.2.254", "10.1.2.2"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the address is not in the subnet. One of the subnet that the range cannot hand out stands for the next that it
    /// can.
    pub fn beginning_at(self, address: IpAddr) -> Result<Self, RangeError> {
        let (subnet, address) = (self.subnet, address.to_canonical());
        if !subnet.contains(&address) {
            return Err(RangeError::OutsideSubnet { subnet, address, role: Role::Beginning });
        }
        let beginning = if self.contains(address) { address } else { self.first };
        Ok(Self { beginning, ..self })
    }

    /// The subnet whose prefix length the container's address gets.
    #[must_use]
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The first address that may be handed out (unless it is the gateway).
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address that may be handed out, inclusive (unless it is the gateway).
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The gateway of the subnet. It need not lie between [`first`](Self::first) and [`last`](Self::last), and is
    /// never handed out.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// Whether the address lies between first and last, inclusive.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// How many addresses can be handed out: those from first to last but the gateway. Saturates at [`u128::MAX`].
    #[must_use]
    pub fn capacity(&self) -> u128 {
        let span = Bits::from(self.last).distance(Bits::from(self.first)).saturating_add(1);
        span - u128::from(self.gateway.is_some_and(|gateway| self.contains(gateway)))
    }

    /// The inclusive runs of all its addresses, in the order in which they are handed out if none was before.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Bits, Bits)> + use<> {
        let (low, begin, high) = (Bits::from(self.first), Bits::from(self.beginning), Bits::from(self.last));
        let round = (low < begin).then(|| (low, begin.minus(1)));
        std::iter::once((begin, high)).chain(round)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Any address of `::ffff:0:0/96`: a subnet that holds it holds the block, or lies inside it.
const MAPPED_BLOCK: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);

/// What in the configuration of a [`Range`] contradicts the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// The subnet is written with an address in it that is not its network address (`10.1.2.3/24`).
    HostBits {
        /// As it was configured.
        subnet: IpNet,
    },
    /// The subnet touches `::ffff:0:0/96`, whose addresses are IPv4's: a lease in it would be ambiguous.
    MappedSubnet {
        /// As it was configured.
        subnet: IpNet,
    },
    /// The start, end or gateway is not in the subnet (perhaps of the other family).
    OutsideSubnet {
        /// The subnet.
        subnet: IpNet,
        /// The address that is not in it.
        address: IpAddr,
        /// What the address was to be.
        role: Role,
    },
    /// The start is above the end.
    EndBeforeStart {
        /// The configured start.
        start: IpAddr,
        /// The configured end.
        end: IpAddr,
    },
    /// Without the network address, the broadcast address and the gateway nothing is left to hand out.
    Empty {
        /// The subnet.
        subnet: IpNet,
    },
}

/// Which address of a [`Range`]'s configuration an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `rangeStart`
    Start,
    /// `rangeEnd`
    End,
    /// `gateway`
    Gateway,
    /// Where allocation begins.
    Beginning,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "rangeStart",
            Self::End => "rangeEnd",
            Self::Gateway => "gateway",
            Self::Beginning => "the beginning",
        })
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostBits { subnet } => {
                write!(f, "subnet {subnet} has host bits set; its network address is {}", subnet.network())
            }
            Self::MappedSubnet { subnet } => write!(
                f,
                "subnet {subnet} holds IPv4-mapped addresses (::ffff:0:0/96); write it as an IPv4 subnet"
            ),
            Self::OutsideSubnet { subnet, address, role } => {
                write!(f, "{role} {address} is not in subnet {subnet}")
            }
            Self::EndBeforeStart { start, end } => write!(f, "rangeEnd {end} is before rangeStart {start}"),
            Self::Empty { subnet } => write!(
                f,
                "no address of subnet {subnet} can be handed out: network, broadcast and gateway are excluded"
            ),
        }
    }
}

impl std::error::Error for RangeError {}

/// An address as a number that remembers its family, for the arithmetic of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bits {
    V4(u32),
    V6(u128),
}

impl Bits {
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::V4(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            Self::V6(bits) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }

    /// The address `step` above, or the family's last one.
    pub(crate) fn plus(self, step: u32) -> Self {
        match self {
            Self::V4(bits) => Self::V4(bits.saturating_add(step)),
            Self::V6(bits) => Self::V6(bits.saturating_add(step.into())),
        }
    }

    /// The address `step` below, or the family's first one.
    pub(crate) fn minus(self, step: u32) -> Self {
        match self {
            Self::V4(bits) => Self::V4(bits.saturating_sub(step)),
            Self::V6(bits) => Self::V6(bits.saturating_sub(step.into())),
        }
    }

    /// How far `self` is above `lower`; 0 if it is not.
    fn distance(self, lower: Self) -> u128 {
        match (self, lower) {
            (Self::V4(high), Self::V4(low)) => high.saturating_sub(low).into(),
            (Self::V6(high), Self::V6(low)) => high.saturating_sub(low),
            _ => 0,
        }
    }
}

impl From<IpAddr> for Bits {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(address.to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(subnet: &str, start: &str, end: &str, gateway: &str) -> Result<Range, RangeError> {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Range::new(subnet.parse().unwrap(), address(start), address(end), address(gateway))
    }

    #[test]
    fn defaults_are_those_of_host_local() {
        let cases = [
            ("10.1.2.0/24", "10.1.2.1-10.1.2.254", "10.1.2.1", 253),
            ("10.1.2.4/30", "10.1.2.5-10.1.2.6", "10.1.2.5", 1),
            ("fd00::/64", "fd00::1-fd00::ffff:ffff:ffff:ffff", "fd00::1", u128::from(u64::MAX) - 1),
            ("fd00::4/126", "fd00::5-fd00::7", "fd00::5", 2),
        ];
        for (subnet, text, gateway, capacity) in cases {
            let range = parse(subnet, "", "", "").unwrap();
            assert_eq!(range.to_string(), text);
            assert_eq!(range.gateway(), Some(gateway.parse().unwrap()));
            assert_eq!(range.capacity(), capacity, "{subnet}");
        }
    }

    #[test]
    fn point_to_point_and_single_address_subnets_have_no_gateway_by_convention() {
        for (subnet, text, capacity) in [
            ("10.1.2.4/31", "10.1.2.4-10.1.2.5", 2),
            ("10.1.2.4/32", "10.1.2.4-10.1.2.4", 1),
            ("fd00::4/127", "fd00::4-fd00::5", 2),
            ("fd00::4/128", "fd00::4-fd00::4", 1),
        ] {
            let range = parse(subnet, "", "", "").unwrap();
            assert_eq!(
                (range.to_string().as_str(), range.gateway(), range.capacity()),
                (text, None, capacity)
            );
        }
        let range = parse("10.1.2.4/31", "", "", "10.1.2.4").unwrap();
        assert_eq!(range.capacity(), 1);
    }

    #[test]
    fn network_and_broadcast_addresses_are_cut_off() {
        let whole = parse("10.1.2.0/24", "10.1.2.0", "10.1.2.255", "").unwrap();
        assert_eq!(whole.to_string(), "10.1.2.1-10.1.2.254");
        let whole = parse("fd00::/120", "fd00::", "fd00::ff", "").unwrap();
        assert_eq!(whole.to_string(), "fd00::1-fd00::ff");
        for (start, end) in [("10.1.2.0", "10.1.2.0"), ("10.1.2.255", "10.1.2.255")] {
            assert!(matches!(parse("10.1.2.0/24", start, end, ""), Err(RangeError::Empty { .. })));
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_end_of_the_arithmetic() {
        assert_eq!(parse("255.255.255.255/32", "", "", "").unwrap().capacity(), 1);
        assert_eq!(parse("0.0.0.0/0", "", "", "").unwrap().capacity(), u128::from(u32::MAX) - 2);
        let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128";
        assert_eq!(parse(top, "", "", "").unwrap().capacity(), 1);
        assert_eq!(parse("8000::/1", "", "", "").unwrap().capacity(), (1 << 127) - 2);
    }

    #[test]
    fn contradictions_are_refused_with_what_contradicts() {
        let cases = [
            (
                "10.1.2.3/24",
                "",
                "",
                "",
                "subnet 10.1.2.3/24 has host bits set; its network address is 10.1.2.0",
            ),
            ("10.1.2.0/24", "10.1.3.1", "", "", "rangeStart 10.1.3.1 is not in subnet 10.1.2.0/24"),
            ("10.1.2.0/24", "", "fd00::1", "", "rangeEnd fd00::1 is not in subnet 10.1.2.0/24"),
            ("10.1.2.0/24", "", "", "10.1.3.1", "gateway 10.1.3.1 is not in subnet 10.1.2.0/24"),
            ("10.1.2.0/24", "10.1.2.9", "10.1.2.8", "", "rangeEnd 10.1.2.8 is before rangeStart 10.1.2.9"),
            (
                "10.1.2.9/32",
                "",
                "",
                "10.1.2.9",
                "no address of subnet 10.1.2.9/32 can be handed out: network, broadcast and gateway are excluded",
            ),
            (
                "::ffff:10.1.2.0/120",
                "",
                "",
                "",
                "subnet ::ffff:10.1.2.0/120 holds IPv4-mapped addresses (::ffff:0:0/96); write it as an IPv4 subnet",
            ),
        ];
        for (subnet, start, end, gateway, text) in cases {
            assert_eq!(parse(subnet, start, end, gateway).unwrap_err().to_string(), text);
        }
        assert!(matches!(parse("::/0", "", "", ""), Err(RangeError::MappedSubnet { .. })));
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_addresses_that_they_are() {
        let range = parse("10.1.2.0/24", "::ffff:10.1.2.10", "", "::ffff:10.1.2.9").unwrap();
        assert_eq!(range, parse("10.1.2.0/24", "10.1.2.10", "", "10.1.2.9").unwrap());
    }
}
