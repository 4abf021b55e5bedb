//! A netlink socket, synchronous.
//!
//! The kernel executes a netlink request inside the `send` that brings it, and queues the answers before `send`
//! returns; a dump goes on inside each `recv`. So nothing here ever waits: an answer that is not in the queue was lost.

use std::io::{Error, ErrorKind, Result as IoResult};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use super::message::{Datagram, Message, attribute, get_u32, messages};
use crate::error::Errno;
use crate::linux::namespace::errno_of;
use crate::linux::sys;

/// The kernel makes answers of at most 32 KiB for readers of that much and more (`netlink_dump()`). Two of these, and the rest, fit
/// into what the C library's heap has from the beginning.
const BUFFER: usize = 32 * 1024;
/// `NLMSGERR_ATTR_MSG`: what was wrong, in words.
const EXPLANATION: u16 = 1;
/// How many answers fit into a receive buffer as the kernel gives it: 208 KiB, of which it reckons some 2.3 for one
/// about a link.
const TOGETHER: usize = 64;
/// A receive buffer for refusals by the hundred.
const ROOM: i32 = 4 * 1024 * 1024;
/// How often reading an answer may fail.
const LOSSES: usize = 16;
/// How often a dump is repeated that changes made inconsistent.
const DUMPS: usize = 8;

/// `NFT_MSG_NEWGEN`, with its subsystem: a transaction was made.
const NFT_NEW_GENERATION: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN) as u16;
/// `linux/netfilter/nfnetlink.h`.
const NFNLGRP_NFTABLES: u32 = 7;

/// Classic BPF: datagrams that begin with a message of a kind (`nlmsg_type`, at 4).
fn filter_of_kind(kind: u16) -> [libc::sock_filter; 4] {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // It is loaded as if it were in network order.
    let kind = u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    [
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 4),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, kind),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

/// Whom a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nf_tables.
    Netfilter,
}

/// A socket; it stays in the network namespace of the thread that opens it.
#[derive(Debug)]
pub(in crate::linux) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
    roomy: bool,
}

/// What came back for one request.
#[derive(Debug, Default)]
pub(in crate::linux) struct Reply {
    /// The bodies of the messages that answer it.
    pub(in crate::linux) answers: Vec<Vec<u8>>,
    /// The kernel's no.
    pub(in crate::linux) refusal: Option<Refusal>,
}

impl Reply {
    /// The answers, unless the kernel refused.
    pub(in crate::linux) fn accepted(self) -> Result<Vec<Vec<u8>>, Refusal> {
        match self.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(self.answers),
        }
    }
}

/// The kernel's no to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) struct Refusal {
    pub(in crate::linux) errno: Errno,
    pub(in crate::linux) detail: Option<String>,
}

impl From<nix::errno::Errno> for Refusal {
    fn from(errno: nix::errno::Errno) -> Self {
        Self { errno: errno.into(), detail: None }
    }
}

/// Which answers to a request are kept.
pub(in crate::linux) type Wanted<'a> = &'a dyn Fn(&[u8]) -> bool;

const ALL: Wanted<'_> = &|_| true;

