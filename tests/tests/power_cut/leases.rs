//! The leases of `host-local`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;

use cnikit_tests::disk::Cut;
use cnikit_tests::{cases, isolated, runner};
use serde_json::{Value, json};

use crate::history::{Deed, History, addresses, attachments, leases, reboot};

/// Tries everything that a disk may hold.
fn every_cut(history: &History, check: fn(&History, &Cut, &Path)) {
    let cuts = history.disk.cuts(cases(3) as usize, &mut runner(3));
    let instants: BTreeSet<usize> = cuts.iter().map(|cut| cut.answered).collect();
    assert_eq!(instants.len(), history.count() + 1, "before and after each answer");
    eprintln!("{} disks", cuts.len());
    let states = tempfile::tempdir_in("/dev/shm").unwrap();
    let half = cuts.len().div_ceil(2);
    thread::scope(|scope| {
        for (number, cuts) in cuts.chunks(half).enumerate() {
            let states = states.path().join(number.to_string());
            scope.spawn(move || {
                for (number, cut) in cuts.iter().enumerate() {
                    let state = states.join(number.to_string());
                    check(history, cut, &state);
                    std::fs::remove_dir_all(state).unwrap();
                }
            });
        }
    });
}

/// The disk, at a path of its own.
fn made(cut: &Cut, state: &Path, name: &str) -> std::path::PathBuf {
    let path = state.join(name);
    cut.tree.write(&path);
    path
}

fn add(history: &History, cut: &Cut, at: &Path, pod: &str) -> Value {
    let outcome = history.call(at, "ADD", pod, &json!({})).run();
    assert!(outcome.status.success(), "{outcome}\n{cut}");
    outcome.result()
}

fn done(history: &History, cut: &Cut, at: &Path, command: &str, pod: &str, keys: &Value) {
    let outcome = history.call(at, command, pod, keys).run();
    assert!(outcome.status.success() && outcome.stdout.is_empty(), "{command} {pod}: {outcome}\n{cut}");
}

/// The leases are exactly those of one pod, which was told of them.
fn are_only(cut: &Cut, at: &Path, pod: &str, said: &Value) {
    let expected: BTreeMap<_, _> =
        addresses(said).into_iter().map(|address| (address, format!("{pod}\r\neth0"))).collect();
    assert_eq!(leases(at), expected, "{cut}");
}

/// All that had addresses ended with the power. Of those that come then no two have one, also not of what the disk still has
/// of the others; and ends of the others, which the runtime did not get to, take nothing from them.
fn nobody_gets_what_another_has(history: &History, cut: &Cut, state: &Path) {
    let at = made(cut, state, "next boot");
    reboot(&at, "earlier");
    done(history, cut, &at, "STATUS", "", &json!({}));
    let mut held = BTreeMap::new();
    for pod in ["next", "after"] {
        held.insert(pod, add(history, cut, &at, pod));
    }
    let earlier = history.held(cut.answered);
    for pod in history.pods() {
        let result = earlier.get(pod).map_or_else(|| json!({}), |said| json!({"prevResult": said}));
        done(history, cut, &at, "DEL", pod, &result);
    }
    let all: BTreeSet<String> = held.values().flat_map(addresses).collect();
    assert_eq!(all.len(), 2 * held.len(), "an address twice: {held:?}\n{cut}");
    let there = leases(&at);
    for (pod, said) in &held {
        for address in addresses(said) {
            assert_eq!(there.get(&address), Some(&format!("{pod}\r\neth0")), "{address} of {pod}\n{cut}");
        }
    }
    done(history, cut, &at, "GC", "", &attachments(&["next", "after"]));
    assert_eq!(leases(&at).into_keys().collect::<BTreeSet<_>>(), all, "{cut}");
    for (pod, said) in held {
        done(history, cut, &at, "DEL", pod, &json!({"prevResult": said}));
    }
    assert_eq!(leases(&at), BTreeMap::new(), "{cut}");
}

/// After a reboot, GC removes what is left; and without one, the second boot does.
fn is_gone_after_reboots(history: &History, cut: &Cut, state: &Path) {
    let at = made(cut, state, "next boot");
    reboot(&at, "earlier");
    done(history, cut, &at, "STATUS", "", &json!({}));
    let next = add(history, cut, &at, "next");
    done(history, cut, &at, "GC", "", &attachments(&["next"]));
    are_only(cut, &at, "next", &next);
    done(history, cut, &at, "DEL", "next", &json!({}));
    assert_eq!(leases(&at), BTreeMap::new(), "{cut}");

    let at = made(cut, state, "deleted");
    reboot(&at, "earlier");
    // As a runtime does that has no result any more. What is torn says nobody's name.
    let mut named = Vec::new();
    for pod in ["one", "two", "three", "four", "theirs"] {
        done(history, cut, &at, "DEL", pod, &json!({}));
        named.push(format!("{pod}\r\neth0"));
    }
    assert!(!leases(&at).values().any(|content| named.contains(content)), "{:?}\n{cut}", leases(&at));

    let at = made(cut, state, "boot after boot");
    reboot(&at, "first");
    add(history, cut, &at, "first");
    reboot(&at, "second");
    let second = add(history, cut, &at, "second");
    are_only(cut, &at, "second", &second);
}

/// A node's first pod, others, their ends.
fn ordinary() -> History {
    History::on(|_| {}).run(&[
        Deed::Add("one"),
        Deed::Add("two"),
        Deed::Del("one"),
        Deed::Add("three"),
        Deed::Gc(&["three"]),
    ])
}

/// The first pod of a boot, where there are leases of an earlier one, and of the reference's, one of which nobody finished.
fn of_a_new_boot() -> History {
    let before = History::on(|_| {}).run(&[Deed::Add("one"), Deed::Add("two")]);
    let before = before.disk.tree();
    History::on(|directory| {
        before.write(directory);
        reboot(directory, "earlier");
        std::fs::write(directory.join("networks/blue/10.1.0.5"), "theirs\r\neth0").unwrap();
        std::fs::write(directory.join("networks/blue/10.1.0.6"), "").unwrap();
    })
    .run(&[Deed::Add("three"), Deed::Del("theirs"), Deed::Add("four")])
}

#[test]
fn nobody_gets_an_address_that_another_has() {
    isolated(|| every_cut(&ordinary(), nobody_gets_what_another_has));
}

#[test]
fn nobody_gets_an_address_that_another_has_in_a_new_boot() {
    isolated(|| every_cut(&of_a_new_boot(), nobody_gets_what_another_has));
}

#[test]
fn what_is_left_goes_away_after_reboots() {
    isolated(|| every_cut(&ordinary(), is_gone_after_reboots));
}

#[test]
fn what_is_left_of_a_new_boot_goes_away_after_reboots() {
    isolated(|| every_cut(&of_a_new_boot(), is_gone_after_reboots));
}
