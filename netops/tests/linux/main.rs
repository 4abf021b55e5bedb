//! The real kernel, in namespaces made for each test.

#![cfg(test)]

mod addresses;
mod detached;
mod links;
mod memory;
mod namespaces;
mod nft;
mod plans;
mod ports;
mod routes;
mod sharing;
mod support;
mod sysctls;
