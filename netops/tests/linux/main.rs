//! The real kernel, in namespaces made for each test.

#![cfg(test)]

mod links;
mod nft;
mod sharing;
mod support;
