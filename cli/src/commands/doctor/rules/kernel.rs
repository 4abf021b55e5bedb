//! Whether the kernel can do what cnikit asks of it.

use crate::commands::doctor::facts::{Facts, Feature, Tried};
use crate::commands::doctor::finding::Findings;

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("kernel");
    let (mut works, mut unknown) = (Vec::new(), Vec::new());
    for (feature, tried) in &facts.kernel.features {
        let (name, what_for, is_needed) = about(*feature);
        match tried {
            Tried::Works | Tried::Likely => works.push(name),
            Tried::Unknown => unknown.push(name),
            Tried::Refused(reason) => {
                let what = format!("the kernel has no {name} ({what_for}): {reason}");
                let advice = match feature.module() {
                    "" => format!("a kernel with {}", option(*feature)),
                    module => format!("a kernel with {}, or its module: modprobe {module}", option(*feature)),
                };
                match is_needed {
                    true => findings.error(what, advice),
                    false => findings.warning(what, advice),
                }
            }
        }
    }
    let release = facts.kernel.release.as_deref().unwrap_or("of unknown version");
    if !works.is_empty() {
        findings.ok(format!("kernel {release} has {}", works.join(", ")));
    }
    if !unknown.is_empty() {
        findings.info(format!("whether kernel {release} has {} could not be found out", unknown.join(", ")));
    }
    findings
}

/// What it is called, what for, and whether nothing goes without it.
fn about(feature: Feature) -> (&'static str, &'static str, bool) {
    match feature {
        Feature::Bridge => ("bridges", "pods of a node are plugged into one", true),
        Feature::Veth => ("virtual cables", "pods hang on them", true),
        Feature::NfTables => ("nf_tables", "masquerading, published ports, filters", true),
        Feature::NextHops => ("next hop objects", "routes to other nodes", true),
        Feature::Vxlan => ("VXLAN", "tunnels to nodes beyond the segment", false),
        Feature::Macvlan => ("macvlan", "pods on the node's own segment", false),
    }
}

/// What it is in a kernel's configuration.
fn option(feature: Feature) -> &'static str {
    match feature {
        Feature::Bridge => "CONFIG_BRIDGE",
        Feature::Veth => "CONFIG_VETH",
        Feature::NfTables => "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and CONFIG_NFT_MASQ",
        Feature::NextHops => "version 5.3 or later",
        Feature::Vxlan => "CONFIG_VXLAN",
        Feature::Macvlan => "CONFIG_MACVLAN",
    }
}

#[cfg(test)]
mod tests {
    use super::super::healthy::{complains, spoilt};
    use super::*;
    use crate::commands::doctor::finding::Severity::{Error, Info, Ok as Fine, Warning};

    fn is(feature: Feature, tried: Tried) -> impl FnOnce(&mut Facts) {
        move |facts| {
            let found = facts.kernel.features.iter_mut().find(|(known, _)| *known == feature);
            found.unwrap().1 = tried;
        }
    }

    #[test]
    fn what_nothing_goes_without_is_an_error() {
        for (feature, name) in [
            (Feature::Bridge, "bridges"),
            (Feature::Veth, "virtual cables"),
            (Feature::NfTables, "nf_tables"),
            (Feature::NextHops, "next hop objects"),
        ] {
            let refused = Tried::Refused("Operation not supported (EOPNOTSUPP)".to_owned());
            complains(check, is(feature, refused), Error, name);
        }
    }

    #[test]
    fn what_some_do_without_is_a_warning() {
        for (feature, name) in [(Feature::Vxlan, "VXLAN"), (Feature::Macvlan, "macvlan")] {
            complains(check, is(feature, Tried::Refused("no".to_owned())), Warning, name);
        }
    }

    #[test]
    fn what_could_not_be_tried_is_not_complained_about() {
        let found = spoilt(check, is(Feature::Vxlan, Tried::Likely));
        assert!(found.iter().all(|finding| finding.severity == Fine), "{found:#?}");
        let found = spoilt(check, is(Feature::Vxlan, Tried::Unknown));
        assert!(found.iter().any(|finding| finding.severity == Info && finding.what.contains("VXLAN")));
    }
}
