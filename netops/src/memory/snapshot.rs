//! Everything on a machine, as lines that can be compared.

use std::fmt;

use super::addresses::Held;
use super::machine::{Machine, NamespaceId};
use super::namespace::{Interface, Kind, Namespace};
use super::{links, overlay, routes, rules, shaping, sysctls};
use crate::resource::{RouteTarget, Rule};

/// Everything on a machine at one time, a line for each thing: what `==` compares and what an assertion prints.
///
/// The order in which things came to be is not in it, nor are interface indices: what is made again is the same. Nor is
/// what is left behind whatever one does: 127.0.0.1/8 on a loopback interface that is down again, tables and chains, and
/// the way through the host's own packet filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    lines: Vec<String>,
}

impl Snapshot {
    pub(super) fn of(machine: &Machine) -> Self {
        let mut lines = Vec::new();
        for (number, (id, namespace)) in machine.namespaces.iter().enumerate() {
            let place = place(number);
            let mut of_place = describe(machine, *id, namespace);
            of_place.sort();
            lines.extend(of_place.into_iter().map(|line| format!("{place}: {line}")));
        }
        Self { lines }
    }

    /// The lines, sorted within their namespace.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What is different in another snapshot: `-` before what only this one has, `+` before what only that one has;
    /// empty if they are the same.
    pub fn difference(&self, other: &Self) -> String {
        let gone =
            self.lines.iter().filter(|line| !other.lines.contains(line)).map(|line| format!("- {line}\n"));
        let come =
            other.lines.iter().filter(|line| !self.lines.contains(line)).map(|line| format!("+ {line}\n"));
        gone.chain(come).collect()
    }