/// Why a datagram as a whole came to nothing, or to nothing known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) enum Failure {
    /// It was not taken: nothing has happened.
    Refused(Refusal),
    /// It does not fit the format's length fields: nothing was sent.
    TooLong,
    /// The answer was longer than any of the kernel's.
    Truncated,
    /// The answer was lost: everything may have happened.
    Lost,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { errno: errno_of(&error), detail: None }
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(in crate::linux) fn open(protocol: Protocol) -> IoResult<Self> {
        let inner = netlink_sys::Socket::new(match protocol {
            Protocol::Route => NETLINK_ROUTE,
            Protocol::Netfilter => NETLINK_NETFILTER,
        })?;
        inner.set_ext_ack(true)?;
        inner.set_cap_ack(true)?;
        if protocol == Protocol::Route {
            // Dumps of addresses and routes are then filtered by interface, in the kernel (Linux 4.20).
            inner.set_netlink_get_strict_chk(true)?;
        }
        Ok(Self { inner, sequence: 1, buffer: Vec::with_capacity(BUFFER), roomy: false })
    }

    /// A socket that hears of changes, by the numbers of what they are about (`RTNLGRP_*`). What finds no room is lost, and
    /// that is told.
    pub(in crate::linux) fn listen(groups: &[u32]) -> IoResult<Self> {
        let mut socket = Self::open(Protocol::Route)?;
        socket.expect_many();
        socket.inner.bind_auto()?;
        groups.iter().try_for_each(|group| socket.inner.add_membership(*group))?;
        Ok(socket)
    }

    /// A socket that hears of transactions of nf_tables, once of each and of nothing else: whatever else the kernel says of them
    /// on that group (`NFNLGRP_NFTABLES`), it keeps to itself.
    pub(in crate::linux) fn hear_of_transactions() -> IoResult<Self> {
        let mut socket = Self::open(Protocol::Netfilter)?;
        sys::attach_filter(&socket, &filter_of_kind(NFT_NEW_GENERATION))?;
        socket.inner.bind_auto()?;
        socket.inner.add_membership(NFNLGRP_NFTABLES)?;
        Ok(socket)
    }

    /// The number by which the kernel knows it.
    pub(in crate::linux) fn port(&mut self) -> IoResult<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.inner.get_address(&mut address)?;
        // Until its first request it has none.
        Ok(match address.port_number() {
            0 => self.inner.bind_auto()?.port_number(),
            port => port,
        })
    }

    /// The next datagram that is there, if there is one.
    pub(in crate::linux) fn hear(&mut self) -> Result<Option<&[u8]>, Failure> {
        match self.receive() {
            Ok(length) => self.buffer.get(..length).map(Some).ok_or(Failure::Truncated),
            Err(ErrorKind::WouldBlock) => Ok(None),
            Err(_) => Err(Failure::Lost),
        }
    }

    /// Sends requests that are independent of one another, and collects what comes back, one reply each. Only the last
    /// of those that are sent together is acknowledged; refusals are reported whether asked for or not.
    pub(in crate::linux) fn exchange(&mut self, requests: &mut Datagram) -> Result<Vec<Reply>, Failure> {
        let mut replies = Vec::with_capacity(requests.len());
        for first in (0..requests.len()).step_by(TOGETHER) {
            let messages = first..requests.len().min(first + TOGETHER);
            let last = messages.end - 1;
            replies.extend(self.exchange_some(requests, messages, last, ALL)?);
        }
        Ok(replies)
    }

    /// Makes room for as many refusals as there can be requests in one datagram: the kernel reckons about 1 KiB for each, and
    /// one that finds no room is lost. Asks for it once.
    pub(in crate::linux) fn expect_many(&mut self) {
        if !std::mem::replace(&mut self.roomy, true) {
            // Without it, what is lost is known to be.
            let _ = sys::force_receive_buffer(&self.inner, ROOM);
        }
    }

    /// Sends requests that have to be sent together, of which a given one is the last that can be acknowledged.
    pub(in crate::linux) fn exchange_whole(
        &mut self,
        requests: &mut Datagram,
        last: usize,
    ) -> Result<Vec<Reply>, Failure> {
        self.exchange_some(requests, 0..requests.len(), last, ALL)
    }

    fn exchange_some(
        &mut self,
        requests: &mut Datagram,
        messages: Range<usize>,
        last: usize,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Reply>, Failure> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(requests.len() as u32);
        requests.number(first);
        if !is_dump(requests.flags(last)) {
            requests.add_flags(last, libc::NLM_F_ACK);
        }
        let bytes = requests.bytes(messages.clone()).ok_or(Failure::TooLong)?;
        retry(|| self.inner.send(bytes, 0)).map_err(|error| Failure::Refused(error.into()))?;
        let first = first.wrapping_add(messages.start as u32);
        self.collect(first, messages.len(), last - messages.start, wanted)
    }

    /// Leaves to somebody else to send requests (`sys/orphan.rs`). Nothing is acknowledged.
    pub(in crate::linux) fn send_detached(
        &mut self,
        requests: &mut Datagram,
        keep: &[BorrowedFd<'_>],
        late: Option<(BorrowedFd<'_>, Duration)>,
    ) -> Result<(), Failure> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(requests.len() as u32);
        requests.number(first);
        let bytes = requests.bytes(0..requests.len()).ok_or(Failure::TooLong)?;
        sys::leave_to_an_orphan(keep, Some((self.inner.as_fd(), bytes)), late)
            .map_err(|errno| Failure::Refused(errno.into()))
    }

    /// Asks for a list. Repeats the question if the list changed while it was being read, or if a part of it was lost.
    pub(in crate::linux) fn dump(&mut self, request: &mut Datagram) -> Result<Reply, Failure> {
        self.dump_those(request, ALL)
    }

    /// As [`dump`](Self::dump), of a list that may be far longer than what is of interest in it: only that is kept.
    pub(in crate::linux) fn dump_those(
        &mut self,
        request: &mut Datagram,
        wanted: Wanted<'_>,
    ) -> Result<Reply, Failure> {
        request.add_flags(0, libc::NLM_F_DUMP);
        for _ in 0..DUMPS {
            let mut replies = match self.exchange_some(request, 0..1, 0, wanted) {
                Err(Failure::Lost) => continue,
                outcome => outcome?,
            };
            match replies.pop() {
                Some(Reply { refusal: Some(Refusal { errno, .. }), .. }) if errno == INTERRUPTED => {}
                Some(reply) => return Ok(reply),
                None => return Err(Failure::Lost),
            }
        }
        Err(Failure::Lost)
    }

    fn collect(
        &mut self,
        first: u32,
        count: usize,
        last: usize,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Reply>, Failure> {
        let mut replies: Vec<Reply> = std::iter::repeat_with(Reply::default).take(count).collect();
        let mut losses = 0..LOSSES;
        let mut lost = false;
        loop {
            let length = match self.receive() {
                Ok(length) => length,
                // A batch that was refused as a whole says so about its first message, and has no more to say.
                Err(ErrorKind::WouldBlock) if replies.iter().any(|reply| reply.refusal.is_some()) => {
                    return Ok(replies);
                }
                // ENOBUFS, ENOMEM: something was lost, an answer or a refusal; what was not is still there, and must not be
                // taken for the answer to the next request.
                Err(error) if losses.next().is_some() => {
                    lost |= error != ErrorKind::WouldBlock;
                    continue;
                }
                Err(_) => return Err(Failure::Lost),
            };
            let Some(received) = self.buffer.get(..length) else { return Err(Failure::Truncated) };
            let mut finished = false;
            for message in messages(received) {
                let number = message.sequence.wrapping_sub(first) as usize;
                // An answer to an earlier request, one that was given up.
                let Some(reply) = replies.get_mut(number) else { continue };
                if message.flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
                    reply.refusal = Some(Refusal { errno: INTERRUPTED, detail: None });
                }
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        reply.refusal = reply.refusal.take().or_else(|| refusal(&message));
                        finished |= number == last;
                    }
                    libc::NLMSG_NOOP => {}
                    _ if wanted(message.body) => reply.answers.push(message.body.to_vec()),
                    _ => {}
                }
            }
            if finished {
                return if lost { Err(Failure::Lost) } else { Ok(replies) };
            }
        }
    }

    /// Puts the next datagram into the buffer, as far as it fits, and says how long it is.
    fn receive(&mut self) -> Result<usize, ErrorKind> {
        self.buffer.clear();
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        retry(|| self.inner.recv(&mut self.buffer, flags)).map_err(|error| error.kind())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Stands for a dump that has to be repeated.
const INTERRUPTED: Errno = Errno::new(libc::EINTR);

fn is_dump(flags: u16) -> bool {
    i32::from(flags) & libc::NLM_F_DUMP == libc::NLM_F_DUMP
}

/// What `NLMSG_ERROR` and `NLMSG_DONE` say, if it is not that all is well.
pub(in crate::linux) fn refusal(message: &Message<'_>) -> Option<Refusal> {
    let errno = get_u32(message.body, 0)? as i32;
    if errno == 0 {
        return None;
    }
    let explained = message.flags & libc::NLM_F_ACK_TLVS as u16 != 0;
    let request = match i32::from(message.kind) {
        libc::NLMSG_DONE => 0,
        // With NETLINK_CAP_ACK just the refused request's header comes back.
        _ if message.flags & libc::NLM_F_CAPPED as u16 != 0 => 16,
        _ => get_u32(message.body, 4)? as usize,
    };
    let attributes = message.body.get(4usize.checked_add(request)?..).filter(|_| explained);
    let detail = attributes.and_then(|bytes| attribute(bytes, EXPLANATION)).map(|text| {
        String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    });
    Some(Refusal { errno: Errno::new(errno.saturating_neg()), detail })
}

/// Repeats a system call that a signal interrupted before it did anything.
fn retry<T>(mut call: impl FnMut() -> IoResult<T>) -> IoResult<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_cannot_be_received_is_lost_and_not_a_refusal() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        assert_eq!(socket.collect(1, 1, 0, ALL).err(), Some(Failure::Lost));
    }

    #[test]
    fn of_a_long_list_only_what_is_wanted_is_kept() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let request = || {
            let mut request = Datagram::default();
            crate::linux::rtnetlink::address::get(&mut request, 0, None);
            request
        };
        let all = socket.dump(&mut request()).unwrap().accepted().unwrap();
        assert!(!all.is_empty(), "no address on this machine, not even of the loopback interface");
        let first = socket.dump_those(&mut request(), &|body| body == all[0]).unwrap();
        assert_eq!(first.accepted().unwrap(), all[..1]);
        let none = socket.dump_those(&mut request(), &|_| false).unwrap();
        assert_eq!(none.accepted().unwrap(), Vec::<Vec<u8>>::new());
    }
}
