//! Every operation of the kernel failing in turn: what was before is what is after, and the next try works.

use plugin_kit::testing::{
    assert_add_is_all_or_nothing, assert_del_is_completed_by_the_next, assert_gc_is_completed_by_the_next,
};
use plugin_overlay::Overlay;
use serde_json::json;

use crate::network::{Network, dual_stack};

fn networks() -> Vec<Network> {
    let keys = [
        json!({}),
        json!({"isDefaultGateway": false, "macspoofchk": true, "portIsolation": true, "hairpinMode": false}),
    ];
    keys.into_iter()
        .map(|keys| {
            let network = Network::new(keys);
            network.write(&dual_stack());
            network
        })
        .collect()
}

#[test]
fn a_failed_add_leaves_everything_as_it_was_and_can_be_repeated() {
    for network in networks() {
        assert!(assert_add_is_all_or_nothing(Overlay, &network.config()) > 10);
    }
}

#[test]
fn a_del_that_failed_at_any_point_is_completed_by_the_next() {
    for network in networks() {
        assert!(assert_del_is_completed_by_the_next(Overlay, &network.config()) > 10);
    }
}

#[test]
fn a_gc_that_failed_at_any_point_is_completed_by_the_next() {
    for network in networks() {
        assert!(assert_gc_is_completed_by_the_next(Overlay, &network.config()) > 3);
    }
}
