//! `cnikit`: shows, tries, explains and checks container networks.

fn main() {}
