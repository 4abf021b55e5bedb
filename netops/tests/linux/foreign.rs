//! Other programs' netfilter rules: written by `iptables-nft`, `iptables-legacy` and `nft`, found and removed by us.

use std::process::Command;

use netops::*;

use crate::in_lab;
use crate::support::Lab;

const CHAIN: &str = "CNI-0123456789abcdef01234567";
const OTHER: &str = "CNI-fedcba9876543210fedcba98";

/// Two attachments' masquerades and what a firewall accepts of theirs, as the reference's plugins write them.
fn iptables(variant: &str, version: &str, pods: [&str; 2], multicast: &str) -> String {
    let iptables = format!("{version}tables-{variant} -w");
    let mut script = format!("set -e\n{iptables} -N CNI-FORWARD\n");
    for ((chain, pod), id) in [CHAIN, OTHER].into_iter().zip(pods).zip(["c1", "c2"]) {
        let comment = format!("-m comment --comment 'name: \"blue\" id: \"{id}\"'");
        script += &format!(
            "{iptables} -t nat -N {chain}\n\
             {iptables} -t nat -A {chain} -d {pod} -j ACCEPT {comment}\n\
             {iptables} -t nat -A {chain} ! -d {multicast} -j MASQUERADE {comment}\n\
             {iptables} -t nat -A POSTROUTING -s {pod} -j {chain} {comment}\n\
             {iptables} -A CNI-FORWARD -d {pod} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             {iptables} -A CNI-FORWARD -s {pod} -j ACCEPT\n"
        );
    }
    script
}

fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn chain(family: Family, table: &str, name: &str) -> ForeignChain {
    ForeignChain::new(family, table, name)
}

fn of_the_first(family: Family, pod: &str) -> [ForeignRules; 2] {
    [
        chain(family, "nat", CHAIN).called_from(&["POSTROUTING"]),
        chain(family, "filter", "CNI-FORWARD").about(pod.parse().unwrap()),
    ]
}

fn is_in_force(lab: &mut Lab, rules: &ForeignRules) -> bool {
    let answers = lab.kernel.read(Place::Host, &[Query::Foreign(rules.clone())]).unwrap();
    answers == [Answer::Foreign(true)]
}

fn remove(lab: &mut Lab, rules: &[ForeignRules]) -> Vec<Result<Removed, Error>> {
    let resources: Vec<_> = rules.iter().cloned().map(Resource::from).collect();
    lab.kernel.remove(Place::Host, &resources.iter().collect::<Vec<_>>())
}

/// Of two attachments the first one's rules go, and the other's stay.
fn goes_alone(mut lab: Lab, variant: &str, family: Family, version: &str, pods: [&str; 2], multicast: &str) {
    shell(&iptables(variant, version, pods, multicast));
    let rules = of_the_first(family, pods[0]);
    assert!(rules.iter().all(|rules| is_in_force(&mut lab, rules)));
    let comments = lab.kernel.read(Place::Host, &[Query::Comments(chain(family, "nat", "POSTROUTING"))]);
    let said = ["c1", "c2"].map(|id| format!("name: \"blue\" id: \"{id}\""));
    assert_eq!(comments.unwrap(), [Answer::Comments(said.into())]);

    assert_eq!(remove(&mut lab, &rules), [Ok(Removed::Now), Ok(Removed::Now)]);
    assert_eq!(remove(&mut lab, &rules), [Ok(Removed::Before), Ok(Removed::Before)]);
    assert!(!rules.iter().any(|rules| is_in_force(&mut lab, rules)));
    let left = shell(&format!("{version}tables-{variant}-save"));
    assert!(!left.contains(CHAIN) && !left.contains(pods[0]), "{left}");
    assert_eq!(left.matches(OTHER).count(), 4, "{left}");
    assert_eq!(left.matches("-A CNI-FORWARD").count(), 2, "{left}");
}

const V4: [&str; 2] = ["10.1.0.5", "10.1.0.6"];
const V6: [&str; 2] = ["fd00::5", "fd00::6"];

#[test]
fn what_iptables_nft_wrote_for_one_attachment_goes_alone() {
    in_lab!(|lab| goes_alone(lab, "nft", Family::Ipv4, "ip", V4, "224.0.0.0/4"));
}

#[test]
fn what_ip6tables_nft_wrote_for_one_attachment_goes_alone() {
    in_lab!(|lab| goes_alone(lab, "nft", Family::Ipv6, "ip6", V6, "ff00::/8"));
}

#[test]
fn what_iptables_legacy_wrote_for_one_attachment_goes_alone() {
    in_lab!(|lab| goes_alone(lab, "legacy", Family::Ipv4, "ip", V4, "224.0.0.0/4"));
}

#[test]
fn what_ip6tables_legacy_wrote_for_one_attachment_goes_alone() {
    in_lab!(|lab| goes_alone(lab, "legacy", Family::Ipv6, "ip6", V6, "ff00::/8"));
}

