//! Whether this node can reach others, and whether its pods' addresses lead where they should.

use ipnet::IpNet;
use overlay::fabric::PROTOCOL;

use crate::commands::doctor::facts::{Facts, Link, Network, Route};
use crate::commands::doctor::finding::Findings;

/// What a tunnel takes of each packet over IPv4: the outer IP, UDP and VXLAN headers, and the inner Ethernet's (RFC 7348).
const TUNNEL: u32 = 50;
/// No link of IPv6's is narrower (RFC 8200, section 5).
const NARROWEST: u32 = 1280;

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("network");
    match &facts.network {
        Some(network) => {
            check_uplink(&mut findings, facts, network);
            check_mtu(&mut findings, facts, network);
            check_overlaps(&mut findings, facts, network);
        }
        None => {
            findings.info("interfaces and routes were not looked at: they are this node's kernel's to tell")
        }
    }
    findings
}

/// Interfaces by which other nodes can be reached: not the pods' side.
fn uplinks<'a>(facts: &'a Facts, network: &'a Network) -> impl Iterator<Item = &'a Link> {
    network.links.iter().filter(|link| {
        link.name != "lo" && !link.is_pods && !is_networks(facts, &link.name) && !link.addresses.is_empty()
    })
}

/// Whether an interface is one that a network makes on its nodes.
fn is_networks(facts: &Facts, name: &str) -> bool {
    let files = facts.agent.files.iter().filter_map(|(_, file)| file.as_ref().ok());
    files.into_iter().any(|file| file.bridge == name) || name.starts_with("cnikit")
}

fn default_routes(network: &Network) -> impl Iterator<Item = &Route> {
    network.routes.iter().filter(|route| route.destination.prefix_len() == 0)
}

fn check_uplink(findings: &mut Findings, facts: &Facts, network: &Network) {
    let Some(first) = uplinks(facts, network).next() else {
        return findings.error(
            "no interface has an address by which other nodes could reach this one",
            "give one to the interface that leads to them: ip address add ADDRESS/LENGTH dev INTERFACE",
        );
    };
    let default = default_routes(network).next();
    let by_default = default.and_then(|route| uplinks(facts, network).find(|link| link.name == route.link));
    let link = by_default.unwrap_or(first);
    if !link.up || !link.carrier {
        let state = if link.up { "has no carrier" } else { "is down" };
        return findings.error(
            format!("{} {state}, and is the way to other nodes", link.name),
            format!("ip link set {} up, and look at its cable", link.name),
        );
    }
    let addresses: Vec<_> = link.addresses.iter().map(|net| net.addr().to_string()).collect();
    let addresses = addresses.join(", ");
    match default {
        Some(_) => findings.ok(format!("{} leads to other nodes, with {addresses}", link.name)),
        None => findings.warning(
            format!("there is no default route: {} ({addresses}) leads to its own segment only", link.name),
            "Kubernetes takes the default route's interface for the node's own: ip route add default via GATEWAY, or tell \
             it the address (--node-ip, --apiserver-advertise-address)",
        ),
    }
}

fn check_mtu(findings: &mut Findings, facts: &Facts, network: &Network) {
    let default = default_routes(network).next();
    let Some(uplink) = default.and_then(|route| network.links.iter().find(|link| link.name == route.link))
    else {
        return;
    };
    if uplink.mtu < NARROWEST + TUNNEL {
        findings.warning(
            format!(
                "the MTU of {} is {}: a tunnel leaves {} of it, and IPv6 needs {NARROWEST}",
                uplink.name,
                uplink.mtu,
                uplink.mtu.saturating_sub(TUNNEL)
            ),
            format!("ip link set {} mtu 1500, if what is beyond it allows that", uplink.name),
        );
    }
    for (network, file) in &facts.agent.files {
        let Ok(file) = file else { continue };
        if file.mtu > uplink.mtu {
            findings.error(
                format!(
                    "pods of {network} have an MTU of {}, and {} one of {}: large packets are lost",
                    file.mtu, uplink.name, uplink.mtu
                ),
                format!("start the agent again; what it says of {network} is older than the interface"),
            );
        }
    }
}

/// Routes of the node's that pods' addresses would take instead of the network's.
fn check_overlaps(findings: &mut Findings, facts: &Facts, network: &Network) {
    let said =
        facts.agent.files.iter().filter_map(|(_, file)| file.as_ref().ok()).flat_map(|file| &file.cluster);
    let mut cluster: Vec<IpNet> = facts.cluster.iter().chain(said).copied().collect();
    cluster.sort_unstable();
    cluster.dedup();
    let mut any = false;
    for range in &cluster {
        for route in network.routes.iter().filter(|route| is_in_the_way(facts, route, range)) {
            any = true;
            let by = match route.gateway {
                Some(gateway) => format!("via {gateway} dev {}", route.link),
                None => format!("dev {}", route.link),
            };
            let advice =
                "give the cluster a range that nothing else uses, or remove the route if it is a leftover";
            let what =
                format!("{range} is the pods', and {} {by} is a route of this node's", route.destination);
            // What is narrower wins; what is wider only takes what no node has.
            match range.contains(&route.destination) {
                true => findings.error(what, advice),
                false => findings.warning(what, advice),
            }
        }
    }
    if !any && !cluster.is_empty() {
        let ranges: Vec<_> = cluster.iter().map(ToString::to_string).collect();
        findings.ok(format!("no route of this node's is in the way of {}", ranges.join(", ")));
    }
}

