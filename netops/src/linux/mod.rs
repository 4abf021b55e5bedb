//! The real kernel: netlink and files, no helper program.
//!
//! ```text
//! LinuxKernel   create.rs ── batch.rs   read.rs   remove.rs ── detached.rs   lock.rs      what the trait asks for
//!      │
//!      ├── Side × 2      the host's and the container's: sockets, opened when first needed, and indices of links
//!      ├── sysctl.rs     files below /proc/sys, inside the namespace (namespace.rs)
//!      ├── tap.rs        /dev/net/tun, inside the namespace
//!      ├── nft/          masquerades, spoof checks, … ───┐
//!      ├── conntrack.rs  what goes with ports ───────────┤
//!      ├── foreign/      other programs' rules ─── nft/ ─┤
//!      ├── forward_jump.rs  a way through those ── nft/ ─┤
//!      └── rtnetlink/    links, routes, rules, tc, … ────┴── netlink/   messages and the socket
//!
//! packet.rs: a socket for whole frames, watch.rs: one that hears of changes, footprint.rs: memory that is not needed; these
//! stand apart
//! aside.rs: what nobody has to wait for; sys.rs: the system calls that need `unsafe`
//! ```

#[cfg(any(test, feature = "fuzzing"))]
mod answers;
mod aside;
mod batch;
mod conntrack;
mod create;
mod detached;
mod edit;
mod footprint;
mod foreign;
mod forward_jump;
#[cfg(test)]
mod hostile;
mod lock;
mod namespace;
mod netlink;
mod nft;
mod packet;
mod read;
mod remove;
mod rtnetlink;
mod sys;
mod sysctl;
mod tap;
mod watch;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

#[cfg(feature = "fuzzing")]
pub use answers::read_as_answers;
pub use footprint::shrink_footprint;
pub use namespace::Namespace;
use netlink::{Datagram, Failure, Protocol, Refusal, Reply, Socket};
pub use packet::PacketSocket;
pub use tap::open_tap;
pub use watch::Watch;

use crate::error::{Error, Operation};
use crate::kernel::{Answer, Created, Edit, Kernel, LinkState, Query, Removed};
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::Resource;

/// The kernel that this program runs on.
///
/// The host's namespace is that of the thread which uses the value (all that do must be in the same: one in another may find itself
/// in the first's); the container's is given. Nothing is opened before it is needed. All methods are synchronous, and leave the calling thread in the
/// namespace that it was in.
///
/// Needs `CAP_NET_ADMIN` in both namespaces, and `CAP_SYS_ADMIN` to enter the container's.
///
/// ```no_run
/// use netops::{Address, Kernel, LinkName, LinuxKernel, Namespace, Place, Resource};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut kernel = LinuxKernel::new(Some(Namespace::open("/run/netns/blue")?));
/// let address = Resource::Address(Address::new(LinkName::new("eth0")?, "10.22.0.5/16".parse()?));
/// for result in kernel.create(Place::Container, &[&address]) {
///     result?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LinuxKernel {
    host: Side,
    container: Option<Side>,
    detached: bool,
}

impl LinuxKernel {
    /// The host, and a container if there is one; without, all that is asked of [`Place::Container`] is
    /// [`Error::NoContainer`].
    pub fn new(container: Option<Namespace>) -> Self {
        Self { host: Side::default(), container: container.map(Side::new), detached: false }
    }

    /// From now on [`Kernel::remove`] returns when links are gone, and not only when the kernel has cleaned up behind them,
    /// some 20 ms later. That is left to somebody else: to a process of its own (`clone(2)`), which holds no descriptor of this
    /// one's, standard output included, and is never this one's child to wait for: a process to which orphans come (PID 1, or
    /// `PR_SET_CHILD_SUBREAPER`) waits for the kernel itself. It shares this one's memory for that time, and makes nothing but
    /// system calls; it keeps the privileges that this one had.
    ///
    /// Forgetting the connections that went through a port mapping is left to somebody else, too: in a program of one thread, such
    /// as a plugin that is about to end, to a process of its own (`fork(2)`); in any other to a thread, which may be too late when
    /// the program ends within some 20 ms.
    #[must_use]
    pub fn with_detached_removals(mut self) -> Self {
        self.detached = true;
        self
    }

    /// The number by which the kernel knows whose changes are this value's: what [`Watch::disregard`] is told. It is another
    /// one after a failure.
    ///
    /// # Errors
    /// As when a socket cannot be opened.
    pub fn port(&mut self, place: Place) -> Result<u32, Error> {
        let port = self.side(place)?.route()?.port();
        port.map_err(|error| refused(Operation::Open, place, "netlink socket", error.into()))
    }

    fn side(&mut self, place: Place) -> Result<&mut Side, Error> {
        match place {
            Place::Host => Ok(&mut self.host),
            Place::Container => {
                let container = self.container.as_mut().ok_or(Error::NoContainer)?;
                container.home = self.host.namespace.clone();
                Ok(container)
            }
        }
    }

    /// Forgets where links are: some are gone.
    fn forget_links(&mut self) {
        self.host.links.clear();
        if let Some(container) = &mut self.container {
            container.links.clear();
        }
    }

    /// Sends rtnetlink requests to a place, and says of each what came back.
    fn exchange(
        &mut self,
        place: Place,
        datagram: &mut Datagram,
        operation: Operation,
        object: &str,
    ) -> Result<Vec<Reply>, Error> {
        if datagram.is_empty() {
            return Ok(Vec::new());
        }
        let replies = self.side(place)?.route()?.exchange(datagram);
        replies.map_err(|failure| failed(operation, place, object, failure))
    }

