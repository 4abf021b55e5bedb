//! Real agents on real kernels: nodes are namespaces on a segment, pods are namespaces of their own, and what counts is
//! which packets arrive, from where, and how many do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a panic is how a test speaks

mod bulk;
mod common;
mod everybody;
mod faults;
mod injection;
mod ipv6_below;
mod joined;
mod kernel;
mod keys;
mod kubernetes;
mod leaks;
mod members;
mod mtu;
mod partitions;
mod routed;
mod soon;
mod status;
mod store;
mod subnets;
mod wire;
