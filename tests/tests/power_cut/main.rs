//! The power is cut at every instant of what `host-local`, a runtime and `dhcp`'s daemon write. On whatever the disk may hold then,
//! every call works, nobody gets an address that another one has, and everything that is left goes away.
//!
//! `cnikit_tests::disk` says what a disk may hold. How many random choices there are at each instant: `CNIKIT_CASES`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod cache;
mod dhcp;
mod history;
mod leases;
