//! Pods that come and go: on a kernel in memory with records that are a test's own, and with the plugin on the real one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cni_spec::plugin::Plugin;
use overlay::Pod;
use plugin_bridge::Bridge;
use plugin_kit::testing::{MemoryNode, Node, TestCall};
use plugin_kit::{Kit, MarkedOwner};
use plugin_overlay::Overlay;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use super::names::{Cache, PodName, Records};
use super::register::Register;
use super::{PodsConfig, survey};

/// What runtime and plugin have written down, as a test has it.
#[derive(Debug, Clone, Default)]
struct Written(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_named: AtomicBool,
    not_leased: Mutex<Vec<IpAddr>>,
    looks: AtomicUsize,
}

impl Records for Written {
    fn name(&self, owner: &MarkedOwner<'_>) -> Option<PodName> {
        let name = || PodName {
            namespace: Some("default".to_owned()),
            name: Some(format!("pod-{}", owner.container)),
        };
        self.0.is_named.load(Ordering::Relaxed).then(name)
    }

    fn leased(&self, _: &MarkedOwner<'_>) -> Vec<IpAddr> {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        let all = (1..255).map(|n| IpAddr::from([10, 244, 3, n]));
        all.filter(|ip| !self.0.not_leased.lock().unwrap().contains(ip)).collect()
    }
}

/// A node whose pods are attached by the plugins themselves.
struct Lab {
    files: TempDir,
}

impl Lab {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let node = json!({
            "node": "n1", "bridge": "cnikit0", "mtu": 1450, "cluster": ["10.244.0.0/16"],
            "subnets": [{"subnet": "10.244.3.0/24", "gateway": "10.244.3.1", "first": "10.244.3.2"}],
        });
        std::fs::write(files.path().join("pods.json"), node.to_string()).unwrap();
        Self { files }
    }

    fn call(&self, container: &str) -> TestCall {
        TestCall::new(json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "overlay",
            "agentDirectory": self.files.path(), "dataDir": self.files.path().join("leases"),
        }))
        .container(container)
    }

    fn config(&self) -> PodsConfig {
        PodsConfig {
            network: "pods".parse().unwrap(),
            data_dir: self.files.path().join("leases"),
            cache_dir: self.files.path().join("cache"),
        }
    }

    /// The runtime writes down what it has attached.
    fn remember(&self, container: &str, arguments: Value) {
        let results = self.files.path().join("cache/results");
        std::fs::create_dir_all(&results).unwrap();
        let cached = json!({
            "kind": "cniCacheV1", "containerId": container, "config": "", "ifName": "eth0", "networkName": "pods",
            "cniArgs": arguments, "result": {"cniVersion": "1.1.0"},
        });
        std::fs::write(results.join(format!("pods-{container}-eth0")), cached.to_string()).unwrap();
    }
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(ToString::to_string).collect()
}

fn register(lab: &Lab) -> (Register, Written) {
    let written = Written::default();
    written.0.is_named.store(true, Ordering::Relaxed);
    (Register::new(&lab.config(), written.clone()), written)
}

#[test]
fn the_networks_pods_are_known_and_nobody_elses() {
    let (lab, memory) = (Lab::new(), MemoryNode::new());
    let plugin = Kit::with_kernels(Overlay, &memory);
    for container in ["b", "a"] {
        plugin.add(&lab.call(container).request()).unwrap();
    }
    let other = json!({"cniVersion": "1.1.0", "name": "pods2", "type": "bridge", "ipam": {}});
    Kit::with_kernels(Bridge, &memory).add(&TestCall::new(other).container("c").request()).unwrap();

    let (mut register, _) = register(&lab);
    register.survey(&mut memory.process(), Instant::now()).unwrap();
    let pod = |container: &str, address: &str| {
        Pod::new(container, "eth0", [address.parse().unwrap()])
            .named(Some("default"), Some(&format!("pod-{container}")))
    };
    assert_eq!(register.pods(), [pod("a", "10.244.3.3"), pod("b", "10.244.3.2")]);
    assert_eq!(register.due(), None);
}

