//! The example plugin, tested as its author would.

#![allow(clippy::unwrap_used)] // tests

// Its `main` and `explain` are for its executable.
#[allow(dead_code)]
#[path = "../examples/island.rs"]
mod island;

use island::Island;
use plugin_kit::Kit;
use plugin_kit::testing::{
    Node, TestCall, assert_add_is_all_or_nothing, assert_del_is_completed_by_the_next,
    assert_gc_is_completed_by_the_next,
};
use serde_json::{Value, json};

fn config(address: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "islands", "type": "island", "mtu": 1400,
        "ipam": {"type": "static", "addresses": [{"address": address}]},
    })
}

#[test]
fn every_failure_is_undone_and_every_del_completed() {
    assert!(assert_add_is_all_or_nothing(Island, &config("10.9.0.5/24")) > 5);
    assert!(assert_del_is_completed_by_the_next(Island, &config("10.9.0.5/24")) > 5);
    assert_gc_is_completed_by_the_next(Island, &config("10.9.0.5/24"));
}

#[test]
fn an_island_is_made_checked_and_removed_on_the_real_kernel() {
    let node = Node::new();
    let plugin = Kit::new(Island);
    let call = TestCall::new(config("10.9.0.5/24")).container("a");

    let result = node.add(&plugin, &call).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.9.0.5/24");
    assert_eq!(result.interfaces[1].mtu, Some(1400));
    node.check(&plugin, &call.clone().previous(&result)).unwrap();
    node.ping("a", "10.9.0.5".parse().unwrap()).unwrap_err(); // its own lo is down: no way back to itself

    node.del(&plugin, &call.clone().previous(&result)).unwrap();
    node.check(&plugin, &call.clone().previous(&result)).unwrap_err();
    node.end_container("a");
    node.del(&plugin, &call.without_netns()).unwrap();
}
