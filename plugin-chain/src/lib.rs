//! The chained CNI plugins: each adds something to an attachment that the plugins before it in a list have made.
//!
//! A plugin says what must exist ([`plugin_kit::Attach`], with [`plugin_kit::Addressing::Inherited`]); the kit makes it,
//! undoes it, checks it and removes it.

mod bandwidth;
mod firewall;
mod portmap;
mod sbr;
mod tuning;
mod vrf;

pub use bandwidth::{Bandwidth, BandwidthConfig};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use firewall::read_as_bus;
pub use firewall::{Backend as FirewallBackend, Firewall, FirewallConfig, IngressPolicy};
pub use portmap::{Config as PortmapConfig, Masquerading, Portmap};
pub use sbr::{Sbr, SbrConfig};
pub use tuning::{Tuning, TuningConfig};
pub use vrf::{Vrf, VrfConfig};
