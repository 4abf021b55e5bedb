//! Calls that no honest runtime makes: each is refused in the specification's form, with the right code, at once, and
//! leaves everything as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod attack;
mod bound;
mod configuration;
mod environment;
mod files;
mod input;
mod privilege;
mod removal;
mod vanished;
