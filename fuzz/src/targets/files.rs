//! Files that other programs write.

use std::fs;
use std::path::Path;

use cni_spec::plugin::{DelRequest, Outcome, Plugin, Request, Stdio, dispatch};
use cni_spec::runtime::{Attachment, Runtime, Standing, Survey};
use cni_spec::{AddResult, ContainerId, Env, Error, IfName, NetworkConfig, NetworkName, SpecVersion};
use plugin_kit::ipam::{HostLocal, Manager};
use plugin_overlay::{Assigned, NodeFile};
use serde_json::json;
use tempfile::TempDir;

/// A configuration file, as a list and as a single plugin.
pub(crate) fn conf_file(data: &[u8]) {
    with_file("10-a.conflist", data, |dir| {
        let survey = Survey::of([dir]);
        assert_eq!(survey.files().len(), 1);
        for problem in survey.problems() {
            assert!(!problem.to_string().is_empty());
            if let Some(position) = problem.position {
                // One more than there are, when something is missing at the end.
                let lines = data.split(|byte| *byte == b'\n').count();
                assert!((1..=lines + 1).contains(&position.line), "{position:?} of {lines} lines");
            }
        }
        assert_eq!(survey.files()[0].outcome.is_ok(), survey.into_default().is_ok());
    });
    with_file("20-b.conf", data, |dir| {
        let survey = Survey::of([dir]);
        for file in survey.files() {
            assert_eq!(survey.standing(file) == Standing::Unusable, file.outcome.is_err());
        }
    });
}

/// An entry in a runtime's cache.
pub(crate) fn cache_file(data: &[u8]) {
    let (Ok(network), Ok(id), Ok(interface)) =
        ("n".parse::<NetworkName>(), "c".parse::<ContainerId>(), "eth0".parse::<IfName>())
    else {
        unreachable!("three good names")
    };
    with_file("results/n-c-eth0", data, |dir| {
        let runtime = Runtime::new(Env::default()).with_cache_dir(dir);
        let Ok(all) = runtime.attachments() else { unreachable!("the directory can be read") };
        assert!(all.attachments.len() + all.unattributed.len() == 1);
        for cached in &all.attachments {
            let _ = (cached.network_list(), cached.identity());
        }
        match runtime.cached(&network, &Attachment::new(id, interface)) {
            Ok(Some(cached)) => assert_eq!(cached.network, network),
            Ok(None) => {}
            Err(error) => unreachable!("the file can be read: {error}"),
        }
    });
}

/// `resolv.conf`, as `host-local` reads it.
pub(crate) fn resolv_conf(data: &[u8]) {
    with_file("resolv.conf", data, |dir| {
        let (path, data_dir) = (dir.join("resolv.conf"), dir.join("leases"));
        let stdin = json!({
            "cniVersion": "1.1.0", "name": "n", "type": "host-local",
            "ipam": {"type": "host-local", "subnet": "10.0.0.0/24", "resolvConf": path, "dataDir": data_dir},
        })
        .to_string();
        let env = Env::from_iter([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/run/netns/of-nobody"),
            ("CNI_PATH", "/nowhere"),
        ]);
        let mut stdout = Vec::new();
        let stdio = Stdio { stdin: &mut stdin.as_bytes(), stdout: &mut stdout, stderr: &mut std::io::sink() };
        let outcome = dispatch(&Preview, env, stdio);
        assert_eq!(outcome, Outcome::Done);
        let Ok(result) = AddResult::from_json(&stdout, SpecVersion::LATEST) else { unreachable!("a result") };
        let words = result.dns.nameservers.iter().chain(&result.dns.search).chain(&result.dns.options);
        assert!(words.chain(&result.dns.domain).all(|word| !word.contains(char::is_whitespace)));
    });
}

/// What a node's agent tells the plugin `overlay`, as that reads it: what it would give is within what is told.
pub(crate) fn node_file(data: &[u8]) {
    with_file("n.json", data, |dir| {
        let Ok(network) = "n".parse() else { unreachable!("a good name") };
        let document = json!({"cniVersion": "1.1.0", "name": "n", "type": "overlay", "agentDirectory": dir,
            "isDefaultGateway": data.len().is_multiple_of(2)});
        let Ok(config) = NetworkConfig::from_json(document.to_string().as_bytes()) else {
            unreachable!("a good configuration")
        };
        let node = NodeFile::read(dir, &network);
        let supply = plugin_overlay::supply(&config);
        let Ok(node) = node else { return assert!(supply.is_err()) };
        let Ok(written) = serde_json::to_vec(&node) else { unreachable!("it can be written") };
        assert!(serde_json::from_slice::<NodeFile>(&written).is_ok_and(|again| again == node));
        let Ok(supply) = supply else { return };
        for set in supply.pool.sets() {
            for address in set.candidates(None).take(20) {
                let is_in = |assigned: &&Assigned| assigned.subnet.contains(&address);
                assert!(node.subnets.iter().any(|assigned| is_in(&assigned) && assigned.gateway != address));
            }
        }
        assert!(supply.routes.iter().all(|route| node.cluster.iter().any(|net| net.trunc() == route.dst)));
    });
}

struct Preview;

impl Plugin for Preview {
    fn about(&self) -> &str {
        "preview"
    }

    fn versions(&self) -> &[SpecVersion] {
        SpecVersion::ALL
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        HostLocal::default().preview(request)
    }

    fn del(&self, _: &DelRequest) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }
}

/// A directory with one file in it, the same one for each input.
fn with_file(name: &str, data: &[u8], read: impl FnOnce(&Path)) {
    thread_local! {
        static DIR: Option<TempDir> = TempDir::new().ok();
    }
    DIR.with(|dir| {
        let Some(dir) = dir else { unreachable!("no temporary directory") };
        let dir = dir.path().join(name.replace('/', "-"));
        let path = dir.join(name);
        let written = fs::create_dir_all(path.parent().unwrap_or(&dir)).and_then(|()| fs::write(&path, data));
        assert!(written.is_ok(), "{written:?}");
        read(&dir);
    });
}
