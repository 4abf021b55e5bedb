//! Agents of which the real Kubernetes API tells one another. `deploy/real-kubernetes` builds its servers and runs these.

mod control_plane;
mod faults;
mod many;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine};
use serde_json::{Value, json};

use self::control_plane::{ControlPlane, HOST, PORT, WatchCache};
use crate::common::{Families, assert_everybody_talks, lab_alone, logs, pods};

/// What is given to clusters.
fn manifest() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/cnikit.yaml"))
}

/// A control plane that has been given the manifest.
fn control_plane<'a>(lab: &'a Lab, families: Families, watch_cache: WatchCache) -> ControlPlane<'a> {
    let plane = ControlPlane::start(&lab.switch, families, watch_cache);
    plane.apply(manifest(), &[]);
    plane
}

/// A machine whose agent finds what a pod of the manifest's finds: the configuration of the ConfigMap, the service account's
/// token, and where the API is.
fn machine(lab: &Lab, plane: &ControlPlane<'_>, number: u8, families: Families) -> Machine {
    let map = plane.get("configmap/cnikit");
    let mut config: Value = serde_json::from_str(map["data"]["agent.json"].as_str().unwrap()).unwrap();
    if families == Families::Both {
        config["cluster"] = json!(["10.244.0.0/16", "fd00:244::/48"]);
    }
    // What a machine of a lab does not have to itself.
    config["underlay"] = json!({ "interface": "eth0" });
    config["cni"] = json!({ "confDir": "/run/cni/net.d", "binDir": "/run/cni/ours" });
    let mut machine = lab.machine(number, &config);
    machine.set_variable("KUBERNETES_SERVICE_HOST", HOST);
    machine.set_variable("KUBERNETES_SERVICE_PORT", &PORT.to_string());
    give_identity(plane, &machine);
    machine
}

fn give_identity(plane: &ControlPlane<'_>, machine: &Machine) {
    let (token, authority) = (plane.token(), plane.authority());
    machine.node.inside(|| {
        let directory = Path::new("/run/secrets/kubernetes.io/serviceaccount");
        fs::create_dir_all(directory).unwrap();
        for (name, content) in [("token", &*token), ("ca.crt", &*authority), ("namespace", "kube-system")] {
            fs::write(directory.join(name), content).unwrap();
        }
    });
}

/// Machines with a Node each, whose agents run, know one another and have subnets.
fn cluster(lab: &Lab, plane: &mut ControlPlane<'_>, n: u8, families: Families) -> Vec<Machine> {
    plane.start_controllers();
    let mut machines: Vec<_> = (1..=n).map(|number| machine(lab, plane, number, families)).collect();
    for machine in &mut machines {
        plane.register(&name(machine));
        machine.start();
    }
    for machine in &machines {
        wait_ready(plane, machine);
        machine.wait_known(usize::from(n));
    }
    machines
}

fn name(machine: &Machine) -> String {
    format!("n{}", machine.number)
}

fn wait_ready(plane: &ControlPlane<'_>, machine: &Machine) {
    plane.wait("a subnet", |plane| !pod_cidrs(plane, machine).is_empty());
    machine.wait_ready();
}

fn pod_cidrs(plane: &ControlPlane<'_>, machine: &Machine) -> Vec<String> {
    let node = plane.get(&format!("node/{}", name(machine)));
    serde_json::from_value(node["spec"]["podCIDRs"].clone()).unwrap_or_default()
}

