//! Any sequence of operations, failures and crashes: nothing is ever forgotten.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use cni_spec::NetworkList;
use cni_spec::runtime::{Attachment, Progress};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Call, World, fails, list, works};

#[derive(Clone, Debug)]
struct Step {
    operation: Operation,
    /// What goes wrong, and at which of the step's calls.
    trouble: Option<(usize, Trouble)>,
}

#[derive(Clone, Debug)]
enum Operation {
    Add(usize),
    Del(usize),
    /// The attachments that are valid.
    Gc(usize, BTreeSet<usize>),
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The plugin refuses and does nothing.
    Refuses,
    /// The plugin does its work and fails then.
    FailsAfterwards,
    /// The runtime dies before the plugin did its work.
    CrashBefore,
    /// The runtime dies after the plugin did its work.
    CrashAfterwards,
}

const PLUGINS: [&str; 3] = ["bridge", "portmap", "tuning"];
/// Two networks, two containers; some of them join to the same file name.
const ATTACHMENTS: [(&str, &str); 4] = [("a", "b-c"), ("a-b", "c"), ("a", "d"), ("a-b", "d")];

fn network(nth: usize) -> NetworkList {
    let plugins: Vec<_> = PLUGINS.iter().map(|plugin| json!({"type": plugin})).collect();
    list(json!({"cniVersion": "1.1.0", "name": ATTACHMENTS[nth].0, "plugins": plugins}))
}

fn attachment(nth: usize) -> Attachment {
    Attachment::new(ATTACHMENTS[nth].1.parse().unwrap(), "eth0".parse().unwrap())
}

/// What exists: network, container, plugin.
type Things = Arc<Mutex<BTreeSet<(String, String, String)>>>;

fn script(
    things: Things,
    trouble: Option<(usize, Trouble)>,
) -> impl FnMut(&Call) -> cni_spec::Output + Send + 'static {
    let mut calls = 0;
    move |call| {
        let trouble = trouble.filter(|(at, _)| *at == calls).map(|(_, trouble)| trouble);
        calls += 1;
        match trouble {
            Some(Trouble::Refuses) => return fails(100, "refused"),
            Some(Trouble::CrashBefore) => crash(),
            _ => {}
        }
        let network = call.stdin["name"].as_str().unwrap().to_owned();
        let thing = (network, call.env["CNI_CONTAINERID"].clone(), call.plugin.clone());
        match call.command() {
            "ADD" => things.lock().unwrap().insert(thing),
            "DEL" => things.lock().unwrap().remove(&thing),
            _ => false,
        };
        match trouble {
            Some(Trouble::FailsAfterwards) => fails(100, "failed"),
            Some(Trouble::CrashAfterwards) => crash(),
            _ => works(call),
        }
    }
}

/// Nothing in the runtime catches it, so what it would have done next is not done. Without the message of a panic,
/// which would bury the one that matters.
fn crash() -> ! {
    resume_unwind(Box::new("crash"))
}

fn any_step() -> impl Strategy<Value = Step> {
    let nth = 0..ATTACHMENTS.len();
    let operation = prop_oneof![
        3 => nth.clone().prop_map(Operation::Add),
        2 => nth.clone().prop_map(Operation::Del),
        1 => (nth.clone(), proptest::collection::btree_set(nth, 0..3)).prop_map(|(nth, valid)| Operation::Gc(nth, valid)),
    ];
    let trouble = prop_oneof![
        Just(Trouble::Refuses),
        Just(Trouble::FailsAfterwards),
        Just(Trouble::CrashBefore),
        Just(Trouble::CrashAfterwards),
    ];
    (operation, proptest::option::of((0..7_usize, trouble)))
        .prop_map(|(operation, trouble)| Step { operation, trouble })
}

fn take(world: &World, step: &Step, things: &Things) {
    world.plugins.set_script(script(things.clone(), step.trouble));
    let runtime = world.runtime();
    let _ = catch_unwind(AssertUnwindSafe(|| match &step.operation {
        Operation::Add(nth) => runtime.add(&network(*nth), &attachment(*nth)).is_ok(),
        Operation::Del(nth) => runtime.del(&network(*nth), &attachment(*nth)).is_ok(),
        Operation::Gc(nth, valid) => {
            let valid: Vec<_> = valid.iter().map(|nth| attachment(*nth).id()).collect();
            runtime.gc(&network(*nth), &valid).is_ok()
        }
    }));
}

fn check(world: &World, things: &Things) -> Result<(), TestCaseError> {
    let cached = world.runtime().attachments().unwrap();
    prop_assert!(cached.unattributed.is_empty(), "{:?}", cached.unattributed);
    let known = |cached: &cni_spec::runtime::CachedAttachment| {
        (cached.network.to_string(), cached.attachment.container_id().to_string())
    };
    let in_cache: BTreeSet<_> = cached.attachments.iter().map(known).collect();
    let things = things.lock().unwrap();
    for (network, container, plugin) in things.iter() {
        prop_assert!(
            in_cache.contains(&(network.clone(), container.clone())),
            "{plugin} made something for {container} on {network}, and nobody knows"
        );
    }
    for cached in &cached.attachments {
        prop_assert!(cached.network_list().is_ok());
        let made = cached.result.as_ref().map_or(0, |result| result.interfaces.len());
        prop_assert_eq!(cached.progress == Progress::Complete && made < PLUGINS.len(), false);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_exists_is_in_the_cache_and_can_be_collected(steps in proptest::collection::vec(any_step(), 1..12)) {
        let (world, things) = (World::new(), Things::default());
        for step in &steps {
            take(&world, step, &things);
            check(&world, &things)?;
        }
        for nth in [0, 1] {
            take(&world, &Step { operation: Operation::Gc(nth, BTreeSet::new()), trouble: None }, &things);
        }
        prop_assert!(things.lock().unwrap().is_empty());
        prop_assert!(world.cached().is_empty(), "{:?}", world.cached());
    }
}
