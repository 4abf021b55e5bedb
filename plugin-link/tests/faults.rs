//! Every operation of the kernel failing in turn: what was before is what is after, and the next try works.

use plugin_kit::testing::{assert_add_is_all_or_nothing, assert_del_is_completed_by_the_next};
use plugin_link::{Dummy, Loopback, Ptp};
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
