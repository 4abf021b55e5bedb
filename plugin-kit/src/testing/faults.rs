//! Every operation of the kernel failing in turn.

#![allow(clippy::panic)] // what fails here is a test

use std::fmt::Debug;
use std::net::IpAddr;
use std::path::Path;

use cni_spec::plugin::Plugin;
use netops::Errno;
use serde_json::Value;

use super::{Fault, MemoryNode, TestCall};
use crate::attach::{Attach, Kit};

/// Asserts that an `ADD` that fails at any point leaves kernel and leases as they were, and can be repeated; and that
/// one that succeeds passes `CHECK`. Returns how many points there were.
///
/// # Panics
/// If that is not so.
pub fn assert_add_is_all_or_nothing<P: Attach + Copy>(plugin: P, config: &Value) -> usize {
    assert_chained_add_is_all_or_nothing(plugin, config, |_, call| call)
}

/// As [`assert_add_is_all_or_nothing`], for a plugin that adds to what others have made: `others` makes that on a node,
/// and completes the call with its result.
///
/// # Panics
/// If that is not so.
pub fn assert_chained_add_is_all_or_nothing<P: Attach + Copy>(
    plugin: P,
    config: &Value,
    others: impl Fn(&MemoryNode, TestCall) -> TestCall,
) -> usize {
    let faults = [Fault::Refused(Errno::ENOBUFS), Fault::Refused(Errno::EPERM), Fault::ReplyLost];
    faults.into_iter().map(|fault| fail_every_add(plugin, config, &others, fault)).sum()
}

fn fail_every_add<P: Attach + Copy>(
    plugin: P,
    config: &Value,
    others: &dyn Fn(&MemoryNode, TestCall) -> TestCall,
    fault: Fault,
) -> usize {
    for n in 0.. {
        let node = MemoryNode::new();
        let plugin = Kit::with_kernels(plugin, &node);
        let call = others(&node, TestCall::new(config.clone()));
        let leases_before = leases(config);
        let before = node.snapshot();
        node.fail_at(n, fault);
        let outcome = plugin.add(&call.request());
        node.heal();
        if let Ok(result) = outcome {
            // Past the last operation. What was made is whole, and goes again.
            expect(plugin.check(&call.clone().previous(&result).request()), "CHECK");
            expect(plugin.del(&call.del_request()), "DEL");
            assert_eq!(leases(config), leases_before);
            return n;
        }
        assert_eq!(node.snapshot(), before, "{config}: after operation {n} met {fault:?}");
        assert_eq!(leases(config), leases_before, "{config}: after operation {n} met {fault:?}");
        expect(plugin.add(&call.request()), "ADD once more");
        expect(plugin.del(&call.del_request()), "DEL");
    }
    0
}

/// Asserts that a `DEL` that failed at any point is completed by the next, with the container there or gone, and that
/// another attachment of the network is not touched.
///
/// # Panics
/// If that is not so.
pub fn assert_del_is_completed_by_the_next<P: Attach + Copy>(plugin: P, config: &Value) {
    assert_del_is_completed_by_the_next_on(MemoryNode::new, plugin, config, config);
}

/// The same on nodes that have what the plugin needs; the other attachment has a configuration of its own.
///
/// # Panics
/// If that is not so.
pub fn assert_del_is_completed_by_the_next_on<P: Attach + Copy>(
    node: impl Fn() -> MemoryNode,
    plugin: P,
    config: &Value,
    bystanders: &Value,
) {
    for gone in [false, true] {
        for n in 0.. {
            if fail_del(node(), plugin, config, bystanders, gone, n) {
                break;
            }
        }
    }
}

/// Whether the DEL got past its last operation.
fn fail_del<P: Attach + Copy>(
    node: MemoryNode,
    plugin: P,
    config: &Value,
    bystanders: &Value,
    gone: bool,
    n: usize,
) -> bool {
    let plugin = Kit::with_kernels(plugin, &node);
    node.start_container("c1");
    let bystander = TestCall::new(bystanders.clone()).container("bystander");
    expect(plugin.add(&bystander.request()), "ADD of another");
    let (before, leases_before) = (node.snapshot(), leases(config));

    let mut call = TestCall::new(config.clone());
    expect(plugin.add(&call.request()), "ADD");
    if gone {
        node.end_container("c1");
        call = call.without_netns();
    }
    node.fail_at(n, Fault::Refused(Errno::ENOBUFS));
    let done = plugin.del(&call.del_request()).is_ok();
    node.heal();
    for _ in 0..2 {
        expect(plugin.del(&call.del_request()), "DEL once more");
    }
    assert_eq!(leases(config), leases_before, "{config}: after operation {n} of DEL failed");
    if !gone {
        assert_eq!(node.snapshot(), before, "{config}: after operation {n} of DEL failed");
    }
    expect(plugin.del(&bystander.del_request()), "DEL of another");
    done
}

/// The addresses that are leased in the data directory that a configuration names.
fn leases(config: &Value) -> Vec<IpAddr> {
    let dir = config["ipam"]["dataDir"].as_str().or_else(|| config["dataDir"].as_str());
    let (Some(dir), Some(network)) = (dir, config["name"].as_str()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(Path::new(dir).join(network)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut leases: Vec<_> = names.filter_map(|name| name.parse().ok()).collect();
    leases.sort_unstable();
    leases
}

fn expect<T, E: Debug>(outcome: Result<T, E>, what: &str) -> T {
    outcome.unwrap_or_else(|error| panic!("{what} must succeed: {error:?}"))
}
