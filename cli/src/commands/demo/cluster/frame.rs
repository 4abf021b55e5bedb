//! An Ethernet frame, taken apart from the outside in: what a tunnel puts around a packet can be seen.
//!
//! Reading never panics, whatever the bytes are. What is cut off, or not known, ends the list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netops::MacAddr;
use serde::Serialize;

use super::super::echo::Family;

/// The UDP port that is a tunnel's (RFC 7348).
const VXLAN: u16 = 4789;
/// A tunnel in a tunnel is no more than that: an end to it.
const DEEPEST: usize = 12;

/// One header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub(super) enum Layer {
    #[serde(rename = "Ethernet")]
    Ethernet {
        #[serde(serialize_with = "text")]
        from: MacAddr,
        #[serde(serialize_with = "text")]
        to: MacAddr,
    },
    #[serde(rename = "IP")]
    Ip { from: IpAddr, to: IpAddr, hops: u8 },
    #[serde(rename = "UDP")]
    Udp { from: u16, to: u16 },
    #[serde(rename = "VXLAN")]
    Vxlan { network: u32 },
    #[serde(rename = "ICMP")]
    EchoRequest { sequence: u16 },
}

fn text<S: serde::Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}

impl Layer {
    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ethernet { .. } => 14,
            Self::Ip { from: IpAddr::V4(_), .. } => 20,
            Self::Ip { from: IpAddr::V6(_), .. } => 40,
            Self::Udp { .. } | Self::Vxlan { .. } | Self::EchoRequest { .. } => 8,
        }
    }
}

/// Takes a frame apart.
pub(super) fn layers(frame: &[u8]) -> Vec<Layer> {
    let mut layers = Vec::new();
    ethernet(frame, &mut layers);
    layers
}

/// Whether a frame carries, wrapped or not, an echo request from one address to another.
pub(super) fn is_request(layers: &[Layer], source: IpAddr, destination: IpAddr) -> bool {
    let innermost = layers.iter().rev().find(|layer| matches!(layer, Layer::Ip { .. }));
    let is_it =
        matches!(innermost, Some(Layer::Ip { from, to, .. }) if *from == source && *to == destination);
    is_it && matches!(layers.last(), Some(Layer::EchoRequest { .. }))
}

/// The nodes between which a frame goes that carries, wrapped, an agent's probe of the way.
pub(super) fn ends_of_probe(layers: &[Layer]) -> Option<(IpAddr, IpAddr)> {
    let is_wrapped = layers.iter().any(|layer| matches!(layer, Layer::Vxlan { .. }));
    let is_probe = matches!(layers.last(), Some(Layer::Udp { to: overlay::path::DEFAULT_PORT, .. }));
    match layers.get(1) {
        Some(Layer::Ip { from, to, .. }) if is_wrapped && is_probe => Some((*from, *to)),
        _ => None,
    }
}

fn ethernet(frame: &[u8], layers: &mut Vec<Layer>) {
    let Some((to, rest)) = frame.split_first_chunk::<6>() else { return };
    let Some((from, rest)) = rest.split_first_chunk::<6>() else { return };
    let Some((kind, payload)) = rest.split_first_chunk::<2>() else { return };
    layers.push(Layer::Ethernet { from: MacAddr::new(*from), to: MacAddr::new(*to) });
    match u16::from_be_bytes(*kind) {
        _ if layers.len() >= DEEPEST => {}
        0x0800 => ipv4(payload, layers),
        0x86dd => ipv6(payload, layers),
        _ => {}
    }
}

fn ipv4(packet: &[u8], layers: &mut Vec<Layer>) {
    let Some((header, _)) = packet.split_first_chunk::<20>() else { return };
    let [first, _, _, _, _, _, fragment, offset, hops, protocol, _, _, addresses @ ..] = *header;
    let length = usize::from(first & 0x0f) * 4;
    // A later part of a datagram has no header of its own.
    let is_first = fragment & 0x1f == 0 && offset == 0;
    let Some(payload) = packet.get(length..).filter(|_| first >> 4 == 4 && length >= 20 && is_first) else {
        return;
    };
    let [a, b, c, d, e, f, g, h] = addresses;
    let (from, to) = (Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into());
    layers.push(Layer::Ip { from, to, hops });
    transport(protocol, payload, Family::V4, layers);
}

