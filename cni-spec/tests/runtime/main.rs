//! The runtime half of the protocol, against plugins of a test's imagination, processes that misbehave, and what real
//! runtimes on libcni did.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod cache;
mod chain;
mod conf;
mod gc;
mod libcni;
mod processes;
mod sequences;
mod support;
