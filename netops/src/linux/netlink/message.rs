//! Netlink messages as bytes (`linux/netlink.h`), written and read.
//!
//! Reading never panics, whatever the bytes: a message or an attribute that does not fit into what it came in ends
//! the list. Writing cannot fail: a length past what its field holds is remembered, and the datagram is never sent.

use std::ops::Range;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// The bits of an attribute's type that say how it is encoded (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Requests that go to the kernel in one system call. It executes them in order, one by one, going on after failures.
#[derive(Debug, Default)]
pub(in crate::linux) struct Datagram {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    overflow: bool,
}

impl Datagram {
    /// Appends a message: its type, its flags besides `NLM_F_REQUEST`, its family's fixed header, its attributes.
    pub(in crate::linux) fn push(
        &mut self,
        kind: u16,
        flags: i32,
        header: &[u8],
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        // Sequence number, set when it is sent; port, which the kernel knows.
        self.bytes.extend([0; 8]);
        self.bytes.extend(header);
        attributes(&mut Attributes { datagram: self });
        let length = (self.bytes.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
        self
    }

    /// How many messages there are.
    pub(in crate::linux) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no message.
    pub(in crate::linux) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Numbers the messages, from a sequence number on.
    pub(super) fn number(&mut self, first: u32) {
        for (number, start) in self.starts.clone().into_iter().enumerate() {
            self.patch(start + 8, &first.wrapping_add(number as u32).to_ne_bytes());
        }
    }

    /// The bytes of some of the messages; `None` if a length did not fit its field.
    pub(in crate::linux) fn bytes(&self, messages: Range<usize>) -> Option<&[u8]> {
        let start = |number| self.starts.get(number).copied().unwrap_or(self.bytes.len());
        if self.overflow { None } else { self.bytes.get(start(messages.start)..start(messages.end)) }
    }

    /// Adds flags to one message.
    pub(in crate::linux) fn add_flags(&mut self, message: usize, flags: i32) {
        if let Some(&start) = self.starts.get(message) {
            let flags = self.flags(message) | flags as u16;
            self.patch(start + 6, &flags.to_ne_bytes());
        }
    }

    /// The flags of one message.
    pub(super) fn flags(&self, message: usize) -> u16 {
        self.starts.get(message).and_then(|start| get_u16(&self.bytes, start + 6)).unwrap_or_default()
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

/// Appends attributes to a message or to a nest.
#[derive(Debug)]
pub(in crate::linux) struct Attributes<'a> {
    datagram: &'a mut Datagram,
}

impl Attributes<'_> {
    /// An attribute of bytes.
    pub(in crate::linux) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.write(kind, |this| this.datagram.bytes.extend(value))
    }

    /// An attribute of text, with the NUL that the kernel wants.
    pub(in crate::linux) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.write(kind, |this| {
            this.datagram.bytes.extend(value.as_bytes());
            this.datagram.bytes.push(0);
        })
    }

    /// An attribute of one byte.
    pub(in crate::linux) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// A number in the machine's byte order, as rtnetlink has it.
    pub(in crate::linux) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as nf_tables has it.
    pub(in crate::linux) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute of attributes.
    pub(in crate::linux) fn nest(
        &mut self,
        kind: u16,
        inside: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        self.write(kind | NESTED, |this| inside(this))
    }

    /// An attribute of a fixed header and then attributes.
    pub(in crate::linux) fn nest_after(
        &mut self,
        kind: u16,
        header: &[u8],
        inside: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        self.write(kind, |this| {
            this.datagram.bytes.extend(header);
            inside(this);
        })
    }

    fn write(&mut self, kind: u16, value: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.datagram.bytes.len();
        self.datagram.bytes.extend([0; 2]);
        self.datagram.bytes.extend(kind.to_ne_bytes());
        value(&mut Attributes { datagram: self.datagram });
        let length = self.datagram.bytes.len() - start;
        match u16::try_from(length) {
            Ok(length) => self.datagram.patch(start, &length.to_ne_bytes()),
            Err(_) => self.datagram.overflow = true,
        }
        self.datagram.bytes.resize(start + align(length), 0);
        self
    }
}

/// A message as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) struct Message<'a> {
    /// Its type.
    pub(in crate::linux) kind: u16,
    /// Its flags.
    pub(in crate::linux) flags: u16,
    /// The sequence number of the request that it answers.
    pub(in crate::linux) sequence: u32,
    /// What follows the header.
    pub(in crate::linux) body: &'a [u8],
}

/// The messages of a datagram.
pub(in crate::linux) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(get_u32(bytes, 0)?).ok()?;
        let message = Message {
            kind: get_u16(bytes, 4)?,
            flags: get_u16(bytes, 6)?,
            sequence: get_u32(bytes, 8)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in some bytes: type, without the encoding's bits, and value.
pub(in crate::linux) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(get_u16(bytes, 0)?);
        let kind = get_u16(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(in crate::linux) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Two bytes in the machine's order.
pub(in crate::linux) fn get_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(range(at, 2)?)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Four bytes in the machine's order.
pub(in crate::linux) fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(range(at, 4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn range(at: usize, length: usize) -> Option<Range<usize>> {
    Some(at..at.checked_add(length)?)
}

/// Messages and attributes begin at multiples of four (`NLMSG_ALIGN`, `NLA_ALIGN`).
fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}
