//! Real agents on real kernels: nodes are namespaces on a segment, pods are namespaces of their own, and what counts is
//! which packets arrive, from where, and how many do not.

mod common;
mod everybody;
mod faults;
mod kernel;
mod keys;
mod members;
mod partitions;
mod subnets;
