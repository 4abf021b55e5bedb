//! An address is given back only after nothing has it any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

use std::path::{Path, PathBuf};

use cni_spec::plugin::Plugin;
use netops::{Answer, Created, Errno, Error, Kernel, LinkName, Place, Query, Removed, Resource};
use plugin_bridge::Bridge;
use plugin_kit::testing::{Fault, MemoryNode, TestCall};
use plugin_kit::{Kernels, Kit, Purpose};
use serde_json::{Value, json};

/// A node on which a pod's address is leased whenever its interface is removed.
struct Witness<'a> {
    node: &'a MemoryNode,
    leases: PathBuf,
}

impl Kernels for Witness<'_> {
    fn open(&self, container: Option<&Path>, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        Ok(Box::new(Process { kernel: self.node.open(container, purpose)?, leases: &self.leases }))
    }
}

struct Process<'a> {
    kernel: Box<dyn Kernel + 'a>,
    leases: &'a Path,
}

impl Kernel for Process<'_> {
    fn read(&mut self, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
        self.kernel.read(place, queries)
    }

    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>> {
        self.kernel.create(place, resources)
    }

    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>> {
        if resources
            .iter()
            .any(|resource| matches!(resource, Resource::Link(link) if link.kind.name() == "veth"))
        {
            assert!(is_leased(self.leases), "given back before {resources:?} was removed");
        }
        self.kernel.remove(place, resources)
    }

    fn share(&mut self) -> Result<(), Error> {
        self.kernel.share()
    }

    fn exclude(&mut self) -> bool {
        self.kernel.exclude()
    }
}

fn is_leased(leases: &Path) -> bool {
    leases.join("net/10.22.0.2").exists()
}

fn config(leases: &Path) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "dataDir": leases, "subnet": "10.22.0.0/29"},
    })
}

#[test]
fn an_add_that_fails_when_everything_was_made_gives_the_address_back_last() {
    let (node, leases) = (MemoryNode::new(), tempfile::tempdir().unwrap());
    node.start_container("c1");
    let before = node.snapshot();
    let plugin = Kit::with_kernels(Bridge, Witness { node: &node, leases: leases.path().to_owned() });
    let mut config = config(leases.path());
    config["dns"] = json!({"nameservers": "not a list"});
    assert!(plugin.add(&TestCall::new(config).request()).is_err());
    assert_eq!(node.snapshot(), before);
    assert!(!is_leased(leases.path()));
}

#[test]
fn del_gives_the_address_back_last() {
    let (node, leases) = (MemoryNode::new(), tempfile::tempdir().unwrap());
    let plugin = Kit::with_kernels(Bridge, Witness { node: &node, leases: leases.path().to_owned() });
    let call = TestCall::new(config(leases.path()));
    plugin.add(&call.request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert!(!is_leased(leases.path()));
}

#[test]
fn what_del_or_gc_cannot_remove_keeps_its_address() {
    let (node, leases) = (MemoryNode::new(), tempfile::tempdir().unwrap());
    let plugin = Kit::with_kernels(Bridge, &node);
    let call = TestCall::new(config(leases.path())).args("IP=10.22.0.2");
    let del = || plugin.del(&call.del_request());
    let gc = || plugin.gc(&call.gc_request(&[]));
    let ends: [&dyn Fn() -> Result<(), cni_spec::Error>; 2] = [&del, &gc];
    for end in ends {
        for n in 0.. {
            let result = plugin.add(&call.request()).unwrap();
            let host = LinkName::new(&result.interfaces[1].name).unwrap();
            node.fail_at(n, Fault::Refused(Errno::ENOBUFS));
            let ended = end().is_ok();
            node.heal();
            let link = netops::read_link(&mut node.process(), Place::Host, &host).unwrap();
            assert!(link.is_none() || is_leased(leases.path()), "operation {n} failed");
            del().unwrap();
            if ended {
                break;
            }
        }
    }
}
