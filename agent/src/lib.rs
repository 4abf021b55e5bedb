//! The agent that joins a node to the others.

pub mod log;
pub mod store;
