//! What the author of a plugin writes, and what the commands of the specification make of it.

use cni_spec::plugin::{self, DelRequest, GcRequest, Plugin, StatusRequest};
use cni_spec::{AddResult, Dns, Error, NetworkConfig, SpecVersion};
use netops::{Answer, Applied, ApplyError, Errno, ForeignRules, Kernel, MacAddr, Place, Plan, Query};
use serde::de::DeserializeOwned;

use crate::adoption;
use crate::detach::{self, Traces};
use crate::error::{self, kernel_error};
use crate::ipam::{self, Grant, Manager};
use crate::kernels::{Kernels, Linux, Purpose};
use crate::owner::Owner;
use crate::reference;
use crate::request::{Names, Request, requested_mac};

/// A plugin that makes an interface in a container, or adds something to one that others have made: it says what must
/// exist.
///
/// Everything else follows: [`Kit`] makes a CNI plugin of it.
pub trait Attach: Send + Sync {
    /// The plugin's own configuration; every other key of the document is ignored.
    type Config: DeserializeOwned;

    /// The word for it in configurations, and the name of its executable.
    const TYPE: &'static str;

    /// What it says of itself to a person who runs it by hand.
    const ABOUT: &'static str;

    /// The versions of the specification that it speaks.
    const VERSIONS: &'static [SpecVersion] = SpecVersion::ALL;

    /// Whether its interfaces have addresses, and who gives them.
    const ADDRESSING: Addressing;

    /// How a `DEL`, which knows no more than whose attachment it is, finds what there is to remove.
    const REMAINS: Remains = Remains::Cable;