#[test]
fn a_change_is_a_look_into_that_pod_only() {
    let (lab, memory) = (Lab::new(), MemoryNode::new());
    let plugin = Kit::with_kernels(Overlay, &memory);
    for n in 0..50 {
        plugin.add(&lab.call(&format!("c{n}")).request()).unwrap();
    }
    let (mut register, written) = register(&lab);
    let mut looks_after = || {
        register.survey(&mut memory.process(), Instant::now()).unwrap();
        (register.pods().len(), written.0.looks.load(Ordering::Relaxed))
    };
    assert_eq!(looks_after(), (50, 50));
    assert_eq!(looks_after(), (50, 50));
    plugin.add(&lab.call("new").request()).unwrap();
    assert_eq!(looks_after(), (51, 51));
    plugin.del(&lab.call("c7").del_request()).unwrap();
    assert_eq!(looks_after(), (50, 51));
    // The same attachment once more is another cable.
    plugin.del(&lab.call("new").del_request()).unwrap();
    plugin.add(&lab.call("new").request()).unwrap();
    assert_eq!(looks_after(), (50, 52));
}

#[test]
fn what_a_pod_is_called_may_be_known_later_or_never() {
    let (lab, memory) = (Lab::new(), MemoryNode::new());
    Kit::with_kernels(Overlay, &memory).add(&lab.call("a").request()).unwrap();
    let (mut register, written) = register(&lab);
    written.0.is_named.store(false, Ordering::Relaxed);
    let mut now = Instant::now();
    register.survey(&mut memory.process(), now).unwrap();
    assert_eq!(names(&register.pods()), ["a"]);

    let mut surveys = 0;
    while let Some(due) = register.due() {
        assert!(due > now);
        now = due;
        surveys += 1;
        register.survey(&mut memory.process(), now).unwrap();
    }
    // It had a quarter of a minute.
    assert_eq!((surveys, names(&register.pods())), (6, vec!["a".to_owned()]));

    let (mut register, written) = self::register(&lab);
    written.0.is_named.store(false, Ordering::Relaxed);
    register.survey(&mut memory.process(), now).unwrap();
    written.0.is_named.store(true, Ordering::Relaxed);
    register.survey(&mut memory.process(), register.due().unwrap()).unwrap();
    assert_eq!((names(&register.pods()), register.due()), (vec!["default/pod-a".to_owned()], None));
}

