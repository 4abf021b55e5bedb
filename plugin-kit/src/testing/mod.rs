//! For the tests of plugins: a node in memory ([`MemoryNode`]) or one of the real kernel ([`Node`]), and calls made up
//! ([`TestCall`]).
//!
//! ```
//! use cni_spec::plugin::Plugin;
//! use plugin_kit::testing::{MemoryNode, TestCall};
//! # use plugin_kit::{Kit, Attach, Addressing, Attachment, Request};
//! # struct Lo;
//! # impl Attach for Lo {
//! #     type Config = serde_json::Value;
//! #     const TYPE: &'static str = "lo";
//! #     const ABOUT: &'static str = "lo";
//! #     const ADDRESSING: Addressing = Addressing::Never;
//! #     fn plan(&self, _: &Request<'_, Self::Config>, _: &mut dyn netops::Kernel) -> Result<Attachment, cni_spec::Error> {
//! #         let mut plan = netops::Plan::new();
//! #         plan.own(netops::Place::Container, netops::Resource::LinkUp(netops::LinkName::loopback()));
//! #         Ok(Attachment { plan, result: Default::default() })
//! #     }
//! # }
//! let node = MemoryNode::new();
//! let plugin = Kit::with_kernels(Lo, &node);
//! let call = TestCall::new(serde_json::json!({"cniVersion": "1.1.0", "name": "net", "type": "lo"}));
//! plugin.add(&call.request())?;
//! # Ok::<(), cni_spec::Error>(())
//! ```

mod busy;
mod faults;
mod node;

pub use busy::Busy;
pub use faults::{
    Trial, assert_add_is_all_or_nothing, assert_del_is_completed_by_the_next,
    assert_gc_is_completed_by_the_next,
};
pub use node::{Captured, Node};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, AttachmentId, CniArgs, Env, Invocation, NetworkConfig};
use netops::{Errno, Error, Kernel, MemoryKernel, NamespaceProblem, Snapshot};
use serde_json::Value;

use crate::kernels::{Kernels, Purpose};

/// A node in memory, with a network namespace for each container that a call names. Each call is a process of its own.
#[derive(Default)]
pub struct MemoryNode {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A process on the node; its container is the first that is asked for.
    kernel: MemoryKernel,
    /// By path; `None` once it has ended.
    containers: HashMap<PathBuf, Option<MemoryKernel>>,
    fault: Option<(usize, Fault)>,
    /// Whether it has befallen any process.
    befallen: Arc<AtomicBool>,
}

/// The path of a container's namespace.
fn netns(container: &str) -> PathBuf {
    Path::new("/run/netns").join(container)
}

/// What befalls one operation of each process.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The kernel refuses it.
    Refused(Errno),
    /// It is done, and nobody is told.
    ReplyLost,
}

impl MemoryNode {
    /// A node just started.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node with a kernel of one's own making.
    pub fn with_kernel(kernel: MemoryKernel) -> Self {
        Self { state: Mutex::new(State { kernel, ..State::default() }) }
    }

    /// From now on, something befalls the operation after the first `n` of each process.
    pub fn fail_at(&self, n: usize, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((n, fault));
        state.befallen = Arc::default();
    }

    /// Whether any process has come so far that the last fault befell it.
    pub fn has_failed(&self) -> bool {
        self.state().befallen.load(Ordering::Relaxed)
    }

    /// No more faults.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// A container's namespace is made, with nothing in it. One that is not started is when a call first names it.
    pub fn start_container(&self, id: &str) {
        let mut state = self.state();
        let first = state.containers.is_empty();
        let process = if first { state.kernel.another() } else { state.kernel.another_container() };
        state.containers.insert(netns(id), Some(process));
    }

    /// A container's last process ends, and its namespace with it.
    pub fn end_container(&self, id: &str) {
        if let Some(mut process) = self.state().containers.insert(netns(id), None).flatten() {
            process.delete_container();
        }
    }

    /// Everything that there is.
    pub fn snapshot(&self) -> Snapshot {
        self.state().kernel.snapshot()
    }

