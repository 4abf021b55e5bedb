//! What the reference's plugins (`containernetworking/plugins`, up to 1.9) leave for an attachment, most of it in
//! netfilter, and how it is told from what they leave for others. Its names are hashes of the owner's, so nothing has to
//! be remembered.
//!
//! | plugin | through `iptables` | through `nft` |
//! | --- | --- | --- |
//! | `bridge`, `ptp` | `nat CNI-…`, called from `POSTROUTING` | rules with a comment in `inet cni_plugins_masquerade` |
//! | `bridge` | | `bridge nat cni-br-iface-…`, called from `PREROUTING` |
//! | `portmap` | `nat CNI-DN-…`, called from `CNI-HOSTPORT-DNAT` | rules with a comment in `ip`/`ip6 cni_hostport` |
//! | `firewall` | two rules an address in `filter CNI-FORWARD`; `filter CNI-ISOLATION-STAGE-1`, called from `FORWARD` | |
//!
//! All functions give rules in the order of their removal: who calls before who is called.

use std::net::IpAddr;

use cni_spec::NetworkName;
use netops::{Entry, Family, ForeignChain, ForeignRules, LinkName, Resource};
use sha2::{Digest, Sha512};

use crate::owner::Owner;

/// The two families that `iptables` and `ip6tables` write to.
const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];
/// The table of masquerades that its nftables backend has.
const MASQUERADES: (&str, &str) = ("cni_plugins_masquerade", "masq_checks");
/// The chains with an attachment's rules in the table of its port mappings' nftables backend.
const HOST_PORTS: [&str; 4] = ["hostports", "hostip_hostports", "hostports_all", "masquerading"];
/// How many digits of a hash a name of `iptables` has room for, beside `CNI-` and 3 letters: 28 bytes.
const DIGITS: usize = 24;

/// The name of the interface (`ifb`) that `bandwidth` lets what a container sends wait in: either implementation removes
/// what the other has made.
///
/// # Panics
/// Never: it is 15 letters and digits.
pub fn waiting_room(owner: &Owner) -> LinkName {
    let name = format!("bwp{}", hash_of(&owner.network, owner.container.as_str(), 12));
    #[allow(clippy::expect_used)] // invariant: 15 letters and digits
    LinkName::new(&name).expect("a name of 15 letters and digits")
}

/// Masquerades, of all addresses that the attachment may have. The interface is no part of the chain's name: two
/// interfaces that a container has in one network share it, and the first `DEL` is both's, as with the reference.
pub fn masquerades(owner: &Owner) -> Vec<ForeignRules> {
    let chain = chain_name(&owner.network, owner.container.as_str(), "");
    let (table, name) = MASQUERADES;
    let in_iptables = BOTH.map(|family| of_nat(family, &chain).called_from(&["POSTROUTING"]));
    let in_nft = ForeignChain::new(Family::Inet, table, name).comment_begins(&instance(owner));
    in_iptables.into_iter().chain([in_nft]).collect()
}

/// The check of source MAC addresses (`macspoofchk`).
pub fn spoof_check(owner: &Owner) -> Vec<ForeignRules> {
    let chain = |suffix: &str| {
        let name = format!("cni-br-iface-{}-{}{suffix}", owner.container, owner.interface);
        ForeignChain::new(Family::Bridge, "nat", &name)
    };
    vec![chain("").called_from(&["PREROUTING"]), chain("-mac").called_from(&[])]
}

/// Port mappings. The nftables backend's rules tell the container, and nothing else.
pub fn port_mappings(owner: &Owner) -> Vec<ForeignRules> {
    let container = owner.container.as_str();
    // The second form is one of before 2018.
    let of_iptables = [("DN-", "CNI-HOSTPORT-DNAT"), ("SN-", "CNI-HOSTPORT-SNAT")]
        .map(|(kind, caller)| (chain_name(&owner.network, container, kind), caller));
    let mut rules = Vec::new();
    for family in BOTH {
        rules.extend(of_iptables.iter().map(|(chain, caller)| of_nat(family, chain).called_from(&[caller])));
        let chains = HOST_PORTS.map(|name| ForeignChain::new(family, "cni_hostport", name));
        rules.extend(chains.map(|chain| chain.commented(container)));
    }
    rules
}

