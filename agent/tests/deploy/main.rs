//! What is applied to a cluster is what the API knows, and what the agent reads.
#![cfg(feature = "kubernetes")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;

use std::path::Path;

use agent::{InForce, Options, Settings};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const INSTALL: &str = "cnikit.yaml";
const UNINSTALL: &str = "uninstall.yaml";

/// The objects of a file.
fn objects(file: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// What is put into a cluster, by kind.
fn object<T: DeserializeOwned + Serialize>(kind: &str) -> T {
    object_of(INSTALL, kind)
}

/// The only object of a kind, of which the API knows every field.
fn object_of<T: DeserializeOwned + Serialize>(file: &str, kind: &str) -> T {
    let of_kind: Vec<Value> = objects(file).into_iter().filter(|object| object["kind"] == kind).collect();
    let [object] = of_kind.as_slice() else { panic!("{} of kind {kind}", of_kind.len()) };
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(
        &serde_json::to_value(&typed).unwrap(),
        object,
        "fields that the API does not know would be missing"
    );
    typed
}

fn daemon_set() -> (Container, Container, DaemonSet) {
    let set: DaemonSet = object("DaemonSet");
    let pod = set.spec.clone().template.spec.unwrap();
    let [install] = <[Container; 1]>::try_from(pod.init_containers.unwrap()).unwrap();
    let [agent] = <[Container; 1]>::try_from(pod.containers).unwrap();
    (install, agent, set)
}

#[test]
fn every_object_is_one_of_the_api_with_fields_that_it_knows() {
    object::<ServiceAccount>("ServiceAccount");
    object::<ClusterRole>("ClusterRole");
    object::<ClusterRoleBinding>("ClusterRoleBinding");
    object::<ConfigMap>("ConfigMap");
    let (_, _, set) = daemon_set();
    let (selector, template) = (set.spec.clone().selector, set.spec.template);
    assert_eq!(selector.match_labels, template.metadata.unwrap().labels);
    assert_eq!(objects(INSTALL).len(), 5);
}

#[test]
fn the_agent_reads_what_the_config_map_has() {
    let map: ConfigMap = object("ConfigMap");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.json");
    std::fs::write(&file, &map.data.unwrap()["agent.json"]).unwrap();
    let given = Options { node_name: Some("n1".to_owned()), ..Options::default() };
    let settings =
        Settings::new(&InForce::of(&given, Some(&file), &Options::defaults()).unwrap().options).unwrap();
    let (_, agent, _) = daemon_set();
    let mounted: Vec<_> = agent.volume_mounts.unwrap().into_iter().map(|mount| mount.mount_path).collect();
    // Where it reads and writes is the node's.
    for path in
        [&settings.state_dir, &settings.run_dir, settings.conf_dir.as_ref().unwrap(), &settings.bin_dir]
    {
        assert!(mounted.iter().any(|mount| Path::new(mount) == path), "{} is not mounted", path.display());
    }
    // And its health is asked where it answers.
    for probe in [agent.liveness_probe, agent.readiness_probe] {
        let http = probe.unwrap().http_get.unwrap();
        let asked = format!("{}:{}", http.host.unwrap(), serde_json::to_value(http.port).unwrap());
        assert_eq!(asked, settings.health.unwrap().to_string());
    }
}

#[test]
fn it_has_no_more_rights_than_it_uses() {
    let (install, agent, set) = daemon_set();
    for (container, expected) in [(install, vec![]), (agent, vec!["NET_ADMIN", "NET_RAW"])] {
        let context = container.security_context.unwrap();
        let capabilities = context.capabilities.unwrap();
        assert_eq!((context.privileged, context.allow_privilege_escalation), (None, Some(false)));
        assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
        assert_eq!(capabilities.add.unwrap_or_default(), expected);
    }
    let pod = set.spec.template.spec.unwrap();
    assert_eq!((pod.host_network, pod.host_pid, pod.host_ipc), (Some(true), None, None));
    let rules = object::<ClusterRole>("ClusterRole").rules.unwrap();
    let rules: Vec<_> =
        rules.into_iter().map(|rule| (rule.resources.unwrap().join(" "), rule.verbs.join(" "))).collect();
    let expected = [("nodes", "list watch patch"), ("pods", "list")];
    assert_eq!(rules, expected.map(|(resources, verbs)| (resources.to_owned(), verbs.to_owned())));
}

/// The one who takes the network off each node has the agent's image, configuration and directories, and reaches every node
/// that the agent does.
#[test]
fn what_takes_it_out_is_where_agents_are_and_reads_what_they_read() {
    let (_, agent, agents) = daemon_set();
    let set: DaemonSet = object_of(UNINSTALL, "DaemonSet");
    assert_eq!(objects(UNINSTALL).len(), 1);
    let template = set.spec.clone().template;
    assert_eq!(set.spec.selector.match_labels, template.metadata.unwrap().labels);
    assert_ne!(set.spec.selector.match_labels, agents.spec.selector.match_labels);
    let (pod, agents) = (template.spec.unwrap(), agents.spec.template.spec.unwrap());
    assert_eq!(
        (&pod.tolerations, &pod.node_selector, &pod.host_network, &pod.priority_class_name),
        (&agents.tolerations, &agents.node_selector, &agents.host_network, &agents.priority_class_name)
    );
    assert_eq!((pod.automount_service_account_token, pod.service_account_name), (Some(false), None));
    let [uninstall, restore] = <[Container; 2]>::try_from(pod.init_containers.unwrap()).unwrap();
    let [stay] = <[Container; 1]>::try_from(pod.containers).unwrap();
    for container in [&uninstall, &restore, &stay] {
        assert_eq!(
            (&container.image, &container.image_pull_policy),
            (&agent.image, &agent.image_pull_policy)
        );
        let context = container.security_context.clone().unwrap();
        assert_eq!((context.privileged, context.allow_privilege_escalation), (None, Some(false)));
        let capabilities = context.capabilities.unwrap();
        assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
        let expected: &[&str] = if container.name == "restore" { &[] } else { &["NET_ADMIN"] };
        assert_eq!(capabilities.add.unwrap_or_default(), expected);
    }
    // Every directory that it has, of the node's, is one of the agent's, at the same place.
    let (mounted, wanted) = (agent.volume_mounts.unwrap(), uninstall.volume_mounts.clone().unwrap());
    assert!(wanted.iter().all(|mount| mounted.contains(mount)), "{wanted:?}");
    let volumes = agents.volumes.unwrap();
    assert!(pod.volumes.unwrap().iter().all(|volume| volumes.contains(volume)));
    assert_eq!((&stay.volume_mounts, &stay.env), (&uninstall.volume_mounts, &uninstall.env));
    let begins = |container: &Container, with: &[String]| container.args.as_ref().unwrap().starts_with(with);
    assert!(
        begins(&uninstall, agent.args.as_ref().unwrap()) && begins(&stay, uninstall.args.as_ref().unwrap())
    );
}
