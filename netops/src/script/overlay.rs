//! `ip nexthop`, `ip neighbour`, `bridge fdb`, and the packet filter of an overlay.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::kernel::Edit;
use crate::resource::{
    FdbEntry, IpVersion, NeighbourEntry, NeighbourProxy, NextHop, OverlayRules, Resource, Via, Vxlan,
};
use crate::ruleset::{
    BEFORE_DESTINATION_NAT, BRIDGES, INPUT, OVERLAY_TABLE, POSTROUTING, PREROUTING, TUNNELS, range_sets,
};

use super::Step;

impl Step<'_> {
    /// Many things are typed one by one, and each replaces what is in its place.
    pub(super) fn edit(&mut self, edit: Edit<'_>) {
        let verb = if matches!(edit, Edit::Make(_)) { "add" } else { "replace" };
        match (edit, edit.resource()) {
            (Edit::Remove(_), Resource::NextHop(hop)) => self.remove_next_hop(hop),
            (Edit::Remove(_), Resource::Neighbour(neighbour)) => self.remove_neighbour(neighbour),
            (Edit::Remove(_), Resource::Proxy(proxy)) => self.remove_proxy(proxy),
            (Edit::Remove(_), Resource::Fdb(entry)) => self.remove_fdb(entry),
            (Edit::Remove(_), Resource::Route(route)) => self.route("delete", route),
            (_, Resource::NextHop(hop)) => self.next_hop(verb, hop),
            (_, Resource::Neighbour(neighbour)) => self.neighbour(verb, neighbour),
            (_, Resource::Proxy(proxy)) => self.proxy("replace", proxy),
            (_, Resource::Fdb(entry)) => self.fdb(verb, entry),
            (_, Resource::Route(route)) => self.route(verb, route),
            _ => {}
        }
    }

    pub(super) fn next_hop(&mut self, verb: &str, hop: &NextHop) {
        let mut args = Vec::new();
        let mut words = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
        // Without a gateway nothing else says of which version it is.
        if hop.via.version() == IpVersion::V6 {
            words(&["-6"]);
        }
        words(&["nexthop", verb, "id", &hop.id.to_string()]);
        match &hop.via {
            Via::Gateway { address, link, onlink } => {
                words(&["via", &address.to_string(), "dev", link.as_str()]);
                words(if *onlink { &["onlink"] } else { &[] });
            }
            Via::Link { link, .. } => words(&["dev", link.as_str()]),
            Via::Blackhole { .. } => words(&["blackhole"]),
        }
        words(&["protocol", &hop.protocol.to_string()]);
        self.ip(args);
    }

    pub(super) fn remove_next_hop(&mut self, hop: &NextHop) {
        self.ip(["nexthop", "delete", "id", &hop.id.to_string()]);
    }

    pub(super) fn neighbour(&mut self, verb: &str, neighbour: &NeighbourEntry) {
        let NeighbourEntry { link, address, mac, protocol } = neighbour;
        self.ip([
            "neighbour",
            verb,
            &address.to_string(),
            "lladdr",
            &mac.to_string(),
            "dev",
            link.as_str(),
            "nud",
            "permanent",
            "protocol",
            &protocol.to_string(),
        ]);
    }

    pub(super) fn remove_neighbour(&mut self, neighbour: &NeighbourEntry) {
        self.ip(["neighbour", "delete", &neighbour.address.to_string(), "dev", neighbour.link.as_str()]);
    }

    pub(super) fn proxy(&mut self, verb: &str, proxy: &NeighbourProxy) {
        let (address, protocol) = (proxy.address.to_string(), proxy.protocol.to_string());
        let link = proxy.link.as_str();
        self.ip(["neighbour", verb, "proxy", &address, "dev", link, "protocol", &protocol]);
    }

    pub(super) fn remove_proxy(&mut self, proxy: &NeighbourProxy) {
        self.ip(["neighbour", "delete", "proxy", &proxy.address.to_string(), "dev", proxy.link.as_str()]);
    }

    pub(super) fn fdb(&mut self, verb: &str, entry: &FdbEntry) {
        let FdbEntry { link, mac, remote } = entry;
        let (mac, remote) = (mac.to_string(), remote.to_string());
        let args = ["fdb", verb, &mac, "dev", link.as_str(), "dst", &remote, "self", "permanent"];
        self.in_namespace("bridge", args);
    }

    pub(super) fn remove_fdb(&mut self, entry: &FdbEntry) {
        let mac = entry.mac.to_string();
        self.in_namespace("bridge", ["fdb", "delete", &mac, "dev", entry.link.as_str(), "self"]);
    }

    /// All of it is made anew, at one stroke.
    pub(super) fn overlay_rules(&mut self, wanted: &OverlayRules) {
        let wanted = wanted.kept();
        let table = format!("inet {OVERLAY_TABLE}");
        let mut words = vec![format!("add table {table}; delete table {table}; add table {table}")];
        words.push(format!("add set {table} {TUNNELS} {{ type inet_proto . inet_service; }}"));
        if let Some(port) = wanted.tunnel_port {
            words.push(format!("add element {table} {TUNNELS} {{ udp . {port} }}"));
        }
        words.push(format!("add set {table} {BRIDGES} {{ type ifname; }}"));
        if let Some(bridge) = &wanted.bridge {
            words.push(format!("add element {table} {BRIDGES} {{ \"{bridge}\" }}"));
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            let kind = if version == IpVersion::V4 { "ipv4_addr" } else { "ipv6_addr" };
            let (sources, exceptions) = range_sets(version);
            for (set, prefixes) in [(sources, &wanted.sources), (exceptions, &wanted.exceptions)] {
                words.push(format!("add set {table} {set} {{ type {kind}; flags interval; }}"));
                let of_version = prefixes.iter().filter(|prefix| IpVersion::of(prefix.addr()) == version);
                let prefixes: Vec<_> = of_version.map(ToString::to_string).collect();
                if !prefixes.is_empty() {
                    words.push(format!("add element {table} {set} {{ {} }}", prefixes.join(", ")));
                }
            }
        }
        words.push(format!(
            "add chain {table} {POSTROUTING} {{ type nat hook postrouting priority srcnat; policy accept; }}"
        ));
        for (chain, priority) in [(PREROUTING, BEFORE_DESTINATION_NAT), (INPUT, 100)] {
            words.push(format!(
                "add chain {table} {chain} {{ type nat hook {chain} priority {priority}; policy accept; }}"
            ));
        }
        let mut rules = vec![format!("{POSTROUTING} meta l4proto . th dport @{TUNNELS} return")];
        for (version, ip) in [(IpVersion::V4, "ip"), (IpVersion::V6, "ip6")] {
            let (sources, exceptions) = range_sets(version);
            rules.push(format!(
                "{POSTROUTING} {ip} saddr @{sources} {ip} daddr != @{exceptions} masquerade fully-random"
            ));
        }
        if let Some(port) = wanted.tunnel_port {
            let others = |chain| {
                [format!("{chain} meta l4proto != udp accept"), format!("{chain} th dport != {port} accept")]
            };
            let from_pods = |chain, verdict| {
                let rule = move |net: &IpNet| {
                    let ip = if net.addr().is_ipv4() { "ip" } else { "ip6" };
                    format!("{chain} {ip} saddr {net} {verdict}")
                };
                wanted.sources.iter().map(rule).collect::<Vec<_>>()
            };
            rules.extend(others(PREROUTING));
            rules.push(format!("{PREROUTING} iifname != @{BRIDGES} accept"));
            rules.extend(from_pods(PREROUTING, "accept"));
            rules.push(format!("{PREROUTING} drop"));
            rules.extend(others(INPUT));
            rules.extend(from_pods(INPUT, "drop"));
        }
        words.extend(rules.iter().map(|rule| format!("add rule {table} {rule}")));
        self.nft(words.join("; "));
    }

    pub(super) fn remove_overlay_rules(&mut self) {
        self.nft(format!("delete table inet {OVERLAY_TABLE}"));
    }
}

/// What `ip link add … type vxlan` is told.
pub(super) fn vxlan(vxlan: &Vxlan) -> Vec<String> {
    let Vxlan { vni, port, local, dont_fragment } = vxlan;
    let mut words = vec!["id".to_owned(), vni.to_string(), "dstport".to_owned(), port.to_string()];
    words.extend(local.iter().flat_map(|local: &IpAddr| ["local".to_owned(), local.to_string()]));
    let fragments = ["df".to_owned(), dont_fragment.to_string()];
    words.extend(["nolearning", "noudpcsum"].map(str::to_owned).into_iter().chain(fragments));
    words
}
