//! What the end-to-end tests are told in: nodes, pods, calls of executables, and what the kernel looks like afterwards.
//!
//! | layer | what it is |
//! | --- | --- |
//! | [`isolated`] | the right to make namespaces: as root, or in a user namespace |
//! | [`Node`], [`Pod`] | namespaces of a test's own, in which everything happens |
//! | [`Implementation`], [`Call`], [`Outcome`] | an executable of a plugin, ours or the reference's, and one execution of it |
//! | [`State`] | everything that the kernel and the lease directory hold, as one JSON value |
//! | [`Scene`] | the same without what is random, so that two nodes can be compared |
//! | [`lan`] | a node beside a DHCP server, with a daemon |
//! | [`lab`] | nodes on a segment, an agent on each, pods that talk |
//! | [`system_calls`] | what a call asks of the kernel, one by one |
//! | [`disk`] | what calls write, and what of it is there after a power cut |
//! | [`faults`] | what happens at a system call: it fails, or its process dies |
//! | [`soak`] | many calls at once |
//! | [`deliberate`] | what is meant to be different from the reference, each with its reason |
//!
//! The oracle is always another program: `ip`, `nft`, `iptables-save`, the reference's plugins.
//!
//! Variables that the tests look at: `CNIKIT_REFERENCE` (the directory of the reference's plugins, by default
//! `/usr/lib/cni`), `CNIKIT_WITHOUT_REFERENCE=1` (do without them, and say so), `CNIKIT_CASES` and `CNIKIT_SEED` (how
//! many random configurations, and which).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // this is test code: a panic is how it speaks

mod call;
pub mod deliberate;
mod difference;
pub mod disk;
#[cfg(target_arch = "x86_64")] // a system call is made to fail by its registers
pub mod faults;
mod isolation;
pub mod lab;
pub mod lan;
mod memory;
mod node;
mod random;
mod scene;
pub mod soak;
mod state;
mod strace;
mod traced;

pub use call::{Call, Implementation, Outcome};
pub use difference::differences;
pub use isolation::isolated;
pub use memory::{Memory, memory};
pub use node::{Node, Pod};
pub use random::{cases, runner};
pub use scene::Scene;
pub use state::State;
pub use strace::{SystemCall, system_calls};
pub use traced::start_traced;
