//! What two networks disagree about.

use std::net::IpAddr;

use ipam::Range;

use super::addresses;
use super::finding::{At, Finding, Findings};
use super::source::{Form, Source};
use crate::commands::conf::document::Node;

/// Compares every file that is used with those before it.
pub(super) fn check(files: &[Source]) -> Vec<Finding> {
    let used: Vec<_> =
        files.iter().filter(|file| file.is_used && !matches!(file.form, Form::PartOfList(_))).collect();
    let networks: Vec<Network<'_>> = used.iter().map(|file| Network::of(file)).collect();
    let mut found = Vec::new();
    for (nth, network) in networks.iter().enumerate() {
        let mut findings = Findings::new(&network.file.path, &network.file.document);
        for other in networks.iter().take(nth) {
            compare_names(&mut findings, network, other);
            compare_ranges(&mut findings, network, other);
            compare_bridges(&mut findings, network, other);
        }
        found.extend(findings.into_vec());
    }
    found
}

/// What a network lays claim to.
struct Network<'a> {
    file: &'a Source,
    ranges: Vec<(Range, At<'a>)>,
    bridges: Vec<Bridge<'a>>,
}

struct Bridge<'a> {
    name: String,
    /// Its addresses, if it has any.
    gateways: Vec<IpAddr>,
    forced: bool,
    at: At<'a>,
}

impl<'a> Network<'a> {
    fn of(file: &'a Source) -> Self {
        let (mut ranges, mut bridges) = (Vec::new(), Vec::new());
        for plugin in file.plugins() {
            let own: Vec<_> = plugin
                .field("ipam")
                .filter(|ipam| ipam.node.text("type") == Some("host-local"))
                .map(|ipam| addresses::ranges(&ipam))
                .unwrap_or_default();
            bridges.extend(Bridge::of(&plugin, &own));
            ranges.extend(own);
        }
        Self { file, ranges, bridges }
    }

    fn name(&self) -> &str {
        self.file.network().unwrap_or_default()
    }
}

impl<'a> Bridge<'a> {
    fn of(plugin: &At<'a>, ranges: &[(Range, At<'a>)]) -> Option<Self> {
        if plugin.node.text("type") != Some("bridge") {
            return None;
        }
        let flag = |name| plugin.node.flag(name);
        let is_gateway = flag("isGateway") || flag("isDefaultGateway");
        // VLANs have interfaces of their own for their gateways.
        let vlan = plugin.node.get("vlan").and_then(Node::as_integer).is_some_and(|vlan| vlan != 0);
        let gateways = ranges.iter().filter(|_| is_gateway && !vlan).filter_map(|(range, _)| range.gateway());
        Some(Self {
            name: plugin.node.text("bridge").unwrap_or("cni0").to_owned(),
            gateways: gateways.collect(),
            forced: flag("forceAddress"),
            at: plugin.field("bridge").or_else(|| plugin.field("type"))?,
        })
    }
}

/// Files that were named one by one; of those in one directory it is said already that one shadows the other.
fn compare_names(findings: &mut Findings<'_>, network: &Network<'_>, other: &Network<'_>) {
    if !network.name().is_empty()
        && network.name() == other.name()
        && let Some(at) = At::root(&network.file.document).field("name")
    {
        findings
            .warning(&at, format!("{} has a network of the same name", other.file.path.display()))
            .suggest("leases and attachments are told apart by the network's name: choose another");
    }
}

fn compare_ranges(findings: &mut Findings<'_>, network: &Network<'_>, other: &Network<'_>) {
    // The same network in two files has one set of leases.
    if network.name() == other.name() {
        return;
    }
    for (range, at) in &network.ranges {
        let overlap = other.ranges.iter().find(|(theirs, _)| addresses::overlaps(range, theirs));
        if let Some((theirs, _)) = overlap {
            findings
                .warning(
                    at,
                    format!(
                        "{range} overlaps with {theirs} of network {} ({}): two pods may get one address",
                        other.name(),
                        other.file.path.display()
                    ),
                )
                .suggest("give each network a subnet of its own");
        }
    }
}

fn compare_bridges(findings: &mut Findings<'_>, network: &Network<'_>, other: &Network<'_>) {
    for bridge in &network.bridges {
        let same = other.bridges.iter().filter(|theirs| theirs.name == bridge.name);
        for theirs in same {
            let differs = |v4: bool| {
                let of =
                    |gateways: &[IpAddr]| gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
                Some((of(&bridge.gateways)?, of(&theirs.gateways)?)).filter(|(own, theirs)| own != theirs)
            };
            // Of IPv6, a bridge may have addresses of several subnets.
            let Some((own, theirs_address)) = differs(true) else { continue };
            let message = format!(
                "bridge {} is to be {own} here, and {theirs_address} for network {} ({})",
                bridge.name,
                other.name(),
                other.file.path.display()
            );
            let finding = if bridge.forced || theirs.forced {
                findings.warning(&bridge.at, format!("{message}: each ADD takes the other's gateway away"))
            } else {
                findings.error(&bridge.at, format!("{message}: the second ADD is refused"))
            };
            finding.suggest("give each network a bridge of its own");
        }
    }
}
