//! A server's half of the frames.

use std::net::Ipv4Addr;

use netops::MacAddr;

use super::frame::{self, Frame};

/// What a client's frame carries.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    &frame[42..]
}

/// A message from a server, as it would arrive.
pub(crate) fn server_frame(server: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let source_mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
    let target = Ipv4Addr::BROADCAST;
    let mut bytes =
        Frame { source_mac, target_mac: frame::BROADCAST, source: server, target, payload }.write();
    // The other way round: ports are at the beginning of the UDP header.
    bytes[34..38].copy_from_slice(&[0, 67, 0, 68]);
    bytes
}
