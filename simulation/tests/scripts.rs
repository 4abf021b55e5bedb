//! Whatever happens to nodes and to the network: every step is as it must be, and when all works again, all agree.
//!
//! The scripts are the same ones in each run, so that a fault that nobody has met yet does not hold up a change that has nothing
//! to do with it. Who searches for such says how many, and which others (a number), of all that can be drawn:
//!
//! ```console
//! $ CNIKIT_CASES=5000 CNIKIT_SEED=2 cargo test --profile simulation -p cnikit-simulation --test scripts
//! ```
//!
//! Of a script that fails the shortest that still does is printed: as a list, to be read, and to be put below as a test.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on has failed

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use simulation::script::{Act, Script};

/// Scripts in an ordinary run.
const USUAL: u32 = 48;

fn act() -> impl Strategy<Value = Act> {
    let node = || 0_usize..12;
    let often_none = |most: u32| prop_oneof![Just(0), 0..most];
    prop_oneof![
        8 => (1_u64..4000).prop_map(|millis| Act::Run { millis }),
        2 => (5_u64..90).prop_map(|seconds| Act::Run { millis: seconds * 1000 }),
        5 => node().prop_map(|node| Act::AddPod { node }),
        2 => node().prop_map(|node| Act::RemovePod { node }),
        2 => (often_none(350), often_none(200), 0_u64..1500, often_none(1000), often_none(1000)).prop_map(
            |(lost, doubled, slowest, refused, broken)| Act::Links { lost, doubled, slowest, refused, broken }
        ),
        1 => (node(), node()).prop_map(|(from, to)| Act::Cut { from, to }),
        2 => any::<u16>().prop_map(|sides| Act::Part { sides }),
        3 => Just(Act::Heal),
        3 => (node(), any::<bool>()).prop_map(|(node, disk_has_lied)| Act::Crash { node, disk_has_lied }),
        4 => node().prop_map(|node| Act::Start { node }),
        1 => (node(), 1_u64..300_000).prop_map(|(node, seconds)| Act::Jump { node, seconds }),
        2 => node().prop_map(|seed| Act::Add { seed }),
        1 => node().prop_map(|node| Act::Replace { node }),
        1 => (node(), node()).prop_map(|(from, to)| Act::Copy { from, to }),
        1 => (node(), node()).prop_map(|(by, node)| Act::Forget { by, node }),
        1 => (node(), node()).prop_map(|(node, seed)| Act::Join { node, seed }),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let nodes = (2_usize..8, prop_oneof![3 => Just(0), 1 => Just(2_usize)]);
    (any::<u64>(), nodes, prop::collection::vec(act(), 0..40))
        .prop_map(|(seed, (nodes, others), acts)| Script { seed, nodes: nodes + others, others, acts })
}

#[test]
fn whatever_happens_each_step_is_sound_and_in_the_end_all_agree() {
    let number = |variable| {
        let text = std::env::var(variable).ok();
        text.map(|text| text.parse::<u32>().unwrap_or_else(|_| panic!("{variable}: not a number: {text}")))
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: number("CNIKIT_CASES").unwrap_or(USUAL),
        rng_seed: RngSeed::Fixed(number("CNIKIT_SEED").unwrap_or(1).into()),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&script(), |script| {
        script.play();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
