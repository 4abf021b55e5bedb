//! The agent that joins a node to the others.

pub mod log;
pub mod pods;
pub mod store;
