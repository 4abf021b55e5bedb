//! The names in cnikit's nf_tables ruleset, for whoever writes it (`linux/nft`, which draws it) or types it (`script`).

use ipnet::IpNet;

/// The table, in the families `inet` and `bridge`.
pub(crate) const TABLE: &str = "cnikit";
/// The base chain that looks up sources of packets that leave.
pub(crate) const POSTROUTING: &str = "postrouting";
/// The map of IPv4 sources.
pub(crate) const MASQUERADE4: &str = "masquerade4";
/// The map of IPv6 sources.
pub(crate) const MASQUERADE6: &str = "masquerade6";
/// The base chain that looks up bridge ports and source MAC addresses.
pub(crate) const PREROUTING: &str = "prerouting";
/// The set of bridge ports that are checked.
pub(crate) const CHECKED: &str = "checked";
/// The set of ports and the source MAC addresses that they may use.
pub(crate) const ALLOWED: &str = "allowed";

/// What a subnet's chain is called in front of the subnet.
const WITHIN: &str = "within-";

/// The chain that masquerades what leaves a subnet. `nft` takes no colon in a name.
pub(crate) fn chain_of(subnet: IpNet) -> String {
    format!("{WITHIN}{}", subnet.trunc()).replace(':', "_")
}

/// The subnet that a chain is of, if it is one's.
pub(crate) fn subnet_of(chain: &str) -> Option<IpNet> {
    chain.strip_prefix(WITHIN)?.replace('_', ":").parse().ok()
}
