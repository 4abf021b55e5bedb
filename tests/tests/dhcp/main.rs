//! `dhcp` and its daemon, with real servers (dnsmasq) on the network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod daemon;
mod lease;
mod life;
mod side_by_side;
