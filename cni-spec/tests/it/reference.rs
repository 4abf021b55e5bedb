//! Against the reference's plugins, where they are installed (Debian: containernetworking-plugins).

use std::path::Path;

use cni_spec::{AddResult, Env, Error, Exec, Invocation, Output, ProcessExec, SpecVersion};
use serde_json::json;
use tempfile::TempDir;

const DIRECTORY: &str = "/usr/lib/cni";

/// Whether the reference is installed.
///
/// # Panics
/// If it is not, and nobody has said that one does without.
fn installed() -> bool {
    let found = Path::new(DIRECTORY).join("host-local").exists();
    assert!(
        found || std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some(),
        "no reference plugins in {DIRECTORY}; install them, or set CNIKIT_WITHOUT_REFERENCE=1 to do without this test"
    );
    if !found {
        eprintln!(
            "DID NOT RUN: CNIKIT_WITHOUT_REFERENCE is set, and there are no reference plugins in {DIRECTORY}"
        );
    }
    found
}

fn env(command: &str) -> Env {
    crate::common::env(command).with("CNI_PATH", DIRECTORY)
}

fn host_local(version: SpecVersion, leases: &TempDir) -> Vec<u8> {
    let config = json!({
        "cniVersion": version, "name": "blue", "type": "bridge",
        "ipam": {
            "type": "host-local", "dataDir": leases.path(),
            "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "2001:db8::/64", "gateway": "2001:db8::1"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.1.0.0/16", "gw": "10.9.0.1"}, {"dst": "1100:200::1/24"}]
        }
    });
    config.to_string().into_bytes()
}

fn ask(command: &str, stdin: &[u8]) -> Output {
    ProcessExec::new().exec(&Path::new(DIRECTORY).join("host-local"), &env(command), stdin).unwrap()
}

#[test]
fn results_are_printed_byte_for_byte_as_the_reference_prints_them() {
    if !installed() {
        return;
    }
    for version in &SpecVersion::ALL[..6] {
        // Two addresses need 0.3.0, to the reference.
        let leases = TempDir::new().unwrap();
        let stdin = String::from_utf8(host_local(*version, &leases)).unwrap();
        let single = stdin.replace(r#",[{"gateway":"2001:db8::1","subnet":"2001:db8::/64"}]"#, "");
        assert_ne!(single, stdin);
        let old = *version < SpecVersion::V0_3_0;
        let output = ask("ADD", if old { single.as_bytes() } else { stdin.as_bytes() });
        let stdout = String::from_utf8(output.check(Path::new("host-local")).unwrap().stdout).unwrap();
        let result = AddResult::from_json(stdout.as_bytes(), SpecVersion::LATEST).unwrap();
        assert_eq!(result.ips.len(), if old { 1 } else { 2 });
        assert_eq!(result.to_json(*version), stdout);
    }
}

#[test]
fn errors_are_read_and_printed_alike() {
    if !installed() {
        return;
    }
    let output = ask("ADD", b"{");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let error = output.check(Path::new("host-local")).unwrap_err();
    assert_eq!(error.code().get(), 6);
    assert_eq!(error.to_json(), text);
    let output = ask("ADD", br#"{"cniVersion": "9.9.9", "name": "blue"}"#);
    assert_eq!(output.check(Path::new("host-local")).unwrap_err().code().get(), 1);
}

#[test]
fn host_local_can_be_delegated_to() -> Result<(), Error> {
    if !installed() {
        return Ok(());
    }
    let leases = TempDir::new().unwrap();
    let version = SpecVersion::V1_0_0;
    let invocation = Invocation::new(env("ADD"), host_local(version, &leases), version);
    let exec = ProcessExec::new();
    let ipam = invocation.delegate(&exec, &"host-local".parse()?)?;
    assert!(ipam.version()?.supports(version));
    let result = ipam.add_or_undo()?;
    assert_eq!(result.ips[0].address, "10.9.0.2/24".parse().unwrap());
    assert_eq!(result.routes[2].dst.to_string(), "1100:200::1/24");
    ipam.check()?;
    let lease = leases.path().join("blue/10.9.0.2");
    assert!(lease.exists());
    ipam.del()?;
    ipam.del()?;
    assert!(!lease.exists());
    assert_eq!(ipam.check().map_err(|error| error.code().get()), Err(999));
    Ok(())
}
