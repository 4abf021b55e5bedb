//! What an overlay has the packet filter do, in a table of its own. As `nft list ruleset` prints it:
//!
//! ```text
//! table inet cnikit-overlay {
//!     set sources4 {
//!         type ipv4_addr
//!         flags interval
//!         elements = { 10.244.0.0/16 }
//!     }
//!     set exceptions4 {
//!         type ipv4_addr
//!         flags interval
//!         elements = { 10.244.0.0/16, 224.0.0.0/4 }
//!     }
//!     set sources6 { type ipv6_addr; flags interval }
//!     set exceptions6 { type ipv6_addr; flags interval; elements = { ff00::/8 } }
//!     set tunnels {
//!         type inet_proto . inet_service
//!         elements = { udp . 8472 }
//!     }
//!     set bridges {
//!         type ifname
//!         elements = { "cni0" }
//!     }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         meta l4proto . th dport @tunnels return
//!         ip saddr @sources4 ip daddr != @exceptions4 masquerade fully-random
//!         ip6 saddr @sources6 ip6 daddr != @exceptions6 masquerade fully-random
//!     }
//!     chain prerouting {
//!         type nat hook prerouting priority dstnat - 10; policy accept;
//!         meta l4proto != udp accept
//!         th dport != 8472 accept
//!         iifname != @bridges accept
//!         ip saddr 10.244.0.0/16 accept
//!         drop
//!     }
//!     chain input {
//!         type nat hook input priority 100; policy accept;
//!         meta l4proto != udp accept
//!         th dport != 8472 accept
//!         ip saddr 10.244.0.0/16 drop
//!     }
//! }
//! ```
//!
//! All of it is what one value says: it is made anew as a whole, and read back as a whole.
//!
//! Chains of the type `nat` are asked about the first packet of a connection alone (`nf_nat_inet_fn()`), and as one that is dropped
//! makes no connection, the next is a first one, too. So what is dropped costs streams nothing; chains of filters, which are asked
//! about each packet, would take 5 % of what a tunnel carries. A connection that there was before these chains goes on.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::element::{self, Element, Key, Set};
use super::expression::{Field, Verdict, Version};
use super::masquerade::SOURCE_NAT;
use super::message::{self, Table};
use super::rule::Rule;
use super::transaction::{Hook, Transaction};
use super::{dump, first_refusal, send};
use crate::error::{Errno, Error, Operation};
use crate::kernel::{Created, Removed};
use crate::linux::netlink::Datagram;
use crate::linux::{LinuxKernel, refused};
use crate::place::Place;
use crate::resource::OverlayRules;
use crate::ruleset::{self, BEFORE_DESTINATION_NAT, INPUT, POSTROUTING, PREROUTING};

const TABLE: Table = Table { family: libc::NFPROTO_INET, name: ruleset::OVERLAY_TABLE };
const TUNNELS: Set = set(ruleset::TUNNELS, &[Field::Transport, Field::DestinationPort]);
const BRIDGES: Set = set(ruleset::BRIDGES, &[Field::InputInterface]);

const fn set(name: &'static str, key: &'static [Field]) -> Set {
    Set::new(TABLE, name, key)
}

/// The sets of a version of IP.
struct Sets {
    sources: Set,
    exceptions: Set,
}

fn sets(version: Version) -> Sets {
    let (sources, exceptions) = ruleset::range_sets(version);
    match version {
        Version::V4 => Sets {
            sources: set(sources, &[Field::Source(Version::V4)]),
            exceptions: set(exceptions, &[Field::Destination(Version::V4)]),
        },
        Version::V6 => Sets {
            sources: set(sources, &[Field::Source(Version::V6)]),
            exceptions: set(exceptions, &[Field::Destination(Version::V6)]),
        },
    }
}

