//! The agent that joins a node to the others.

pub mod store;
