//! A disk whose power is cut: what can be on it then of what some calls wrote.
//!
//! | layer | what it is |
//! | --- | --- |
//! | [`Disk`] | the writes that calls make below a directory, in order, as `strace(1)` tells them |
//! | [`Cut`] | one instant, and one choice of what reached the disk until then |
//! | [`Tree`] | files, directories and hard links, to be compared and to be made |
//!
//! The disk keeps no more than POSIX promises: `fsync` of a file keeps its content, `fsync` of a directory its entries, and
//! of everything else any part may be lost, in any order. A write may be torn: some of its bytes are there, and the file has
//! their length, or the whole one with zeros in it. A rename is in place as a whole or not at all. Real file systems are kinder,
//! each in its own way.

mod model;
mod trace;
mod tree;

pub use model::{Cut, Disk};
pub use tree::Tree;
