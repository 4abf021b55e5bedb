//! Build a CNI plugin by describing what should exist.
//!
//! A plugin implements [`Attach`]: from a typed configuration and addresses it makes a [`netops::Plan`] and the result
//! that the runtime is told. [`Kit`] makes a [`cni_spec::plugin::Plugin`] of it:
//!
//! | command | what happens |
//! | --- | --- |
//! | `ADD` | addresses are taken, the plan is applied, the addresses are kept; whatever fails, everything is taken back |
//! | `DEL` | what follows from the attachment's names is removed; it needs no namespace, no valid configuration, no `prevResult` |
//! | `CHECK` | the same plan is compared with the kernel; each difference is named |
//! | `GC` | what bears the [mark](Owner::mark) of an attachment that is not valid any more is removed |
//! | `STATUS` | the plugin and its address manager are asked whether an `ADD` could succeed |
//! | [`Explain`] | the plan is given to whom it may concern: `cnikit explain` prints it as commands; or, of an attachment that is there, what others have taken of it is made again |
//!
//! Addresses come from [`ipam`]: our own managers in process, any other by execution.

mod add;
mod adoption;
mod attach;
mod cables;
mod detach;
pub mod error;
mod explain;
pub mod files;
mod interface;
pub mod ipam;
mod kernels;
mod moved;
mod owner;
pub mod reference;
mod repair;
mod request;
mod resolv_conf;
#[cfg(feature = "testing")]
pub mod testing;

pub use attach::{Addressing, Attach, Attachment, Kit, Remains, Withdraw, own_addresses};
pub use cables::{cables, is_link_local, peer_addresses};
pub use detach::Traces;
pub use error::kernel_error;
pub use explain::Explain;
pub use interface::{
    DuplicateDetection, MasqueradeBackend, PrefixRoutes, default_route, first_address, gateway_of,
    plan_addresses, plan_masquerade, plan_readiness, plan_routes,
};
pub use kernels::{Kernels, Linux, Purpose};
pub use owner::{MarkedOwner, Owner, derived_name, derived_number, network_prefix};
pub use repair::{Repair, RepairMode};
pub use request::{Names, Request, mac, mtu};
