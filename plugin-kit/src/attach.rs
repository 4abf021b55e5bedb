//! What the author of a plugin writes, and what the commands of the specification make of it.

use cni_spec::plugin::{self, DelRequest, GcRequest, Plugin, StatusRequest};
use cni_spec::{AddResult, Dns, Error, NetworkConfig, SpecVersion};
use netops::{ForeignRules, Kernel, MacAddr, Plan};
use serde::de::DeserializeOwned;

use crate::add::Add;
use crate::adoption;
use crate::detach::{self, Traces};
use crate::error::{self, kernel_error};
use crate::ipam::{self, Manager};
use crate::kernels::{Kernels, Linux, Purpose};
use crate::moved::routes_moved;
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

    /// What a `CHECK` looks at outside of the kernel.
    ///
    /// # Errors
    /// When something is missing that an `ADD` has made.
    fn verify(&self, request: &Request<'_, Self::Config>) -> Result<(), Error> {
        let _ = request;
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
        let mut add = Add::new(self, &mut *kernel);
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
        let plan = request.as_recorded(&plan.without(&filters));
        let mut differences = plan.check(&mut *kernel).map_err(|e| kernel_error(&e))?;
        if !differences.is_empty() {
            let moved =
                routes_moved(&plan, &request.addresses, &mut *kernel).map_err(|e| kernel_error(&e))?;
            if !moved.steps().is_empty() {
                differences = plan.without(&moved).check(&mut *kernel).map_err(|e| kernel_error(&e))?;
            }
        }
        errors
            .extend(differences.iter().map(|difference| Error::new(error::DIFFERS, difference.to_string())));
        errors.extend(self.plugin.verify(&request).err());
        error::join(errors)
    }

    fn gc(&self, call: &GcRequest) -> Result<(), Error> {
        let manager = self.plugin.manager(&call.config);
        let known = manager.as_ref().map_or(None, Option::as_deref);
        let stale = known.map_or_else(|| Ok(Vec::new()), |manager| manager.stale(call));
        let collect = || {
            let collected = [
                detach::collect_garbage(call, &self.kernels),
                // Where addresses are not known, what they were used for stays, and so do they: the next call finds both.
                stale.and_then(|stale| adoption::collect(call, P::TYPE, &stale, &self.kernels)),
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
        let names = self.names(call, &owner, &config)?.addressed(&owner, &addresses).recorded(&previous);
        Ok(Request { call, owner, config, addresses, names, previous: Some(previous) })
    }

    fn open(&self, call: &plugin::Request, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        self.kernels.open(Some(&call.netns), purpose).map_err(|e| kernel_error(&e))
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

/// The configuration's `dns` stands before the IPAM plugin's; what others have made is passed on as it is, and an
/// interface without a network has none.
pub(crate) fn override_dns<P: Attach>(configured: Dns, result: &mut AddResult) {
    let is_on_a_network = !matches!(P::ADDRESSING, Addressing::Inherited | Addressing::Never);
    if !configured.is_empty() && is_on_a_network {
        result.dns = configured;
    }
}
