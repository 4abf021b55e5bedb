//! Every operation of the kernel failing in turn: what was before is what is after, and the next try works.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use netops::{Kernel, Link, LinkKind, LinkName, MemoryKernel, Place, Resource};
use plugin_kit::Attach;
use plugin_kit::testing::{
    MemoryNode, assert_add_is_all_or_nothing, assert_chained_add_is_all_or_nothing,
    assert_del_is_completed_by_the_next, assert_del_is_completed_by_the_next_on,
};
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

#[test]
fn a_failed_add_of_ptp_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert!(assert_add_is_all_or_nothing(Ptp, &config("ptp", dir.path())) > 10);
}

#[test]
fn a_failed_add_of_dummy_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("dummy", dir.path());
    // A dummy leads nowhere, so its routes need no gateway that answers.
    config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24"}]);
    assert!(assert_add_is_all_or_nothing(Dummy, &config) > 10);
}

#[test]
fn a_failed_add_of_loopback_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert!(assert_add_is_all_or_nothing(Loopback, &config("loopback", dir.path())) > 0);
}

#[test]
fn a_failed_del_is_completed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    assert_del_is_completed_by_the_next(Ptp, &config("ptp", dir.path()));
    assert_del_is_completed_by_the_next(Dummy, &config("dummy", dir.path()));
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
    let config = with(&keys);
    let points = assert_chained_add_is_all_or_nothing(plugin, &config, |node, call| {
        uplink(&mut node.process());
        call
    });
    assert!(points > 10);
    let node = || {
        let mut kernel = MemoryKernel::new();
        uplink(&mut kernel);
        MemoryNode::with_kernel(kernel)
    };
    assert_del_is_completed_by_the_next_on(node, plugin, &config, &with(&bystanders));
}

#[test]
fn macvlan_fails_well() {
    let keys = json!({"master": "up0", "bcqueuelen": 500});
    fails_well(Macvlan, keys.clone(), keys);
}

#[test]
fn ipvlan_fails_well() {
    let keys = json!({"master": "up0", "mode": "l3"});
    fails_well(Ipvlan, keys.clone(), keys);
}

#[test]
fn vlan_fails_well() {
    fails_well(Vlan, json!({"master": "up0", "vlanId": 5}), json!({"master": "up0", "vlanId": 6}));
}

#[test]
fn tap_fails_well() {
    let keys = json!({"owner": 1000, "multiQueue": true});
    fails_well(Tap, keys.clone(), keys);
}
