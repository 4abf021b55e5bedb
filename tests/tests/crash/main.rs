//! Calls that end, or fail, at every point where they can: a DEL afterwards cleans up, and a failure leaves nothing.
//!
//! `strace` makes it happen: it kills the plugin when it makes its n-th system call, or lets that call fail. Every
//! third point is tried; all of them with `CNIKIT_EVERY_CALL=1`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod failed;
mod killed;
mod scene;
