//! Thousands of nodes of an overlay in one process, on a clock of their own.
//!
//! ```text
//! World       nodes, what is under way between them, and a clock: one thing happens after the other, the same way for one seed
//! network     how datagrams are lost, delayed, doubled and overtaken, streams refused and broken, and who cannot reach whom
//! faults      what can happen to nodes
//! machine     a node: the very code that agents run (overlay::Mesh), its disk, its clock
//! check       what must be so after every step
//! history     why that may be otherwise for a while
//! knowledge   whether nodes know what they should
//! script      what happens, as a list: drawn at random, played, and read by people
//! measure     how long, how many, how much
//! svg         a plot
//! ```
//!
//! Nothing in it waits, and nothing is random but by the seed: a run that has found a fault can be run again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a simulation that goes wrong has to say where

mod check;
mod faults;
mod history;
mod knowledge;
mod machine;
pub mod measure;
mod network;
pub mod script;
pub mod svg;
mod world;

pub use check::Check;
pub use machine::{Machine, hardware};
pub use network::Network;
pub use world::{World, WorldSettings};
