//! What is forwarded: nf_tables and `iptables`; the oracles are `nft` and `iptables`.

use std::process::Command;
use std::sync::Barrier;
use std::thread;

use netops::*;

use crate::in_lab;
use crate::support::{Lab, name};

fn forwarded(address: &str, mark: &str) -> Resource {
    Resource::from(Forwarded { address: address.parse().unwrap(), mark: Mark::new(mark).unwrap() })
}

fn isolation(bridge: &str, neighbours: Neighbours) -> Resource {
    Resource::Isolation(Isolation { bridge: name(bridge), neighbours })
}

fn jump(version: IpVersion, admin: &str) -> Resource {
    Resource::ForwardJump(ForwardJump { version, admin_chain: ChainName::new(admin).unwrap() })
}

const PROGRAMS: [(IpVersion, &str); 2] = [(IpVersion::V4, "iptables-nft"), (IpVersion::V6, "ip6tables-nft")];

/// As a person would write it.
const BY_HAND: &str = r#"table inet cnikit {
	set pods4 {
		type ipv4_addr
		elements = { 10.22.0.5 comment "pod 1" }
	}

	set pods6 {
		type ipv6_addr
		elements = { fd00:10::5 comment "pod 1" }
	}

	set closed {
		type ifname
		elements = { "cni0",
			     "cni1" }
	}

	set within {
		type ifname . ifname
		elements = { "cni0" . "cni0" }
	}

	set isolated {
		type ifname . ifname
		elements = { "cni1" . "cni1" }
	}

	chain forward {
		type filter hook forward priority filter - 1; policy accept;
		meta mark set meta mark & 0xffffefff
		ip saddr @pods4 meta mark set meta mark | 0x00001000
		ip daddr @pods4 ct state established,related meta mark set meta mark | 0x00001000
		ip6 saddr @pods6 meta mark set meta mark | 0x00001000
		ip6 daddr @pods6 ct state established,related meta mark set meta mark | 0x00001000
	}

	chain forwarded {
		type filter hook forward priority filter + 1; policy accept;
		meta mark set meta mark & 0xffffefff
	}

	chain isolation {
		type filter hook forward priority filter - 1; policy accept;
		iifname . oifname @isolated drop
		iifname @closed oifname @closed iifname . oifname != @within drop
	}
}
"#;

fn everything() -> [Resource; 4] {
    [
        forwarded("10.22.0.5", "pod 1"),
        forwarded("fd00:10::5", "pod 1"),
        isolation("cni0", Neighbours::Reachable),
        isolation("cni1", Neighbours::Unreachable),
    ]
}

fn is_there(lab: &Lab, resource: &Resource) -> bool {
    let query = match resource {
        Resource::Isolation(isolation) => Query::Isolation(isolation.clone()),
        Resource::ForwardJump(jump) => Query::ForwardJump(jump.clone()),
        _ => panic!("no question: {resource}"),
    };
    lab.fresh_kernel().read(Place::Host, &[query]).unwrap() == [Answer::Present(true)]
}

