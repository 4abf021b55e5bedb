//! Whether the addresses of an `ipam` section make sense: to the very code that hands them out.

use std::net::IpAddr;

use cni_spec::{Capability, SpecVersion};
use ipam::{PoolError, Range, RangeError, RangeSet, Role};
use ipnet::IpNet;

use super::finding::{At, Findings};

/// Checks the `ipam` section of a plugin, whose keys and kinds have been checked.
pub(super) fn check(
    findings: &mut Findings<'_>,
    plugin: &At<'_>,
    ipam: &At<'_>,
    name: &str,
    version: SpecVersion,
) {
    match name {
        "host-local" => check_host_local(findings, plugin, ipam, version),
        "static" => check_static(findings, plugin, ipam),
        _ => {}
    }
    for route in ipam.field("routes").into_iter().flat_map(|routes| routes.items().collect::<Vec<_>>()) {
        check_route(findings, &route);
    }
}

/// The ranges of a `host-local` section that are right, and where they stand.
pub(super) fn ranges<'a>(ipam: &At<'a>) -> Vec<(Range, At<'a>)> {
    let found = |at: At<'a>| Some((range(&at)?.ok()?, at.field("subnet")?));
    sets(ipam).into_iter().flatten().filter_map(found).collect()
}

/// The places of the ranges: the old form's, in the section itself, first.
fn sets<'a>(ipam: &At<'a>) -> Vec<Vec<At<'a>>> {
    let old = ipam.node.get("subnet").is_some().then(|| vec![ipam.clone()]);
    let new = ipam.field("ranges").into_iter().flat_map(|ranges| ranges.items().collect::<Vec<_>>());
    old.into_iter().chain(new.map(|set| set.items().collect())).collect()
}

/// The range that an object describes; `None` if it has no subnet that could be read.
fn range(at: &At<'_>) -> Option<Result<Range, RangeError>> {
    let subnet = at.node.text("subnet")?.parse::<IpNet>().ok()?;
    let address = |name: &str| at.node.text(name).and_then(|text| text.parse::<IpAddr>().ok());
    // Host bits are complained about where kinds are checked; the rest may be right.
    Some(Range::new(subnet.trunc(), address("rangeStart"), address("rangeEnd"), address("gateway")))
}

fn check_host_local(findings: &mut Findings<'_>, plugin: &At<'_>, ipam: &At<'_>, version: SpecVersion) {
    let sets_at = sets(ipam);
    let offered = plugin.node.get("capabilities").is_some_and(|c| c.flag(Capability::IpRanges.as_str()));
    if sets_at.is_empty() && !offered {
        findings
            .error(ipam, "no ranges: host-local has nothing to give")
            .suggest("\"ranges\": [[{\"subnet\": \"10.1.0.0/16\"}]]");
    }
    if let (Some(key), Some(_)) = (ipam.key("subnet"), ipam.node.get("ranges")) {
        findings
            .hint(
                &key,
                "subnet beside ranges makes one more set of ranges, and one more address for each pod",
            )
            .suggest("keep one of the two");
    }
    for old in ["rangeStart", "rangeEnd", "gateway"] {
        if let (Some(key), None) = (ipam.key(old), ipam.node.get("subnet")) {
            findings
                .warning(&key, format!("{old} without a subnet beside it: nobody reads it"))
                .suggest("it belongs into a range: \"ranges\": [[{\"subnet\": …}]]");
        }
    }
    let mut sets: Vec<(RangeSet, At<'_>)> = Vec::new();
    for set in &sets_at {
        let (mut good, mut empty) = (Vec::new(), Vec::new());
        for at in set {
            match range(at) {
                Some(Ok(range)) => good.push(range),
                Some(Err(error @ RangeError::Empty { .. })) => empty.push((at, error)),
                Some(Err(error)) => check_range(findings, at, &error),
                None if at.node.get("subnet").is_none() => {
                    findings.error(at, "a range needs a subnet").suggest("\"subnet\": \"10.1.0.0/16\"");
                }
                None => {}
            }
        }
        for (at, error) in &empty {
            match good.is_empty() {
                true => check_range(findings, at, error),
                // It is passed over.
                false => {
                    let place = at.field("subnet").unwrap_or_else(|| (*at).clone());
                    findings.warning(&place, error.to_string());
                }
            }
        }
        let all_read = !good.is_empty() && good.len() + empty.len() == set.len();
        let Some(first) = set.first().filter(|_| all_read) else {
            continue;
        };
        match RangeSet::new(good) {
            Ok(set) => sets.push((set, first.clone())),
            Err(PoolError::MixedFamilies) => {
                findings
                    .error(first, "a set of ranges is IPv4 or IPv6: a pod gets one address out of it")
                    .suggest("a set for each: \"ranges\": [[{…IPv4…}], [{…IPv6…}]]");
            }
            Err(error) => {
                findings.error(first, error.to_string());
            }
        }
    }
    if let Some(empty) =
        ipam.field("ranges").and_then(|all| all.items().find(|set| set.node.items().is_empty()))
    {
        findings.error(&empty, "a set of no ranges");
    }
    check_sets(findings, &sets, version);
    check_mtu(findings, plugin, &sets);
}

/// A range that contradicts itself, shown where it does.
fn check_range(findings: &mut Findings<'_>, at: &At<'_>, error: &RangeError) {
    let key = match error {
        RangeError::OutsideSubnet { role: Role::Start, .. } => "rangeStart",
        RangeError::OutsideSubnet { role: Role::End, .. } | RangeError::EndBeforeStart { .. } => "rangeEnd",
        RangeError::OutsideSubnet { role: Role::Gateway, .. } => "gateway",
        _ => "subnet",
    };
    let place = at.field(key).unwrap_or_else(|| at.clone());
    let finding = findings.error(&place, error.to_string());
    match error {
        RangeError::OutsideSubnet { subnet, .. } => {
            finding.suggest(format!(
                "an address of {}, {} to {}",
                subnet,
                subnet.network(),
                subnet.broadcast()
            ));
        }
        RangeError::EndBeforeStart { .. } => {
            finding.suggest("swap rangeStart and rangeEnd");
        }
        _ => {}
    }
}

/// Sets are handed out from side by side: no address may be in two.
fn check_sets(findings: &mut Findings<'_>, sets: &[(RangeSet, At<'_>)], version: SpecVersion) {
    for (nth, (set, at)) in sets.iter().enumerate() {
        for other in sets.iter().take(nth).map(|(other, _)| other) {
            let overlap = set.ranges().iter().find_map(|range| {
                let other = other.ranges().iter().find(|other| overlaps(range, other))?;
                Some((range, other))
            });
            if let Some((range, other)) = overlap {
                findings
                    .error(at, format!("ranges {range} and {other} overlap"))
                    .suggest("rangeStart and rangeEnd tell two ranges of one subnet apart");
            }
        }
    }
    let families = |v4: bool| sets.iter().filter(|(set, _)| is_ipv4(set) == v4).count();
    if version < SpecVersion::V0_3_0
        && (families(true) > 1 || families(false) > 1)
        && let Some((_, at)) = sets.last()
    {
        findings
            .error(at, format!("results of CNI {version} have room for one address of a family"))
            .suggest("a cniVersion of 0.3.0 or later");
    }
}

