//! Neither ADD nor DEL looks at what other pods have.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use cni_spec::plugin::Plugin;
use plugin_kit::testing::{Busy, MemoryNode, TestCall};
use plugin_kit::{Attach, Kit};
use plugin_link::{Dummy, Loopback, Ptp};
use serde_json::json;

fn attach_and_detach<P: Attach + Copy>(plugin: P) {
    let (node, leases) = (MemoryNode::new(), tempfile::tempdir().unwrap());
    let plugin = Kit::with_kernels(plugin, Busy(&node));
    let call = TestCall::new(json!({
        "cniVersion": "1.1.0", "name": "net", "type": P::TYPE, "ipMasq": P::TYPE == Ptp::TYPE,
        "ipam": {"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/16"},
    }));
    let result = plugin.add(&call.request()).unwrap();
    plugin.del(&call.previous(&result).del_request()).unwrap();
}

#[test]
fn ptp_reads_nothing_of_other_pods() {
    attach_and_detach(Ptp);
}

#[test]
fn dummy_reads_nothing_of_other_pods() {
    attach_and_detach(Dummy);
}

#[test]
fn loopback_reads_nothing_of_other_pods_even_without_a_previous_result() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Loopback, Busy(&node));
    // As containerd calls it.
    let call = TestCall::new(json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}));
    plugin.add(&call.request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
}
