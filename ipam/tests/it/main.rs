//! What this crate promises, seen from outside. One executable, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;
mod concurrency;
mod crash;
mod directory;
mod properties;
mod reference;
