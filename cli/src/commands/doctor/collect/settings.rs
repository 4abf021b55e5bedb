//! Settings of the kernel, and of what is beside it.

use super::Root;
use crate::commands::doctor::facts::{Conntrack, Settings};

const SYS: &str = "/proc/sys/net";

pub(super) fn settings(root: &Root) -> Settings {
    let flag = |name: &str| root.number::<u8>(format!("{SYS}/{name}")).map(|value| value != 0);
    let count = root.number(format!("{SYS}/netfilter/nf_conntrack_count"));
    let max = root.number(format!("{SYS}/netfilter/nf_conntrack_max"));
    let swaps = root.text("/proc/swaps").unwrap_or_default();
    let ranges = root.line(format!("{SYS}/ipv4/ip_local_reserved_ports")).unwrap_or_default();
    Settings {
        forward_ipv4: flag("ipv4/ip_forward"),
        forward_ipv6: flag("ipv6/conf/all/forwarding"),
        bridge_netfilter: flag("bridge/bridge-nf-call-iptables"),
        rp_filter: rp_filter(root),
        conntrack: count.zip(max).map(|(count, max)| Conntrack { count, max }),
        // The first line has the columns' names.
        swaps: swaps
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect(),
        local_ports: root.line(format!("{SYS}/ipv4/ip_local_port_range")).and_then(|line| {
            let (first, last) = line.split_once(char::is_whitespace)?;
            Some((first.parse().ok()?, last.trim().parse().ok()?))
        }),
        reserved_ports: ranges.split(',').filter_map(range).collect(),
        unified_cgroups: unified_cgroups(root),
    }
}

fn rp_filter(root: &Root) -> Vec<(String, u8)> {
    let directory = format!("{SYS}/ipv4/conf");
    let value = |name: String| Some((root.number(format!("{directory}/{name}/rp_filter"))?, name));
    root.names(&directory).into_iter().filter_map(value).map(|(value, name)| (name, value)).collect()
}

/// `None` if nothing is mounted there.
fn unified_cgroups(root: &Root) -> Option<bool> {
    let names = root.names("/sys/fs/cgroup");
    (!names.is_empty()).then(|| names.iter().any(|name| name == "cgroup.controllers"))
}

/// `30000-32767`, or one number.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn settings_are_read_from_where_the_kernel_has_them() {
        let tree = Tree::new(&[
            ("proc/sys/net/ipv4/ip_forward", "1\n"),
            ("proc/sys/net/ipv6/conf/all/forwarding", "0\n"),
            ("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
            ("proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
            ("proc/sys/net/ipv4/conf/eth0/rp_filter", "1\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ("proc/swaps", "Filename\tType\tSize\n/dev/zram0 partition 100 0 100\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,30000-32767\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
        ]);
        let settings = settings(&tree.root());
        assert_eq!((settings.forward_ipv4, settings.forward_ipv6), (Some(true), Some(false)));
        assert_eq!(settings.bridge_netfilter, Some(true));
        assert_eq!(settings.rp_filter, [("all".to_owned(), 0), ("eth0".to_owned(), 1)]);
        assert_eq!(settings.conntrack, Some(Conntrack { count: 12, max: 65536 }));
        assert_eq!(settings.swaps, ["/dev/zram0"]);
        assert_eq!(settings.local_ports, Some((32768, 60999)));
        assert_eq!(settings.reserved_ports, [(8080, 8080), (30000, 32767)]);
        assert_eq!(settings.unified_cgroups, Some(true));
    }

    #[test]
    fn what_is_not_there_is_not_known() {
        let settings = settings(&Tree::new(&[("proc/sys/net/ipv4/ip_forward", "maybe")]).root());
        assert_eq!((settings.forward_ipv4, settings.conntrack, settings.unified_cgroups), (None, None, None));
    }
}
