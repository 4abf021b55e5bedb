//! Netlink messages as bytes (`linux/netlink.h`), written and read.
//!
//! A request is a message of the library that knows its family, or it is written attribute by attribute.
//! Reading never panics, whatever the bytes: a message or an attribute that does not fit into what it came in ends
//! the list. Writing cannot fail: a length past what its field holds is remembered, and the datagram is never sent.

use std::net::IpAddr;
use std::ops::Range;

use netlink_packet_core::{
    Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NetlinkBuffer, NetlinkHeader, NetlinkSerializable, NlasIterator,
};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Requests that go to the kernel in one system call. It executes them in order, one by one, going on after failures.
#[derive(Debug, Default)]
pub(in crate::linux) struct Datagram {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    overflow: bool,
}

impl Datagram {
    /// Appends a library's message, with its flags besides `NLM_F_REQUEST`.
    ///
    /// `netlink-packet-core` panics where the length of an attribute does not fit its 16 bits. In a message that is no
    /// longer than those can say there is none such; a longer one is not written.
    pub(in crate::linux) fn request(&mut self, flags: i32, request: &impl NetlinkSerializable) -> &mut Self {
        let length = request.buffer_len();
        if length > usize::from(u16::MAX) {
            self.overflow = true;
        }
        self.message(request.message_type(), flags, |datagram| {
            let start = datagram.bytes.len();
            if !datagram.overflow {
                datagram.bytes.resize(start + length, 0);
                request.serialize(datagram.bytes.get_mut(start..).unwrap_or_default());
            }
        })
    }

    /// Appends a message: its type, its flags besides `NLM_F_REQUEST`, its family's fixed header, its attributes.
    pub(in crate::linux) fn push(
        &mut self,
        kind: u16,
        flags: i32,
        header: &[u8],
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        self.message(kind, flags, |datagram| {
            datagram.bytes.extend(header);
            attributes(&mut Attributes { datagram });
        })
    }

    fn message(&mut self, kind: u16, flags: i32, body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.starts.push(start);
        // The sequence number is set when it is sent; the kernel knows the port.
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        header.flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut bytes = [0; HEADER];
        header.emit(&mut bytes);
        self.bytes.extend(bytes);
        body(self);
        let length = (self.bytes.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
        self
    }

    /// How many messages there are.
    pub(in crate::linux) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many bytes the messages take.
    pub(in crate::linux) fn length(&self) -> usize {
        self.bytes.len()
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

    /// A number in the machine's byte order.
    pub(in crate::linux) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// An address.
    pub(in crate::linux) fn ip(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
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
        self.write(kind | NLA_F_NESTED, |this| inside(this))
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
    /// The socket whose request caused it, by the number that the kernel gave that; 0 is the kernel's own doing.
    pub(in crate::linux) port: u32,
    /// The sequence number of the request that it answers.
    pub(in crate::linux) sequence: u32,
    /// What follows the header.
    pub(in crate::linux) body: &'a [u8],
}

/// The messages of a datagram.
pub(in crate::linux) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        // Spares making the library's error at the end of every datagram.
        if bytes.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        bytes = bytes.get(align(HEADER + message.payload_length())..).unwrap_or_default();
        Some(Message {
            kind: message.message_type(),
            flags: message.flags(),
            port: message.port_number(),
            sequence: message.sequence_number(),
            body: message.payload(),
        })
    })
}

/// The attributes in some bytes: type, without the encoding's bits, and value.
pub(in crate::linux) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    nests(bytes).map(|(kind, _, value)| (kind, value))
}

/// The attributes in some bytes that were written here: type, whether it holds attributes, and value. (The kernel does not
/// always say that it does.)
pub(in crate::linux) fn nests(bytes: &[u8]) -> impl Iterator<Item = (u16, bool, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        let is_nest = attribute.nested_flag();
        Some((kind, is_nest, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// The value of the first attribute of a type.
pub(in crate::linux) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The number in the first attribute of a kind, in network byte order, as nf_tables has it.
pub(in crate::linux) fn attribute_be32(bytes: &[u8], kind: u16) -> Option<u32> {
    attribute(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// Text, with or without a NUL at its end.
pub(in crate::linux) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
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
