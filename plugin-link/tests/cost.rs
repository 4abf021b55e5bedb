//! Neither ADD nor DEL looks at what other pods have.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use std::path::Path;

use cni_spec::plugin::Plugin;
use netops::{Answer, Created, Error, Kernel, Place, Query, Removed, Resource};
use plugin_kit::testing::{MemoryNode, TestCall};
use plugin_kit::{Attach, Kernels, Kit, Purpose};
use plugin_link::{Dummy, Loopback, Ptp};
use serde_json::json;

/// A node that answers no question about all there is.
struct Busy<'a>(&'a MemoryNode);

impl Kernels for Busy<'_> {
    fn open(&self, container: Option<&Path>, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        Ok(Box::new(Process(self.0.open(container, purpose)?)))
    }
}

struct Process<'a>(Box<dyn Kernel + 'a>);

impl Kernel for Process<'_> {
    fn read(&mut self, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
        let list = queries.iter().find(|query| matches!(query, Query::Links | Query::Entries(_)));
        assert_eq!(list, None, "asked in the {place}'s namespace");
        self.0.read(place, queries)
    }

    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>> {
        self.0.create(place, resources)
    }

    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>> {
        self.0.remove(place, resources)
    }
}

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