/// IPv6 is off on an interface whose MTU is too small for it (RFC 8200, section 5).
fn check_mtu(findings: &mut Findings<'_>, plugin: &At<'_>, sets: &[(RangeSet, At<'_>)]) {
    let mtu = plugin.field("mtu").and_then(|at| Some((at.node.as_integer()?, at)));
    if let Some((mtu @ 1..=1279, at)) = mtu
        && sets.iter().any(|(set, _)| !is_ipv4(set))
    {
        findings.error(&at, format!("an MTU of {mtu} is too small for IPv6")).suggest("1280 or more");
    }
}

fn is_ipv4(set: &RangeSet) -> bool {
    set.ranges().first().is_some_and(|range| range.first().is_ipv4())
}

/// Whether two ranges have an address in common.
pub(super) fn overlaps(a: &Range, b: &Range) -> bool {
    a.first().is_ipv4() == b.first().is_ipv4() && a.first() <= b.last() && b.first() <= a.last()
}

fn check_static(findings: &mut Findings<'_>, plugin: &At<'_>, ipam: &At<'_>) {
    let addresses: Vec<_> = ipam.field("addresses").map(|list| list.items().collect()).unwrap_or_default();
    let offered = plugin.node.get("capabilities").is_some_and(|c| c.flag(Capability::Ips.as_str()));
    if addresses.is_empty() && !offered {
        findings
            .warning(ipam, "no addresses, and no capability \"ips\": only CNI_ARGS could name some")
            .suggest("\"addresses\": [{\"address\": \"10.1.0.5/16\"}]");
    }
    for at in &addresses {
        let Some(text) = at.node.text("address") else {
            if at.node.get("address").is_none() {
                findings.error(at, "no \"address\"").suggest("\"address\": \"10.1.0.5/16\"");
            }
            continue;
        };
        let gateway = at
            .field("gateway")
            .and_then(|gateway| Some((gateway.node.as_text()?.parse::<IpAddr>().ok()?, gateway)));
        if let (Ok(net), Some((gateway, place))) = (text.parse::<IpNet>(), gateway)
            && !net.contains(&gateway)
        {
            findings.warning(&place, format!("gateway {gateway} is not in the subnet of {net}"));
        }
    }
}

fn check_route(findings: &mut Findings<'_>, at: &At<'_>) {
    let Some(destination) = at.node.text("dst") else {
        if at.node.get("dst").is_none() {
            findings.error(at, "a route needs a destination").suggest("\"dst\": \"0.0.0.0/0\"");
        }
        return;
    };
    let (Ok(destination), Some(gateway)) = (destination.parse::<IpNet>(), at.field("gw")) else { return };
    if let Some(Ok(address)) = gateway.node.as_text().map(str::parse::<IpAddr>)
        && address.is_ipv4() != destination.addr().is_ipv4()
    {
        findings.error(&gateway, format!("gateway {address} is not of the family of {destination}"));
    }
}
