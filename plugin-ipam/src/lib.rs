//! The CNI address management plugins host-local and static.
