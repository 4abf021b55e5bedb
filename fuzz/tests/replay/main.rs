//! Replays the kept inputs of every target, and mutations of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::{env, fs};

use cnikit_fuzz::{TARGETS, Target};
use mutate::Mutations;

macro_rules! replay {
    ($($name:ident: $mutations:literal,)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), $mutations);
        })*

        #[test]
        fn every_target_is_replayed() {
            let mut names = vec![$(stringify!($name)),*];
            let mut targets: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            names.sort_unstable();
            targets.sort_unstable();
            assert_eq!(names, targets);
        }
    };
}

// How many mutations: fewer where an input costs files.
replay! {
    network_config: 4000,
    network_list: 4000,
    add_result: 3000,
    answer: 4000,
    cni_args: 4000,
    names: 4000,
    call: 4000,
    plugins: 800,
    chained: 300,
    tuning_files: 400,
    overlay_config: 800,
    resolv_conf: 400,
    conf_file: 400,
    cache_file: 400,
    node_file: 400,
    lease: 4000,
    pool: 3000,
    leases: 1000,
    netlink: 4000,
    bus: 4000,
    dhcp_answer: 4000,
    dhcp_document: 4000,
    gossip_datagram: 4000,
    gossip_exchange: 4000,
    gossip_seal: 3000,
    gossip_keyring: 4000,
    overlay_probe: 4000,
    overlay_mesh: 2000,
}

fn replay(name: &str, mutations: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no inputs are kept");
    for input in &corpus {
        run(target, input);
    }
    let mut mutated = Mutations::of(&corpus);
    for _ in 0..mutations {
        run(target, &mutated.next());
    }
}

/// Runs a target; keeps the input if that fails.
fn run(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let path = env::temp_dir().join(format!("cnikit-fuzz-{}", target.name));
        fs::write(&path, input).unwrap();
        eprintln!("the input is in {}: {:?}", path.display(), String::from_utf8_lossy(input));
        resume_unwind(panic);
    }
}

/// The kept inputs, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}
