//! As many Nodes and pods as a large cluster has.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use serde_json::{Value, json};

use super::control_plane::WatchCache;
use super::{cluster, control_plane, lab_alone, machine};
use crate::common::Families;

const MANY: u16 = 1000;

/// A Node as large as a kubelet's is: most of it are images.
fn node(n: u16) -> Value {
    let (high, low) = (n >> 8, n & 0xff);
    let subnet = format!("10.{}.{low}.0/24", 200 + high);
    let said = json!({
        "id": format!("{:032x}", u128::from(n) << 96 | 1), "name": format!("far-{n}"), "addresses": [format!("10.9.{high}.{low}")],
        "tunnel": { "vni": 4096, "port": 4789 }, "mtu": 1450, "mode": "vxlan",
    });
    let image = |i: u16| {
        json!({ "sizeBytes": 123_456_789, "names": [
            format!("registry.example/team-{i}/image@sha256:{:064x}", u64::from(n) << 16 | u64::from(i)),
            format!("registry.example/team-{i}/image:v1.{i}"),
        ]})
    };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": format!("far-{n}"), "annotations": { "cnikit.io/node": said.to_string() } },
        "spec": { "podCIDR": subnet, "podCIDRs": [subnet] },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "" }],
            "images": (0..50).map(image).collect::<Vec<_>>(),
        },
    })
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn a_thousand_nodes_are_soon_known_and_take_little_memory() {
    isolated(|| {
        let lab = lab_alone();
        let plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        plane.request_all((0..MANY).map(|n| ("POST", "nodes".to_owned(), node(n))));
        let mut one = machine(&lab, &plane, 1, Families::V4);
        one.config()["cluster"] = json!(["10.192.0.0/10"]);
        one.node.shell("ip route add 10.9.0.0/16 via 192.168.1.1");
        let begun = Instant::now();
        one.start();
        one.wait_long("it knows all", |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["peers"]["alive"] == MANY)
        });
        let known = begun.elapsed();
        one.wait_long("all have routes", |machine| {
            machine.node.shell("ip route show proto 87").lines().count() >= usize::from(MANY)
        });
        println!("known after {known:.1?}, routes after {:.1?}", begun.elapsed());
        std::thread::sleep(Duration::from_secs(20));
        println!(
            "{}",
            one.node.shell(&format!("grep -E 'VmHWM|VmRSS|RssAnon' /proc/{}/status", one.process().unwrap()))
        );
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn three_thousand_pods_are_listed_while_somebody_waits() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let machines = cluster(&lab, &mut plane, 2, Families::V4);
        // Without it no pod may be made.
        plane.wait("the account that pods have", |plane| {
            plane.kubectl(&["get", "serviceaccount", "default"], "").status.success()
        });
        let named = |n: u16| format!("pod-{n}");
        let pod = |n: u16| {
            let container = json!({ "name": "c", "image": "registry.example/team/image:v1" });
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": named(n) },
                "spec": { "nodeName": "n2", "containers": [container] },
            })
        };
        let address = |n: u16| format!("10.99.{}.{}", n >> 8, n & 0xff);
        let runs = |n: u16| json!({ "status": { "phase": "Running", "podIPs": [{ "ip": address(n) }] } });
        plane.request_all((0..3000).flat_map(|n| {
            let pods = "namespaces/default/pods";
            [("POST", pods.to_owned(), pod(n)), ("PATCH", format!("{pods}/{}/status", named(n)), runs(n))]
        }));
        let begun = Instant::now();
        let map = machines[0].ask("/v1/topology").unwrap();
        println!("a topology with 3000 pods after {:.2?}", begun.elapsed());
        assert_eq!(map["lackingPods"], Value::Null, "{}", map["lackingPods"]);
        let nodes = map["nodes"].as_array().unwrap();
        let theirs = nodes.iter().find(|node| node["name"] == "n2").unwrap();
        assert_eq!(theirs["pods"].as_array().unwrap().len(), 3000);
    });
}
