//! What is found between files, beside them, and in very bad ones.

use std::fs;
use std::path::Path;

use super::super::finding::Severity::{Error, Warning};
use super::super::programs::Programs;
use super::super::source::Sources;
use super::{lint_dir, list};
use crate::places::BuiltIn;

fn bridge_network(name: &str, bridge: &str, subnet: &str) -> String {
    format!(
        r#"{{"cniVersion": "1.1.0", "name": "{name}", "plugins": [{{"type": "bridge", "bridge": "{bridge}", "isGateway": true,
            "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{subnet}"}}]]}}}}]}}"#
    )
}

#[test]
fn two_networks_that_get_in_each_others_way() {
    let a = bridge_network("a", "cni0", "10.1.0.0/16");
    let found =
        lint_dir(&[("10-a.conflist", &a), ("20-b.conflist", &bridge_network("b", "cni1", "10.1.7.0/24"))]);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    assert!(finding.severity == Warning && finding.file.ends_with("20-b.conflist"), "{finding:#?}");
    assert!(finding.message.contains("overlaps") && finding.message.contains("network a"), "{finding:#?}");

    let found =
        lint_dir(&[("10-a.conflist", &a), ("20-b.conflist", &bridge_network("b", "cni0", "10.2.0.0/16"))]);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    assert!(finding.severity == Error && finding.place == "plugins[0].bridge", "{finding:#?}");
    assert!(finding.message.contains("10.2.0.1 here, and 10.1.0.1"), "{finding:#?}");

    let found =
        lint_dir(&[("10-a.conflist", &a), ("20-b.conflist", &bridge_network("a", "cni1", "10.2.0.0/16"))]);
    let [finding] = found.as_slice() else { panic!("a shadowed file is nobody's rival: {found:#?}") };
    assert!(finding.severity == Warning && finding.message.contains("never used"), "{finding:#?}");
}

#[test]
fn a_broken_neighbour_hides_nothing() {
    let a = bridge_network("a", "cni0", "10.1.0.0/33");
    let found = lint_dir(&[("05-broken.conflist", "{"), ("10-a.conflist", &a)]);
    let files: Vec<_> = found.iter().map(|f| f.file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(files, ["05-broken.conflist", "10-a.conflist"], "{found:#?}");
}

#[test]
fn plugins_are_looked_for_and_asked_for_their_versions() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (conf, bin) = (dir.path().join("conf"), dir.path().join("bin"));
    fs::create_dir_all(&conf).unwrap();
    fs::create_dir_all(&bin).unwrap();
    let text = r#"{"cniVersion": "1.1.0", "name": "a", "plugins": [{"type": "bridge"}, {"type": "old"},
                   {"type": "dumb"}, {"type": "absent"}, {"type": "plain"}]}"#;
    fs::write(conf.join("10-a.conflist"), text).unwrap();
    let install = |name: &str, script: &str, mode: u32| {
        fs::write(bin.join(name), format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    install("old", r#"echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'"#, 0o755);
    install("dumb", "echo hello", 0o755);
    install("plain", "", 0o644);
    let programs = Programs::new(vec![bin], BuiltIn::Used);
    let sources = Sources::read(&[conf]).unwrap();
    let found = super::super::check(&sources, &programs);
    let said: Vec<_> = found.iter().map(|f| (f.severity, f.place.as_str(), f.message.as_str())).collect();
    let expected = [
        (Warning, "plugins[0].type", "built in"),
        (Error, "plugins[1].type", "old does not speak CNI 1.1.0"),
        (Warning, "plugins[2].type", "does not say which versions"),
        (Error, "plugins[3].type", "no plugin absent in"),
        (Error, "plugins[4].type", "is not executable"),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for ((severity, place, message), said) in expected.into_iter().zip(said) {
        assert!(said.0 == severity && said.1 == place && said.2.contains(message), "{said:?}");
    }
}

#[test]
fn a_flood_of_mistakes_is_cut_off() {
    let keys: Vec<_> = (0..30_000).map(|n| format!("\"k{n}\":1")).collect();
    let text = list(&format!("{{\"type\":\"bridge\",{}}}", keys.join(",")));
    assert!(text.len() < 1 << 20);
    let found = lint_dir(&[("a.conflist", &text)]);
    assert_eq!(found.len(), 200);
    assert!(found.iter().all(|finding| finding.severity == Warning));
}

#[test]
fn a_path_that_is_not_there_is_a_failure() {
    assert!(Sources::read(&[Path::new("/nonexistent/10-a.conflist").to_owned()]).is_err());
}
