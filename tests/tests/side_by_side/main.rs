//! The reference's plugins and ours, side by side: the same calls on two nodes, compared in what they say and in what
//! the kernel holds afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod adoption;
mod chained;
mod firewall;
mod keys;
mod mixed;
mod packets;
mod pair;
mod published;
mod random;
mod sbr;
mod sctp;
mod tap;
