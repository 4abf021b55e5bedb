//! Requests that the kernel refuses: it has not done what it was asked to do, and says so.
//!
//! Nothing can be put between a process and the kernel's answer, but the kernel can be made to give the right one to the right
//! request: on its way in, the request is turned into one of a kind that there is not. What stands beside it in a datagram is
//! done, but in a transaction of nf_tables. In the answer, the error becomes the one that was meant.

use std::fs::File;
use std::iter;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// What a request may be refused with, the likeliest first.
pub(super) const REFUSALS: &[Errno] = &[Errno::ENOMEM, Errno::EBUSY, Errno::EPERM];

/// A kind that neither rtnetlink nor any part of netfilter has.
const NO_KIND: u16 = 0xff;
/// Bytes of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// A message of rtnetlink about a link is as long at least (`struct ifinfomsg`). What has the number of one and is shorter begins
/// or ends a transaction.
const SHORTEST_LINK: usize = HEADER + 16;
/// More than anybody sends or receives at once.
const LONGEST: usize = 1 << 20;

/// A request in the memory of a process that is about to send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    /// Where its kind stands.
    address: u64,
    kind: u16,
}

impl Request {
    /// The requests that a thread is about to send, if they are netlink's.
    pub(super) fn about_to_be_sent(pid: Pid, call: &str, arguments: &[u64; 6]) -> Vec<Self> {
        let mut requests = Vec::new();
        for buffer in buffers(pid, call, arguments) {
            let bytes = read(pid, &buffer);
            let Some(messages) = messages(&bytes) else { return Vec::new() };
            for message in messages {
                let kind = u16_at(&bytes, message.start + 4);
                if !is_bracket(kind, message.len()) {
                    requests.push(Self { address: buffer.start + message.start as u64 + 4, kind });
                }
            }
        }
        requests
    }

    /// Makes the kernel refuse it.
    pub(super) fn spoil(self, pid: Pid) {
        write(pid, self.address, &NO_KIND.to_ne_bytes());
    }

    /// Has it be what it was: who sent it may look at it again.
    pub(super) fn restore(self, pid: Pid) {
        write(pid, self.address, &self.kind.to_ne_bytes());
    }

    /// Where the answer to it is among what a thread has received, has it say another error.
    pub(super) fn correct_answer(
        self,
        pid: Pid,
        call: &str,
        arguments: &[u64; 6],
        received: usize,
        errno: Errno,
    ) {
        let Some(buffer) = buffers(pid, call, arguments).into_iter().next() else { return };
        let end = buffer.end.min(buffer.start + received as u64);
        let bytes = read(pid, &(buffer.start..end));
        for message in messages(&bytes).into_iter().flatten() {
            let at = buffer.start + message.start as u64;
            // The error is followed by the header of what is refused.
            let kind = message.start + HEADER + 4 + 4;
            let is_error = i32::from(u16_at(&bytes, message.start + 4)) == libc::NLMSG_ERROR;
            if is_error && kind + 2 <= message.end && u16_at(&bytes, kind) == NO_KIND {
                write(pid, at + HEADER as u64, &(-(errno as i32)).to_ne_bytes());
                write(pid, buffer.start + kind as u64, &self.kind.to_ne_bytes());
            }
        }
    }

    /// What people call it.
    pub(super) fn name(self) -> String {
        match self.kind {
            kind if kind < 0x100 => format!("rtnetlink {kind}"),
            kind => format!("netfilter {}, {}", kind >> 8, kind & 0xff),
        }
    }
}

fn is_bracket(kind: u16, length: usize) -> bool {
    (i32::from(kind) == libc::NFNL_MSG_BATCH_BEGIN || i32::from(kind) == libc::NFNL_MSG_BATCH_END)
        && length < SHORTEST_LINK
}

/// Where messages are, if bytes are nothing but messages.
fn messages(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut messages = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
        if length < HEADER || length > bytes.len() - at {
            return None;
        }
        messages.push(at..at + length);
        at += length.next_multiple_of(4);
    }
    Some(messages)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// What a call sends from, or receives into.
fn buffers(pid: Pid, call: &str, arguments: &[u64; 6]) -> Vec<Range<u64>> {
    let [_, pointer, length, ..] = *arguments;
    match call {
        "sendto" | "recvfrom" => iter::once(pointer..pointer.saturating_add(length)).collect(),
        "sendmsg" | "recvmsg" => {
            // `struct msghdr`: a name and its length, then the vector and its length.
            let header = read(pid, &(pointer..pointer + 32));
            let word = |bytes: &[u8], at: usize| {
                bytes.get(at..at + 8).map_or(0, |word| u64::from_ne_bytes(word.try_into().unwrap()))
            };
            let (vector, count) = (word(&header, 16), word(&header, 24).min(1024));
            let vector = read(pid, &(vector..vector + 16 * count));
            vector.chunks_exact(16).map(|part| word(part, 0)..word(part, 0) + word(part, 8)).collect()
        }
        _ => Vec::new(),
    }
}

fn read(pid: Pid, range: &Range<u64>) -> Vec<u8> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0).min(LONGEST);
    let mut bytes = vec![0; length];
    let memory = File::open(format!("/proc/{pid}/mem"));
    let read = memory.and_then(|memory| memory.read_at(&mut bytes, range.start)).unwrap_or(0);
    bytes.truncate(read);
    bytes
}

fn write(pid: Pid, address: u64, bytes: &[u8]) {
    // It may have been killed meanwhile.
    let memory = File::options().write(true).open(format!("/proc/{pid}/mem"));
    let _ = memory.and_then(|memory| memory.write_all_at(bytes, address));
}
