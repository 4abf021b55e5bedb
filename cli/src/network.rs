//! Which network is meant: a configuration file's, or the one that is always there.

use std::path::Path;

use cni_spec::runtime::{self, LoadError};
use cni_spec::{NetworkList, NetworkName};
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;

/// The network that is there without any configuration: a bridge of its own, addresses of both families,
/// masqueraded.
///
/// 10.203.0.0/16 is nobody's default: Docker, podman (10.88), k3s (10.42), CRI-O (10.85), flannel and kubeadm (10.244,
/// 10.96), Cilium (10.0, 10.217) are elsewhere. fd63:6e69:6b69::/48 is a unique local prefix (RFC 4193) that spells
/// `cnikit`'s first letters; packets from it leave the node masqueraded.
pub(crate) const BUILT_IN: &str = include_str!("default.conflist");

/// The built-in network's name.
pub(crate) const BUILT_IN_NAME: &str = "default";

/// The configuration of a network. Files that cannot be used are told of on stderr; they stand in nobody's way.
pub(crate) fn find(name: &NetworkName, conf_dir: &Path) -> Result<NetworkList, Failure> {
    match runtime::load([conf_dir], name) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| note(format_args!("warning: {warning}")));
            Ok(loaded.list)
        }
        Err(missing) if name.as_str() == BUILT_IN_NAME => {
            missing.problems.iter().for_each(|problem| note(format_args!("warning: {problem}")));
            built_in()
        }
        Err(missing) => Err(no_such(&missing, conf_dir)),
    }
}

/// The built-in network, as far as this kernel can have it.
pub(crate) fn built_in() -> Result<NetworkList, Failure> {
    // A kernel that was booted with ipv6.disable=1 refuses every IPv6 address.
    let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let text = if ipv6 { BUILT_IN.to_owned() } else { without_ipv6(BUILT_IN) };
    NetworkList::from_json(text.as_bytes())
        .map_err(|error| Failure::new(Exit::Failed, format!("the built-in network: {error}")))
}

fn without_ipv6(conflist: &str) -> String {
    let mut document: Value = serde_json::from_str(conflist).unwrap_or_default();
    if let Some(ranges) = document.pointer_mut("/plugins/0/ipam/ranges").and_then(Value::as_array_mut) {
        ranges.truncate(1);
    }
    document.to_string()
}

fn no_such(missing: &LoadError, conf_dir: &Path) -> Failure {
    let failure = Failure::new(Exit::Configuration, missing.to_string());
    let survey = runtime::Survey::of([conf_dir]);
    let names = survey.files().iter().filter_map(|file| file.outcome.as_ref().ok());
    let mut names: Vec<_> = names.map(|list| list.name.to_string()).collect();
    names.push(format!("{BUILT_IN_NAME} (built in)"));
    names.sort();
    names.dedup();
    failure.advise(format!("networks that there are: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_network_is_there_without_any_configuration() {
        let nowhere = tempfile::tempdir().unwrap();
        let list = find(&"default".parse().unwrap(), nowhere.path()).unwrap();
        assert_eq!(list.name.as_str(), BUILT_IN_NAME);
        let types: Vec<_> = list.plugins.iter().map(|p| p.plugin_type.to_string()).collect();
        assert_eq!(types, ["bridge", "loopback"]);
    }

    #[test]
    fn a_file_goes_before_the_built_in_network() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("10-mine.conflist");
        std::fs::write(&file, r#"{"cniVersion":"1.0.0","name":"default","plugins":[{"type":"ptp"}]}"#)
            .unwrap();
        let list = find(&"default".parse().unwrap(), dir.path()).unwrap();
        assert_eq!(list.plugins[0].plugin_type.as_str(), "ptp");
    }

    #[test]
    fn without_ipv6_the_built_in_network_is_one_of_ipv4() {
        let list = NetworkList::from_json(without_ipv6(BUILT_IN).as_bytes()).unwrap();
        let ranges = &list.plugins[0].document["ipam"]["ranges"];
        assert_eq!(ranges.to_string(), r#"[[{"subnet":"10.203.0.0/16"}]]"#);
    }

    #[test]
    fn who_asks_for_what_is_not_there_is_told_what_is() {
        let dir = tempfile::tempdir().unwrap();
        let document = r#"{"cniVersion":"1.0.0","name":"blue","plugins":[{"type":"ptp"}]}"#;
        std::fs::write(dir.path().join("10-blue.conflist"), document).unwrap();
        let failure = find(&"bleu".parse().unwrap(), dir.path()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert_eq!(failure.advice(), ["networks that there are: blue, default (built in)"]);
    }
}