    /// Asks rtnetlink of a place for a list.
    fn dump(&mut self, place: Place, request: &mut Datagram, object: &str) -> Result<Vec<Vec<u8>>, Error> {
        let side = self.side(place)?;
        let reply = side.route()?.dump(request).map_err(|failure| {
            // The list may have more to come, and no other can be asked for until it has.
            side.route = None;
            failed(Operation::Read, place, object, failure)
        })?;
        reply.accepted().map_err(|refusal| refused(Operation::Read, place, object, refusal))
    }
}

impl Kernel for LinuxKernel {
    fn read(&mut self, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error> {
        read::read(self, place, queries)
    }

    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>> {
        create::create(self, place, resources)
    }

    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>> {
        remove::remove(self, place, resources)
    }

    fn edit(&mut self, place: Place, edits: &[Edit<'_>]) -> Vec<Result<(), Error>> {
        edit::edit(self, place, edits)
    }

    /// Telling an interface the MAC address that it has is a change of it, and announced (`NETDEV_CHANGEADDR`).
    fn announce(&mut self, place: Place, link: &LinkState) -> Result<(), Error> {
        let Some(mac) = link.mac else { return Ok(()) };
        let mut datagram = Datagram::default();
        rtnetlink::link::set_mac(&mut datagram, link.index, mac);
        let object = format!("MAC address of \"{}\"", link.name);
        let replies = self.exchange(place, &mut datagram, Operation::Create, &object)?;
        let refusal = replies.into_iter().find_map(|reply| reply.accepted().err());
        refusal.map_or(Ok(()), |refusal| Err(refused(Operation::Create, place, &object, refusal)))
    }

    fn share(&mut self) -> Result<(), Error> {
        lock::share(self.host.namespace()?)
            .map_err(|errno| refused(Operation::Open, Place::Host, "lock on the namespace", errno.into()))
    }

    fn claim(&mut self, place: Place) -> Result<(), Error> {
        lock::claim(self.side(place)?.namespace()?)
            .map_err(|errno| refused(Operation::Open, place, "lock on the namespace", errno.into()))
    }

    fn exclude(&mut self) -> bool {
        self.host.namespace().is_ok_and(lock::exclude)
    }
}

impl Drop for LinuxKernel {
    fn drop(&mut self) {
        if self.detached {
            [Some(&self.host), self.container.as_ref()].into_iter().flatten().for_each(detached::close);
        }
    }
}

/// One namespace: the sockets that were opened in it and what was learned about it.
#[derive(Debug, Default)]
struct Side {
    /// `None` is the calling thread's own, until someone has to be told which that is.
    namespace: Option<Arc<Namespace>>,
    foreign: bool,
    /// Of a container: the host's, once that is known, which is the way back from here.
    home: Option<Arc<Namespace>>,
    route: Option<Socket>,
    netfilter: Option<Socket>,
    /// Something was deleted through `netfilter`, and nobody else holds it.
    slow_to_close: bool,
    links: HashMap<LinkName, Known>,
}

/// What is remembered of a link.
#[derive(Debug, Clone, Copy)]
struct Known {
    index: u32,
    /// Made through this same value and not changed since: its state is known without a look.
    fresh: bool,
}

impl Side {
    fn new(namespace: Namespace) -> Self {
        Self { namespace: Some(Arc::new(namespace)), foreign: true, ..Self::default() }
    }

    /// Runs something in the namespace.
    fn within<R>(&self, inside: impl FnOnce() -> R) -> Result<R, Error> {
        match (&self.namespace, &self.home) {
            (Some(namespace), Some(home)) if self.foreign => namespace.enter_from(home.as_fd(), inside),
            (Some(namespace), None) if self.foreign => namespace.enter(inside),
            _ => Ok(inside()),
        }
    }

    /// The namespace, as something to point at.
    fn namespace(&mut self) -> Result<&Namespace, Error> {
        let namespace = match self.namespace.take() {
            Some(namespace) => namespace,
            None => Arc::new(Namespace::of_socket(self.route()?).or_else(|_| Namespace::current())?),
        };
        Ok(self.namespace.insert(namespace))
    }

    fn route(&mut self) -> Result<&mut Socket, Error> {
        let socket = match self.route.take() {
            Some(socket) => socket,
            None => self.open(Protocol::Route)?,
        };
        Ok(self.route.insert(socket))
    }

    fn netfilter(&mut self) -> Result<&mut Socket, Error> {
        let socket = match self.netfilter.take() {
            Some(socket) => socket,
            None => self.open(Protocol::Netfilter)?,
        };
        Ok(self.netfilter.insert(socket))
    }

    fn open(&self, protocol: Protocol) -> Result<Socket, Error> {
        self.within(|| Socket::open(protocol))?.map_err(|error| {
            let place = if self.foreign { Place::Container } else { Place::Host };
            refused(Operation::Open, place, "netlink socket", error.into())
        })
    }
}

/// The error for a request that the kernel refused.
fn refused(operation: Operation, place: Place, object: &str, refusal: Refusal) -> Error {
    let Refusal { errno, detail } = refusal;
    Error::Refused { operation, object: object.to_owned(), place, errno, detail }
}

/// The error for requests of which nothing, or nothing certain, came back.
fn failed(operation: Operation, place: Place, object: &str, failure: Failure) -> Error {
    let garbled = |reason: &str| Error::Garbled { operation, reason: format!("{reason} ({object})") };
    match failure {
        Failure::Refused(refusal) => refused(operation, place, object, refusal),
        Failure::TooLong => refused(operation, place, object, nix::errno::Errno::EMSGSIZE.into()),
        Failure::Truncated => garbled("longer than the kernel's answers are"),
        Failure::Lost => Error::TimedOut { operation, object: object.to_owned() },
    }
}
