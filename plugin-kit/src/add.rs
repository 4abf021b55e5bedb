//! An `ADD` under way: addresses are taken, what must exist is made, and all of it is taken back if anything fails.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use cni_spec::{AddResult, Error, plugin};
use netops::{
    Address, Answer, Applied, ApplyError, Errno, Kernel, LinkName, NeighbourState, Place, Plan, Query,
    Resource, Step,
};

use crate::attach::{Attach, Attachment, Kit, Withdraw, override_dns};
use crate::detach;
use crate::error::kernel_error;
use crate::ipam::{Grant, Manager};
use crate::kernels::Kernels;
use crate::owner::Owner;
use crate::request::Request;

/// How long a namespace's end may take that others depend on.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// An `ADD` under way.
pub(crate) struct Add<'k, P, K> {
    kit: &'k Kit<P, K>,
    kernel: &'k mut dyn Kernel,
    /// What was applied, to be undone in reverse if anything fails.
    done: Vec<Applied>,
    /// What takes back the preparations.
    prepared: Option<Withdraw>,
}

impl<'k, P: Attach, K: Kernels> Add<'k, P, K> {
    pub(crate) fn new(kit: &'k Kit<P, K>, kernel: &'k mut dyn Kernel) -> Self {
        Self { kit, kernel, done: Vec::new(), prepared: None }
    }

    pub(crate) fn run(
        &mut self,
        call: &plugin::Request,
        owner: Owner,
        config: P::Config,
        manager: Option<&dyn Manager>,
    ) -> Result<AddResult, Error> {
        let mut request = self.kit.request(call, owner, config)?;
        let mut applied = Plan::new();
        if manager.is_some_and(Manager::needs_interface) {
            // A DHCP client asks through the interface that the answer is for.
            applied = self.kit.plugin.plan(&request, self.kernel)?.plan;
            self.apply(&applied)?;
            self.await_service(&request, &applied)?;
        }
        let grant = match manager {
            Some(manager) => manager.add(call)?.not_empty()?,
            None => Grant::free(request.addresses),
        };
        request.addresses = AddResult { interfaces: Vec::new(), ..grant.result().clone() };
        if manager.is_some() && applied.steps().is_empty() {
            request.names = request.names.addressed(&request.owner, &request.addresses);
        }
        match self.make(&request, &applied) {
            Ok(result) => {
                let _addresses_are_in_the_result = grant.keep();
                Ok(result)
            }
            Err(error) if manager.is_some_and(Manager::releases_through_interface) => {
                drop(grant);
                Err(self.undo(error))
            }
            // As long as something has an address, nobody else may get it: the grant outlives what is undone.
            Err(error) => Err(self.undo(error)),
        }
    }

    /// Makes what is not there yet of an attachment whose addresses are known.
    fn make(&mut self, request: &Request<'_, P::Config>, applied: &Plan) -> Result<AddResult, Error> {
        let dns = request.call.config.dns()?;
        let Attachment { plan, mut result } = self.kit.plugin.plan(request, self.kernel)?;
        self.prepared = self.kit.plugin.prepare(request, self.kernel)?;
        self.apply(&plan.without(applied))?;
        self.await_service(request, &plan)?;
        self.kit.plugin.complete(request, self.kernel, &mut result)?;
        self.record_shared_macs(&mut result);
        override_dns::<P>(dns, &mut result);
        Ok(result)
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        let mut began = None;
        let applied = loop {
            match plan.apply(self.kernel) {
                Err(error)
                    if error.cause.errno() == Some(Errno::EEXIST)
                        && detach::remove_abandoned(plan, self.kernel)? =>
                {
                    break plan.apply(self.kernel);
                }
                Err(error)
                    if is_being_left(plan, &error)
                        && began.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
                {
                    thread::sleep(PAUSE);
                }
                outcome => break outcome,
            }
        };
        self.done.push(applied.map_err(apply_error)?);
        Ok(())
    }

