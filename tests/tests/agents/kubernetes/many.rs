//! As many Nodes as a large cluster has.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use serde_json::{Value, json};

use super::control_plane::WatchCache;
use super::{control_plane, lab_alone, machine};
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
        plane.create_all((0..MANY).map(node));
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
