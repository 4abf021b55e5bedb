//! Linux network operations as values: applied, checked, undone, simulated or printed.
//!
//! A [`Plan`] lists what must exist ([`Resource`]s: links, addresses, routes, settings, nf_tables entries) and where
//! ([`Place`]). It does nothing by itself. A [`Kernel`] makes it so, says how reality differs, or takes it away again.
//!
//! ```text
//! Plan ── apply ──▶ Facts (what is shared, read in one batch) ──▶ create, one batch per place ──▶ Applied ── undo
//!      ── check ──▶ Facts ──▶ Differences
//!      ── remove ─▶ in reverse; what is gone is fine
//!      ── reconcile ─▶ what differs is corrected, what is ours and not wanted is removed; again and again
//! ```

mod engine;
mod entry;
mod error;
mod facts;
mod foreign;
mod kernel;
mod linux;
mod lookup;
#[cfg(feature = "testing")]
mod memory;
mod name;
mod place;
mod plan;
mod port_mapping;
mod reconcile;
mod resource;
mod ruleset;
mod script;
mod watching;

pub use engine::{Applied, ApplyError};
pub use entry::{Entry, EntryKey, EntryKind, Forwarded, Masquerade, SpoofCheck};
pub use error::{Errno, Error, NamespaceProblem, Operation};
pub use facts::{Deviation, Difference, Facts};
pub use foreign::{Family, ForeignChain, ForeignRules, WhichRules};
pub use kernel::{
    Answer, Created, Edit, Kernel, LinkState, Query, Removed, read_default_link, read_entries, read_link,
    read_links,
};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use linux::read_as_answers;
pub use linux::{LinuxKernel, Namespace, PacketSocket, Watch, open_tap, shrink_footprint};
pub use lookup::{FoundRoute, NeighbourState, Reachability, RouteKind, RouteLookup};
#[cfg(feature = "testing")]
pub use memory::{Batching, Feature, MemoryKernel, Snapshot};
pub use name::{ChainName, Invalid, LinkName, MacAddr, Mark, SysctlKey};
pub use place::Place;
pub use plan::{Ownership, Plan, Step};
pub use port_mapping::{Aspect, Condition, HostPort, PortMapping, PortMasquerade, Transport};
pub use reconcile::{Reconciled, Reconciler, Scope};
pub use resource::{
    Address, Discipline, DontFragment, FdbEntry, ForwardJump, IpVersion, IpvlanMode, Isolation, Link,
    LinkKind, LinkSettings, MacvlanMode, Master, MovedLink, NeighbourEntry, NeighbourProxy, Neighbours,
    NextHop, OtherAddresses, OverlayRules, Parent, Port, PortVlan, Qdisc, Redirect, Resource, Route,
    RouteTarget, Rule, Selector, Sysctl, Tap, TokenBucket, VethPeer, Via, Vxlan,
};
pub use script::{Command, Script};
pub use watching::Change;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