/// The rules of one variant's table, without its counters.
fn saved(lab: &Lab, program: &str) -> Vec<String> {
    let saved = lab.run(Place::Host, &format!("{program}-save -t filter"));
    saved.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

const WAY: [&str; 3] = [
    "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
    "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
    "-A CNI-FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT",
];

#[test]
fn the_ruleset_is_what_a_person_would_write() {
    in_lab!(|mut lab| {
        assert_eq!(lab.create_all(&everything()), vec![Ok(Created::New); 4]);
        lab.assert_ruleset(BY_HAND);
    });
}

#[test]
fn a_bridge_is_isolated_once_and_until_that_is_taken_back() {
    in_lab!(|mut lab| {
        let loose = isolation("cni0", Neighbours::Reachable);
        let strict = isolation("cni0", Neighbours::Unreachable);
        for isolation in [&loose, &strict] {
            assert!(!is_there(&lab, isolation));
            assert_eq!(lab.remove(Place::Host, isolation), Ok(Removed::Before));
            assert_eq!(lab.create(Place::Host, isolation), Ok(Created::New));
            assert_eq!(lab.create(Place::Host, isolation), Ok(Created::Kept));
            assert!(is_there(&lab, isolation));
        }
        assert_eq!(lab.remove(Place::Host, &strict), Ok(Removed::Now));
        assert!(!is_there(&lab, &strict));
        assert_eq!(lab.remove(Place::Host, &loose), Ok(Removed::Now));
        assert!(!lab.run(Place::Host, "nft list ruleset").contains("elements"));
    });
}

#[test]
fn the_way_is_what_iptables_itself_would_make() {
    in_lab!(|mut lab| {
        for (version, program) in PROGRAMS {
            let jump = jump(version, "CNI-ADMIN");
            assert!(!is_there(&lab, &jump));
            assert_eq!(lab.create(Place::Host, &jump), Ok(Created::New));
            assert!(is_there(&lab, &jump));
            assert_eq!(lab.create(Place::Host, &jump), Ok(Created::Kept));
            assert_eq!(saved(&lab, program), WAY);
            // iptables finds each rule, and so does whoever uses it.
            for rule in WAY {
                shell(&format!("{program} {}", rule.replacen("-A", "-C", 1)));
            }
        }
    });
}

#[test]
fn rules_that_were_saved_and_restored_are_still_the_way() {
    in_lab!(|mut lab| {
        for (version, program) in PROGRAMS {
            let jump = jump(version, "CNI-ADMIN");
            lab.create(Place::Host, &jump).unwrap();
            let rules = tempfile::NamedTempFile::new().unwrap();
            let rules = rules.path().display();
            shell(&format!("{program}-save > {rules}; {program} -F; {program} -X"));
            assert!(!is_there(&lab, &jump));
            shell(&format!("{program}-restore < {rules}"));
            assert!(is_there(&lab, &jump));
            assert_eq!(lab.create(Place::Host, &jump), Ok(Created::Kept));
            assert_eq!(saved(&lab, program), WAY);
        }
    });
}

#[test]
fn whatever_is_missing_is_made_where_it_belongs() {
    in_lab!(|mut lab| {
        let jump = jump(IpVersion::V4, "CNI-ADMIN");
        shell(
            "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i lo -j ACCEPT
             iptables-nft -N CNI-FORWARD; iptables-nft -A CNI-FORWARD -s 10.22.0.9/32 -j ACCEPT",
        );
        lab.create(Place::Host, &jump).unwrap();
        let made = [
            WAY[0],
            "-A FORWARD -i lo -j ACCEPT",
            WAY[1],
            "-A CNI-FORWARD -s 10.22.0.9/32 -j ACCEPT",
            WAY[2],
        ];
        assert_eq!(saved(&lab, "iptables-nft"), made);
        assert!(lab.run(Place::Host, "iptables-nft -S FORWARD").starts_with("-P FORWARD DROP\n"));
        for rule in WAY {
            shell(&format!("iptables-nft {}", rule.replacen("-A", "-D", 1)));
            assert!(!is_there(&lab, &jump), "{rule}");
            assert_eq!(lab.create(Place::Host, &jump), Ok(Created::New));
            assert_eq!(saved(&lab, "iptables-nft"), made);
        }
        lab.run(Place::Host, "nft flush ruleset");
        lab.create(Place::Host, &jump).unwrap();
        assert_eq!(saved(&lab, "iptables-nft"), WAY);
    });
}

#[test]
fn rules_that_only_look_alike_are_not_the_way() {
    in_lab!(|mut lab| {
        let jump = jump(IpVersion::V4, "CNI-ADMIN");
        shell(
            "iptables-nft -N CNI-FORWARD; iptables-nft -N CNI-ADMIN
             iptables-nft -A FORWARD -i eth0 -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD
             iptables-nft -A CNI-FORWARD -m comment --comment 'CNI firewall plugin admin overrides' -j DROP
             iptables-nft -A CNI-FORWARD -m mark --mark 0x1000/0x3000 -j ACCEPT
             iptables-nft -A CNI-FORWARD -m mark ! --mark 0x1000/0x1000 -j ACCEPT",
        );
        lab.create(Place::Host, &jump).unwrap();
        let saved = saved(&lab, "iptables-nft");
        assert!(WAY.iter().all(|rule| saved.iter().any(|there| there == rule)), "{saved:?}");
    });
}

#[test]
fn two_administrators_are_both_asked_first() {
    in_lab!(|mut lab| {
        for admin in ["CNI-ADMIN", "MINE"] {
            lab.create(Place::Host, &jump(IpVersion::V4, admin)).unwrap();
        }
        let mine = WAY[1].replace("CNI-ADMIN", "MINE");
        assert_eq!(saved(&lab, "iptables-nft"), [WAY[0], &mine, WAY[1], WAY[2]]);
    });
}

const LEGACY: [(IpVersion, &str); 2] =
    [(IpVersion::V4, "iptables-legacy"), (IpVersion::V6, "ip6tables-legacy")];

#[test]
fn where_the_legacy_variant_has_rules_the_way_is_there() {
    in_lab!(|mut lab| {
        for (version, program) in LEGACY {
            shell(&format!("{program} -P FORWARD DROP; {program} -A FORWARD -i lo -j ACCEPT"));
            let jump = jump(version, "CNI-ADMIN");
            assert!(!is_there(&lab, &jump));
            assert_eq!(lab.create(Place::Host, &jump), Ok(Created::New));
            assert!(is_there(&lab, &jump));
            assert_eq!(lab.create(Place::Host, &jump), Ok(Created::Kept));
            let made = [WAY[0], "-A FORWARD -i lo -j ACCEPT", WAY[1], WAY[2]];
            assert_eq!(saved(&lab, program), made);
            for rule in WAY {
                shell(&format!("{program} {}", rule.replacen("-A", "-C", 1)));
                shell(&format!("{program} {}", rule.replacen("-A", "-D", 1)));
                assert!(!is_there(&lab, &jump), "{rule}");
                assert_eq!(lab.create(Place::Host, &jump), Ok(Created::New));
            }
            assert_eq!(saved(&lab, program), made);
        }
        assert_eq!(lab.run(Place::Host, "nft list ruleset"), "", "the other variant is not in use");
    });
}

#[test]
fn where_both_variants_are_in_use_the_way_is_in_both() {
    in_lab!(|mut lab| {
        shell("iptables-legacy -P FORWARD DROP; iptables-nft -P FORWARD DROP");
        let jump = jump(IpVersion::V4, "CNI-ADMIN");
        assert_eq!(lab.create(Place::Host, &jump), Ok(Created::New));
        assert_eq!(saved(&lab, "iptables-legacy"), WAY);
        assert_eq!(saved(&lab, "iptables-nft"), WAY);
        shell("iptables-nft -F FORWARD");
        assert!(!is_there(&lab, &jump));
        assert_eq!(lab.create(Place::Host, &jump), Ok(Created::New));
    });
}

#[test]
fn a_legacy_table_with_nothing_in_it_is_left_alone() {
    in_lab!(|mut lab| {
        shell("iptables-legacy -S; iptables-legacy -N MINE");
        lab.create(Place::Host, &jump(IpVersion::V4, "CNI-ADMIN")).unwrap();
        assert_eq!(saved(&lab, "iptables-legacy"), Vec::<String>::new());
        assert_eq!(saved(&lab, "iptables-nft"), WAY);
    });
}

#[test]
fn a_script_makes_the_same_way() {
    in_lab!(|lab| {
        let mut script = Script::host_only();
        for (version, _) in PROGRAMS {
            for admin in ["CNI-ADMIN", "MINE"] {
                script.create(Place::Host, &[&jump(version, admin)]);
            }
        }
        shell(&script.to_string());
        for (version, _) in PROGRAMS {
            for admin in ["CNI-ADMIN", "MINE"] {
                assert!(is_there(&lab, &jump(version, admin)), "{script}");
            }
        }
        assert_eq!(saved(&lab, "iptables-nft").len(), 4);
    });
}

#[test]
fn many_at_once_make_one_way() {
    for set_up in ["true", "iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP"] {
        make_one_way_at_once(set_up);
    }
}

fn make_one_way_at_once(set_up: &str) {
    in_lab!(|lab| {
        shell(set_up);
        let (barrier, host) = (Barrier::new(16), Namespace::current().unwrap());
        thread::scope(|scope| {
            for number in 0..16 {
                let (barrier, host) = (&barrier, &host);
                scope.spawn(move || {
                    let make = || {
                        let mut kernel = LinuxKernel::new(None);
                        let own = forwarded(&format!("10.22.0.{number}"), "pod");
                        let jumps = [IpVersion::V4, IpVersion::V6].map(|version| jump(version, "CNI-ADMIN"));
                        barrier.wait();
                        let results = kernel.create(Place::Host, &[&jumps[0], &own, &jumps[1]]);
                        assert!(results.len() == 3 && results.iter().all(Result::is_ok), "{results:?}");
                    };
                    host.enter(make).unwrap();
                });
            }
        });
        for (_, program) in if set_up == "true" { PROGRAMS } else { LEGACY } {
            assert_eq!(saved(&lab, program), WAY);
        }
    });
}

fn shell(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
