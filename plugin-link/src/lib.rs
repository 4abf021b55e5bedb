//! The CNI plugins that make one interface each: [`Loopback`], [`Ptp`], [`Dummy`], [`Tap`], on another interface
//! [`Macvlan`], [`Ipvlan`] and [`Vlan`], and [`HostDevice`], which takes one that there is.
//!
//! A plugin says what must exist; [`plugin_kit`] makes it, undoes it, checks it and removes it.

mod device;
mod dummy;
mod host_device;
mod inside;
mod ipvlan;
mod loopback;
mod macvlan;
mod master;
mod ptp;
mod tap;
mod vlan;

pub use dummy::{Dummy, DummyConfig};
pub use host_device::{HostDevice, HostDeviceConfig};
pub use ipvlan::{Ipvlan, IpvlanConfig};
pub use loopback::{Loopback, LoopbackConfig};
pub use macvlan::{Macvlan, MacvlanConfig};
pub use master::Master;
pub use ptp::{Ptp, PtpConfig};
pub use tap::{Tap, TapConfig};
pub use vlan::{Vlan, VlanConfig};
