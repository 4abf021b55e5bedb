//! The least that a plugin `bridge` could do: the netlink messages that its result needs, and nothing else. No
//! configuration, no addresses to find, no looking, no undoing.
//!
//! ```text
//! floor add NETNS HOST-INTERFACE BRIDGE ADDRESS/LENGTH GATEWAY
//! floor del HOST-INTERFACE
//! ```
//!
//! `add` makes a cable with one queue in each direction, its host's end up and in the bridge, the other one in the namespace with an
//! address and a default route, up. `del` removes it, and ends when its name is gone. What the kernel charges for that is
//! what nobody can go below.

#![allow(clippy::expect_used)] // it has nobody to tell
#![cfg_attr(target_env = "gnu", no_main)]

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_timerslack;
use nix::unistd::{ForkResult, setsid};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x600;
const UP: u32 = 1;

/// Without what a Rust program's own start does beside, as plugins are (`cli/src/start.rs`).
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the name is the C library's, and nothing else here has it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    run();
    0
}

#[cfg(not(target_env = "gnu"))]
fn main() {
    run();
}

fn run() {
    // A look is due when it is due, not fifty microseconds later.
    let _ = set_timerslack(1);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["add", netns, host, bridge, address, gateway] => add(netns, host, bridge, address, gateway),
        ["del", host] => del(host),
        _ => {
            eprintln!(
                "floor add NETNS HOST-INTERFACE BRIDGE ADDRESS/LENGTH GATEWAY, or floor del HOST-INTERFACE"
            );
            std::process::exit(2);
        }
    }
}

fn add(netns: &str, host: &str, bridge: &str, address: &str, gateway: &str) {
    let (address, length) = address.split_once('/').expect("ADDRESS/LENGTH");
    let address: Ipv4Addr = address.parse().expect("an address");
    let gateway: Ipv4Addr = gateway.parse().expect("a gateway");
    let there = File::open(netns).expect("the namespace");
    let bridge = if_nametoindex(bridge).expect("the bridge");

    let mut cable = Message::new(NEWLINK, REQUEST | ACK | CREATE);
    cable.link(0, UP);
    cable.attribute(3, &text(host)).attribute(10, &bridge.to_ne_bytes());
    cable.queues();
    cable.nest(18, |info| {
        info.attribute(1, b"veth").nest(2, |data| {
            data.nest(1, |peer| {
                peer.link(0, 0);
                peer.attribute(3, &text("eth0")).attribute(28, &there.as_raw_fd().to_ne_bytes());
                peer.queues();
            });
        });
    });
    exchange(&socket(), cable);

    setns(&there, CloneFlags::CLONE_NEWNET).expect("to enter the namespace");
    let inside = socket();
    let eth0 = if_nametoindex("eth0").expect("the interface");
    let mut all = Message::new(NEWADDR, REQUEST | CREATE);
    all.bytes.extend([2, length.parse().expect("a length"), 0, 0]);
    all.bytes.extend(eth0.to_ne_bytes());
    all.attribute(2, &address.octets()).attribute(1, &address.octets());
    let mut up = Message::new(NEWLINK, REQUEST);
    up.link(eth0, UP);
    let mut route = Message::new(NEWROUTE, REQUEST | ACK | CREATE);
    route.bytes.extend([2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
    route.attribute(5, &gateway.octets()).attribute(4, &eth0.to_ne_bytes());
    exchange(&inside, all.and(up).and(route));
}

/// The kernel goes on for 20 ms after the name is gone: that is left to a child.
fn del(host: &str) {
    let index = if_nametoindex(host).expect("the interface");
    let mut message = Message::new(DELLINK, REQUEST);
    message.link(index, 0);
    let socket = socket();
    if child() {
        let _ = setsid();
        let _ = socket.send(&message.finish(), 0);
        return;
    }
    while if_nametoindex(host).is_ok() {
        std::thread::sleep(Duration::from_micros(50));
    }
}

#[expect(unsafe_code, reason = "fork(2); this program has one thread, and the child goes on as it does")]
fn child() -> bool {
    // SAFETY: there is no other thread that could hold a lock.
    matches!(unsafe { nix::unistd::fork() }, Ok(ForkResult::Child))
}

fn socket() -> Socket {
    let socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
    socket.connect(&SocketAddr::new(0, 0)).expect("the kernel");
    socket
}

fn exchange(socket: &Socket, message: Message) {
    socket.send(&message.finish(), 0).expect("to send");
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0).expect("an answer");
    let errno = answer.get(16..20).map(|bytes| i32::from_ne_bytes(bytes.try_into().expect("four bytes")));
    assert_eq!(errno, Some(0), "the kernel's answer");
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A message of netlink's, as it grows.
struct Message {
    bytes: Vec<u8>,
    begins: usize,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes, begins: 0 }
    }

    /// `struct ifinfomsg`.
    fn link(&mut self, index: u32, flags: u32) {
        self.bytes.extend([0; 4]);
        self.bytes.extend(index.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
    }

    fn queues(&mut self) {
        self.attribute(31, &1_u32.to_ne_bytes()).attribute(32, &1_u32.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |inside| inside.bytes.extend(value))
    }

    fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let begins = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        inside(self);
        let length = u16::try_from(self.bytes.len() - begins).expect("a short attribute");
        self.bytes[begins..begins + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Another message behind it, in one datagram.
    fn and(self, next: Self) -> Self {
        let mut bytes = self.finish();
        let begins = bytes.len();
        bytes.extend(next.bytes);
        Self { bytes, begins }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len() - self.begins).expect("a short message");
        self.bytes[self.begins..self.begins + 4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}
