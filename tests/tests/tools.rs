//! That the tools which find nothing would find something: plugins that do wrong are found out.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cnikit_tests::disk::Disk;
use cnikit_tests::soak::{Cold, Soak, Tally, Until};
use cnikit_tests::{Implementation, Node, isolated, ours, runner};
use tempfile::TempDir;

/// Our plugins behind a shell's script, in which `plugin` is the one that was asked for.
struct Impostor {
    plugins: Implementation,
    _directory: TempDir,
}

impl Impostor {
    fn new(script: &str) -> Self {
        let Implementation::Ours(real) = ours!() else { panic!("ours are ours") };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("impostor");
        let plugin = format!("plugin() ( exec -a \"$0\" '{}' )", real.display());
        fs::write(&path, format!("#!/bin/bash\n{plugin}\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { plugins: Implementation::Ours(path), _directory: directory }
    }
}

fn finds(tally: &Tally, what: &str) {
    assert!(tally.wrong.iter().any(|wrong| wrong.contains(what)), "{tally}\n{}", tally.wrong.join("\n"));
}

#[test]
fn soak_finds_an_address_that_two_pods_have() {
    isolated(|| {
        let impostor = Impostor::new(
            r#"[ "$CNI_COMMAND" = ADD ] || { plugin; exit; }
               said=$(plugin) || { echo "$said"; exit 1; }
               sed 's#10\.1\.0\.[0-9]*/24#10.1.0.77/24#' <<<"$said""#,
        );
        let soak = Soak { plugins: impostor.plugins.clone(), reference: None, workers: 4 };
        finds(&soak.run(Until::Rounds(2)), "10.1.0.77/24 was given to pods");
    });
}

#[test]
fn soak_finds_whatever_is_left_on_a_node_that_had_no_pods() {
    isolated(|| {
        let after_one = |deed: &str| {
            Impostor::new(&format!(
                r#"plugin || exit; [ $CNI_COMMAND$CNI_CONTAINERID != DELpod-1 ] || {deed}"#
            ))
        };
        for (deed, left) in [
            ("ip link add left0 type bridge", "left0"),
            ("ip route add 192.0.2.0/24 dev cni0", "192.0.2.0/24"),
            (
                "nft add table ip left '{ map m { type ipv4_addr : ipv4_addr; elements = { 10.1.0.3 : 10.1.0.4 }; }; }'",
                "10.1.0.3",
            ),
            ("printf 'pod-1\\r\\neth0' >/var/lib/cni/networks/blue/10.1.0.99", "10.1.0.99"),
            ("sysctl -qw net.ipv4.conf.all.forwarding=0", "forwarding"),
        ] {
            let impostor = after_one(deed);
            finds(&Cold::new(&impostor.plugins, 3).run(), left);
        }
        let tally = Cold::new(&after_one("true").plugins, 3).run();
        assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    });
}

#[cfg(target_arch = "x86_64")]
mod faults {
    use cnikit_tests::faults::{Campaign, Fault, Kind, Scenario, Verb};

    use super::*;

    #[test]
    fn faults_finds_that_another_pods_state_was_touched() {
        isolated(|| {
            // The first DEL is of the pod that a ward tries itself with.
            let impostor = Impostor::new(
                r#"if [ "$CNI_COMMAND" = DEL ] && ! mkdir /run/first 2>/dev/null; then
                       rm -f /var/lib/cni/networks/blue/10.1.0.2
                   fi
                   plugin"#,
            );
            let kills = vec![Fault::KILLS[3]];
            let kinds = vec![Kind::Death];
            let campaign = Campaign { kinds, kills, points: 1..=2, jobs: 1, ..Campaign::default() };
            let scenario = Scenario::find("host-local").unwrap();
            let [.., deaths] = campaign.run(scenario, &impostor.plugins, Verb::Add, &|_, _, _| {});
            assert!(deaths.rounds > 0 && deaths.others == deaths.rounds, "{deaths:?}");
        });
    }

    #[test]
    fn faults_finds_that_a_call_failed_without_saying_so() {
        isolated(|| {
            let impostor =
                Impostor::new(r#"said=$(plugin) || exit 1; [ -z "$said" ] || printf '%s\n' "$said""#);
            let kinds = vec![Kind::Error];
            let campaign = Campaign { errors_per_point: 1, kinds, step: 9, jobs: 1, ..Campaign::default() };
            let scenario = Scenario::find("host-local").unwrap();
            let [errors, ..] = campaign.run(scenario, &impostor.plugins, Verb::Add, &|_, _, _| {});
            assert!(errors.failed > 3 && errors.reported < errors.failed, "{errors:?}");
        });
    }

    #[test]
    fn faults_finds_that_a_refusal_was_passed_over() {
        isolated(|| {
            let impostor = Impostor::new(
                r#"[ "$CNI_COMMAND" = DEL ] || { plugin; exit; }
                   nsenter --net="$CNI_NETNS" ip link set lo down 2>/dev/null
                   exit 0"#,
            );
            let kinds = vec![Kind::Refusal];
            let campaign = Campaign { errors_per_point: 1, kinds, jobs: 1, ..Campaign::default() };
            let scenario = Scenario::find("loopback").unwrap();
            let [_, refusals, _] = campaign.run(scenario, &impostor.plugins, Verb::Del, &|_, _, _| {});
            assert!(refusals.rounds > 0 && refusals.before > 0 && refusals.after == 0, "{refusals:?}");
        });
    }
}

/// What can be in the file `lease` of a directory after the power was cut, once a shell's script there has answered.
fn leases_after(script: &str) -> Vec<Option<Vec<u8>>> {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::new(&ours!());
    let mut disk = Disk::of(directory.path());
    disk.shell(&node, &format!("env --chdir={} sh -c '{script}'", directory.path().display()));
    let cuts = disk.cuts(20, &mut runner(1));
    let answered: Vec<_> = cuts.iter().filter(|cut| cut.answered == 1).collect();
    assert!(!answered.is_empty());
    answered.iter().map(|cut| cut.tree.file(Path::new("lease")).map(<[u8]>::to_vec)).collect()
}

#[test]
fn the_disk_loses_what_was_not_synced() {
    /// In how many ways it is not there, or not whole.
    fn lost(script: &str) -> usize {
        leases_after(script).iter().filter(|lease| lease.as_deref() != Some(b"c1\n")).count()
    }
    isolated(|| {
        let write = "echo c1 >.new";
        // The file, its name, or both.
        assert!(lost(&format!("{write}; mv .new lease")) > 1);
        assert!(lost(&format!("{write}; sync .new; mv .new lease")) > 0);
        assert!(lost(&format!("{write}; mv .new lease; sync .")) > 0);
        assert_eq!(lost(&format!("{write}; sync .new; mv .new lease; sync .")), 0);
    });
}

/// A store that takes what is there for whole would read another's name, half a list, or nothing where something was.
#[test]
fn the_disk_tears_what_was_not_synced() {
    isolated(|| {
        let another = Some(b"c1".to_vec());
        assert!(leases_after("echo c12 >lease; sync .").contains(&another));
        assert!(!leases_after("echo c12 >lease; sync . lease").contains(&another));

        let list = leases_after(r"printf %01200d 1 | tr 0 x >lease; sync .");
        let is = |there: std::ops::Range<usize>, length: usize| {
            let mut bytes = vec![0; length];
            bytes[there.clone()].fill(b'x');
            if there.end == 1200 {
                bytes[1199] = b'1';
            }
            list.contains(&Some(bytes))
        };
        assert!(is(0..1200, 1200));
        assert!(is(0..512, 512) && is(0..512, 1200) && is(512..1200, 1200), "a sector, of three");
        assert!(is(0..0, 1200), "a length, and nothing written yet");
    });
}
