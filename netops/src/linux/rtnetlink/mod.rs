//! rtnetlink: what the messages about links, ports, addresses, routes, rules and traffic control look like (`linux/rtnetlink.h`,
//! `linux/if_link.h`). Bytes only; who sends them, and when, is one floor up.
//!
//! Requests are `netlink-packet-route`'s messages; what that lacks (most of a port's settings, `RTM_GETVLAN`, token buckets, next hop objects) is
//! written by number. Of answers only the headers are read by it, and the few attributes that are needed one by one:
//! it decodes a message as a whole, so that one attribute which it does not understand, an alias or a label that is
//! not UTF-8 for instance, or what a newer kernel says about some kind of link, would hide the link, address or route.
//! (Time is no reason: the message about a bridge takes it 4 µs.)

pub(super) mod address;
#[cfg(test)]
mod golden;
pub(super) mod link;
pub(super) mod namespace;
pub(super) mod neighbour;
pub(super) mod next_hop;
pub(super) mod port;
pub(super) mod route;
pub(super) mod rule;
pub(super) mod tc;
