//! The CNI plugins that make one interface each: [`Loopback`], [`Ptp`], [`Dummy`].
//!
//! A plugin says what must exist; [`plugin_kit`] makes it, undoes it, checks it and removes it.

mod dummy;
mod loopback;
mod ptp;

pub use dummy::{Dummy, DummyConfig};
pub use loopback::{Loopback, LoopbackConfig};
pub use ptp::{Ptp, PtpConfig};