/// Whether a route is somebody else's, and about addresses of a range.
fn is_in_the_way(facts: &Facts, route: &Route, range: &IpNet) -> bool {
    let overlaps = range.contains(&route.destination) || route.destination.contains(range);
    overlaps
        && route.destination.prefix_len() != 0
        && !is_networks(facts, &route.link)
        && !is_agents(facts, route)
        && !facts.network.iter().flat_map(|n| &n.links).any(|link| link.is_pods && link.name == route.link)
}

/// Whether a route is the agent's own, to a peer on the same segment: by its number, or by what the agent knows of peers.
fn is_agents(facts: &Facts, route: &Route) -> bool {
    if route.protocol == Some(PROTOCOL) {
        return true;
    }
    let nodes = facts.agent.map.iter().flat_map(|map| &map.nodes);
    nodes.into_iter().any(|other| {
        other.node.held().any(|subnet| subnet == route.destination)
            && route.gateway.is_some_and(|gateway| other.node.addresses.contains(&gateway))
    })
}

#[cfg(test)]
mod tests {
    use super::super::healthy::{complains, interface, link, route, spoilt};
    use super::*;
    use crate::commands::doctor::finding::Severity::{Error, Ok as Fine, Warning};

    fn network(facts: &mut Facts) -> &mut Network {
        facts.network.as_mut().unwrap()
    }

    #[test]
    fn a_node_has_an_address_for_others() {
        complains(
            check,
            |facts| interface(facts, "eth0").addresses.clear(),
            Error,
            "no interface has an address",
        );
        complains(check, |facts| interface(facts, "eth0").up = false, Error, "eth0 is down");
        complains(check, |facts| interface(facts, "eth0").carrier = false, Error, "eth0 has no carrier");
    }

    #[test]
    fn a_node_has_a_default_route() {
        complains(check, |facts| _ = network(facts).routes.remove(0), Warning, "no default route");
    }

    #[test]
    fn there_is_room_for_a_tunnel() {
        complains(
            check,
            |facts| {
                interface(facts, "eth0").mtu = 1300;
                facts.agent.files.clear();
            },
            Warning,
            "a tunnel leaves 1250",
        );
    }

    #[test]
    fn pods_packets_fit_the_nodes_interface() {
        complains(check, |facts| interface(facts, "eth0").mtu = 1400, Error, "large packets are lost");
    }

    #[test]
    fn a_route_within_the_clusters_range_is_an_error_and_one_around_it_a_warning() {
        let add = |destination: &'static str, gateway: Option<&'static str>, link: &'static str| {
            move |facts: &mut Facts| network(facts).routes.push(route(destination, gateway, link))
        };
        complains(check, add("10.244.9.0/24", None, "tun0"), Error, "10.244.9.0/24 dev tun0");
        complains(check, add("10.244.0.0/16", Some("192.168.1.9"), "eth0"), Error, "via 192.168.1.9");
        complains(check, add("10.0.0.0/8", Some("192.168.1.9"), "eth0"), Warning, "10.0.0.0/8");
        for harmless in [add("10.245.0.0/16", None, "tun0"), add("10.244.9.0/24", None, "cnikit.4096")] {
            let found = spoilt(check, harmless);
            assert!(found.iter().all(|finding| finding.severity == Fine), "{found:#?}");
        }
        // A pod's own cable, and a range that was named by hand.
        let found = spoilt(check, |facts| {
            network(facts)
                .links
                .push(Link { is_pods: true, ..link("veth1", "veth", "fe:00:00:00:00:01", 1450, &[]) });
            network(facts).routes.push(route("10.244.3.9/32", None, "veth1"));
        });
        assert!(found.iter().all(|finding| finding.severity == Fine), "{found:#?}");
        let by_hand = |facts: &mut Facts| facts.cluster.push("192.168.0.0/16".parse().unwrap());
        complains(check, by_hand, Error, "192.168.1.0/24 dev eth0");
    }

    #[test]
    fn the_agents_own_routes_to_peers_are_in_nobodys_way() {
        let found = spoilt(check, |facts| {
            network(facts).routes.push(route("10.244.7.0/24", Some("192.168.1.12"), "eth0"));
            let peer = serde_json::json!({"id": "02".repeat(16), "name": "n2", "mtu": 1500, "liveness": "alive",
                "path": null, "addresses": ["192.168.1.12"],
                "subnets": [{"prefix": "10.244.7.0/24", "state": "held"}]});
            let map = serde_json::json!({"node": "01".repeat(16), "network": "pods", "bridge": "cnikit0",
                "nodes": [peer], "conflicts": []});
            facts.agent.map = Some(serde_json::from_value(map).unwrap());
        });
        assert!(found.iter().all(|finding| finding.severity == Fine), "{found:#?}");
    }

    #[test]
    fn a_route_that_says_that_it_is_the_agents_is_it() {
        let found = spoilt(check, |facts| {
            let ours =
                Route { protocol: Some(PROTOCOL), ..route("10.244.7.0/24", Some("192.168.1.12"), "eth0") };
            network(facts).routes.push(ours);
        });
        assert!(found.iter().all(|finding| finding.severity == Fine), "{found:#?}");
    }

    #[test]
    fn of_another_nodes_kernel_nothing_is_claimed() {
        let found = spoilt(check, |facts| facts.network = None);
        assert_eq!(found.len(), 1);
        assert!(found[0].advice.is_none());
    }
}
