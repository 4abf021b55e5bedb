//! The real kernel, in namespaces made for each test.

#![cfg(test)]

mod addresses;
mod detached;
mod foreign;
mod forwarding;
mod links;
mod memory;
mod namespaces;
mod nft;
mod overlay;
mod overlay_alike;
mod packets;
mod plans;
mod port_mappings;
mod ports;
#[path = "../plans/mod.rs"]
mod random_plans;
mod reconcile;
mod routes;
mod script;
mod shaping;
mod sharing;
mod support;
mod sysctls;
mod uppers;
mod watching;
