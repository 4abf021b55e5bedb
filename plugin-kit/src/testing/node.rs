//! A node of the real kernel: network namespaces, calls through the whole of the protocol, and pings.

#![allow(clippy::panic)] // what fails here is a test

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cni_spec::plugin::{Outcome, Plugin, Stdio, dispatch};
use cni_spec::{AddResult, Command, Env, Error};
use netops::Namespace;

use super::TestCall;

/// How long a ping waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nobody listens there; the kernel itself says so, which is an answer (RFC 863 has it for discarding).
const UNUSED_PORT: u16 = 9;

/// A node with containers, each a network namespace that ends with this value. Making them takes root, or a user
/// namespace of one's own.
///
/// ```no_run
/// use plugin_kit::testing::{Node, TestCall};
/// # fn plugin() -> &'static dyn cni_spec::plugin::Plugin { unimplemented!() }
/// let node = Node::new();
/// let call = TestCall::new(serde_json::json!({"cniVersion": "1.1.0", "name": "net", "type": "mine", "ipam": {}}));
/// let result = node.add(plugin(), &call.clone().container("a"))?;
/// node.ping("a", result.ips[0].gateway.unwrap())?;
/// node.del(plugin(), &call.container("a").previous(&result))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Node {
    host: Namespace,
    containers: Mutex<BTreeMap<String, Arc<Namespace>>>,
}

/// What a plugin said to a runtime.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Standard output: the result, or the error.
    pub stdout: String,
    /// How it ended.
    pub outcome: Outcome,
}

impl Node {
    /// A node with nothing but `lo`, up.
    ///
    /// # Panics
    /// If no namespace can be made; the message says what to do.
    #[allow(clippy::new_without_default)] // it may panic
    pub fn new() -> Self {
        let node = Self { host: namespace(), containers: Mutex::default() };
        node.on_host(|| {
            let mut plan = netops::Plan::new();
            plan.own(netops::Place::Host, netops::Resource::LinkUp(netops::LinkName::loopback()));
            expect(plan.apply(&mut netops::LinuxKernel::new(None)), "raise lo");
        });
        node
    }

    /// `ADD`, and its result.
    ///
    /// # Errors
    /// The plugin's.
    pub fn add(&self, plugin: &dyn Plugin, call: &TestCall) -> Result<AddResult, Error> {
        let captured = self.call(plugin, Command::Add, call);
        let version = call.network_config().cni_version();
        captured.succeeded().and_then(|text| AddResult::from_json(text.as_bytes(), version))
    }

    /// `CHECK`.
    ///
    /// # Errors
    /// The plugin's.
    pub fn check(&self, plugin: &dyn Plugin, call: &TestCall) -> Result<(), Error> {
        self.call(plugin, Command::Check, call).succeeded().map(drop)
    }

    /// `DEL`.
    ///
    /// # Errors
    /// The plugin's.
    pub fn del(&self, plugin: &dyn Plugin, call: &TestCall) -> Result<(), Error> {
        self.call(plugin, Command::Del, call).succeeded().map(drop)
    }

    /// Any command, as a runtime on this node would give it: environment, standard input, standard output.
    ///
    /// # Panics
    /// If a namespace cannot be made or entered.
    pub fn call(&self, plugin: &dyn Plugin, command: Command, call: &TestCall) -> Captured {
        let container = self.container(&call.container);
        let netns = if call.netns { path(&container) } else { PathBuf::new() };
        let env = Env::default()
            .with("CNI_COMMAND", command.as_str())
            .with("CNI_CONTAINERID", &call.container)
            .with("CNI_IFNAME", &call.interface)
            .with("CNI_ARGS", &call.args)
            .with("CNI_PATH", "/opt/cni/bin")
            .with("CNI_NETNS", netns);
        let stdin = call.config.to_string();
        let mut stdout = Vec::new();
        let outcome = self.on_host(|| {
            let mut stdin = stdin.as_bytes();
            dispatch(plugin, env, Stdio { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut io::sink() })
        });
        Captured { stdout: String::from_utf8_lossy(&stdout).into_owned(), outcome }
    }

    /// Does something on the node: what it opens and asks is the node's.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    pub fn on_host<R>(&self, work: impl FnOnce() -> R) -> R {
        expect(self.host.enter(work), "enter the node")
    }

    /// Does something in a container, which is made if it is not there yet.
    ///
    /// # Panics
    /// If its namespace cannot be made or entered.
    pub fn inside<R>(&self, container: &str, work: impl FnOnce() -> R) -> R {
        expect(self.container(container).enter(work), "enter the container")
    }

    /// Ends a container: its namespace goes, and all that is in it.
    pub fn end_container(&self, container: &str) {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// Asks for a sign of life of an address, from within a container: the answer to a TCP connection, be it that nobody
    /// listens. Returns how long it took.
    ///
    /// # Errors
    /// If there was no answer within 3 s, or there is no way there.
    ///
    /// # Panics
    /// As [`inside`](Self::inside).
    pub fn ping(&self, container: &str, address: IpAddr) -> io::Result<Duration> {
        self.inside(container, || {
            let began = Instant::now();
            match TcpStream::connect_timeout(&SocketAddr::new(address, UNUSED_PORT), PATIENCE) {
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error),
                _ => Ok(began.elapsed()),
            }
        })
    }

    fn container(&self, id: &str) -> Arc<Namespace> {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.entry(id.to_owned()).or_insert_with(|| Arc::new(namespace())).clone()
    }
}

impl Captured {
    /// What was printed, if it was no error.
    ///
    /// # Errors
    /// The plugin's.
    pub fn succeeded(self) -> Result<String, Error> {
        match self.outcome {
            Outcome::Failed(error) => Err(error),
            _ => Ok(self.stdout),
        }
    }
}

/// A path that leads to a namespace, as long as that is open here.
fn path(namespace: &Namespace) -> PathBuf {
    format!("/proc/self/fd/{}", namespace.as_fd().as_raw_fd()).into()
}

fn namespace() -> Namespace {
    expect(
        Namespace::create(),
        "make a network namespace (run as root, or in `unshare --user --map-root-user`)",
    )
}

fn expect<T, E: Display>(outcome: Result<T, E>, what: &str) -> T {
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"))
}
