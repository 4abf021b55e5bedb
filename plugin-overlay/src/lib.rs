//! The CNI plugin `overlay`: a bridge whose subnet comes from the node's agent.

mod node_file;

pub use node_file::{Assigned, DIRECTORY, Duplicate, NodeFile};
