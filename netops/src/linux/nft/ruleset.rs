//! What is laid out in nf_tables, and how entries hang from it. As `nft list ruleset` prints it:
//!
//! ```text
//! table inet cnikit {
//!     map masquerade4 {
//!         type ipv4_addr : verdict
//!         elements = { 10.22.0.5 comment "…" : jump within-10.22.0.0/16 }
//!     }
//!     map masquerade6 { type ipv6_addr : verdict }
//!     chain within-10.22.0.0/16 {
//!         ip daddr 10.22.0.0/16 return
//!         ip daddr != 224.0.0.0/4 masquerade
//!     }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr vmap @masquerade4
//!         ip6 saddr vmap @masquerade6
//!     }
//!     map hostports4 {
//!         type inet_proto . inet_service : verdict
//!         elements = { tcp . 8080 comment "…" : jump backends4-snat-10.22.0.0/16-13 }
//!     }
//!     map backends4 {
//!         type inet_proto . inet_service : ipv4_addr . inet_service
//!         elements = { tcp . 8080 : 10.22.0.5 . 80 }
//!     }
//!     map hostports_at4 { type ipv4_addr . inet_proto . inet_service : verdict }
//!     map backends_at4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!     … the same of IPv6
//!     chain hostports {
//!         ip daddr . meta l4proto . th dport vmap @hostports_at4
//!         meta nfproto ipv4 meta l4proto . th dport vmap @hostports4
//!         … the same of IPv6
//!     }
//!     chain prerouting {
//!         type nat hook prerouting priority dstnat; policy accept;
//!         fib daddr type local jump hostports
//!     }
//!     chain output {
//!         type nat hook output priority -100; policy accept;
//!         fib daddr type local jump hostports
//!     }
//!     chain backends4-snat-10.22.0.0/16-13 {
//!         ip saddr 10.22.0.0/16 meta mark set meta mark | 0x00002000
//!         ip saddr 127.0.0.0/8 meta mark set meta mark | 0x00002000
//!         dnat ip to meta l4proto . th dport map @backends4
//!     }
//!     chain marked-13 {
//!         type nat hook postrouting priority srcnat - 1; policy accept;
//!         meta mark & 0x00002000 == 0x00002000 masquerade
//!     }
//!     … and maps and chains named spare_…, once a container has its ports in two networks
//!     set pods4 {
//!         type ipv4_addr
//!         elements = { 10.22.0.5 comment "…" }
//!     }
//!     set pods6 { type ipv6_addr }
//!     chain forward {
//!         type filter hook forward priority filter - 1; policy accept;
//!         meta mark set meta mark & 0xffffefff
//!         ip saddr @pods4 meta mark set meta mark | 0x00001000
//!         ip daddr @pods4 ct state established,related meta mark set meta mark | 0x00001000
//!         … the same of ip6 and @pods6
//!     }
//!     chain forwarded {
//!         type filter hook forward priority filter + 1; policy accept;
//!         meta mark set meta mark & 0xffffefff
//!     }
//!     set closed {
//!         type ifname
//!         elements = { "cni0", "cni1" }
//!     }
//!     set within {
//!         type ifname . ifname
//!         elements = { "cni0" . "cni0" }
//!     }
//!     set isolated {
//!         type ifname . ifname
//!         elements = { "cni1" . "cni1" }
//!     }
//!     chain isolation {
//!         type filter hook forward priority filter - 1; policy accept;
//!         iifname . oifname @isolated drop
//!         iifname @closed oifname @closed iifname . oifname != @within drop
//!     }
//! }
//! table bridge cnikit {
//!     set checked {
//!         type ifname
//!         elements = { "veth1" comment "02:00:00:00:00:02" }
//!     }
//!     set allowed {
//!         type ifname . ether_addr
//!         elements = { "veth1" . 02:00:00:00:00:02 comment "…" }
//!     }
//!     chain prerouting {
//!         type filter hook prerouting priority dstnat; policy accept;
//!         iifname @checked iifname . ether saddr != @allowed drop
//!     }
//! }
//! ```
//!
//! A connection costs one look-up, one to this node a few more, a frame one or two, a packet that is forwarded two, and one where bridges are isolated,
//! however many pods there are; a pod is an element or two. The comments are marks; that in `checked` says by which key a
//! port is found in `allowed`.

