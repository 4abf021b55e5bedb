//! Random cases that are the same ones every time.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many random cases a test tries: `CNIKIT_CASES`, or as many as it says.
pub fn cases(usual: u32) -> u32 {
    variable("CNIKIT_CASES").unwrap_or(usual)
}

/// Makes a test's random cases: `CNIKIT_SEED`, or always the same. A failing case is made smaller a few times, for each
/// try is a matter of a second, and printed.
pub fn runner(usual: u32) -> TestRunner {
    let seed: u64 = variable("CNIKIT_SEED").unwrap_or(1);
    eprintln!("CNIKIT_SEED={seed}");
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: cases(usual), max_shrink_iters: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
}
