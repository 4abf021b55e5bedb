//! libFuzzer's `main`, for whichever target `CNIKIT_FUZZ_TARGET` names. See `fuzz/run`.

#![no_main]

use std::sync::LazyLock;

use cnikit_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("CNIKIT_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("CNIKIT_FUZZ_TARGET must be one of {}", names.join(", "));
        std::process::exit(2);
    };
    *target
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
