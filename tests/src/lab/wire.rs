//! What is on a segment's cables, byte by byte.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use super::Lab;
use crate::node::Node;

/// Records all frames on a segment (packet(7)), each once for every cable that it takes.
#[derive(Debug)]
pub struct Tap(OwnedFd);

/// An IPv4 packet. What an offset leads beyond is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Packet(Vec<u8>);

impl Lab {
    /// Begins to record.
    pub fn tap(&self) -> Tap {
        Tap::of(&self.switch)
    }
}

impl Tap {
    /// Of all interfaces of a node.
    pub(super) fn of(node: &Node) -> Self {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let open = || socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        let socket = node.inside(open);
        // More than usual has room, if this user may have that.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20));
        Self(socket)
    }

    /// The IPv4 packets that were recorded since the last time.
    pub fn packets(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut frame = vec![0; 65536];
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            packets.extend(Packet::of_frame(&frame[..length]));
        }
        packets
    }
}

impl Packet {
    /// What an Ethernet frame carries, if that is IPv4.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let (header, packet) = frame.split_at_checked(14)?;
        let is_ipv4 = header[12..] == [8, 0] && packet.first() == Some(&0x45);
        // Short frames are filled up.
        let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        is_ipv4.then(|| packet.get(..length).map(|packet| Self(packet.to_vec())))?
    }

    /// Who has sent it.
    pub fn source(&self) -> Ipv4Addr {
        self.address(12)
    }

    /// For whom it is.
    pub fn destination(&self) -> Ipv4Addr {
        self.address(16)
    }

    /// The datagram in it: from where, to where, what; if it is one of UDP.
    pub fn datagram(&self) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
        let [from, to] = [self.number(20), self.number(22)];
        (self.0[9] == 17).then(|| {
            let (from, to) =
                (SocketAddrV4::new(self.source(), from), SocketAddrV4::new(self.destination(), to));
            (from, to, self.0.get(28..).unwrap_or_default())
        })
    }

    /// The checksum of the datagram in it, as it was sent: 0 if there is none.
    pub fn datagram_checksum(&self) -> u16 {
        self.number(26)
    }

    /// Whether the checksum of the TCP segment or UDP datagram in it is right (RFC 1071); one of UDP may be missing.
    pub fn is_intact(&self) -> bool {
        let protocol = self.0[9];
        let payload = &self.0[20..];
        if protocol == 17 && self.datagram_checksum() == 0 {
            return true;
        }
        let mut sum = u32::from(protocol) + u32::try_from(payload.len()).unwrap();
        for pair in self.0[12..20].chunks(2).chain(payload.chunks(2)) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    fn address(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::from(<[u8; 4]>::try_from(&self.0[at..at + 4]).unwrap())
    }

    fn number(&self, at: usize) -> u16 {
        self.0.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram of `dig`'s, as it was on a wire: 192.168.1.11 to 192.168.1.12, ports 7000 to 53, `hello`.
    fn frame(checksum: [u8; 2]) -> Vec<u8> {
        let mut frame = [[2; 12].as_slice(), &[8, 0]].concat();
        frame.extend([0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 1, 11, 192, 168, 1, 12]);
        frame.extend([0x1b, 0x58, 0, 53, 0, 13]);
        frame.extend(checksum);
        frame.extend(b"hello");
        frame.extend([0; 20]);
        frame
    }

    #[test]
    fn a_datagram_is_read_and_its_checksum_counts() {
        let packet = Packet::of_frame(&frame([0, 0])).unwrap();
        let (from, to, what) = packet.datagram().unwrap();
        assert_eq!(
            (from.to_string(), to.to_string()),
            ("192.168.1.11:7000".into(), "192.168.1.12:53".into())
        );
        assert_eq!(what, b"hello");
        let right = (0..=u16::MAX)
            .filter(|sum| *sum != 0 && Packet::of_frame(&frame(sum.to_be_bytes())).unwrap().is_intact());
        // Worked out by hand: the words of both addresses, 17 and twice 13, the ports and the text.
        let words = [0xc0a8, 0x010b, 0xc0a8, 0x010c, 17, 13, 0x1b58, 53, 13, 0x6865, 0x6c6c, 0x6f00];
        let sum = words.iter().sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        assert_eq!(right.collect::<Vec<_>>(), [!u16::try_from(folded).unwrap()]);
    }
}
