//! `cni-spec` from outside: calls against the plugin half, real processes, and what real programs have said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, helpers included"
)]

mod arbitrary;
mod common;
mod delegate;
mod dispatch;
mod exec;
mod hostile;
mod recorded;
mod reference;
