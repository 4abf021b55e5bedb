//! The executable itself, on nodes made for each test: network and mount namespaces of its own.

#![cfg(test)]

mod agent;
mod attach;
mod beside;
mod clean;
mod doctor;
mod double;
mod explain;
mod install;
mod list;
mod network_of_nodes;
mod node;
mod output;
mod overlay;
mod repair;
mod trace;
