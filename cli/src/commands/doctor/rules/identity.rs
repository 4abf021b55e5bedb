//! Whether this node is told apart from others. Of these only the agent knows, and only their names: the rest is what is
//! wrong on every node that was copied carelessly.

use std::collections::BTreeMap;

use overlay::report::Map;

use crate::commands::doctor::facts::{Facts, Link};
use crate::commands::doctor::finding::Findings;

/// Numbers that firmware has where nobody gave it one.
const NO_UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000000",
    "03000200-0400-0500-0006-000700080009",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("identity");
    check_host_name(&mut findings, facts);
    check_machine_id(&mut findings, facts);
    check_uuid(&mut findings, facts);
    check_macs(&mut findings, facts);
    findings
}

fn check_host_name(findings: &mut Findings, facts: &Facts) {
    const ADVICE: &str =
        "hostnamectl set-hostname NAME, with letters, digits and hyphens, and another on each node";
    let Some(name) = facts.identity.host_name.as_deref() else {
        return findings.info("the host name could not be read");
    };
    if name.is_empty() || name == "localhost" || name.starts_with("localhost.") {
        return findings
            .error(format!("the host name is \"{name}\", as on every node that has none"), ADVICE);
    }
    if !is_dns_name(name) {
        return findings.error(
            format!("the host name \"{name}\" is no DNS name (RFC 1123): the kubelet refuses it"),
            ADVICE,
        );
    }
    if let Some(other) = facts.agent.map.as_ref().and_then(|map| namesake(map, name)) {
        return findings.error(format!("node {other} has the name \"{name}\", too"), ADVICE);
    }
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return findings.warning(
            format!(
                "the host name \"{name}\" has capital letters: Kubernetes knows the node as \"{}\"",
                name.to_lowercase()
            ),
            "give that name wherever a node's is asked for, or change the host's",
        );
    }
    match &facts.agent.map {
        Some(map) => {
            findings.ok(format!("the host name is \"{name}\", of {} nodes this one's alone", map.nodes.len()))
        }
        None => findings.ok(format!("the host name is \"{name}\"")),
    }
}