    /// What must exist for an attachment, and the result that says so. Pure, but for what it may look up in the
    /// kernel. The same request gives the same plan, for `ADD` makes it and `CHECK` compares it.
    ///
    /// # Errors
    /// When the configuration and the addresses make no sense together.
    fn plan(&self, request: &Request<'_, Self::Config>, kernel: &mut dyn Kernel)
    -> Result<Attachment, Error>;

    /// Who gives its interfaces their addresses: by default whom `ipam` names. To be replaced by a plugin with
    /// [`Addressing::Own`].
    ///
    /// # Errors
    /// When the configuration does not say who.
    fn manager(&self, config: &NetworkConfig) -> Result<Option<Box<dyn Manager>>, Error> {
        match Self::ADDRESSING {
            Addressing::Never | Addressing::Inherited | Addressing::Own => Ok(None),
            Addressing::Optional => ipam::manager(config),
            Addressing::Required => ipam::manager(config)?
                .ok_or_else(|| Error::config(format!("ipam.type: missing: {} needs addresses", Self::TYPE)))
                .map(Some),
        }
    }

    /// The MAC address that the configuration asks for; whoever makes the call may ask for another.
    fn mac(&self, config: &Self::Config) -> Option<MacAddr> {
        let _ = config;
        None
    }

    /// What an `ADD` does outside of the kernel before its plan is applied: refuses what must not be, remembers what
    /// [`restore`](Self::restore) will give back. Returns what takes that back, should the `ADD` fail after all.
    ///
    /// # Errors
    /// When the plan must not be applied.
    fn prepare(
        &self,
        request: &Request<'_, Self::Config>,
        kernel: &mut dyn Kernel,
    ) -> Result<Option<Withdraw>, Error> {
        let _ = (request, kernel);
        Ok(None)
    }

    /// Completes the result with what only the kernel knows, once the plan is applied.
    ///
    /// # Errors
    /// As the kernel's.
    fn complete(
        &self,
        request: &Request<'_, Self::Config>,
        kernel: &mut dyn Kernel,
        result: &mut AddResult,
    ) -> Result<(), Error> {
        let _ = (request, kernel, result);
        Ok(())
    }

    /// What may be left of an attachment of which nothing is certain but whose it is: everything of its own is removed.
    /// Only what follows from the owner's names, bears its [mark](Owner::mark), or was found in the kernel belongs in it.
    /// Not asked of plugins that leave a [cable](Remains::Cable) or an [interface](Remains::Interface).
    ///
    /// # Errors
    /// When the owner's names are none that the kernel takes, or as the kernel's.
    fn remnants(&self, call: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<Plan, Error> {
        let _ = (call, owner, kernel);
        Ok(Plan::new())
    }

    /// What leads a `DEL` to the attachment's entries in nf_tables. By default to what masquerades and guards a cable.
    fn traces(&self, call: &DelRequest, owner: &Owner) -> Traces {
        match Self::REMAINS {
            Remains::Cable => Traces::of_cable(call, owner),
            Remains::Interface(_) | Remains::Inside | Remains::Outside => Traces::none(),
        }
    }

    /// Netfilter rules that the [reference](crate::reference) may have made for the attachment, in the order of their
    /// removal. By default what it makes for a cable.
    fn references_rules(&self, call: &DelRequest, owner: &Owner) -> Vec<ForeignRules> {
        let _ = call;
        match Self::REMAINS {
            Remains::Cable => [reference::masquerades(owner), reference::spoof_check(owner)].concat(),
            Remains::Interface(_) | Remains::Inside | Remains::Outside => Vec::new(),
        }
    }

    /// Ends what is no matter of removal, after everything was removed: gives back to an interface that stays what it
    /// was before, deletes what was remembered for that. Without the container's namespace, if that is gone.
    ///
    /// # Errors
    /// When something is left that another `DEL` could end.
    fn restore(&self, call: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<(), Error> {
        let _ = (call, owner, kernel);
        Ok(())
    }

    /// Deletes what is remembered, outside of the kernel, of attachments that are not valid any more. What bears a
    /// mark in the kernel is found without help.
    ///
    /// # Errors
    /// When something could not be deleted.
    fn collect(&self, call: &GcRequest) -> Result<(), Error> {
        let _ = call;
        Ok(())
    }

    /// Whether an attachment could be made now, apart from its addresses.
    ///
    /// # Errors
    /// [`cni_spec::ErrorCode::PLUGIN_NOT_AVAILABLE`], or [`cni_spec::ErrorCode::LIMITED_CONNECTIVITY`].
    fn status(&self, config: &Self::Config, kernel: &mut dyn Kernel) -> Result<(), Error> {
        let _ = (config, kernel);
        Ok(())
    }
}

/// Takes back what [`Attach::prepare`] has done.
pub type Withdraw = Box<dyn FnOnce() -> Result<(), Error>>;

/// Where a plugin's attachments have left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// On the host: the end of the cable of [`Request::cable`], which takes the other along.
    Cable,
    /// In the container's namespace: the interface itself, of this kind (`IFLA_INFO_KIND`), unless it bears another
    /// attachment's [mark](Owner::mark). The reference's bear none.
    Interface(&'static str),
    /// In the container's namespace and, perhaps, on the host: [`Attach::remnants`] says what, and is asked with both.
    Inside,
    /// On the host: [`Attach::remnants`] says what, and is asked without the container's namespace.
    Outside,
}

/// Whether a plugin's interfaces have addresses, and who gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `ipam` must be configured.
    Required,
    /// `ipam` may be configured; without it the interface has no addresses.
    Optional,
    /// `ipam` is not looked at.
    Never,
    /// The plugins before this one in the list have made the interface, and given it addresses: `prevResult` is needed.
    Inherited,
    /// The plugin says who gives them: [`Attach::manager`].
    Own,
}

/// What must exist for an attachment, and the result that says so.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// What must exist.
    pub plan: Plan,
    /// What the runtime is told. MAC addresses of shared interfaces that exist already are filled in.
    pub result: AddResult,
}

/// A CNI plugin made of a description.
#[derive(Debug, Clone, Copy)]
pub struct Kit<P, K = Linux> {
    pub(crate) plugin: P,
    pub(crate) kernels: K,
}

impl<P: Attach> Kit<P> {
    /// The plugin on the kernel that this program runs on.
    pub const fn new(plugin: P) -> Self {
        Self { plugin, kernels: Linux }
    }
}

impl<P: Attach, K: Kernels> Kit<P, K> {
    /// The plugin on kernels of one's own.
    pub const fn with_kernels(plugin: P, kernels: K) -> Self {
        Self { plugin, kernels }
    }
}

impl<P: Attach, K: Kernels> Plugin for Kit<P, K> {
    fn about(&self) -> &str {
        P::ABOUT
    }

    fn versions(&self) -> &[SpecVersion] {
        P::VERSIONS
    }

    fn add(&self, call: &plugin::Request) -> Result<AddResult, Error> {
        let owner = Owner::of(call);
        let config = call.config.parse()?;
        let manager = self.plugin.manager(&call.config)?;
        let mut kernel = self.open(call, Purpose::Attach)?;
        let mut add = Add { kit: self, kernel: &mut *kernel, done: Vec::new(), prepared: None };
        let result = add.run(call, owner, config, manager.as_deref());
        result.map_err(|error| add.undo(error))
    }

    fn del(&self, call: &DelRequest) -> Result<(), Error> {
        let owner = Owner::of(call);
        // A configuration that cannot be read has given no address.
        let manager = self.plugin.manager(&call.config).ok().flatten();
        end(
            manager.as_deref(),
            |manager| manager.del(call),
            || detach::detach(&self.plugin, call, &owner, &self.kernels),
        )
    }

