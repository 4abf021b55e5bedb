//! Calls of `host-local`, one after the other, on a disk that is watched.

use std::collections::BTreeMap;
use std::path::Path;

use cnikit_tests::disk::{Disk, Tree};
use cnikit_tests::{Call, Implementation, Node, ours};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a runtime asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Add(&'static str),
    Del(&'static str),
    /// All but these are to go.
    Gc(&'static [&'static str]),
}

pub(crate) struct History {
    pub(crate) node: Node,
    plugins: Implementation,
    pub(crate) disk: Disk,
    /// What was asked for, and what was answered.
    deeds: Vec<(Deed, Value)>,
    directory: TempDir,
}

impl History {
    /// On a disk on which something is.
    pub(crate) fn on(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let plugins = ours!();
        let node = Node::new(&plugins);
        Self { node, plugins, disk: Disk::of(directory.path()), deeds: Vec::new(), directory }
    }

    /// The calls succeed.
    pub(crate) fn run(mut self, deeds: &[Deed]) -> Self {
        for deed in deeds {
            let (command, pod, keys) = match *deed {
                Deed::Add(pod) => ("ADD", pod, json!({})),
                Deed::Del(pod) => ("DEL", pod, json!({})),
                Deed::Gc(valid) => ("GC", "", attachments(valid)),
            };
            let call = call(&self.node, &self.plugins, self.directory.path(), command, pod, &keys);
            let outcome = self.disk.call(&self.node, &call);
            let said = if command == "ADD" { outcome.result() } else { Value::Null };
            self.deeds.push((*deed, said));
        }
        self
    }

    /// Who had been told that it is attached, and how, and has not been detached since, when so many calls had answered.
    pub(crate) fn held(&self, answered: usize) -> BTreeMap<&'static str, &Value> {
        let mut held = BTreeMap::new();
        for (number, (deed, said)) in self.deeds.iter().enumerate().take(answered + 1) {
            match *deed {
                Deed::Add(pod) if number < answered => drop(held.insert(pod, said)),
                Deed::Add(_) => {}
                Deed::Del(pod) => drop(held.remove(pod)),
                Deed::Gc(valid) => held.retain(|pod, _| valid.contains(pod)),
            }
        }
        held
    }

    /// How many calls there were.
    pub(crate) fn count(&self) -> usize {
        self.deeds.len()
    }

    /// Everybody who was ever asked about.
    pub(crate) fn pods(&self) -> Vec<&'static str> {
        let pod = |(deed, _): &(Deed, Value)| match *deed {
            Deed::Add(pod) | Deed::Del(pod) => Some(pod),
            Deed::Gc(_) => None,
        };
        self.deeds.iter().filter_map(pod).collect()
    }

    /// A call about leases in another directory, with more keys.
    pub(crate) fn call(&self, directory: &Path, command: &str, pod: &str, keys: &Value) -> Call<'_> {
        call(&self.node, &self.plugins, directory, command, pod, keys)
    }
}

fn call<'a>(
    node: &'a Node,
    plugins: &Implementation,
    directory: &Path,
    command: &str,
    pod: &str,
    keys: &Value,
) -> Call<'a> {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "blue", "type": "bridge",
        "ipam": {
            "type": "host-local", "dataDir": directory.join("networks"),
            "ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "fd00:1::/125"}]],
        },
    });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    let call = node.call(plugins, command, "host-local", &config);
    if pod.is_empty() {
        return call.without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS");
    }
    call.container(pod).env("CNI_NETNS", "/run/netns/none")
}

/// What a GC is told of who is to stay.
pub(crate) fn attachments(pods: &[&str]) -> Value {
    let attachment = |pod: &&str| json!({"containerID": pod, "ifname": "eth0"});
    json!({"cni.dev/valid-attachments": pods.iter().map(attachment).collect::<Value>()})
}

/// The addresses of a result, without their prefixes' lengths.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let address = |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    result["ips"].as_array().unwrap().iter().map(address).collect()
}

/// The leases in a directory: address and content.
pub(crate) fn leases(directory: &Path) -> BTreeMap<String, String> {
    let tree = Tree::read(directory);
    let network = Path::new("networks/blue");
    let names = std::fs::read_dir(directory.join(network)).into_iter().flatten();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_address = |name: &String| name.parse::<std::net::IpAddr>().is_ok();
    let content = |name: &String| {
        let content = tree.file(network.join(name)).unwrap_or_default();
        String::from_utf8_lossy(content).into_owned()
    };
    names.filter(is_address).map(|name| (name.clone(), content(&name))).collect()
}

/// From now on it is another boot: the indexes that are there are those of earlier ones.
pub(crate) fn reboot(directory: &Path, earlier: &str) {
    for (number, entry) in
        std::fs::read_dir(directory.join("networks/blue")).into_iter().flatten().enumerate()
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // The name of one that is being made says nothing of a boot.
        if name.starts_with(".cnikit.") && name != ".cnikit._new" {
            std::fs::rename(&path, path.with_file_name(format!(".cnikit.{earlier}-{number}"))).unwrap();
        }
    }
}
