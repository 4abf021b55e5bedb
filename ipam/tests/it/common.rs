use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use ipam::{BootId, DirStore, LeaseStore, Owner, Pool, Range, RangeSet, acquire};

pub(crate) const NETWORK: &str = "net";
pub(crate) const REFERENCE: &str = "/usr/lib/cni/host-local";

/// A directory in memory, for tests that run hundreds of operations.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(crate) fn owner(container: &str) -> Owner {
    Owner::new(container, "eth0").unwrap()
}

pub(crate) fn boot(text: &str) -> BootId {
    text.parse().unwrap()
}

pub(crate) fn store(data_dir: &Path) -> DirStore {
    DirStore::create(data_dir, NETWORK, &boot("this-boot")).unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn range(subnet: &str) -> Range {
    Range::new(subnet.parse().unwrap(), None, None, None).unwrap()
}

/// One set per subnet.
pub(crate) fn pool(subnets: &[&str]) -> Pool {
    let set = |subnet: &&str| RangeSet::new(vec![range(subnet)]).unwrap();
    Pool::new(subnets.iter().map(set).collect()).unwrap()
}

/// Leases for good, and returns the addresses as text.
pub(crate) fn lease(store: &dyn LeaseStore, pool: &Pool, container: &str) -> Result<Vec<String>, String> {
    let reservation = acquire(store, pool, &owner(container), &[]).map_err(|error| error.to_string())?;
    Ok(reservation.commit().iter().map(|assigned| assigned.address.addr().to_string()).collect())
}

/// Everything in a network's directory that the reference knows, by name. Contents as text.
pub(crate) fn files(data_dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(data_dir.join(NETWORK)) else { return files };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with(".cnikit.") {
            // Reading a FIFO would wait for its writer.
            let regular = entry.file_type().unwrap().is_file();
            let content = if regular { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
            files.insert(name, String::from_utf8_lossy(&content).into_owned());
        }
    }
    files
}

/// The leases alone.
pub(crate) fn lease_files(data_dir: &Path) -> BTreeMap<String, String> {
    let mut files = files(data_dir);
    files.retain(|name, _| name != "lock" && !name.starts_with("last_reserved_ip."));
    files
}

/// Whether the reference is installed.
pub(crate) fn reference_is_installed() -> bool {
    can_run(Path::new(REFERENCE).exists(), REFERENCE)
}

/// Whether a program that a test needs is there.
///
/// # Panics
/// If it is not, and nobody has said that one does without.
pub(crate) fn can_run(installed: bool, program: &str) -> bool {
    assert!(
        installed || std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some(),
        "{program} is not installed; install it, or set CNIKIT_WITHOUT_REFERENCE=1 to do without this test"
    );
    if !installed {
        eprintln!("DID NOT RUN: CNIKIT_WITHOUT_REFERENCE is set, and {program} is not there");
    }
    installed
}

/// host-local's configuration for a pool.
pub(crate) fn reference_config(pool: &Pool, data_dir: &Path) -> String {
    let range = |range: &Range| {
        let mut value = serde_json::json!({
            "subnet": range.subnet().to_string(),
            "rangeStart": range.first().to_string(),
            "rangeEnd": range.last().to_string(),
        });
        if let Some(gateway) = range.gateway() {
            value["gateway"] = gateway.to_string().into();
        }
        value
    };
    let ranges: Vec<Vec<_>> =
        pool.sets().iter().map(|set| set.ranges().iter().map(range).collect()).collect();
    serde_json::json!({
        "cniVersion": "1.0.0", "name": NETWORK, "type": "bridge",
        "ipam": { "type": "host-local", "dataDir": data_dir, "ranges": ranges },
    })
    .to_string()
}

/// Runs the reference; the addresses of its result, or its message.
pub(crate) fn reference(
    command: &str,
    pool: &Pool,
    data_dir: &Path,
    container: &str,
    requested: Option<IpAddr>,
) -> Result<Vec<String>, String> {
    let config = reference_config(pool, data_dir);
    let arguments = requested.map_or_else(String::new, |address| format!("IP={address}"));
    let mut child = Command::new(REFERENCE)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", "/not/used/by/host-local")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/usr/lib/cni")
        .env("CNI_ARGS", arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if !output.status.success() {
        return Err(value["msg"].as_str().unwrap_or_default().to_owned());
    }
    let address = |value: &serde_json::Value| {
        let text = value["address"].as_str().unwrap();
        text.split('/').next().unwrap().to_owned()
    };
    Ok(value["ips"].as_array().map_or_else(Vec::new, |ips| ips.iter().map(address).collect()))
}