/// Another node of this name.
fn namesake(map: &Map, name: &str) -> Option<String> {
    let others = map.nodes.iter().filter(|other| other.node.id != map.node);
    others.into_iter().find(|other| other.node.name.as_str() == name).map(|other| other.node.id.to_string())
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn check_machine_id(findings: &mut Findings, facts: &Facts) {
    const ADVICE: &str =
        "rm /etc/machine-id && systemd-machine-id-setup; in an image for many nodes leave it empty";
    match facts.identity.machine_id.as_deref() {
        None => findings.warning("there is no /etc/machine-id", ADVICE),
        Some(id)
            if id.len() == 32
                && id.chars().all(|c| c.is_ascii_hexdigit())
                && id.chars().any(|c| c != '0') =>
        {
            findings.ok("the machine has an id");
        }
        Some(id) => findings.error(format!("/etc/machine-id has \"{id}\", which is no id"), ADVICE),
    }
}

fn check_uuid(findings: &mut Findings, facts: &Facts) {
    let Some(uuid) = facts.identity.product_uuid.as_deref() else { return };
    if NO_UUIDS.contains(&uuid.to_lowercase().as_str()) {
        findings.warning(
            format!("the machine's firmware has no number of its own: {uuid}, as others of its make"),
            "Kubernetes takes it for the node's identity (systemUUID): give the virtual machine another",
        );
    }
}

/// Interfaces of hardware with one MAC address. Those that are ports of one thing may share it.
fn check_macs(findings: &mut Findings, facts: &Facts) {
    let Some(network) = &facts.network else { return };
    let is_own = |link: &&Link| link.kind.is_empty() && !link.is_port && link.name != "lo";
    let mut by_mac: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for link in network.links.iter().filter(is_own) {
        if let Some(mac) = link.mac.as_deref() {
            by_mac.entry(mac).or_default().push(&link.name);
        }
    }
    for (mac, links) in by_mac.iter().filter(|(_, links)| links.len() > 1) {
        findings.warning(
            format!("interfaces {} have one MAC address, {mac}", links.join(" and ")),
            "on one segment each would get the other's packets: give one of them another address",
        );
    }
}

#[cfg(test)]
mod tests {
    use overlay::report::MapNode;
    use overlay::{Liveness, Node};

    use super::super::healthy::{complains, link, spoilt, status};
    use super::*;
    use crate::commands::doctor::finding::Severity::{self, Error, Warning};

    fn named(name: &str, severity: Severity, words: &str) {
        complains(check, |facts| facts.identity.host_name = Some(name.to_owned()), severity, words);
    }

    #[test]
    fn a_host_name_is_one_that_kubernetes_takes() {
        named("localhost", Error, "as on every node");
        named("localhost.localdomain", Error, "as on every node");
        named("", Error, "as on every node");
        named("my_node", Error, "no DNS name");
        named("-n1", Error, "no DNS name");
        named(&"n".repeat(64), Error, "no DNS name");
        named("Node1", Warning, "\"node1\"");
        for good in ["n1", "n1.example.org", "1"] {
            let found = spoilt(check, |facts| facts.identity.host_name = Some(good.to_owned()));
            assert!(found.iter().all(|finding| finding.severity > Warning), "{good}: {found:#?}");
        }
    }

    #[test]
    fn a_host_name_is_one_nodes_only() {
        let node = |id: &str, name: &str| MapNode {
            node: serde_json::from_value::<Node>(
                serde_json::json!({"id": id.repeat(16), "name": name, "mtu": 1500}),
            )
            .unwrap(),
            liveness: Liveness::Alive,
            incarnation: None,
            path: None,
        };
        let map = |nodes| Map {
            node: status().node,
            network: "pods".to_owned(),
            bridge: "cnikit0".to_owned(),
            nodes,
            lacking_pods: None,
            conflicts: Vec::new(),
        };
        let twice = map(vec![node("01", "n1"), node("02", "n1")]);
        complains(check, |facts| facts.agent.map = Some(twice), Error, &"02".repeat(16));
        let once = map(vec![node("01", "n1"), node("02", "n2")]);
        let found = spoilt(check, |facts| facts.agent.map = Some(once));
        assert!(found.iter().any(|finding| finding.what.contains("of 2 nodes")), "{found:#?}");
    }

    #[test]
    fn a_machine_has_an_id() {
        complains(check, |facts| facts.identity.machine_id = None, Warning, "no /etc/machine-id");
        for id in ["", "uninitialized", "0123", &"0".repeat(32)] {
            complains(check, |facts| facts.identity.machine_id = Some(id.to_owned()), Error, "no id");
        }
    }

    #[test]
    fn firmware_has_a_number_of_its_own() {
        let placeholder = Some("03000200-0400-0500-0006-000700080009".to_owned());
        complains(check, |facts| facts.identity.product_uuid = placeholder, Warning, "no number of its own");
        // Who may not read it has no reason to complain.
        complains_not(|facts| facts.identity.product_uuid = None);
    }

    #[test]
    fn interfaces_have_mac_addresses_of_their_own() {
        let second = |kind: &str, is_port| {
            let mut second = link("eth1", kind, "52:54:00:00:00:01", 1500, &[]);
            second.is_port = is_port;
            second
        };
        complains(check, |facts| links(facts).push(second("", false)), Warning, "eth0 and eth1");
        complains_not(|facts| links(facts).push(second("", true)));
        complains_not(|facts| links(facts).push(second("vlan", false)));
    }

    fn links(facts: &mut Facts) -> &mut Vec<Link> {
        &mut facts.network.as_mut().unwrap().links
    }

    #[track_caller]
    fn complains_not(spoil: impl FnOnce(&mut Facts)) {
        let found = spoilt(check, spoil);
        assert!(found.iter().all(|finding| finding.severity > Warning), "{found:#?}");
    }
}
