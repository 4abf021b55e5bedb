//! Every operation of the kernel failing in turn.

#![allow(clippy::panic)] // what fails here is a test

use std::fmt::Debug;
use std::net::IpAddr;
use std::path::Path;

use cni_spec::AddResult;
use cni_spec::plugin::Plugin;
use netops::{Errno, Snapshot};
use serde_json::Value;

use super::{Fault, MemoryNode, TestCall};
use crate::attach::{Attach, Kit};

/// Asserts that an `ADD` that fails at any point leaves kernel and leases as they were, and can be repeated; and that
/// one that succeeds passes `CHECK`. Returns how many points there were.
///
/// # Panics
/// If that is not so.
pub fn assert_add_is_all_or_nothing<P: Attach + Copy>(plugin: P, config: &Value) -> usize {
    Trial::new(plugin, config).assert_add_is_all_or_nothing()
}

/// Asserts that a `DEL` that failed at any point is completed by the next, with the container there or gone, and that
/// another attachment of the network is not touched. Returns how many points there were.
///
/// # Panics
/// If that is not so.
pub fn assert_del_is_completed_by_the_next<P: Attach + Copy>(plugin: P, config: &Value) -> usize {
    Trial::new(plugin, config).assert_del_is_completed_by_the_next()
}

/// The same of a `GC` after an attachment whose container is gone.
///
/// # Panics
/// If that is not so.
pub fn assert_gc_is_completed_by_the_next<P: Attach + Copy>(plugin: P, config: &Value) -> usize {
    Trial::new(plugin, config).assert_gc_is_completed_by_the_next()
}

/// What can befall an operation.
const FAULTS: [Fault; 3] = [Fault::Refused(Errno::ENOBUFS), Fault::Refused(Errno::EPERM), Fault::ReplyLost];

/// The container that is attached while another one is.
const BYSTANDER: &str = "bystander";

/// What other plugins do before this one, on a node: they make something, and complete the call with their result.
type Others<'a> = Box<dyn Fn(&MemoryNode, TestCall) -> TestCall + 'a>;

/// What the same plugins do after this one's `DEL`.
type OthersDel<'a> = Box<dyn Fn(&MemoryNode, &TestCall) + 'a>;

/// A plugin and its configuration, whose every operation of the kernel is to fail in turn; for those that need more
/// than [`assert_add_is_all_or_nothing`] and its siblings give them.
pub struct Trial<'a, P> {
    plugin: P,
    config: Value,
    bystanders: Value,
    node: Box<dyn Fn() -> MemoryNode + 'a>,
    others: Others<'a>,
    others_del: Option<OthersDel<'a>>,
}

impl<'a, P: Attach + Copy> Trial<'a, P> {
    /// Of a plugin with a configuration.
    pub fn new(plugin: P, config: &Value) -> Self {
        Self {
            plugin,
            config: config.clone(),
            bystanders: config.clone(),
            node: Box::new(MemoryNode::new),
            others: Box::new(|_, call| call),
            others_del: None,
        }
    }

    /// On nodes that have what the plugin needs.
    #[must_use]
    pub fn on(self, node: impl Fn() -> MemoryNode + 'a) -> Self {
        Self { node: Box::new(node), ..self }
    }

    /// Beside an attachment that has a configuration of its own.
    #[must_use]
    pub fn beside(self, bystanders: &Value) -> Self {
        Self { bystanders: bystanders.clone(), ..self }
    }

    /// Behind other plugins: `others` does on a node what they do for a call's container, and completes the call with
    /// their result.
    #[must_use]
    pub fn behind(self, others: impl Fn(&MemoryNode, TestCall) -> TestCall + 'a) -> Self {
        Self { others: Box::new(others), ..self }
    }

    /// For a plugin whose `DEL` leaves what goes with the interface: nothing may be left after the others' `DEL` only.
    #[must_use]
    pub fn until_others_del(self, del: impl Fn(&MemoryNode, &TestCall) + 'a) -> Self {
        Self { others_del: Some(Box::new(del)), ..self }
    }

    /// As [`assert_add_is_all_or_nothing`].
    ///
    /// # Panics
    /// If that is not so.
    pub fn assert_add_is_all_or_nothing(&self) -> usize {
        FAULTS.into_iter().map(|fault| points(|n| self.fail_add(n, fault))).sum()
    }

    /// As [`assert_del_is_completed_by_the_next`].
    ///
    /// # Panics
    /// If that is not so.
    pub fn assert_del_is_completed_by_the_next(&self) -> usize {
        self.assert_del_with_the_container_there() + self.assert_del_with_the_container_gone()
    }

