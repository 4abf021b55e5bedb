//! Settings of the kernel, and of what is beside it.

use crate::commands::doctor::facts::{Conntrack, Facts};
use crate::commands::doctor::finding::Findings;

/// Strict (`Documentation/networking/ip-sysctl.rst`, rp_filter): what comes by another interface than an answer would
/// leave by is dropped.
const STRICT: u8 = 1;

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("settings");
    check_forwarding(&mut findings, facts);
    check_bridges(&mut findings, facts);
    check_rp_filter(&mut findings, facts);
    check_conntrack(&mut findings, facts);
    check_swap(&mut findings, facts);
    if facts.settings.unified_cgroups == Some(false) {
        findings.warning(
            "control groups are of version 1, which newer kubelets refuse",
            "boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    findings
}

fn check_forwarding(findings: &mut Findings, facts: &Facts) {
    let ipv6_pods = facts.cluster.iter().any(|range| range.addr().is_ipv6())
        || facts
            .agent
            .files
            .iter()
            .filter_map(|(_, file)| file.as_ref().ok())
            .any(|file| file.cluster.iter().any(|range| range.addr().is_ipv6()));
    match facts.settings.forward_ipv4 {
        Some(true) => findings.ok("IPv4 is forwarded"),
        Some(false) => findings.warning(
            "IPv4 is not forwarded: kubeadm refuses such a node, and pods reach nobody until a plugin changes it",
            "sysctl -w net.ipv4.ip_forward=1, and the same in /etc/sysctl.d",
        ),
        None => {}
    }
    if facts.settings.forward_ipv6 == Some(false) && ipv6_pods {
        findings.warning(
            "IPv6 is not forwarded, and pods have addresses of it",
            "sysctl -w net.ipv6.conf.all.forwarding=1, and the same in /etc/sysctl.d",
        );
    }
}

fn check_bridges(findings: &mut Findings, facts: &Facts) {
    match facts.settings.bridge_netfilter {
        Some(true) => findings.ok("what bridges carry goes through netfilter (br_netfilter)"),
        Some(false) => findings.warning(
            "what bridges carry does not go through netfilter: a pod reaches no service whose pod is on its own bridge",
            "sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1, and the same in \
             /etc/sysctl.d",
        ),
        None => findings.warning(
            "br_netfilter is not loaded: a pod reaches no service whose pod is on its own bridge",
            "modprobe br_netfilter, and the same in /etc/modules-load.d",
        ),
    }
}

fn check_rp_filter(findings: &mut Findings, facts: &Facts) {
    let all = facts.settings.rp_filter.iter().find(|(name, _)| name == "all").map_or(0, |(_, value)| *value);
    // The larger of an interface's own and of all's counts.
    let strict = |link: &str| {
        facts.settings.rp_filter.iter().any(|(name, own)| name == link && (*own).max(all) == STRICT)
    };
    let Some(network) = &facts.network else { return };
    let ways: Vec<_> = network
        .links
        .iter()
        .filter(|link| link.name != "lo" && !link.is_pods && !link.addresses.is_empty())
        .filter(|link| link.kind != "bridge" && link.kind != "vxlan")
        .map(|link| link.name.as_str())
        .collect();
    let strict: Vec<_> = ways.iter().copied().filter(|link| strict(link)).collect();
    // With one way there is no other by which an answer could leave.
    if ways.len() > 1 && !strict.is_empty() {
        findings.warning(
            format!("rp_filter is strict on {}, of several ways: packets that come by one and are answered by another are lost", strict.join(", ")),
            format!("sysctl -w net.ipv4.conf.all.rp_filter=2 (loose), or 0 there: net.ipv4.conf.{}.rp_filter", strict[0]),
        );
    }
}

fn check_conntrack(findings: &mut Findings, facts: &Facts) {
    let Some(Conntrack { count, max }) = facts.settings.conntrack else {
        return findings.info("no connections are tracked yet (nf_conntrack)");
    };
    let full = count.saturating_mul(100) / max.max(1);
    let advice = "sysctl -w net.netfilter.nf_conntrack_max=262144, or kube-proxy's --conntrack-min";
    match full {
        95.. => findings.error(
            format!("{count} of {max} connections are tracked: new ones are refused at any moment"),
            advice,
        ),
        80.. => findings.warning(format!("{count} of {max} connections are tracked: {full} %"), advice),
        _ if max < 32768 => findings.warning(format!("only {max} connections can be tracked"), advice),
        _ => findings.ok(format!("{count} of {max} connections are tracked")),
    }
}

fn check_swap(findings: &mut Findings, facts: &Facts) {
    let swaps = facts.settings.swaps.join(", ");
    match facts.runtime.fail_swap_on {
        _ if swaps.is_empty() => findings.ok("there is no swap"),
        Some(false) => findings.info(format!("there is swap ({swaps}), and the kubelet is told to bear it")),
        // Without a configuration it is as it always was.
        Some(true) | None => findings.error(
            format!("there is swap ({swaps}): the kubelet does not start"),
            "swapoff -a, and remove it from /etc/fstab; or failSwapOn: false in the kubelet's configuration",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::healthy::{complains, link, spoilt};
    use super::*;
    use crate::commands::doctor::finding::Severity::{Error, Info, Warning};

    #[track_caller]
    fn is_fine(spoil: impl FnOnce(&mut Facts)) {
        let found = spoilt(check, spoil);
        assert!(found.iter().all(|finding| finding.severity >= Info), "{found:#?}");
    }

    #[test]
    fn a_node_forwards() {
        complains(check, |facts| facts.settings.forward_ipv4 = Some(false), Warning, "IPv4 is not forwarded");
        // Of IPv6 only where pods have it.
        is_fine(|facts| facts.settings.forward_ipv6 = Some(false));
        let dual = |facts: &mut Facts| {
            facts.settings.forward_ipv6 = Some(false);
            facts.cluster.push("fd00::/48".parse().unwrap());
        };
        complains(check, dual, Warning, "IPv6 is not forwarded");
    }

    #[test]
    fn bridges_ask_netfilter() {
        complains(
            check,
            |facts| facts.settings.bridge_netfilter = Some(false),
            Warning,
            "does not go through netfilter",
        );
        complains(
            check,
            |facts| facts.settings.bridge_netfilter = None,
            Warning,
            "br_netfilter is not loaded",
        );
    }

    #[test]
    fn a_strict_filter_is_one_way_only() {
        let strict = |facts: &mut Facts| {
            facts.settings.rp_filter = vec![("all".to_owned(), 1), ("eth0".to_owned(), 0)]
        };
        is_fine(strict);
        let second = |facts: &mut Facts| {
            let second = link("eth1", "", "52:54:00:00:00:02", 1500, &["192.168.2.11/24"]);
            facts.network.as_mut().unwrap().links.push(second);
        };
        is_fine(second);
        complains(
            check,
            |facts| {
                strict(facts);
                second(facts)
            },
            Warning,
            "strict on eth0",
        );
        // Loose is larger than strict.
        is_fine(|facts| {
            second(facts);
            facts.settings.rp_filter = vec![("all".to_owned(), 2), ("eth0".to_owned(), 1)];
        });
    }

    #[test]
    fn there_is_room_for_connections() {
        let tracked =
            |count, max| move |facts: &mut Facts| facts.settings.conntrack = Some(Conntrack { count, max });
        complains(check, tracked(96, 100), Error, "refused at any moment");
        complains(check, tracked(85, 100), Warning, "85 %");
        complains(check, tracked(0, 0), Warning, "only 0");
        complains(check, tracked(1, 8192), Warning, "only 8192");
        is_fine(|facts| facts.settings.conntrack = None);
    }

    #[test]
    fn a_kubelet_bears_no_swap_unless_it_is_told_to() {
        let swap = |fail_swap_on| {
            move |facts: &mut Facts| {
                facts.settings.swaps.push("/dev/sda2".to_owned());
                facts.runtime.fail_swap_on = fail_swap_on;
            }
        };
        complains(check, swap(Some(true)), Error, "/dev/sda2");
        complains(check, swap(None), Error, "/dev/sda2");
        is_fine(swap(Some(false)));
    }

    #[test]
    fn control_groups_are_of_version_2() {
        complains(check, |facts| facts.settings.unified_cgroups = Some(false), Warning, "version 1");
        is_fine(|facts| facts.settings.unified_cgroups = None);
    }
}
