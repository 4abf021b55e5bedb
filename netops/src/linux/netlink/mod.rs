//! Netlink: messages as bytes, and the socket that they go through. Knows no family.

mod message;
mod socket;

pub(super) use message::{
    Attributes, Datagram, Message, attribute, attribute_be32, attributes, get_u16, get_u32, messages, nests,
    text,
};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use socket::refusal;
pub(super) use socket::{Failure, Protocol, Refusal, Reply, Socket};
