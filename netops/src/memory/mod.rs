//! A kernel in memory, for tests: Linux's rules and errors, without its privileges, and with faults on demand.
//!
//! ```
//! use netops::{Errno, Link, LinkKind, LinkName, MemoryKernel, Place, Plan, Resource};
//!
//! let mut plan = Plan::new();
//! let bridge = Link::new(LinkName::new("cni0")?, LinkKind::Bridge { vlan_filtering: false });
//! plan.own(Place::Host, Resource::LinkUp(LinkName::loopback())).own(Place::Host, Resource::Link(bridge));
//!
//! // How many single operations is it?
//! let mut kernel = MemoryKernel::new();
//! plan.apply(&mut kernel)?;
//!
//! // Whichever of them fails, the kernel is as it was.
//! for n in 0..kernel.operations() {
//!     let mut kernel = MemoryKernel::new();
//!     let before = kernel.snapshot();
//!     kernel.fail_at(n, Errno::ENOBUFS);
//!     let error = plan.apply(&mut kernel).unwrap_err();
//!     assert_eq!(error.cause.errno(), Some(Errno::ENOBUFS));
//!     before.assert_same(&kernel.snapshot());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it knows
//! Namespaces with their `lo`; links by name and index, veth pairs, bridges and their ports, what is on
//! another link; IPv4 and IPv6 addresses, primary and secondary; routes, those that come and go with addresses too, and the rules that lead to them; sysctls
//! with Linux's defaults and, for forwarding and `disable_ipv6`, their effects; queueing disciplines and redirections;
//! cnikit's nf_tables maps. The rules were taken from Linux 6.18 by
//! trying, and `tests/linux/memory.rs` compares the two, request by request.
//!
//! # What it does not know
//! Packets. Anything asynchronous: a carrier comes up, and a link-local address appears, at once, and duplicate address
//! detection finds nothing. Who may do what: there is no `EPERM`.

mod addresses;
mod faults;
mod links;
mod machine;
mod masters;
mod namespace;
mod overlay;
mod routes;
mod rules;
mod settings;
mod shaping;
mod snapshot;
mod sysctls;
mod uppers;
mod ways;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Errno, Error, Operation};
use crate::foreign::ForeignRules;
use crate::kernel::{Answer, Created, Edit, Kernel, Query, Removed};
use crate::name::SysctlKey;
use crate::place::Place;
use crate::resource::Resource;

pub use faults::Batching;
pub use machine::Feature;
pub use snapshot::Snapshot;

use faults::{Fault, Faults};
use machine::{Machine, NamespaceId, Problem, View, refused};

/// One process's sight of a machine in memory: a host namespace and, unless it was made without, a container's.
///
/// [`another`](Self::another) process, one of [`another_container`](Self::another_container) or one of the
/// [`host_only`](Self::host_only) sees the same machine. Faults and counts are a process's own.
pub struct MemoryKernel {
    shared: Arc<Shared>,
    view: View,
    faults: Faults,
    batching: Batching,
    hold: Hold,
    /// Namespaces in which this process looks for what is free.
    claims: Vec<NamespaceId>,
}

/// A machine and the processes that wait for one another on it.
struct Shared {
    machine: Mutex<Machine>,
    released: Condvar,
}

/// What a process has announced about shared resources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nothing,
    Shared,
    Exclusive,
}

/// How the kernel is asked for something, and with it whether an answer can be lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    Netlink,
    File,
}

impl Means {
    fn of(resource: &Resource) -> Self {
        match resource {
            // To wait is to look again and again: an answer more or less is nothing.
            Resource::Sysctl(_) | Resource::Settled(_) => Self::File,
            _ => Self::Netlink,
        }
    }
}

/// The longest wait for another process that has shared resources to itself, as [`crate::LinuxKernel`]'s.
const PATIENCE: Duration = Duration::from_secs(1);

impl MemoryKernel {
    /// A machine just started, and a container namespace just made: nothing but a `lo` in each, down.
    pub fn new() -> Self {
        let mut machine = Machine::default();
        let view = View { host: machine.add_namespace(), container: Some(machine.add_namespace()) };
        Self::process(Arc::new(Shared { machine: Mutex::new(machine), released: Condvar::new() }), view)
    }

    fn process(shared: Arc<Shared>, view: View) -> Self {
        Self {
            shared,
            view,
            faults: Faults::default(),
            batching: Batching::Whole,
            hold: Hold::Nothing,
            claims: Vec::new(),
        }
    }

