//! The plugin on nodes in memory and of the real kernel, with node files that stand in for an agent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod addresses;
mod commands;
mod faults;
mod hostile;
mod network;
mod talk;
