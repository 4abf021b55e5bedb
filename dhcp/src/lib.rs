//! DHCP for containers: a client of versions 4 and 6, and the daemon that keeps a node's leases.
//!
//! A container cannot run a DHCP client: it may not, and it does not know that it would have to. So one daemon runs a
//! client for every interface whose plugin was configured with `"ipam": {"type": "dhcp"}`; the plugin
//! ([`plugin_kit::ipam::Dhcp`]) asks it through a Unix socket.
//!
//! ```text
//!  plugin ── Call ──▶ daemon ── attachment (one per interface) ── Client (one per version) ── Dialect: v4, v6
//!         ◀─ Answer ──   │            │                                  no input, output or clock
//!                     store       container: namespace, sockets, addresses
//! ```
//!
//! All of it is one thread. Between two exchanges with a server nothing of a container is held: no thread, no socket,
//! no namespace.

mod attachment;
mod client;
mod codec;
mod connection;
mod container;
mod daemon;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod key;
mod lease;
mod listen;
mod names;
mod store;
mod time;
mod v4;
mod v6;
mod wishes;

pub use daemon::{DEFAULT_STATE_DIR, Daemon, DaemonError, Settings};
pub use plugin_kit::ipam::dhcp::protocol::DEFAULT_SOCKET;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use fuzzing::{read_as_answer, read_as_document};

/// The README's examples are no Rust.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