    /// Another process on this machine, with the same container.
    pub fn another(&self) -> Self {
        Self::process(Arc::clone(&self.shared), self.view)
    }

    /// Another process on this machine, with a new container namespace.
    pub fn another_container(&self) -> Self {
        let container = Some(self.machine().add_namespace());
        Self::process(Arc::clone(&self.shared), View { container, ..self.view })
    }

    /// Another process on this machine, which was given no container ([`Error::NoContainer`]).
    pub fn host_only(&self) -> Self {
        Self::process(Arc::clone(&self.shared), View { container: None, ..self.view })
    }

    /// Deletes the container's namespace with all that is in it, as when its last process ends. This process is one of
    /// the host only from here on.
    pub fn delete_container(&mut self) {
        if let Some(container) = self.view.container.take() {
            self.machine().delete_namespace(container);
        }
    }

    /// Takes a feature away from the machine's kernel.
    #[must_use]
    pub fn lacking(self, feature: Feature) -> Self {
        self.machine().take_away(feature);
        self
    }

    /// Gives a place a setting that is not among the usual ones, or a usual one another value.
    #[must_use]
    pub fn with_sysctl(self, place: Place, key: &SysctlKey, value: &str) -> Self {
        self.machine().define_sysctl(self.view, place, key, value);
        self
    }

    /// Gives the host netfilter rules of another program's, with a comment.
    #[must_use]
    pub fn with_foreign(self, rules: ForeignRules, comment: &str) -> Self {
        self.machine().put_foreign(self.view, Place::Host, rules, comment);
        self
    }

    /// Chooses how many resources of one call are tried although one of them failed.
    #[must_use]
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = batching;
        self
    }

    /// How many single operations this process has tried: reads, creations and removals of one thing each.
    pub fn operations(&self) -> usize {
        self.faults.begun()
    }

    /// Makes one operation fail: the one after the next `n`. Nothing is done for it.
    pub fn fail_at(&mut self, n: usize, errno: Errno) {
        self.faults.at(n, Fault::Refuse(errno));
    }

    /// Makes all operations after the next `n` fail.
    pub fn fail_from(&mut self, n: usize, errno: Errno) {
        self.faults.from(n, errno);
    }

    /// Has the operation after the next `n` done, and its answer lost ([`Error::TimedOut`]), with those of what is in the
    /// same datagram after it. Sysctls are files,
    /// whose answers do not get lost: for them it is `EIO`.
    pub fn lose_reply_at(&mut self, n: usize) {
        self.faults.at(n, Fault::LoseReply);
    }

    /// Has something done after the next `n` operations, before the one that follows: another process's work in
    /// between.
    pub fn interrupt_at(&mut self, n: usize, interruption: impl FnOnce() + Send + 'static) {
        self.faults.before(n, Box::new(interruption));
    }

    /// Forgets faults and interruptions that have not happened yet.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Everything on the machine, in all its namespaces.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.machine())
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A test that failed while it held the lock is another test's affair.
        self.shared.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one thing, unless it is to fail.
    fn operation<T>(
        &mut self,
        what: (Operation, Place, Means),
        object: &dyn fmt::Display,
        act: impl FnOnce(&mut Machine, View) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let (operation, place, means) = what;
        let (interruptions, fault) = self.faults.begin();
        for interruption in interruptions {
            interruption();
        }
        let refused =
            |errno, detail| Error::Refused { operation, object: object.to_string(), place, errno, detail };
        match fault {
            Some(Fault::Refuse(errno)) => return Err(refused(errno, None)),
            Some(Fault::LoseReply) if means == Means::File => {
                return Err(refused(Errno::new(libc::EIO), None));
            }
            Some(Fault::LoseReply) | None => {}
        }
        let view = self.view;
        let done = act(&mut self.machine(), view).map_err(|problem| match problem {
            Problem::Refused(errno, detail) => refused(errno, detail.map(str::to_owned)),
            Problem::NoContainer => Error::NoContainer,
            Problem::TimedOut => Error::TimedOut { operation, object: object.to_string() },
        })?;
        match fault {
            Some(_) => Err(Error::TimedOut { operation, object: object.to_string() }),
            None => Ok(done),
        }
    }

    /// Gives up what was announced about shared resources.
    fn release(&mut self) {
        let mut machine = self.machine();
        match self.hold {
            Hold::Nothing => {}
            Hold::Shared => machine.sharers -= 1,
            Hold::Exclusive => machine.exclusive = false,
        }
        drop(machine);
        self.hold = Hold::Nothing;
        self.shared.released.notify_all();
    }
}

