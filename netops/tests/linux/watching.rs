//! What is heard of a kernel that others change.

use netops::*;

use crate::in_lab;
use crate::support::Lab;

/// What is heard of a command, when all that went before has been.
fn heard(lab: &Lab, watch: &mut Watch, command: &str) -> Vec<Change> {
    watch.read();
    lab.run(Place::Host, command);
    watch.read()
}

#[test]
fn rules_settings_of_forwarding_and_nf_tables_are_heard_of() {
    in_lab!(|lab| {
        let mut watch = Watch::open(None).unwrap();
        for family in ["-4", "-6"] {
            let rule = |gone| Change::Rule { table: Some(100), gone };
            let changes = heard(&lab, &mut watch, &format!("ip {family} rule add fwmark 7 table 100"));
            assert_eq!(changes, [rule(false)], "{family}");
            let changes = heard(&lab, &mut watch, &format!("ip {family} rule del fwmark 7 table 100"));
            assert_eq!(changes, [rule(true)], "{family}");
        }
        let lo = Change::Setting { link: Some(1) };
        for (setting, is_one) in [
            ("net.ipv4.ip_forward=1", false),
            ("net.ipv6.conf.all.forwarding=1", false),
            ("net.ipv4.conf.lo.rp_filter=1", true),
            ("net.ipv4.conf.lo.proxy_arp=1", true),
            ("net.ipv6.conf.lo.proxy_ndp=1", true),
        ] {
            let changes = heard(&lab, &mut watch, &format!("sysctl -qw {setting}"));
            let of_all = changes.contains(&Change::Setting { link: None });
            assert!(if is_one { changes == [lo.clone()] } else { of_all }, "{setting}: {changes:?}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let ruleset = "table inet somebodys { chain c { drop; }; }; delete table inet somebodys";
        std::fs::write(&file, ruleset).unwrap();
        for (command, changes) in [
            ("nft add table inet somebodys".to_owned(), &[Change::Ruleset][..]),
            // One transaction, one word.
            (format!("nft -f {}", file.path().display()), &[Change::Ruleset]),
            ("nft list ruleset".to_owned(), &[]),
        ] {
            assert_eq!(heard(&lab, &mut watch, &command), changes, "{command}");
        }
    });
}

#[test]
fn a_watch_is_readable_when_there_is_something_of_either_kind() {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    in_lab!(|lab| {
        let mut watch = Watch::open(None).unwrap();
        let is_readable = |watch: &Watch| {
            let mut descriptors = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!is_readable(&watch));
        for command in ["ip link set lo up", "nft add table inet somebodys"] {
            lab.run(Place::Host, command);
            assert!(is_readable(&watch), "{command}");
            assert!(!watch.read().is_empty());
            assert!(!is_readable(&watch), "{command}");
        }
    });
}

#[test]
fn that_more_has_changed_than_could_be_kept_is_heard_too() {
    in_lab!(|lab| {
        let mut watch = Watch::open(None).unwrap();
        let routes: String = (0..40_000_u32)
            .map(|n| format!("route add blackhole 10.{}.{}.0/24\n", n >> 8, n & 255))
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, routes).unwrap();
        lab.run(Place::Host, &format!("ip -batch {}", file.path().display()));
        assert!(watch.read().contains(&Change::Overrun));
        // Afterwards all is heard again.
        while !watch.read().is_empty() {}
        let changes = heard(&lab, &mut watch, "ip route del blackhole 10.1.2.0/24");
        assert!(matches!(changes[..], [Change::Route { gone: true, .. }]), "{changes:?}");
        // Who remembers what it saw, does not any more.
        let scope = Scope { protocol: 87, next_hops: 1..=9, links: Vec::new(), tables: vec![254] };
        let mut reconciler = Reconciler::new(scope);
        reconciler.reconcile(&Plan::new(), &mut lab.fresh_kernel()).unwrap();
        assert!(!reconciler.notice(&Change::Ruleset));
        assert!(reconciler.notice(&Change::Overrun));
    });
}
