//! cnikit's nf_tables ruleset: its names, in one place for whoever writes it (the kernel's messages) or types it (a
//! script's commands).
//!
//! ```text
//! table inet cnikit {
//!     map masquerade4 { type ipv4_addr : verdict; elements = { 10.22.0.5 comment "MARK" : goto subnet-10.22.0.0/16 } }
//!     map masquerade6 { type ipv6_addr : verdict }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr vmap @masquerade4
//!         ip6 saddr vmap @masquerade6
//!     }
//!     chain subnet-10.22.0.0/16 { ip daddr != { 10.22.0.0/16, 224.0.0.0/4 } masquerade }
//! }
//! table bridge cnikit {
//!     map ports { type ifname : verdict; elements = { "veth0" comment "MARK" : goto port-veth0 } }
//!     chain prerouting { type filter hook prerouting priority dstnat; policy accept; iifname vmap @ports }
//!     chain port-veth0 { ether saddr != 02:00:00:00:00:01 drop }
//! }
//! ```

use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::LinkName;

/// The table, in either family.
pub(crate) const TABLE: &str = "cnikit";
/// The base chain that looks sources up.
pub(crate) const POSTROUTING: &str = "postrouting";
/// The map of IPv4 sources.
pub(crate) const MASQUERADE4: &str = "masquerade4";
/// The map of IPv6 sources.
pub(crate) const MASQUERADE6: &str = "masquerade6";
/// The base chain that looks bridge ports up.
pub(crate) const PREROUTING: &str = "prerouting";
/// The map of bridge ports.
pub(crate) const PORTS: &str = "ports";

/// The map that a source is looked up in.
pub(crate) fn masquerade_map(source: IpAddr) -> &'static str {
    match source {
        IpAddr::V4(_) => MASQUERADE4,
        IpAddr::V6(_) => MASQUERADE6,
    }
}

/// The chain that masquerades what leaves a subnet. nft takes no colon in a name.
pub(crate) fn subnet_chain(subnet: IpNet) -> String {
    format!("subnet-{}", subnet.trunc()).replace(':', "-")
}

/// The chain that checks what a bridge port sends.
pub(crate) fn port_chain(port: &LinkName) -> String {
    format!("port-{port}")
}

/// Where packets are never masqueraded to, besides their own subnet: multicast.
pub(crate) fn multicast(family_of: IpAddr) -> &'static str {
    match family_of {
        IpAddr::V4(_) => "224.0.0.0/4",
        IpAddr::V6(_) => "ff00::/8",
    }
}