    /// A process of one's own on the node.
    pub fn process(&self) -> MemoryKernel {
        self.state().kernel.another()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernels for &MemoryNode {
    fn open(&self, container: Option<&Path>, _: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        let mut state = self.state();
        let mut process = match container {
            None => state.kernel.host_only(),
            Some(path) => {
                if !state.containers.contains_key(path) {
                    drop(state);
                    self.start_container(&path.file_name().unwrap_or_default().to_string_lossy());
                    state = self.state();
                }
                match state.containers.get(path).and_then(Option::as_ref) {
                    Some(process) => process.another(),
                    None => {
                        return Err(Error::Namespace { path: path.into(), problem: NamespaceProblem::Gone });
                    }
                }
            }
        };
        if let Some((n, _)) = state.fault {
            let befallen = Arc::clone(&state.befallen);
            process.interrupt_at(n, move || befallen.store(true, Ordering::Relaxed));
        }
        match state.fault {
            Some((n, Fault::Refused(errno))) => process.fail_at(n, errno),
            Some((n, Fault::ReplyLost)) => process.lose_reply_at(n),
            None => {}
        }
        Ok(Box::new(process))
    }
}

/// A call of a runtime: container `c1`, interface `eth0`, and a configuration.
#[derive(Debug, Clone)]
pub struct TestCall {
    config: Value,
    container: String,
    interface: String,
    args: String,
    netns: bool,
}

impl TestCall {
    /// A call with a configuration.
    pub fn new(config: Value) -> Self {
        Self { config, container: "c1".into(), interface: "eth0".into(), args: String::new(), netns: true }
    }

    /// For another container.
    #[must_use]
    pub fn container(mut self, id: &str) -> Self {
        self.container = id.into();
        self
    }

    /// Which container it is for.
    pub fn container_id(&self) -> &str {
        &self.container
    }

    /// For another interface.
    #[must_use]
    pub fn interface(mut self, name: &str) -> Self {
        self.interface = name.into();
        self
    }

    /// With `CNI_ARGS`.
    #[must_use]
    pub fn args(mut self, args: &str) -> Self {
        self.args = args.into();
        self
    }

    /// With the result of an `ADD` as `prevResult`.
    #[must_use]
    pub fn previous(mut self, result: &AddResult) -> Self {
        let version = self.network_config().cni_version();
        self.config["prevResult"] = result.to_value(version);
        self
    }

    /// Without a namespace, as a `DEL` after the container's end.
    #[must_use]
    pub fn without_netns(mut self) -> Self {
        self.netns = false;
        self
    }

    /// As `ADD` and `CHECK` get it.
    pub fn request(&self) -> Request {
        self.call(netns(&self.container))
    }

    /// As `DEL` gets it.
    pub fn del_request(&self) -> DelRequest {
        self.call(self.netns.then(|| netns(&self.container)))
    }

    /// As `GC` gets it, with the valid attachments as pairs of container and interface.
    pub fn gc_request(&self, valid: &[(&str, &str)]) -> GcRequest {
        let attachment = |(container, interface): &(&str, &str)| AttachmentId {
            container_id: parsed(container),
            if_name: parsed(interface),
        };
        GcRequest {
            valid_attachments: valid.iter().map(attachment).collect(),
            config: self.network_config(),
            invocation: self.invocation(),
        }
    }

    /// As `STATUS` gets it.
    pub fn status_request(&self) -> StatusRequest {
        StatusRequest { config: self.network_config(), invocation: self.invocation() }
    }

    fn call<N>(&self, netns: N) -> Request<N> {
        Request {
            container_id: parsed(&self.container),
            netns,
            if_name: parsed(&self.interface),
            args: CniArgs::parse(&self.args),
            config: self.network_config(),
            invocation: self.invocation(),
        }
    }

    #[allow(clippy::expect_used)] // a test's own configuration
    fn network_config(&self) -> NetworkConfig {
        NetworkConfig::from_json(self.config.to_string().as_bytes()).expect("a test's configuration")
    }

    fn invocation(&self) -> Invocation {
        let version = self.network_config().cni_version();
        Invocation::new(Env::default(), self.config.to_string().into_bytes(), version)
    }
}

#[allow(clippy::panic)] // a test's own names
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|e| panic!("a test's name: {text:?}: {e}"))
}
