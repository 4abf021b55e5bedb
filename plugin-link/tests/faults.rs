//! Every operation of the kernel failing in turn: what was before is what is after, and the next try works.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use netops::{Kernel, Link, LinkKind, LinkName, MemoryKernel, Place, Resource};
use plugin_kit::Attach;
use plugin_kit::testing::{MemoryNode, Trial};
use plugin_link::{Dummy, Ipvlan, Loopback, Macvlan, Ptp, Tap, Vlan};
use serde_json::{Value, json};

fn config(kind: &str, leases: &std::path::Path) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": kind, "ipMasq": true, "mtu": 1400,
        "ipam": {
            "type": "host-local", "dataDir": leases,
            "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    })
}

/// That each command fails well, with so many points at least.
fn all_fail_well<P: Attach + Copy>(trial: &Trial<'_, P>, points: [usize; 3]) {
    let found = [
        trial.assert_add_is_all_or_nothing(),
        trial.assert_del_is_completed_by_the_next(),
        trial.assert_gc_is_completed_by_the_next(),
    ];
    assert!(found.iter().zip(points).all(|(found, least)| *found >= least), "{found:?} of {points:?}");
}

#[test]
fn ptp_fails_well() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("ptp", dir.path());
    all_fail_well(&Trial::new(Ptp, &config), [30, 10, 5]);
    // Neither masquerading nor IPv6, and a table of routes of the pod's own making.
    let mut plain = config.clone();
    plain["ipMasq"] = json!(false);
    plain["ipam"]["ranges"] = json!([[{"subnet": "10.22.0.0/16"}]]);
    plain["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24"}]);
    all_fail_well(&Trial::new(Ptp, &plain), [20, 5, 3]);
    let mut six = config;
    six["ipam"]["ranges"] = json!([[{"subnet": "fd00:22::/64"}]]);
    six["ipam"]["routes"] = json!([{"dst": "::/0"}]);
    all_fail_well(&Trial::new(Ptp, &six), [20, 5, 3]);
}

#[test]
fn dummy_fails_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("dummy", dir.path());
    // A dummy leads nowhere, so its routes need no gateway that answers.
    config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24"}]);
    all_fail_well(&Trial::new(Dummy, &config), [20, 5, 0]);
}

#[test]
fn loopback_fails_well() {
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "loopback"});
    all_fail_well(&Trial::new(Loopback, &config), [3, 3, 0]);
}

/// Gives a node an uplink.
fn uplink(kernel: &mut MemoryKernel) {
    let uplink = Link {
        up: true,
        ..Link::new(LinkName::new("up0").unwrap(), LinkKind::Bridge { vlan_filtering: false })
    };
    for result in kernel.create(Place::Host, &[&Resource::Link(uplink)]) {
        result.unwrap();
    }
}

fn fails_well<P: Attach + Copy>(plugin: P, keys: Value, bystanders: Value) {
    let dir = tempfile::tempdir().unwrap();
    let with = |keys: &Value| {
        let mut config = config(P::TYPE, dir.path());
        config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24"}]);
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        config
    };
    let node = || {
        let mut kernel = MemoryKernel::new();
        uplink(&mut kernel);
        MemoryNode::with_kernel(kernel)
    };
    all_fail_well(&Trial::new(plugin, &with(&keys)).beside(&with(&bystanders)).on(node), [20, 5, 0]);
}

#[test]
fn macvlan_fails_well() {
    for keys in [json!({"master": "up0", "bcqueuelen": 500}), json!({"master": "up0", "mode": "private"})] {
        fails_well(Macvlan, keys.clone(), keys);
    }
}

#[test]
fn ipvlan_fails_well() {
    for keys in [json!({"master": "up0", "mode": "l3"}), json!({"master": "up0"})] {
        fails_well(Ipvlan, keys.clone(), keys);
    }
}

#[test]
fn vlan_fails_well() {
    fails_well(Vlan, json!({"master": "up0", "vlanId": 5}), json!({"master": "up0", "vlanId": 6}));
    let other = json!({"master": "up0", "vlanId": 4094, "mtu": 1300});
    fails_well(Vlan, other, json!({"master": "up0", "vlanId": 6}));
}

#[test]
fn tap_fails_well() {
    let keys = json!({"owner": 1000, "multiQueue": true});
    fails_well(Tap, keys.clone(), keys);
}
