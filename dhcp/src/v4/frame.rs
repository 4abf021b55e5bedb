//! Ethernet, IPv4 and UDP headers around a message.
//!
//! Reading never panics. Checksums of UDP are not looked at: where a frame never leaves the machine, the kernel leaves
//! them to hardware that it does not meet.

use std::net::Ipv4Addr;

use netops::MacAddr;

/// The port that clients listen on.
pub(crate) const CLIENT_PORT: u16 = 68;
/// The port that servers listen on.
const SERVER_PORT: u16 = 67;

/// Everybody on the segment.
pub(super) const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// A message on its way between a client and a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) source_mac: MacAddr,
    pub(super) target_mac: MacAddr,
    pub(super) source: Ipv4Addr,
    pub(super) target: Ipv4Addr,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A server's to a client; `None` if it is anything else, or only a part.
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
        let header_length = usize::from(packet.first()? & 0xf) * 4;
        let total = usize::from(number(packet, 2)?);
        // Behind a short packet there is padding.
        let (header, udp) = packet.get(..total)?.split_at_checked(header_length)?;
        let fragment = number(header, 6)? & 0x3fff;
        let is_udp4 = ethernet.get(12..14)? == ETHERTYPE_IPV4
            && header.first()? >> 4 == 4
            && header_length >= IPV4
            && *header.get(9)? == PROTOCOL_UDP
            && fragment == 0
            && checksum(header) == 0;
        let (ports, length) = ((number(udp, 0)?, number(udp, 2)?), usize::from(number(udp, 4)?));
        if !is_udp4 || ports != (SERVER_PORT, CLIENT_PORT) {
            return None;
        }
        Some(Self {
            target_mac: MacAddr::new(ethernet.get(..6)?.try_into().ok()?),
            source_mac: MacAddr::new(ethernet.get(6..12)?.try_into().ok()?),
            source: address(header, 12)?,
            target: address(header, 16)?,
            payload: udp.get(UDP..length)?,
        })
    }

    /// A client's to a server.
    pub(super) fn write(&self) -> Vec<u8> {
        let length = |headers: usize| -> [u8; 2] {
            // Messages have no more than a few hundred bytes.
            u16::try_from(headers + self.payload.len()).unwrap_or(u16::MAX).to_be_bytes()
        };
        let [total_high, total_low] = length(IPV4 + UDP);
        let mut header = [0_u8; IPV4];
        header[..10].copy_from_slice(&[0x45, 0x10, total_high, total_low, 0, 0, 0, 0, 64, PROTOCOL_UDP]);
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.target.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut udp = [CLIENT_PORT.to_be_bytes(), SERVER_PORT.to_be_bytes(), length(UDP), [0; 2]].concat();
        udp.extend(self.payload);
        let pseudo = [&header[12..20], &[0, PROTOCOL_UDP], &length(UDP), &udp].concat();
        // Zero would mean that there is none (RFC 768).
        let sum = Some(checksum(&pseudo)).filter(|sum| *sum != 0).unwrap_or(u16::MAX);
        udp[6..8].copy_from_slice(&sum.to_be_bytes());

        let ethernet = [&self.target_mac.bytes()[..], &self.source_mac.bytes(), &ETHERTYPE_IPV4].concat();
        [&ethernet[..], &header, &udp].concat()
    }
}

/// The Internet checksum (RFC 1071): zero over what includes a right one.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}