/// What a firewall accepts. Only the addresses tell whose that is.
pub fn firewall(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<ForeignRules> {
    let forward = |address: IpAddr| {
        let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        ForeignChain::new(family, "filter", "CNI-FORWARD").about(address)
    };
    addresses.into_iter().map(forward).collect()
}

/// The rules of the reference's any of which does what something of ours does; none if it has nothing of the kind.
pub(crate) fn equivalents(resource: &Resource, owner: &Owner) -> Vec<ForeignRules> {
    let of_family = |rules: Vec<ForeignRules>, address: IpAddr| {
        let other = if address.is_ipv4() { Family::Ipv6 } else { Family::Ipv4 };
        rules.into_iter().filter(|rules| rules.chain.family != other).collect()
    };
    match resource {
        Resource::Entry(Entry::Masquerade(masquerade)) => of_family(masquerades(owner), masquerade.source),
        Resource::Entry(Entry::PortMapping(mapping)) => of_family(port_mappings(owner), mapping.to.ip()),
        // The first is what leads to the second.
        Resource::Entry(Entry::SpoofCheck(_)) => spoof_check(owner).into_iter().take(1).collect(),
        Resource::Entry(Entry::Forwarded(forwarded)) => firewall([forwarded.address]),
        Resource::ForwardJump(jump) => vec![called_from_forward(jump.version.into(), "CNI-FORWARD")],
        Resource::Isolation(_) => {
            BOTH.map(|family| called_from_forward(family, "CNI-ISOLATION-STAGE-1")).into()
        }
        _ => Vec::new(),
    }
}

fn called_from_forward(family: Family, chain: &str) -> ForeignRules {
    ForeignChain::new(family, "filter", chain).called_from(&["FORWARD"])
}

/// Chains whose rules' comments tell of which networks and containers there are rules.
pub(crate) fn indices() -> impl Iterator<Item = ForeignChain> {
    let (table, name) = MASQUERADES;
    let of_iptables = BOTH.into_iter().flat_map(|family| {
        ["POSTROUTING", "CNI-HOSTPORT-DNAT"].map(|name| ForeignChain::new(family, "nat", name))
    });
    of_iptables.chain([ForeignChain::new(Family::Inet, table, name)])
}

/// What the comments in one of the [`indices`] lead to: rules of a network, but for some owners'.
pub(crate) fn stale(
    network: &NetworkName,
    comments: &[String],
    valid: impl Fn(&str) -> bool,
    is_valid_instance: impl Fn(&str) -> bool,
) -> Vec<ForeignRules> {
    let mut rules = Vec::new();
    let ours = format!("{}-", &hash(network.as_str(), 16));
    for comment in comments {
        if let Some((named, container)) = names(comment) {
            if named == network.as_str() && !valid(container) {
                for (kind, caller) in [("", "POSTROUTING"), ("DN-", "CNI-HOSTPORT-DNAT")] {
                    let chain = chain_name(network, container, kind);
                    rules.extend(BOTH.map(|family| of_nat(family, &chain).called_from(&[caller])));
                }
            }
        } else if let (true, Some(instance)) = (comment.starts_with(&ours), comment.split(',').next())
            && !is_valid_instance(instance)
        {
            let (table, name) = MASQUERADES;
            rules.push(ForeignChain::new(Family::Inet, table, name).comment_begins(instance));
        }
    }
    rules
}

/// What the comment on a masquerade of an owner's begins with, in the nftables backend.
pub(crate) fn instance(owner: &Owner) -> String {
    let attachment = format!("{}:{}", owner.interface, owner.container);
    format!("{}-{}", hash(owner.network.as_str(), 16), hash(&attachment, 16))
}

/// The network and the container that a comment names: `name: "NETWORK" id: "CONTAINER"`, perhaps with a word before it.
fn names(comment: &str) -> Option<(&str, &str)> {
    let (_, names) = comment.split_once("name: \"")?;
    let (network, container) = names.split_once("\" id: \"")?;
    Some((network, container.strip_suffix('"')?))
}

fn of_nat(family: Family, chain: &str) -> ForeignChain {
    ForeignChain::new(family, "nat", chain)
}

fn chain_name(network: &NetworkName, container: &str, kind: &str) -> String {
    format!("CNI-{kind}{}", hash_of(network, container, DIGITS - kind.len()))
}

/// The first digits of the hash by which the reference calls what a container has on a network, whichever the
/// interface.
fn hash_of(network: &NetworkName, container: &str, digits: usize) -> String {
    hash(&format!("{network}{container}"), digits)
}

/// The first hexadecimal digits of a text's SHA-512.
fn hash(text: &str, digits: usize) -> String {
    let hash = Sha512::digest(text.as_bytes());
    let halves = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    halves.take(digits).filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            network: "test".parse().unwrap(),
            container: "1234".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        }
    }

    /// As `sha512sum` has it: what the reference calls its chains is for ever.
    #[test]
    fn names_are_the_references() {
        let names = |rules: Vec<ForeignRules>| rules.into_iter().map(|r| r.chain.name).collect::<Vec<_>>();
        assert_eq!(names(masquerades(&owner()))[0], "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert!(names(port_mappings(&owner()))[0].starts_with("CNI-DN-2bbe0c48b91a7d1b8a675"));
        assert!(names(port_mappings(&owner())).iter().all(|name| name.len() <= 28));
        assert_eq!(names(spoof_check(&owner()))[0], "cni-br-iface-1234-eth0");
    }

    #[test]
    fn comments_say_whose_rules_are_stale() {
        let comments = [
            r#"name: "test" id: "gone""#,
            r#"dnat name: "test" id: "1234""#,
            r#"name: "other" id: "gone""#,
            r#"name: "test" id: "cut..."#,
            "no comment of the reference's",
        ];
        let comments = comments.map(str::to_owned);
        let found = stale(&owner().network, &comments, |id| id == "1234", |_| true);
        let chain = chain_name(&owner().network, "gone", "");
        assert_eq!(found.len(), 4);
        assert!(found.iter().any(|rules| rules.chain.name == chain));

        let comments = [format!("{}, net: test", instance(&owner())), "0123-4567, net: other".to_owned()];
        assert_eq!(stale(&owner().network, &comments, |_| true, |_| false).len(), 1);
        assert_eq!(stale(&owner().network, &comments, |_| true, |i| i == instance(&owner())), []);
    }
}
