//! rtnetlink: what the messages about links, ports, addresses and routes look like (`linux/rtnetlink.h`,
//! `linux/if_link.h`). Bytes only; who sends them, and when, is one floor up.

pub(super) mod address;
#[cfg(test)]
mod golden;
pub(super) mod link;
pub(super) mod port;
pub(super) mod route;
