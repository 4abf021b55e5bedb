//! Every operation of the kernel failing in turn: what was before is what is after, and the next try works.

use plugin_bridge::Bridge;
use plugin_kit::testing::{
    assert_add_is_all_or_nothing, assert_del_is_completed_by_the_next, assert_gc_is_completed_by_the_next,
};
use serde_json::{Value, json};

/// Configurations that between them use every kind of resource.
fn configurations(leases: &str) -> Vec<Value> {
    let ipam = json!({
        "type": "host-local", "dataDir": leases,
        "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    let config = |more: Value| {
        let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam});
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    };
    vec![
        config(json!({})),
        config(json!({"isGateway": true, "ipMasq": true, "hairpinMode": true})),
        config(
            json!({"isDefaultGateway": true, "forceAddress": true, "promiscMode": true, "macspoofchk": true}),
        ),
        config(json!({"isGateway": true, "vlan": 100, "vlanTrunk": [{"minID": 200, "maxID": 210}]})),
        config(json!({"enabledad": true, "portIsolation": true, "mtu": 1400})),
        config(json!({"ipam": {}})),
        config(json!({"ipam": {}, "disableContainerInterface": true})),
    ]
}

#[test]
fn a_failed_add_leaves_everything_as_it_was_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    for config in configurations(dir.path().to_str().unwrap()) {
        assert!(assert_add_is_all_or_nothing(Bridge, &config) > 10, "{config}");
    }
}

#[test]
fn a_del_that_failed_at_any_point_is_completed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    for config in configurations(dir.path().to_str().unwrap()) {
        assert!(assert_del_is_completed_by_the_next(Bridge, &config) > 10, "{config}");
    }
}

#[test]
fn a_gc_that_failed_at_any_point_is_completed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    for config in configurations(dir.path().to_str().unwrap()) {
        assert!(assert_gc_is_completed_by_the_next(Bridge, &config) > 3, "{config}");
    }
}