impl Default for MemoryKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryKernel {
    fn drop(&mut self) {
        let claims = std::mem::take(&mut self.claims);
        self.machine().claimed.retain(|namespace| !claims.contains(namespace));
        self.release();
    }
}

/// As its [`Snapshot`].
impl fmt::Debug for MemoryKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.snapshot(), f)
    }
}

impl Kernel for MemoryKernel {
    fn read(&mut self, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
        queries
            .iter()
            .map(|query| {
                self.operation((Operation::Read, place, Means::Netlink), query, |machine, view| {
                    machine.read(view, place, query)
                })
            })
            .collect()
    }

    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>> {
        let mut results = Vec::with_capacity(resources.len());
        let mut rest = resources;
        while !rest.is_empty() {
            // What a link loses when it is made another's is safe only once all before that was done; and what is waited for
            // is not waited for in a datagram.
            let is_first =
                |resource: &&Resource| matches!(resource, Resource::Master(_) | Resource::Settled(_));
            let most = match rest {
                [Resource::Settled(_), ..] => 1,
                rest => rest.iter().skip(1).position(is_first).map_or(rest.len(), |at| at + 1),
            };
            let (datagram, after) = rest.split_at(self.batching.next_length().min(most));
            for resource in datagram {
                let result = self.operation(
                    (Operation::Create, place, Means::of(resource)),
                    resource,
                    |machine, view| machine.create(view, place, resource),
                );
                let result = result.map_err(|error| match error {
                    Error::Refused { operation, object, place, errno, detail } => {
                        let detail = resource.explain(errno, detail);
                        Error::Refused { operation, object, place, errno, detail }
                    }
                    other => other,
                });
                // What comes after a lost answer is done, and nothing is told of it.
                if !matches!(results.last(), Some(Err(Error::TimedOut { .. }))) {
                    results.push(result);
                }
            }
            if results.iter().any(Result::is_err) {
                break;
            }
            rest = after;
        }
        results
    }

    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>> {
        if self.view.of(place).is_err() {
            return vec![Ok(Removed::Before); resources.len()];
        }
        resources
            .iter()
            .map(|resource| {
                self.operation((Operation::Remove, place, Means::of(resource)), resource, |machine, view| {
                    machine.remove(view, place, resource)
                })
            })
            .collect()
    }

    fn edit(&mut self, place: Place, edits: &[Edit<'_>]) -> Vec<Result<(), Error>> {
        let edit = |edit: &Edit<'_>| {
            let operation = match edit {
                Edit::Make(_) | Edit::Replace(_) => Operation::Create,
                Edit::Remove(_) => Operation::Remove,
            };
            self.operation((operation, place, Means::Netlink), edit.resource(), |machine, view| {
                machine.edit(view, place, *edit)
            })
        };
        edits.iter().map(edit).collect()
    }

    fn share(&mut self) -> Result<(), Error> {
        self.release();
        let machine = self.machine();
        let waited = self.shared.released.wait_timeout_while(machine, PATIENCE, |machine| machine.exclusive);
        // Whoever keeps all others waiting for so long is not waited for.
        let (mut machine, _) = waited.unwrap_or_else(PoisonError::into_inner);
        machine.sharers += 1;
        drop(machine);
        self.hold = Hold::Shared;
        Ok(())
    }

    fn claim(&mut self, place: Place) -> Result<(), Error> {
        let namespace = self.view.of(place).map_err(|_| Error::NoContainer)?;
        if self.claims.contains(&namespace) {
            return Ok(());
        }
        let machine = self.machine();
        let taken = |machine: &mut Machine| machine.claimed.contains(&namespace);
        let waited = self.shared.released.wait_timeout_while(machine, PATIENCE, taken);
        let (mut machine, waiting) = waited.unwrap_or_else(PoisonError::into_inner);
        // Whoever keeps all others waiting for so long is not waited for, and has it still.
        if !waiting.timed_out() {
            machine.claimed.insert(namespace);
            drop(machine);
            self.claims.push(namespace);
        }
        Ok(())
    }

    fn exclude(&mut self) -> bool {
        self.release();
        let mut machine = self.machine();
        let alone = machine.sharers == 0 && !machine.exclusive;
        machine.exclusive |= alone;
        drop(machine);
        if alone {
            self.hold = Hold::Exclusive;
        }
        alone
    }
}