#[test]
fn an_address_that_a_container_gave_itself_is_nobodys_business() {
    let (lab, memory) = (Lab::new(), MemoryNode::new());
    Kit::with_kernels(Overlay, &memory).add(&lab.call("a").request()).unwrap();
    let (mut register, written) = register(&lab);
    written.0.not_leased.lock().unwrap().push("10.244.3.2".parse().unwrap());
    let now = Instant::now();
    register.survey(&mut memory.process(), now).unwrap();
    assert_eq!(register.pods()[0].addresses(), [] as [IpAddr; 0]);
    // It may be that the lease is looked for too early.
    written.0.not_leased.lock().unwrap().clear();
    register.survey(&mut memory.process(), register.due().unwrap()).unwrap();
    assert_eq!(register.pods()[0].addresses(), ["10.244.3.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn who_listens_is_told_of_changes_only() {
    let (lab, memory) = (Lab::new(), MemoryNode::new());
    let plugin = Kit::with_kernels(Overlay, &memory);
    let (mut register, _) = register(&lab);
    let (sender, mut pods) = watch::channel(Vec::new());
    let mut told = || {
        survey(&mut register, &mut memory.process(), &sender).unwrap();
        let has_changed = pods.has_changed().unwrap();
        (has_changed, pods.borrow_and_update().len())
    };
    assert_eq!(told(), (false, 0));
    plugin.add(&lab.call("a").request()).unwrap();
    assert_eq!(told(), (true, 1));
    assert_eq!(told(), (false, 1));
    plugin.del(&lab.call("a").del_request()).unwrap();
    assert_eq!(told(), (true, 0));
}

#[test]
fn names_are_taken_from_the_runtimes_cache_if_they_are_names() {
    let lab = Lab::new();
    let cache = Cache::new(&lab.config());
    let owner = MarkedOwner { network: "pods", container: "a", interface: "eth0" };
    assert_eq!(cache.name(&owner), None);
    let kubernetes =
        json!([["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web-1"]]);
    lab.remember("a", kubernetes);
    let expected = PodName { namespace: Some("default".to_owned()), name: Some("web-1".to_owned()) };
    assert_eq!(cache.name(&owner), Some(expected));
    // Not in Kubernetes, or not from it.
    lab.remember("a", json!([]));
    assert_eq!(cache.name(&owner), Some(PodName::default()));
    for hostile in ["", "a b", "a\n", "\u{1b}[2J", &"x".repeat(254)] {
        lab.remember("a", json!([["K8S_POD_NAMESPACE", hostile], ["K8S_POD_NAME", hostile]]));
        assert_eq!(cache.name(&owner), Some(PodName::default()), "{hostile:?}");
    }
    let file = lab.files.path().join("cache/results/pods-a-eth0");
    for garbage in ["", "garbage", "{}", r#"{"kind": "cniCacheV1"}"#] {
        std::fs::write(&file, garbage).unwrap();
        assert_eq!(cache.name(&owner), None, "{garbage}");
    }
    // A mark may have cut a name, and may be anybody's.
    for container in ["a~0123456789abcdef", "../../etc", ""] {
        assert_eq!(cache.name(&MarkedOwner { container, ..owner.clone() }), None);
        assert_eq!(cache.leased(&MarkedOwner { container, ..owner.clone() }), [] as [IpAddr; 0]);
    }
}

/// On the real kernel: what the plugin attaches and detaches is known a moment later, and its name when there is one.
#[test]
fn pods_are_known_as_they_come_and_go() {
    let (lab, node) = (Arc::new(Lab::new()), Arc::new(Node::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    node.on_host(|| {
        runtime.block_on(async {
            let (sender, mut pods) = watch::channel(Vec::new());
            let watching = tokio::spawn(super::watch(lab.config(), sender));
            let call = |add: bool, container: &'static str| {
                let (lab, node) = (lab.clone(), node.clone());
                tokio::task::spawn_blocking(move || match add {
                    true => _ = node.add(&Kit::new(Overlay), &lab.call(container)).unwrap(),
                    false => node.del(&Kit::new(Overlay), &lab.call(container)).unwrap(),
                })
            };
            let mut told = async |expected: &[&str]| {
                let is_it = |pods: &Vec<Pod>| {
                    names(pods) == expected && pods.iter().all(|pod| pod.addresses().len() == 1)
                };
                let began = Instant::now();
                let waited =
                    tokio::time::timeout(Duration::from_secs(20), pods.wait_for(is_it)).await.is_ok();
                assert!(waited, "{expected:?}, and not {:?}", pods.borrow());
                began.elapsed()
            };
            call(true, "a").await.unwrap();
            let attached = told(&["a"]).await;
            call(true, "b").await.unwrap();
            told(&["a", "b"]).await;
            lab.remember("a", json!([["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web-1"]]));
            told(&["default/web-1", "b"]).await;
            call(false, "a").await.unwrap();
            let detached = told(&["b"]).await;
            node.end_container("b");
            told(&[]).await;
            println!(
                "known {attached:?} after it was attached, forgotten {detached:?} after it was detached"
            );
            drop(pods);
            watching.await.unwrap().unwrap();
        });
    });
}
