//! Everything in cnikit that reads bytes from outside, as functions of bytes.
//!
//! A target feeds its input to the code under test as a hostile caller could, and asserts more than that nothing
//! panics: what was read is written and read again, a plan that was applied is found in place, no address is given
//! twice. Targets know nothing of who calls them:
//!
//! - `cargo test -p cnikit-fuzz` replays the kept inputs in `corpus/TARGET/`, and some thousand mutations of each that
//!   are the same every time. Stable Rust, a few seconds.
//! - `fuzz/run TARGET SECONDS` lets libFuzzer look for more, guided by coverage. Also stable Rust, and a C++ compiler.

mod targets;

/// Code that reads bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name; its kept inputs are in `corpus/<name>`.
    pub name: &'static str,
    /// Reads some bytes. Panics if that goes wrong.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "network_config", run: targets::documents::network_config },
    Target { name: "network_list", run: targets::documents::network_list },
    Target { name: "add_result", run: targets::documents::add_result },
    Target { name: "answer", run: targets::documents::answer },
    Target { name: "cni_args", run: targets::words::cni_args },
    Target { name: "names", run: targets::words::names },
    Target { name: "call", run: targets::calls::call },
    Target { name: "plugins", run: targets::calls::plugins },
    Target { name: "chained", run: targets::chained::chained },
    Target { name: "tuning_files", run: targets::chained::tuning_files },
    Target { name: "overlay_config", run: targets::chained::overlay_config },
    Target { name: "resolv_conf", run: targets::files::resolv_conf },
    Target { name: "conf_file", run: targets::files::conf_file },
    Target { name: "cache_file", run: targets::files::cache_file },
    Target { name: "node_file", run: targets::files::node_file },
    Target { name: "lease", run: targets::addresses::lease },
    Target { name: "pool", run: targets::addresses::pool },
    Target { name: "leases", run: targets::addresses::leases },
    Target { name: "netlink", run: targets::netlink },
    Target { name: "bus", run: targets::bus },
    Target { name: "dhcp_answer", run: targets::dhcp_answer },
    Target { name: "dhcp_document", run: targets::dhcp_document },
    Target { name: "gossip_datagram", run: targets::gossips::datagram },
    Target { name: "gossip_exchange", run: targets::gossips::exchange },
    Target { name: "gossip_seal", run: targets::gossips::seal },
    Target { name: "gossip_keyring", run: targets::gossips::keyring },
    Target { name: "overlay_probe", run: targets::overlays::probe },
    Target { name: "overlay_mesh", run: targets::overlays::mesh },
];
