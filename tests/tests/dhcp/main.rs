//! `dhcp` and its daemon, with real servers (dnsmasq) on the network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod daemon;
#[cfg(target_arch = "x86_64")] // as all faults are
mod killed;
mod lease;
mod life;
mod side_by_side;