/// As the reference's nftables backends write it, for two attachments.
const NFT: &str = r#"
table inet cni_plugins_masquerade {
    chain masq_checks {
        ip saddr 10.1.0.5 ip daddr != 10.1.0.0/16 masquerade comment "0123-4567, net: blue, if: eth0, id: c1"
        ip saddr 10.1.0.6 ip daddr != 10.1.0.0/16 masquerade comment "0123-89ab, net: blue, if: eth0, id: c2"
    }
}
table bridge nat {
    chain cni-br-iface-c1-eth0-mac { ether saddr 02:00:00:00:00:01 return comment "macspoofchk-c1-eth0"; drop; }
    chain cni-br-iface-c1-eth0 { jump cni-br-iface-c1-eth0-mac comment "macspoofchk-c1-eth0"; }
    chain cni-br-iface-c1-eth01 { drop; }
    chain PREROUTING {
        type filter hook prerouting priority -300
        iifname veth1 jump cni-br-iface-c1-eth0 comment "macspoofchk-c1-eth0"
        iifname veth2 jump cni-br-iface-c1-eth01
    }
}
table ip cni_hostport {
    chain hostports { tcp dport 8080 dnat to 10.1.0.5:80 comment "c1"; tcp dport 8081 dnat to 10.1.0.6:80 comment "c11"; }
}
"#;

fn written_by_nft() -> Vec<ForeignRules> {
    let mac = "cni-br-iface-c1-eth0-mac";
    vec![
        chain(Family::Inet, "cni_plugins_masquerade", "masq_checks").comment_begins("0123-4567"),
        chain(Family::Bridge, "nat", "cni-br-iface-c1-eth0").called_from(&["PREROUTING"]),
        chain(Family::Bridge, "nat", mac).called_from(&[]),
        chain(Family::Ipv4, "cni_hostport", "hostports").commented("c1"),
    ]
}

#[test]
fn what_nft_wrote_for_one_attachment_goes_alone() {
    in_lab!(|mut lab| {
        shell(&format!("nft -f - <<'END'\n{NFT}END\n"));
        let rules = written_by_nft();
        assert!(rules.iter().all(|rules| is_in_force(&mut lab, rules)));
        assert_eq!(remove(&mut lab, &rules), vec![Ok(Removed::Now); 4]);
        assert_eq!(remove(&mut lab, &rules), vec![Ok(Removed::Before); 4]);
        let left = shell("nft list ruleset");
        for gone in ["id: c1\"", "c1-eth0 ", "c1-eth0-mac", "\"c1\""] {
            assert!(!left.contains(gone), "{gone}: {left}");
        }
        for stays in ["id: c2\"", "jump cni-br-iface-c1-eth01", "\"c11\""] {
            assert!(left.contains(stays), "{stays}: {left}");
        }
    });
}

#[test]
fn the_commands_of_a_script_remove_the_same() {
    in_lab!(|mut lab| {
        shell(&format!("nft -f - <<'END'\n{NFT}END\n"));
        let mut script = Script::host_only();
        let resources: Vec<_> = written_by_nft().into_iter().map(Resource::from).collect();
        for removed in script.remove(Place::Host, &resources.iter().collect::<Vec<_>>()) {
            removed.unwrap();
        }
        shell(&script.to_string());
        assert_eq!(remove(&mut lab, &written_by_nft()), vec![Ok(Removed::Before); 4]);
        assert!(shell("nft list ruleset").contains("\"c11\""));
    });
}

#[test]
fn where_there_is_nothing_nothing_is_executed_and_none_are_made() {
    in_lab!(|mut lab| {
        let rules = of_the_first(Family::Ipv4, V4[0]);
        assert_eq!(remove(&mut lab, &rules), vec![Ok(Removed::Before); 2]);
        assert!(!is_in_force(&mut lab, &rules[0]));
        let error = lab.create(Place::Host, &rules[0].clone().into()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
        // Had a program looked, there would be a table now.
        assert_eq!(shell("cat /proc/net/ip_tables_names /proc/net/ip6_tables_names"), "");
    });
}

#[test]
fn chains_that_drop_what_is_forwarded_are_told_from_others() {
    in_lab!(|mut lab| {
        let droppers = |lab: &mut Lab| lab.kernel.read(Place::Host, &[Query::Droppers]).unwrap();
        assert_eq!(droppers(&mut lab), [Answer::Chains(Vec::new())]);
        let ruleset = "\
            table ip filter {
                chain INPUT { type filter hook input priority 0; policy drop; }
                chain FORWARD { type filter hook forward priority 0; policy drop; }
                chain CNI-FORWARD { }
            }
            table inet mine {
                chain forward { type filter hook forward priority 10; policy drop; }
                chain late { type filter hook forward priority 20; policy accept; }
            }
            table bridge frames {
                chain forward { type filter hook forward priority 0; policy drop; }
            }";
        shell(&format!("nft -f - <<'END'\n{ruleset}\nEND"));
        let mut expected =
            vec![chain(Family::Ipv4, "filter", "FORWARD"), chain(Family::Inet, "mine", "forward")];
        let Some(Answer::Chains(mut found)) = droppers(&mut lab).pop() else { panic!("no chains") };
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    });
}