    /// Asserts that another snapshot, taken later, is the same.
    ///
    /// # Panics
    /// If it is not, with the difference.
    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion for tests")]
    pub fn assert_same(&self, now: &Self) {
        if self != now {
            panic!("the kernel is not as it was:\n{}", self.difference(now));
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// As it is displayed: an assertion's message is for reading.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

fn place(number: usize) -> String {
    match number {
        0 => "host".to_owned(),
        1 => "container".to_owned(),
        n => format!("container {n}"),
    }
}

fn describe(machine: &Machine, id: NamespaceId, namespace: &Namespace) -> Vec<String> {
    let mut lines = Vec::new();
    for link in namespace.links.values() {
        lines.push(describe_link(machine, id, namespace, link));
        // Linux leaves 127.0.0.1/8 on a loopback interface that was up once: no one could undo that.
        let relic = |held: &&Held| link.kind.is_loopback() && !link.up && held.net.addr().is_loopback();
        for held in link.addresses.iter().filter(|held| !relic(held)) {
            let mut line = format!("link \"{}\" address {}", link.name, held.net);
            let flags = [
                (held.secondary, " secondary"),
                (!held.prefix_route, " noprefixroute"),
                (held.detect_duplicates, " dad"),
            ];
            line.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag));
            lines.push(line);
        }
    }
    for entry in &namespace.routes {
        let route = &entry.route;
        let target = match &route.target {
            RouteTarget::Link { link, .. } => format!("dev \"{link}\""),
            other => other.to_string(),
        };
        let mut line = format!("route {} {target}", route.destination);
        let words = [
            route.gateway().map(|gateway| format!(" via {gateway}")),
            route.source.map(|source| format!(" src {source}")),
            matches!(route.target, RouteTarget::Link { onlink: true, .. }).then(|| " onlink".to_owned()),
            route.metric.map(|metric| format!(" metric {metric}")),
            route.table.map(|table| format!(" table {table}")),
            route.scope.map(|scope| format!(" scope {scope}")),
            route.mtu.map(|mtu| format!(" mtu {mtu}")),
            route.advmss.map(|advmss| format!(" advmss {advmss}")),
            route.protocol.map(|maker| match maker {
                routes::KERNEL => " proto kernel".to_owned(),
                other => format!(" proto {other}"),
            }),
        ];
        line.extend(words.into_iter().flatten());
        lines.push(line);
    }
    let usual = rules::at_birth(true);
    for rule in namespace.rules.iter().filter(|rule| !usual.contains(rule)) {
        let Rule { selector, table, priority } = rule;
        lines.push(format!("rule for {selector} table {table} priority {priority:?}"));
    }
    lines.extend(overlay::describe(namespace));
    for (key, value) in sysctls::unusual(&namespace.sysctls) {
        lines.push(format!("sysctl {key} = {value}"));
    }
    for entry in namespace.entries.values() {
        let properties: String =
            entry.properties().into_iter().map(|(what, value)| format!(", {what} {value}")).collect();
        lines.push(format!("{entry}{properties} # {}", entry.mark()));
    }
    lines.extend(namespace.foreign.iter().map(|(rules, comment)| format!("{rules} # {comment}")));
    lines.extend(namespace.overlay_rules.iter().map(|rules| {
        let said = rules.properties().map(|(what, value)| format!(", {what} {value}"));
        format!("packet filter of the overlay{}", said.concat())
    }));
    lines.extend(namespace.isolations.iter().map(ToString::to_string));
    lines
}

fn describe_link(machine: &Machine, id: NamespaceId, namespace: &Namespace, link: &Interface) -> String {
    let carrier = links::carrier(machine, id, link.index);
    let kind = if link.kind.is_loopback() { "loopback" } else { link.kind.name() };
    let mut line = format!("link \"{}\" {kind} mtu {} mac {}", link.name, link.mtu, link.mac);
    line.push_str(if link.up { " up" } else { " down" });
    // A bridge without ports has a carrier or not, as it never had one or once had: no one could undo that either.
    let is_empty_bridge =
        matches!(link.kind, Kind::Bridge { .. }) && namespace.ports(link.index).next().is_none();
    if link.up && !carrier && !is_empty_bridge {
        line.push_str(" no-carrier");
    }
    if link.promiscuous {
        line.push_str(" promiscuous");
    }
    if link.all_multicast {
        line.push_str(" all-multicast");
    }
    if link.transmit_queue != link.kind.transmit_queue() {
        line.push_str(&format!(" queue {}", link.transmit_queue));
    }
    let tie = match link.kind {
        Kind::Veth { place, peer } => Some(("peer", place, peer)),
        Kind::Upper { place, parent, .. } => Some(("on", place, parent)),
        _ => None,
    };
    if let Some((how, there, other)) = tie {
        let number = machine.namespaces.keys().position(|id| *id == there);
        let name = machine.namespaces.get(&there).and_then(|there| there.links.get(&other));
        if let (Some(number), Some(other)) = (number, name) {
            line.push_str(&format!(" {how} {} \"{}\"", place(number), other.name));
        }
    }
    line.extend(link.kind.properties().into_iter().map(|(what, value)| format!(" {what} {value}")));
    if let Some(membership) = &link.membership {
        let port = &membership.port;
        let bridge = namespace.links.get(&membership.bridge).map_or("?", |bridge| bridge.name.as_str());
        line.push_str(&format!(" master \"{bridge}\""));
        let vlans = port.vlans.iter().map(|vlan| {
            let kind = if vlan.access { "access" } else { "trunk" };
            format!(" vlan {}-{} {kind}", vlan.first, vlan.last)
        });
        line.push_str(if port.hairpin { " hairpin" } else { "" });
        line.push_str(if port.isolated { " isolated" } else { "" });
        line.extend(vlans);
    }
    shaping::describe(namespace, link, &mut line);
    if let Some(vrf) = link.vrf.and_then(|vrf| namespace.links.get(&vrf)) {
        line.push_str(&format!(" master \"{}\"", vrf.name));
    }
    if let Some(alias) = &link.alias {
        line.push_str(&format!(" # {alias}"));
    }
    line
}