use std::collections::BTreeSet;

use super::element::{Element, Key, Set};
use super::message::Table;
use super::transaction::Transaction;
use super::{forwarded, masquerade, port_mapping, spoof_check};
use crate::entry::{Entry, EntryKey, EntryKind};
use crate::name::Mark;
use crate::ruleset::TABLE;

pub(super) const INET: Table = Table { family: libc::NFPROTO_INET, name: TABLE };
pub(super) const BRIDGE: Table = Table { family: libc::NFPROTO_BRIDGE, name: TABLE };

/// An element and what it is in.
pub(super) type Placed = (&'static Set, Element);

/// Where the element is that says all about an entry.
pub(super) enum Whereabouts {
    /// Here.
    Element(&'static Set, Key),
    /// Where another element says.
    SaidBy(&'static Set, Key, fn(&EntryKey, &Element) -> Option<(&'static Set, Key)>),
}

/// The elements that an entry consists of. One of them bears its mark, and all that there is to know of it.
pub(super) fn elements(entry: &Entry) -> Vec<Placed> {
    match entry {
        Entry::Masquerade(masquerade) => vec![masquerade::element(masquerade)],
        Entry::PortMapping(mapping) => port_mapping::elements(mapping).into(),
        Entry::SpoofCheck(check) => spoof_check::elements(check).into(),
        Entry::Forwarded(forwarded) => vec![forwarded::element(forwarded)],
    }
}

/// Where to look for the entry of a key.
pub(super) fn whereabouts(key: &EntryKey) -> Whereabouts {
    match key {
        EntryKey::Masquerade(source) => masquerade::whereabouts(*source),
        EntryKey::PortMapping(port) => port_mapping::whereabouts(port),
        EntryKey::SpoofCheck(port) => spoof_check::whereabouts(port),
        EntryKey::Forwarded(address) => forwarded::whereabouts(*address),
    }
}

/// The sets whose elements say all about the entries of a kind.
pub(super) fn sets(kind: EntryKind) -> &'static [&'static Set] {
    match kind {
        EntryKind::Masquerade => masquerade::SETS,
        EntryKind::PortMapping => &port_mapping::SETS,
        EntryKind::SpoofCheck => spoof_check::SETS,
        EntryKind::Forwarded => forwarded::SETS,
    }
}

/// The entry that an element of one of a kind's [`sets`] says all about, if it is one of ours.
pub(super) fn parse(kind: EntryKind, element: &Element) -> Option<Entry> {
    let mark = Mark::new(element.comment.as_deref()?).ok()?;
    match kind {
        EntryKind::Masquerade => masquerade::parse(element, mark).map(Entry::Masquerade),
        EntryKind::PortMapping => port_mapping::parse(element, mark).map(Entry::PortMapping),
        EntryKind::SpoofCheck => spoof_check::parse(element, mark).map(Entry::SpoofCheck),
        EntryKind::Forwarded => forwarded::parse(element, mark).map(Entry::Forwarded),
    }
}

/// Makes all that entries hang from, the same whether it is there in part, in whole or not at all.
pub(super) fn lay_out(transaction: &mut Transaction, entries: &[&Entry]) {
    let kinds: BTreeSet<_> = entries.iter().map(|entry| entry.key().kind()).collect();
    for kind in kinds {
        match kind {
            EntryKind::Masquerade => masquerade::lay_out(transaction, entries),
            EntryKind::PortMapping => port_mapping::lay_out(transaction, entries),
            EntryKind::SpoofCheck => spoof_check::lay_out(transaction),
            EntryKind::Forwarded => forwarded::lay_out(transaction),
        }
    }
}
