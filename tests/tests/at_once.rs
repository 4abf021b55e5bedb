//! Many calls at once: no address twice, no lease lost, nobody waits for ever, nothing is left.
//!
//! The binary `soak` does the same for longer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

use cnikit_tests::soak::{Cold, Soak, Until};
use cnikit_tests::{Implementation, isolated, ours};

#[test]
fn many_calls_at_once_on_one_network_do_not_hurt_each_other() {
    isolated(|| {
        let soak = Soak { plugins: ours!(), reference: Implementation::reference(), workers: 32 };
        let tally = soak.run(Until::Rounds(4));
        eprintln!("{tally}");
        assert!(tally.wrong.is_empty(), "{tally}\n{}", tally.wrong.join("\n"));
        // In half of a worker's eight rounds, every other one has an ADD that is forgotten, and every other one a GC.
        let expected = [("ADD", 128 + 16), ("CHECK", 128), ("DEL", 128), ("GC", 16)];
        assert_eq!(tally.calls, expected.into());
    });
}

#[test]
fn fifty_pods_come_at_once_to_a_node_that_had_none() {
    isolated(|| {
        let cold = Cold::new(&ours!(), 50);
        for _ in 0..3 {
            let tally = cold.run();
            eprintln!("{tally}");
            assert!(tally.wrong.is_empty(), "{tally}\n{}", tally.wrong.join("\n"));
        }
    });
}
