//! Plans of several containers at once: nobody's failure is anybody else's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use netops::*;
use plans::{Recipe, recipes};
use proptest::prelude::*;

const EIO: Errno = Errno::new(5);

/// A container on the bridge, with forwarding on and masqueraded.
fn container(pod: u8) -> Recipe {
    let cable = [4, 12, 13, 14, 19, 27, 29].iter().fold(0, |bits, bit| bits | 1 << bit);
    Recipe { pod, node: 1 | 1 << 2 | 1 << 3 | 1 << 10 | 1 << 11, cables: vec![cable] }
}

fn operations(plan: &Plan) -> usize {
    let mut kernel = MemoryKernel::new();
    plan.apply(&mut kernel).unwrap();
    kernel.operations()
}

/// Whatever becomes of the first, the second container has all that it was told it has.
#[test]
fn a_container_keeps_its_network_when_the_one_that_made_the_bridge_fails() {
    let (first, second) = (container(1).plan(), container(2).plan());
    let operations = operations(&first);
    let mut failures = 0;
    for arrival in 0..operations {
        for failure in arrival..operations {
            let mut kernel = MemoryKernel::new();
            let mut other = kernel.another_container();
            let (send, outcome) = mpsc::channel();
            let plan = second.clone();
            kernel.interrupt_at(arrival, move || {
                let applied = plan.apply(&mut other);
                send.send((applied.map(drop), other.another())).unwrap();
            });
            kernel.fail_at(failure, EIO);
            // With the other's bridge there it may be done before it can fail.
            if let Err(error) = first.apply(&mut kernel) {
                failures += 1;
                assert_eq!(error.cause.errno(), Some(EIO));
                assert_eq!(error.left, Vec::new());
            }
            let (applied, mut other) = outcome.recv().unwrap();
            assert_eq!(applied, Ok(()), "arrival {arrival}, failure {failure}");
            assert_eq!(
                second.check(&mut other).unwrap(),
                Vec::new(),
                "arrival {arrival}, failure {failure}:\n{}",
                kernel.snapshot()
            );
        }
    }
    assert!(failures > operations);
}

/// The other way round: one that begins first and is not done yet.
#[test]
fn a_container_that_is_still_being_attached_keeps_what_it_relies_on() {
    let (slow, failing) = (container(1).plan(), container(2).plan());
    let (slow_operations, operations) = (operations(&slow), operations(&failing));
    for arrival in 0..slow_operations {
        for failure in 0..operations {
            let mut kernel = MemoryKernel::new();
            let mut other = kernel.another_container();
            let plan = failing.clone();
            kernel.interrupt_at(arrival, move || {
                other.fail_at(failure, EIO);
                // It is too late to fail where much is there already.
                let _ = plan.apply(&mut other);
            });
            slow.apply(&mut kernel).unwrap();
            assert_eq!(slow.check(&mut kernel).unwrap(), Vec::new(), "arrival {arrival}, failure {failure}");
        }
    }
}

#[test]
fn a_failure_while_another_container_is_there_leaves_what_is_shared() {
    let mut kernel = MemoryKernel::new();
    container(1).plan().apply(&mut kernel).unwrap();
    let before = kernel.snapshot();
    let plan = container(2).plan();
    for failure in 0.. {
        let mut other = kernel.another_container();
        other.fail_at(failure, EIO);
        if plan.apply(&mut other).is_ok() {
            assert!(failure > 5);
            break;
        }
        other.delete_container();
        before.assert_same(&kernel.snapshot());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn containers_attached_at_once_all_have_their_network(
        recipes in (recipes(1), recipes(2), recipes(3)), failure in prop::option::of(0_usize..20),
    ) {
        let node = recipes.0.node;
        let recipes = [recipes.0, recipes.1, recipes.2].map(|recipe| Recipe { node, ..recipe });
        let machine = MemoryKernel::new();
        let (done, outcomes) = mpsc::channel();
        thread::scope(|scope| {
            for (n, recipe) in recipes.iter().enumerate() {
                let mut kernel = machine.another_container();
                let (plan, done) = (recipe.plan(), done.clone());
                if let Some(failure) = failure.filter(|_| n == 0) {
                    kernel.fail_at(failure, EIO);
                }
                scope.spawn(move || {
                    let applied = plan.apply(&mut kernel).is_ok();
                    kernel.clear_faults();
                    done.send((n, applied, plan, kernel.another())).unwrap();
                });
            }
        });
        for (n, applied, plan, mut kernel) in outcomes.try_iter() {
            prop_assert!(applied || n == 0);
            if applied {
                prop_assert_eq!(plan.check(&mut kernel).unwrap(), Vec::new());
            }
        }
    }
}

#[test]
fn one_alone_may_exclude_and_others_wait_for_it() {
    let machine = MemoryKernel::new();
    let (mut a, mut b) = (machine.another(), machine.another());
    a.share().unwrap();
    b.share().unwrap();
    assert!(!a.exclude(), "b relies on what is shared");
    assert!(b.exclude(), "a gave up by asking");
    assert!(!a.exclude());
    let waiting = thread::spawn(move || {
        a.share().unwrap();
        a
    });
    thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    drop(b);
    let mut a = waiting.join().unwrap();
    assert!(a.exclude());
}
