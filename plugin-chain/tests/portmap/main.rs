//! `portmap` behind `bridge`: in memory, and with packets.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod connections;
mod memory;
mod packets;
mod support;
