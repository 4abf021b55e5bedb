//! A socket for whole Ethernet frames (`packet(7)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys;
use super::{Namespace, refused};
use crate::error::{Error, Operation};
use crate::place::Place;

/// Frames of one interface: those that carry IPv4 UDP datagrams to one port, or all of them; and whatever is sent.
///
/// For those who must speak before the interface has an address (DHCP), and for those who watch. The kernel drops every
/// other frame before it reaches the socket, so that a busy interface wakes nobody. Reading and writing do not block.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one in a container's namespace, on the interface of an index.
    ///
    /// # Errors
    /// As the kernel's; it takes `CAP_NET_RAW` there.
    #[doc(alias = "AF_PACKET")]
    pub fn open_udp4(namespace: &Namespace, link: u32, port: u16) -> Result<Self, Error> {
        Self::open(namespace, link, ETH_P_IP, &udp4_to(port))
    }

    /// Opens one in a container's namespace that gets every frame of the interface of an index, in both directions.
    ///
    /// # Errors
    /// As [`open_udp4`](Self::open_udp4).
    pub fn open_all(namespace: &Namespace, link: u32) -> Result<Self, Error> {
        Self::open(namespace, link, ETH_P_ALL, &[whole()])
    }

    fn open(
        namespace: &Namespace,
        link: u32,
        protocol: u16,
        filter: &[libc::sock_filter],
    ) -> Result<Self, Error> {
        let opened = namespace.enter(|| sys::packet_socket(link, protocol, filter))?;
        opened.map(Self).map_err(|errno: nix::errno::Errno| {
            refused(Operation::Open, Place::Container, "packet socket", errno.into())
        })
    }

    /// Sends a frame, header and all.
    ///
    /// # Errors
    /// As the kernel's.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.0, frame)?;
        Ok(())
    }

    /// Receives a frame, cut off where the buffer ends. Returns its length.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is none; else as the kernel's.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.0, buffer)?)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `if_ether.h`
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ALL: u16 = 0x0003;
/// An Ethernet header's bytes.
const ETHERNET: u32 = 14;

/// Classic BPF: whole or first-fragment IPv4 UDP datagrams to a port.
fn udp4_to(port: u16) -> [libc::sock_filter; 9] {
    const UDP: u32 = 17;
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    let load = |size: u32, mode: u32, at: u32| instruction(libc::BPF_LD | size | mode, 0, 0, at);
    let jump = |test: u32, value: u32, if_true: u8, if_false: u8| {
        instruction(libc::BPF_JMP | test | libc::BPF_K, if_true, if_false, value)
    };
    [
        load(libc::BPF_B, libc::BPF_ABS, ETHERNET + 9),
        jump(libc::BPF_JEQ, UDP, 0, 5),
        load(libc::BPF_H, libc::BPF_ABS, ETHERNET + 6),
        jump(libc::BPF_JSET, FRAGMENT_OFFSET, 3, 0),
        // X = the IPv4 header's length
        instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, ETHERNET),
        load(libc::BPF_H, libc::BPF_IND, ETHERNET + 2),
        jump(libc::BPF_JEQ, port.into(), 1, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        whole(),
    ]
}

/// Classic BPF: the frame is taken as it is.
fn whole() -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    // Every code there is fits into 16 bits (linux/bpf_common.h).
    libc::sock_filter { code: code as u16, jt, jf, k }
}
