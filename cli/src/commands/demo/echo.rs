//! ICMP echo messages as bytes: RFC 792 for IPv4, RFC 4443 for IPv6.
//!
//! Reading never panics, whatever the bytes are.

use std::net::IpAddr;

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// What follows the header in a request: enough to see it in a packet dump.
const PAYLOAD: &[u8; 16] = b"cnikit demo echo";

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The ICMP type of an echo request and that of its reply.
    const fn types(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }
}

/// What tells one echo from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) identifier: u16,
    pub(super) sequence: u16,
}

/// A message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Request(Echo),
    Reply(Echo),
}

impl Echo {
    /// The request, as it is written to a raw socket. The checksum of IPv6 covers addresses that only the kernel
    /// knows; it fills it in (RFC 3542, section 3.1).
    pub(super) fn request(self, family: Family) -> Vec<u8> {
        let mut message = vec![family.types().0, 0, 0, 0];
        message.extend(self.identifier.to_be_bytes());
        message.extend(self.sequence.to_be_bytes());
        message.extend(PAYLOAD);
        if family == Family::V4 {
            let sum = checksum(&message);
            message.splice(2..4, sum.to_be_bytes());
        }
        message
    }
}

impl Message {
    /// Reads what a raw socket received: with IPv4's header, without IPv6's (`raw(7)`; RFC 3542, section 3).
    ///
    /// `None`: it is no echo message, or damaged.
    pub(super) fn parse(family: Family, packet: &[u8]) -> Option<Self> {
        let message = match family {
            Family::V4 => after_ipv4_header(packet)?,
            Family::V6 => packet,
        };
        let [kind, 0, _, _, i, d, s, q, ..] = *message else { return None };
        // The kernel has verified ICMPv6's. With its own checksum in it, the sum of a whole message is 0.
        if family == Family::V4 && checksum(message) != 0 {
            return None;
        }
        let echo = Echo { identifier: u16::from_be_bytes([i, d]), sequence: u16::from_be_bytes([s, q]) };
        match family.types() {
            (request, _) if kind == request => Some(Self::Request(echo)),
            (_, reply) if kind == reply => Some(Self::Reply(echo)),
            _ => None,
        }
    }
}

fn after_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let words = usize::from(first & 0x0f);
    if first >> 4 != 4 || words < 5 {
        return None;
    }
    packet.get(words * 4..).filter(|message| message.len() >= HEADER)
}

/// The Internet checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|word| match *word {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        // An odd byte counts as if a zero followed.
        [high] => u64::from(high) << 8,
        _ => 0,
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 0xffff by now.
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECHO: Echo = Echo { identifier: 0x1234, sequence: 7 };

    fn ipv4(header_words: u8, message: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; usize::from(header_words) * 4];
        packet[0] = 0x40 | header_words;
        packet.extend(message);
        packet
    }

    /// What the other side answers: the request with another type, and the checksum that belongs to it.
    fn reply(family: Family) -> Vec<u8> {
        let mut message = ECHO.request(family);
        message[0] = family.types().1;
        message[2..4].fill(0);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    #[test]
    fn the_checksum_is_that_of_the_rfcs_example() {
        // RFC 1071, section 3: the sum of these is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xab]), !0xab00);
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn a_message_with_its_checksum_sums_up_to_nothing() {
        let message = ECHO.request(Family::V4);
        assert_eq!(checksum(&message), 0);
        assert_eq!(message[..2], [8, 0]);
        assert_eq!(ECHO.request(Family::V6)[..4], [128, 0, 0, 0], "ICMPv6's is the kernel's to fill in");
    }

    #[test]
    fn requests_and_replies_are_told_apart() {
        for (family, packet) in [
            (Family::V4, ipv4(5, &ECHO.request(Family::V4))),
            (Family::V4, ipv4(15, &ECHO.request(Family::V4))),
            (Family::V6, ECHO.request(Family::V6)),
        ] {
            assert_eq!(Message::parse(family, &packet), Some(Message::Request(ECHO)));
        }
        assert_eq!(Message::parse(Family::V4, &ipv4(5, &reply(Family::V4))), Some(Message::Reply(ECHO)));
        assert_eq!(Message::parse(Family::V6, &reply(Family::V6)), Some(Message::Reply(ECHO)));
    }

    #[test]
    fn damaged_and_foreign_messages_are_none() {
        let good = ipv4(5, &reply(Family::V4));
        for at in 20..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(Message::parse(Family::V4, &bad), None, "byte {at}");
        }
        assert_eq!(Message::parse(Family::V4, &good[..27]), None, "cut off");
        assert_eq!(Message::parse(Family::V4, &ipv4(4, &reply(Family::V4))), None, "header of 16 bytes");
        assert_eq!(Message::parse(Family::V4, &reply(Family::V4)), None, "no header");
        // A destination is unreachable, and a neighbour solicitation.
        let mut other = reply(Family::V6);
        for kind in [1, 135, 0, 8] {
            other[0] = kind;
            assert_eq!(Message::parse(Family::V6, &other), None, "type {kind}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::parse(Family::V4, &bytes);
            let _ = Message::parse(Family::V6, &bytes);
        }

        #[test]
        fn what_is_written_is_read(identifier: u16, sequence: u16) {
            let echo = Echo { identifier, sequence };
            let packet = ipv4(5, &echo.request(Family::V4));
            prop_assert_eq!(Message::parse(Family::V4, &packet), Some(Message::Request(echo)));
            prop_assert_eq!(Message::parse(Family::V6, &echo.request(Family::V6)), Some(Message::Request(echo)));
        }
    }
}