    fn check(&self, call: &plugin::Request) -> Result<(), Error> {
        let previous = previous_result(call, "CHECK needs it")?;
        let owner = Owner::of(call);
        let config = call.config.parse()?;
        let mut errors = Vec::new();
        if let Some(manager) = self.plugin.manager(&call.config)? {
            errors.extend(manager.check(call).err());
        }
        let request = self.request_about(call, owner, config, previous)?;
        let mut kernel = self.open(call, Purpose::Attach)?;
        let plan = self.plugin.plan(&request, &mut *kernel)?.plan;
        let filters = plan.only(|step| adoption::is_filter(&step.resource));
        errors.extend(adoption::check(&filters, &request.owner, &mut *kernel)?);
        let differences = plan.without(&filters).check(&mut *kernel).map_err(|e| kernel_error(&e))?;
        errors
            .extend(differences.iter().map(|difference| Error::new(error::DIFFERS, difference.to_string())));
        error::join(errors)
    }

    fn gc(&self, call: &GcRequest) -> Result<(), Error> {
        let manager = self.plugin.manager(&call.config);
        let known = manager.as_ref().map_or(None, Option::as_deref);
        let stale = known.and_then(|manager| manager.stale(call).ok()).unwrap_or_default();
        let collect = || {
            let collected = [
                detach::collect_garbage(call, &self.kernels),
                adoption::collect(call, &stale, &self.kernels),
                self.plugin.collect(call),
            ];
            error::join(collected.into_iter().filter_map(Result::err).collect())
        };
        end(known, |manager| manager.gc(call), collect)?;
        manager.map(drop)
    }

    fn status(&self, call: &StatusRequest) -> Result<(), Error> {
        let config = call.config.parse()?;
        let mut kernel = self.kernels.open(None, Purpose::Attach).map_err(|e| kernel_error(&e))?;
        self.plugin.status(&config, &mut *kernel)?;
        match self.plugin.manager(&call.config)? {
            Some(manager) => manager.status(call),
            None => Ok(()),
        }
    }
}

impl<P: Attach, K: Kernels> Kit<P, K> {
    /// What is asked for, as far as it is known before addresses are taken.
    pub(crate) fn request<'a>(
        &self,
        call: &'a plugin::Request,
        owner: Owner,
        config: P::Config,
    ) -> Result<Request<'a, P::Config>, Error> {
        let mut names = self.names(call, &owner, &config)?;
        let mut previous = call.config.prev_result()?;
        let mut addresses = AddResult::default();
        if P::ADDRESSING == Addressing::Inherited {
            let why = format!("{} adds to what the plugins before it in a list have made", P::TYPE);
            let inherited = previous_result(call, &why)?;
            names = names.recorded(&inherited);
            addresses = own_addresses(&inherited, &owner);
            previous = Some(inherited);
        }
        Ok(Request { call, owner, config, addresses, names, previous })
    }

    /// What an attachment's interfaces are called.
    fn names(&self, call: &plugin::Request, owner: &Owner, config: &P::Config) -> Result<Names, Error> {
        let mac = requested_mac(call)?.or_else(|| self.plugin.mac(config));
        Ok(Names::derived(owner, owner.link()?, mac))
    }

    /// What was asked for when an attachment was made, as its result has it.
    pub(crate) fn request_about<'a>(
        &self,
        call: &'a plugin::Request,
        owner: Owner,
        config: P::Config,
        previous: AddResult,
    ) -> Result<Request<'a, P::Config>, Error> {
        let addresses = own_addresses(&previous, &owner);
        let names = self.names(call, &owner, &config)?.recorded(&previous);
        Ok(Request { call, owner, config, addresses, names, previous: Some(previous) })
    }

    fn open(&self, call: &plugin::Request, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        self.kernels.open(Some(&call.netns), purpose).map_err(|e| kernel_error(&e))
    }
}

/// An `ADD` under way.
struct Add<'k, P, K> {
    kit: &'k Kit<P, K>,
    kernel: &'k mut dyn Kernel,
    /// What was applied, to be undone in reverse if anything fails.
    done: Vec<Applied>,
    /// What takes back the preparations.
    prepared: Option<Withdraw>,
}