    /// Sees to it that what was made carries packets now. The kernel enables a bridge's port, and the queue of an interface,
    /// some time after both ends of a cable are up: within a second, or at once for who asks whether it has a carrier
    /// (`linkwatch_sync_dev()`). Until then packets are dropped.
    fn await_service(&mut self, request: &Request<'_, P::Config>, plan: &Plan) -> Result<(), Error> {
        let links = |wanted| {
            let links = plan.steps().iter().flat_map(|step| step.links());
            links.filter(move |(place, _)| *place == wanted).map(|(_, link)| link).collect::<BTreeSet<_>>()
        };
        let idle = links(Place::Host).into_iter().filter(|link| !self.had_carrier(link));
        let idle = idle.cloned().map(Query::Carrier);
        let queries: Vec<_> = idle.chain(neighbours(request, plan)).collect();
        let answers = self.kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
        let inside: Vec<_> = links(Place::Container).into_iter().cloned().map(Query::Carrier).collect();
        if !inside.is_empty() {
            self.kernel.read(Place::Container, &inside).map_err(|e| kernel_error(&e))?;
        }

        let mac = request.names.container_mac;
        let is_another = |neighbour: &NeighbourState| neighbour.mac.is_some_and(|known| known != mac);
        let remembers =
            |answer: &Answer| matches!(answer, Answer::Neighbours(those) if those.iter().any(is_another));
        let is_unusual = |ip| request.owner.container_mac(Some(ip)) != mac;
        if announced(request).any(is_unusual) || answers.iter().any(remembers) {
            self.announce(&request.names.interface)?;
        }
        Ok(())
    }

    /// Whether an interface that was there before carried packets then.
    fn had_carrier(&self, link: &LinkName) -> bool {
        let before = self.done.iter().find_map(|applied| applied.facts().link(Place::Host, link));
        before.is_some_and(|before| before.up && before.carrier)
    }

    /// Has the container's end of a cable tell others its addresses, who may remember that somebody else has them. The kernel
    /// does so when it comes up, but then the bridge's port is not enabled yet.
    fn announce(&mut self, interface: &LinkName) -> Result<(), Error> {
        let found =
            netops::read_link(self.kernel, Place::Container, interface).map_err(|e| kernel_error(&e))?;
        match found.filter(|link| link.up && link.kind == "veth") {
            Some(link) => self.kernel.announce(Place::Container, &link).map_err(|e| kernel_error(&e)),
            None => Ok(()),
        }
    }

    /// Takes back what was done before something failed.
    pub(crate) fn undo(&mut self, error: Error) -> Error {
        let applied = std::mem::take(&mut self.done).into_iter().rev();
        let mut left: Vec<_> =
            applied.flat_map(|applied| applied.undo(self.kernel)).map(|left| left.to_string()).collect();
        let withdrawn = self.prepared.take().map_or(Ok(()), |withdraw| withdraw());
        left.extend(withdrawn.err().map(|left| left.to_string()));
        left.iter()
            .fold(error, |error, left| error.and_details(format!("and it could not be undone: {left}")))
    }

    /// A shared interface that was there before has the address that it had.
    fn record_shared_macs(&self, result: &mut AddResult) {
        for interface in result.interfaces.iter_mut().filter(|interface| interface.sandbox.is_none()) {
            let Ok(name) = interface.name.parse() else { continue };
            let there = self.done.iter().find_map(|applied| applied.facts().link(Place::Host, &name));
            if let Some(mac) = there.and_then(|link| link.mac) {
                interface.mac = Some(mac.to_string());
            }
        }
    }
}

/// The addresses of which an announcement tells (`arp_notify`).
fn announced<C>(request: &Request<'_, C>) -> impl Iterator<Item = IpAddr> {
    request.addresses.ips.iter().map(|ip| ip.address.addr()).filter(IpAddr::is_ipv4)
}

/// What the node remembers of those of them that are neighbours of its own.
fn neighbours<C>(request: &Request<'_, C>, plan: &Plan) -> Vec<Query> {
    let holders = plan.steps().iter().filter_map(|step| match &step.resource {
        Resource::Address(address) if step.place == Place::Host => Some(address),
        _ => None,
    });
    let of = |holder: &Address| {
        let reached = announced(request).filter(|ip| holder.net.contains(ip));
        reached.map(|ip| Query::NeighbourOf(holder.link.clone(), ip)).collect::<Vec<_>>()
    };
    holders.flat_map(of).collect()
}

/// Whether what is to go up has the MAC address of another interface on the same one (`macvlan_addr_busy()`). That may be the last one
/// that had its IP address, from which ours are made: the kernel takes a namespace apart some time after its end.
fn is_being_left(plan: &Plan, error: &ApplyError) -> bool {
    let netops::Error::Refused { object, errno, .. } = &error.cause else { return false };
    let rises =
        |step: &Step| matches!(step.resource, Resource::LinkUp(_)) && step.resource.to_string() == *object;
    *errno == Errno::EADDRINUSE && error.left.is_empty() && plan.steps().iter().any(rises)
}

fn apply_error(error: ApplyError) -> Error {
    let cause = kernel_error(&error.cause);
    error
        .left
        .iter()
        .fold(cause, |error, left| error.and_details(format!("and it could not be undone: {left}")))
}
