//! Each key of each plugin that stands behind another in a list.

use cnikit_tests::isolated;
use serde_json::{Value, json};

use crate::keys::all_same;
use crate::pair::Case;

fn chained(plugin: &'static str, keys: Value) -> Case {
    Case::new(plugin, keys).behind_a_bridge()
}

#[test]
fn bandwidth_with_each_key_and_each_way_to_give_it() {
    isolated(|| {
        let into = |rate: u64, burst: u64| json!({"ingressRate": rate, "ingressBurst": burst});
        let out = |rate: u64, burst: u64| json!({"egressRate": rate, "egressBurst": burst});
        let both = json!({
            "ingressRate": 10_000_000, "ingressBurst": 80_000, "egressRate": 33_333_333, "egressBurst": 1_234_567,
        });
        all_same(
            [
                json!({}),
                into(10_000_000, 80_000),
                out(10_000_000, 80_000),
                both.clone(),
                // Numbers that do not come out even in the kernel's units, and large ones.
                into(123_457, 76_543),
                into(40_000_000_000, 4_000_000_000),
                into(100_000_000_000, 30_000_000_000),
                out(8, 800),
                json!({"ingressRate": 0, "ingressBurst": 0}),
                json!({"runtimeConfig": {"bandwidth": both}}),
                json!({"runtimeConfig": {"bandwidth": {
                    "IngressRate": 100_000_000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 0, "EgressBurst": 0,
                }}}),
                json!({"ingressRate": 8_000, "ingressBurst": 80_000, "runtimeConfig": {"bandwidth": both}}),
                json!({"ingressRate": 8_000}),
                json!({"egressBurst": 8_000}),
                json!({"ingressRate": 8, "ingressBurst": 34_359_738_360_u64}),
                json!({"ingressRate": -8, "ingressBurst": 8}),
                json!({"runtimeConfig": {"bandwidth": {"egressBurst": 8_000}}}),
            ]
            .map(|keys| chained("bandwidth", keys)),
        );
    });
}

#[test]
fn bandwidth_in_each_version_of_the_specification() {
    isolated(|| {
        all_same(["0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].map(|version| {
            chained(
                "bandwidth",
                json!({"cniVersion": version, "egressRate": 10_000_000, "egressBurst": 80_000}),
            )
        }));
    });
}