    /// Half of that.
    ///
    /// # Panics
    /// If that is not so.
    pub fn assert_del_with_the_container_there(&self) -> usize {
        self.fail_every_end(End::DelOfOneThatIsThere)
    }

    /// The other half.
    ///
    /// # Panics
    /// If that is not so.
    pub fn assert_del_with_the_container_gone(&self) -> usize {
        self.fail_every_end(End::DelOfOneThatIsGone)
    }

    /// As [`assert_gc_is_completed_by_the_next`].
    ///
    /// # Panics
    /// If that is not so.
    pub fn assert_gc_is_completed_by_the_next(&self) -> usize {
        self.fail_every_end(End::Gc)
    }

    fn fail_add(&self, n: usize, fault: Fault) -> bool {
        let config = &self.config;
        let node = (self.node)();
        let plugin = Kit::with_kernels(self.plugin, &node);
        let call = (self.others)(&node, TestCall::new(config.clone()));
        let leases_before = leases(config);
        let before = node.snapshot();
        node.fail_at(n, fault);
        let outcome = plugin.add(&call.request());
        let failed = node.has_failed();
        node.heal();
        match outcome {
            // Past the last operation, or it could do without the one that failed.
            Ok(result) => expect(plugin.check(&call.clone().previous(&result).request()), "CHECK"),
            Err(error) => {
                assert!(failed, "{config}: without any operation that fails: {error}");
                assert_eq!(node.snapshot(), before, "{config}: after operation {n} met {fault:?}");
                assert_eq!(leases(config), leases_before, "{config}: after operation {n} met {fault:?}");
                expect(plugin.add(&call.request()), "ADD once more");
            }
        }
        expect(plugin.del(&call.del_request()), "DEL");
        assert_eq!(leases(config), leases_before, "{config}: after DEL");
        failed
    }

    fn fail_every_end(&self, end: End) -> usize {
        FAULTS.into_iter().map(|fault| points(|n| self.fail_end(end, n, fault))).sum()
    }

    fn fail_end(&self, end: End, n: usize, fault: Fault) -> bool {
        let config = &self.config;
        let node = (self.node)();
        let plugin = Kit::with_kernels(self.plugin, &node);
        node.start_container("c1");
        let bystander = TestCall::new(self.bystanders.clone()).container(BYSTANDER);
        let bystander = (self.others)(&node, bystander);
        let theirs: AddResult = expect(plugin.add(&bystander.request()), "ADD of another");

        let mut call = (self.others)(&node, TestCall::new(config.clone()));
        let gone = end != End::DelOfOneThatIsThere;
        let others_del = self.others_del.as_ref().filter(|_| !gone);
        // What there is when all that other plugins made for the container has gone with it, or by their DEL.
        if gone {
            node.end_container("c1");
        } else if let Some(del) = others_del {
            del(&node, &call);
        }
        let (before, leases_before): (Snapshot, _) = (node.snapshot(), leases(config));
        if gone {
            node.start_container("c1");
        }
        if gone || others_del.is_some() {
            call = (self.others)(&node, TestCall::new(config.clone()));
        }
        expect(plugin.add(&call.request()), "ADD");
        if gone {
            node.end_container("c1");
            call = call.without_netns();
        }
        let finish = || match end {
            End::Gc => plugin.gc(&call.gc_request(&[(BYSTANDER, "eth0")])),
            _ => plugin.del(&call.del_request()),
        };
        node.fail_at(n, fault);
        let said = finish();
        let failed = node.has_failed();
        node.heal();
        let about =
            || format!("{config}: after operation {n} of {end:?} met {fault:?}, and it said {said:?}");
        if said.is_err() {
            assert!(failed, "{}", about());
            expect(finish(), "once more");
        }
        if let Some(del) = others_del {
            del(&node, &call);
        }
        for _ in 0..2 {
            // Whoever says that nothing failed has left nothing.
            assert_eq!(leases(config), leases_before, "{}", about());
            assert_eq!(node.snapshot(), before, "{}", about());
            expect(finish(), "with nothing left");
        }
        expect(plugin.check(&bystander.clone().previous(&theirs).request()), "CHECK of another");
        expect(plugin.del(&bystander.del_request()), "DEL of another");
        failed
    }
}

/// How an attachment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    DelOfOneThatIsThere,
    DelOfOneThatIsGone,
    /// The runtime has forgotten one that is gone.
    Gc,
}

/// How many operations fail before there is none left to fail.
fn points(mut fail: impl FnMut(usize) -> bool) -> usize {
    (0..).take_while(|n| fail(*n)).count()
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
