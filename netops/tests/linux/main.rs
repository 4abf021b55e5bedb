//! The real kernel, in namespaces made for each test.

#![cfg(test)]

mod detached;
mod links;
mod nft;
mod sharing;
mod support;
