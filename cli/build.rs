//! Has the linker put together what ordinary calls of plugins execute.
//!
//! A runtime starts `cnikit-plugins` several times for each pod, and each time the kernel maps sixteen pages of it wherever one is
//! touched. Left in the order of crates, a call touches all of the executable: 3.4 MiB, 45 times. With what it needs in one place
//! (`hot.ld`, which `tests/src/bin/layout` makes), it is 1.5 MiB, and less than half as often. What the script names and the program
//! does not have, the linker passes over: all names of ours, where `.cargo/config.toml` does not ask for those of version 0.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=hot.ld");
    println!("cargo:rerun-if-env-changed=CNIKIT_LINK_MAP");
    let argument = |argument: &str| println!("cargo:rustc-link-arg-bin=cnikit-plugins=-Wl,{argument}");
    if let Ok(map) = env::var("CNIKIT_LINK_MAP") {
        argument(&format!("-Map={map}"));
    }
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
    // `lld` and GNU `ld` take such scripts; somebody who has chosen another linker has chosen it for a reason.
    let chosen = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS")
            .is_ok_and(|flags| flags.contains("fuse-ld") || flags.contains("linker="));
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && !chosen {
        let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        argument(&format!("-T,{here}/hot.ld"));
    }
}