fn problems(machine: &Machine) -> Value {
    machine.ask("/v1/status").expect("the agent answers")["problems"].clone()
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn the_server_takes_what_is_given_to_clusters() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = ControlPlane::start(&lab.switch, Families::V4, WatchCache::Usual);
        let objects = [
            "serviceaccount/cnikit",
            "clusterrole.rbac.authorization.k8s.io/cnikit",
            "clusterrolebinding.rbac.authorization.k8s.io/cnikit",
            "configmap/cnikit",
            "daemonset.apps/cnikit",
        ];
        for (options, expected) in
            [(&["--dry-run=server"][..], "created (server dry run)"), (&[], "created"), (&[], "unchanged")]
        {
            let said = plane.apply(manifest(), options);
            let lines: Vec<_> = said.lines().collect();
            assert_eq!(lines, objects.map(|object| format!("{object} {expected}")));
        }
        // A pod for each node, wherever it is and however ill, before all others.
        plane.start_controllers();
        for node in ["n1", "n2"] {
            plane.register(node);
        }
        // Why agents list in pages, and not from the server's cache: that knows none.
        let listed = |options: &str| {
            let answer = plane.admin(&["get", "--raw", &format!("/api/v1/nodes?limit=1{options}")], "");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            answer["items"].as_array().unwrap().len()
        };
        assert_eq!((listed(""), listed("&resourceVersion=0")), (1, 2));
        plane.admin(&["taint", "node", "n2", "some=thing:NoExecute"], "");
        plane.wait("two pods", |plane| {
            plane.get("daemonset/cnikit")["status"]["desiredNumberScheduled"] == 2
                && plane.get("pods")["items"].as_array().is_some_and(|pods| pods.len() == 2)
        });
        for pod in plane.get("pods")["items"].as_array().unwrap() {
            let spec = &pod["spec"];
            assert_eq!(
                (&spec["priority"], &spec["hostNetwork"]),
                (&json!(2_000_001_000), &json!(true)),
                "{pod}"
            );
            assert_eq!(spec["serviceAccountName"], "cnikit", "{pod}");
        }
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn agents_need_the_rights_that_they_are_given_and_no_others() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let machines = cluster(&lab, &mut plane, 4, Families::V4);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        for machine in &machines {
            assert_eq!(machine.subnets(), pod_cidrs(&plane, machine));
            assert_eq!(problems(machine), json!([]), "{}", machine.log());
            assert!(machine.node.inside(|| Path::new("/run/cni/net.d/10-cnikit.conflist").exists()));
            let node = plane.get(&format!("node/{}", name(machine)));
            assert!(node["metadata"]["annotations"]["cnikit.io/node"].is_string(), "{node}");
        }

        // Somebody wants to see pods: those that the API knows. (These know none of the lab's: no kubelet has made them.)
        let map = machines[0].ask("/v1/topology").unwrap();
        assert_eq!(map["lackingPods"], Value::Null, "{map}");

        // Whatever they asked for they were given, and each right was used. A watch is noted when it ends.
        let expected = machines.len();
        drop(machines);
        plane.wait("the watches have ended", |plane| {
            plane.noted().iter().filter(|noted| noted.verb == "watch").count() >= expected
        });
        let noted = plane.noted();
        assert!(noted.iter().all(|noted| noted.code == 200), "{noted:?}");
        let used: BTreeSet<_> = noted.into_iter().map(|noted| (noted.resource, noted.verb)).collect();
        let given = |rule: &Value| -> Vec<(String, String)> {
            let of = |key| serde_json::from_value::<Vec<String>>(rule[key].clone()).unwrap();
            let verbs = of("verbs");
            let all = of("resources").into_iter();
            all.flat_map(|resource| verbs.iter().map(move |verb| (resource.clone(), verb.clone()))).collect()
        };
        let rules = plane.get("clusterrole/cnikit")["rules"].clone();
        let given: BTreeSet<_> = rules.as_array().unwrap().iter().flat_map(given).collect();
        assert_eq!(used, given);
        for denied in [
            "get nodes",
            "create nodes",
            "update nodes",
            "delete nodes",
            "patch nodes --subresource=status",
            "get pods",
            "watch pods",
            "get secrets",
            "get configmaps",
        ] {
            let account = "--as=system:serviceaccount:kube-system:cnikit";
            let asked: Vec<_> =
                ["auth", "can-i"].into_iter().chain(denied.split(' ')).chain([account]).collect();
            let answer = plane.kubectl(&asked, "");
            assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{denied}");
        }
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn both_families_are_routed() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::Both, WatchCache::Usual);
        let machines = cluster(&lab, &mut plane, 3, Families::Both);
        for machine in &machines {
            let subnets = pod_cidrs(&plane, machine);
            assert_eq!((machine.subnets(), subnets.len()), (subnets.clone(), 2));
        }
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn a_subnet_that_comes_late_is_waited_for() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let mut one = machine(&lab, &plane, 1, Families::V4);
        one.start();
        let says = |word: &'static str| {
            move |machine: &Machine| {
                machine.ask("/v1/status").is_some_and(|status| status["problems"].to_string().contains(word))
            }
        };
        one.wait("it says that there is no Node", says("no Node n1"));
        plane.register("n1");
        one.wait("it says that there is no podCIDR", says("--allocate-node-cidrs"));
        assert_eq!(one.try_add("early")["code"], 11);
        let told = || one.node.inside(|| Path::new("/run/cni/net.d/10-cnikit.conflist").exists());
        assert!(!told(), "the runtime must not begin yet");
        plane.start_controllers();
        wait_ready(&plane, &one);
        one.wait("the runtime is told", |_| told());
        assert_eq!((one.subnets(), problems(&one)), (pod_cidrs(&plane, &one), json!([])), "{}", one.log());
        one.pod("late");
    });
}