fn ipv6(packet: &[u8], layers: &mut Vec<Layer>) {
    let Some((fixed, rest)) = packet.split_first_chunk::<8>() else { return };
    let Some((from, rest)) = rest.split_first_chunk::<16>() else { return };
    let Some((to, payload)) = rest.split_first_chunk::<16>() else { return };
    let [first, _, _, _, _, _, next, hops] = *fixed;
    if first >> 4 != 6 {
        return;
    }
    layers.push(Layer::Ip { from: Ipv6Addr::from(*from).into(), to: Ipv6Addr::from(*to).into(), hops });
    transport(next, payload, Family::V6, layers);
}

fn transport(protocol: u8, payload: &[u8], family: Family, layers: &mut Vec<Layer>) {
    let Some((header, payload)) = payload.split_first_chunk::<8>() else { return };
    let [a, b, c, d, _, _, e, f] = *header;
    let (request, icmp) = match family {
        Family::V4 => (8, 1),
        Family::V6 => (128, 58),
    };
    match protocol {
        17 => {
            let to = u16::from_be_bytes([c, d]);
            layers.push(Layer::Udp { from: u16::from_be_bytes([a, b]), to });
            if to == VXLAN {
                vxlan(payload, layers);
            }
        }
        _ if protocol == icmp && a == request => {
            layers.push(Layer::EchoRequest { sequence: u16::from_be_bytes([e, f]) });
        }
        _ => {}
    }
}

fn vxlan(datagram: &[u8], layers: &mut Vec<Layer>) {
    let Some((header, frame)) = datagram.split_first_chunk::<8>() else { return };
    let [flags, _, _, _, high, middle, low, _] = *header;
    // The network identifier is valid (RFC 7348, section 5).
    if flags & 0x08 == 0 {
        return;
    }
    layers.push(Layer::Vxlan { network: u32::from_be_bytes([0, high, middle, low]) });
    ethernet(frame, layers);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::echo::Echo;
    use super::*;

    fn mac(last: u8) -> [u8; 6] {
        [2, 0, 0, 0, 0, last]
    }

    fn in_ethernet(payload: &[u8]) -> Vec<u8> {
        [&mac(2)[..], &mac(1), &[0x08, 0x00], payload].concat()
    }

    fn in_ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 63, protocol, 0, 0];
        header.extend(from);
        header.extend(to);
        [&header, payload].concat()
    }

    fn ping() -> Vec<u8> {
        let request = Echo { identifier: 1, sequence: 7 }.request(Family::V4);
        in_ethernet(&in_ipv4(1, [10, 244, 1, 2], [10, 244, 2, 2], &request))
    }

    fn wrapped() -> Vec<u8> {
        let vxlan = [&[0x08, 0, 0, 0, 0, 0x10, 0, 0][..], &ping()].concat();
        let udp = [&40_000_u16.to_be_bytes()[..], &4789_u16.to_be_bytes(), &[0; 4], &vxlan].concat();
        in_ethernet(&in_ipv4(17, [192, 168, 1, 11], [192, 168, 1, 12], &udp))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_packet_in_a_tunnel_is_found_inside_of_another() {
        let ethernet = Layer::Ethernet { from: MacAddr::new(mac(1)), to: MacAddr::new(mac(2)) };
        let expected = [
            ethernet.clone(),
            Layer::Ip { from: address("192.168.1.11"), to: address("192.168.1.12"), hops: 63 },
            Layer::Udp { from: 40_000, to: 4789 },
            Layer::Vxlan { network: 4096 },
            ethernet,
            Layer::Ip { from: address("10.244.1.2"), to: address("10.244.2.2"), hops: 63 },
            Layer::EchoRequest { sequence: 7 },
        ];
        assert_eq!(layers(&wrapped()), expected);
        let around: usize = expected[..4].iter().map(Layer::bytes).sum();
        assert_eq!(wrapped().len() - ping().len(), around, "RFC 7348's 50 bytes");
    }

    #[test]
    fn it_is_the_innermost_packet_that_counts() {
        for frame in [ping(), wrapped()] {
            let layers = layers(&frame);
            assert!(is_request(&layers, address("10.244.1.2"), address("10.244.2.2")));
            assert!(!is_request(&layers, address("10.244.2.2"), address("10.244.1.2")));
            assert!(!is_request(&layers, address("192.168.1.11"), address("192.168.1.12")));
        }
    }

    #[test]
    fn what_is_cut_off_is_no_request() {
        let whole = wrapped();
        for length in 0..whole.len() - 24 {
            let layers = layers(&whole[..length]);
            assert!(!is_request(&layers, address("10.244.1.2"), address("10.244.2.2")), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = layers(&bytes);
        }

        #[test]
        fn nor_where_a_byte_is_another(at in 0_usize..90, byte: u8) {
            let mut frame = wrapped();
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            let _ = layers(&frame);
        }
    }
}