impl<P: Attach, K: Kernels> Add<'_, P, K> {
    fn run(
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
            self.await_service(&applied)?;
        }
        let grant = match manager {
            Some(manager) => manager.add(call)?.not_empty()?,
            None => Grant::free(request.addresses),
        };
        request.addresses = AddResult { interfaces: Vec::new(), ..grant.result().clone() };
        // The disk and the kernel are waited for at the same time.
        let made = grant.sync_during(|| self.make(&request, &applied));
        // As long as something has an address, nobody else may get it: the grant outlives what is undone.
        let result = made.map_err(|error| self.undo(error))?;
        grant.keep()?;
        Ok(result)
    }

    /// Makes what is not there yet of an attachment whose addresses are known.
    fn make(&mut self, request: &Request<'_, P::Config>, applied: &Plan) -> Result<AddResult, Error> {
        let dns = request.call.config.dns()?;
        let Attachment { plan, mut result } = self.kit.plugin.plan(request, self.kernel)?;
        self.prepared = self.kit.plugin.prepare(request, self.kernel)?;
        self.apply(&plan.without(applied))?;
        self.await_service(&plan)?;
        self.kit.plugin.complete(request, self.kernel, &mut result)?;
        self.record_shared_macs(&mut result);
        override_dns::<P>(dns, &mut result);
        Ok(result)
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        let applied = match plan.apply(self.kernel) {
            Err(error)
                if error.cause.errno() == Some(Errno::EEXIST)
                    && detach::remove_abandoned(plan, self.kernel)? =>
            {
                plan.apply(self.kernel)
            }
            outcome => outcome,
        };
        self.done.push(applied.map_err(apply_error)?);
        Ok(())
    }

    /// Sees to it that what was made carries packets now. The kernel enables a bridge's port, and an interface's queue,
    /// some time after the cable's ends are up: within a second, or at once for who asks for the interface
    /// (`linkwatch_sync_dev()`). Until then packets are dropped, those among them with which the container's interface
    /// has announced its addresses.
    fn await_service(&mut self, plan: &Plan) -> Result<(), Error> {
        let mut container = Vec::new();
        for place in [Place::Container, Place::Host] {
            let links = plan.steps().iter().flat_map(|step| step.links());
            let here = links.filter(|(at, _)| *at == place).map(|(_, link)| Query::Link(link.clone()));
            let queries: Vec<_> = here.collect();
            if !queries.is_empty() {
                let answers = self.kernel.read(place, &queries).map_err(|e| kernel_error(&e))?;
                if place == Place::Container {
                    container = answers;
                }
            }
        }
        for answer in &container {
            let Answer::Links(links) = answer else { continue };
            for link in links.iter().filter(|link| link.up && link.kind == "veth") {
                self.kernel.announce(Place::Container, link).map_err(|e| kernel_error(&e))?;
            }
        }
        Ok(())
    }

    /// Takes back what was done before something failed.
    fn undo(&mut self, error: Error) -> Error {
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

pub(crate) fn previous_result(call: &plugin::Request, why: &str) -> Result<AddResult, Error> {
    call.config.prev_result()?.ok_or_else(|| Error::config(format!("prevResult: missing: {why}")))
}

/// Gives addresses back and removes what has them. Addresses last: as long as something still has one, nobody else may
/// get it; unless they must be given back through the interface, which does not then stay for a failure of that.
fn end(
    manager: Option<&dyn Manager>,
    release: impl Fn(&dyn Manager) -> Result<(), Error>,
    remove: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(manager) = manager else { return remove() };
    if !manager.releases_through_interface() {
        remove()?;
        return release(manager);
    }
    let released = release(manager);
    error::join([remove(), released].into_iter().filter_map(Result::err).collect())
}

fn apply_error(error: ApplyError) -> Error {
    let cause = kernel_error(&error.cause);
    error
        .left
        .iter()
        .fold(cause, |error, left| error.and_details(format!("and it could not be undone: {left}")))
}

/// The addresses of a previous result that are on the attachment's interface, with its routes; without interfaces.
pub fn own_addresses(previous: &AddResult, owner: &Owner) -> AddResult {
    let ours = |ip: &&cni_spec::IpConfig| {
        previous
            .interface_of(ip)
            .is_none_or(|interface| interface.sandbox.is_some() && interface.name == owner.interface.as_str())
    };
    AddResult {
        interfaces: Vec::new(),
        ips: previous.ips.iter().filter(ours).cloned().collect(),
        routes: previous.routes.clone(),
        dns: previous.dns.clone(),
    }
}

/// The configuration's `dns` stands before the IPAM plugin's; what others have made is passed on as it is.
pub(crate) fn override_dns<P: Attach>(configured: Dns, result: &mut AddResult) {
    if !configured.is_empty() && P::ADDRESSING != Addressing::Inherited {
        result.dns = configured;
    }
}