/// The chains, and the rules in each, of what is said in its shortest form.
fn chains(wanted: &OverlayRules) -> [(&'static str, Hook, Vec<Rule>); 3] {
    let hook = |number, priority| Hook { kind: "nat", number, priority };
    let to_tunnels = Rule::default().in_set(TUNNELS.key, TUNNELS.name).verdict(Verdict::Return);
    let others = |port| {
        let rules = [Rule::default().not_of_transport(libc::IPPROTO_UDP), Rule::default().not_to_port(port)];
        rules.map(|rule| rule.verdict(Verdict::Accept))
    };
    let from_pods = |verdict: Verdict| {
        let rule = move |net: &IpNet| Rule::default().within(Field::Source, *net).verdict(verdict.clone());
        wanted.sources.iter().map(rule).collect::<Vec<_>>()
    };
    let disguised = Rule::default().verdict(Verdict::Drop);
    let elsewhere = Rule::default().not_in_set(BRIDGES.key, BRIDGES.name).verdict(Verdict::Accept);
    let masquerade = |version| {
        let Sets { sources, exceptions } = sets(version);
        Rule::default()
            .in_set(sources.key, sources.name)
            .not_in_set(exceptions.key, exceptions.name)
            .masquerade_fully_random()
    };
    let (prerouting, input) = match wanted.tunnel_port {
        Some(port) => (
            [&others(port)[..], &[elsewhere], &from_pods(Verdict::Accept), &[disguised]].concat(),
            [&others(port)[..], &from_pods(Verdict::Drop)].concat(),
        ),
        None => (Vec::new(), Vec::new()),
    };
    [
        (POSTROUTING, SOURCE_NAT, vec![to_tunnels, masquerade(Version::V4), masquerade(Version::V6)]),
        (PREROUTING, hook(libc::NF_INET_PRE_ROUTING, BEFORE_DESTINATION_NAT), prerouting),
        (INPUT, hook(libc::NF_INET_LOCAL_IN, SOURCE_NAT.priority), input),
    ]
}

pub(in crate::linux) fn create(
    kernel: &mut LinuxKernel,
    place: Place,
    wanted: &OverlayRules,
) -> Result<Created, Error> {
    let object = NAME;
    let before = look(kernel, place)?;
    if before.as_ref() == Some(&wanted.kept()) {
        return Ok(Created::Kept);
    }
    let mut transaction = Transaction::default();
    // So that there is one to delete.
    transaction.table(TABLE);
    transaction.delete_table(TABLE);
    lay_out(&mut transaction, &wanted.kept());
    let replies = send(kernel, place, transaction, Operation::Create, object)?;
    let refusal = |(_, refusal)| refused(Operation::Create, place, object, refusal);
    first_refusal(replies, &[]).map_err(refusal)?;
    Ok(before.map_or(Created::New, |before| Created::Changed(before.into())))
}

pub(in crate::linux) fn remove(kernel: &mut LinuxKernel, place: Place) -> Result<Removed, Error> {
    let mut transaction = Transaction::default();
    transaction.delete_table(TABLE);
    match first_refusal(send(kernel, place, transaction, Operation::Remove, NAME)?, &[]) {
        Ok(()) => Ok(Removed::Now),
        Err((_, refusal)) if refusal.errno == Errno::ENOENT => Ok(Removed::Before),
        Err((_, refusal)) => Err(refused(Operation::Remove, place, NAME, refusal)),
    }
}

/// What there is, if its rules are all there.
pub(in crate::linux) fn look(kernel: &mut LinuxKernel, place: Place) -> Result<Option<OverlayRules>, Error> {
    let mut found = OverlayRules::default();
    for version in [Version::V4, Version::V6] {
        let Sets { sources, exceptions } = sets(version);
        found.sources.extend(ranges(kernel, place, &sources)?);
        found.exceptions.extend(ranges(kernel, place, &exceptions)?);
    }
    found.tunnel_port = first(kernel, place, &TUNNELS)?.and_then(|key| key.as_port());
    found.bridge = first(kernel, place, &BRIDGES)?.and_then(|key| key.as_interface());
    let found = found.kept();
    for (chain, _, wanted) in chains(&found) {
        let mut request = Datagram::default();
        message::get_rules_of(&mut request, TABLE, chain);
        let there = dump(kernel, place, &mut request, NAME)?;
        let same = |(there, wanted): (&Vec<u8>, &Rule)| wanted.is(message::content(there));
        if there.len() != wanted.len() || !there.iter().zip(&wanted).all(same) {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// The key of a set's first element.
fn first(kernel: &mut LinuxKernel, place: Place, set: &Set) -> Result<Option<Key>, Error> {
    let mut request = Datagram::default();
    element::get_all(&mut request, set);
    let bodies = dump(kernel, place, &mut request, NAME)?;
    Ok(bodies.iter().flat_map(|body| element::parse(body)).next().map(|element| element.key))
}

fn lay_out(transaction: &mut Transaction, wanted: &OverlayRules) {
    transaction.table(TABLE);
    transaction.set(&TUNNELS);
    transaction.set(&BRIDGES);
    let key = |port| Key::default().transport(libc::IPPROTO_UDP as u8).port(port);
    let port = wanted.tunnel_port.map(|port| (&TUNNELS, key(port)));
    let bridge = wanted.bridge.as_ref().map(|bridge| (&BRIDGES, Key::default().interface(bridge)));
    for (set, key) in port.into_iter().chain(bridge) {
        transaction.add(set, &Element::of_key(key));
    }
    for version in [Version::V4, Version::V6] {
        let Sets { sources, exceptions } = sets(version);
        for (set, prefixes) in [(sources, &wanted.sources), (exceptions, &wanted.exceptions)] {
            transaction.set_of_ranges(&set);
            let of_version = prefixes.iter().filter(|prefix| Version::of(prefix.addr()) == version);
            transaction.ranges(&set, &bounds(of_version));
        }
    }
    for (chain, hook, rules) in chains(wanted) {
        transaction.chain(TABLE, chain, Some(hook));
        rules.iter().for_each(|rule| transaction.rule(TABLE, chain, rule));
    }
}

/// Where ranges begin, and the first address behind them.
fn bounds<'a>(prefixes: impl Iterator<Item = &'a IpNet>) -> Vec<(Key, Option<Key>)> {
    let key = |address| Key::default().address(address);
    prefixes.map(|prefix| (key(prefix.network()), after(prefix.broadcast()).map(key))).collect()
}

/// The next address, unless it is the last.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => u32::from(address).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => u128::from(address).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

/// The prefixes that a set of ranges consists of.
fn ranges(kernel: &mut LinuxKernel, place: Place, set: &Set) -> Result<Vec<IpNet>, Error> {
    let mut request = Datagram::default();
    element::get_all(&mut request, set);
    let bodies = dump(kernel, place, &mut request, NAME)?;
    let bounds = bodies.iter().flat_map(|body| element::parse_bounds(body));
    let bounds = bounds.filter_map(|(key, is_end)| Some((key.as_address()?, is_end)));
    // The kernel lists them backwards or forwards; where one range ends, another may begin.
    let mut bounds: Vec<_> = bounds.collect();
    bounds.sort_by_key(|(address, is_end)| (*address, !is_end));
    let mut found = Vec::new();
    let mut begun = None;
    for (address, is_end) in bounds {
        match (begun, is_end) {
            (Some(first), true) => {
                found.extend(prefixes(first, address));
                begun = None;
            }
            (None, false) => begun = Some(address),
            _ => {}
        }
    }
    found.extend(begun.into_iter().flat_map(prefixes_to_the_last));
    Ok(found)
}

/// The prefixes from an address to the one before another.
fn prefixes(first: IpAddr, end: IpAddr) -> Vec<IpNet> {
    match (first, end) {
        (IpAddr::V4(first), IpAddr::V4(end)) => {
            let last = u32::from(end).saturating_sub(1).into();
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(end)) => {
            let last = u128::from(end).saturating_sub(1).into();
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    }
}

fn prefixes_to_the_last(first: IpAddr) -> Vec<IpNet> {
    match first {
        IpAddr::V4(first) => Ipv4Subnets::new(first, u32::MAX.into(), 0).map(IpNet::V4).collect(),
        IpAddr::V6(first) => Ipv6Subnets::new(first, u128::MAX.into(), 0).map(IpNet::V6).collect(),
    }
}

/// What it is, as errors name it.
const NAME: &str = "packet filter of the overlay";
