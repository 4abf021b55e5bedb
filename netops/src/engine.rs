//! What can be done with a plan: applied, undone, compared, removed.

use std::fmt;

use crate::error::{Errno, Error};
use crate::facts::{Deviation, Difference, Facts};
use crate::kernel::{Created, Kernel, LinkState, Removed};
use crate::name::LinkName;
use crate::place::Place;
use crate::plan::{Ownership, Plan, Step};
use crate::resource::{Address, OtherAddresses, Resource, Sysctl};

impl Plan {
    /// Makes everything exist: what is shared is looked up in one batch and made where it is missing, what is the
    /// plan's own is made, in as few batches as the places allow.
    ///
    /// # Errors
    /// [`ApplyError`], after everything that was made has been unmade.
    pub fn apply(&self, kernel: &mut dyn Kernel) -> Result<Applied, ApplyError> {
        let mut applied = Applied { facts: Facts::default(), companions: self.addresses(), undo: Vec::new() };
        match self.try_apply(kernel, &mut applied) {
            Ok(()) => Ok(applied),
            Err(cause) => Err(ApplyError { cause, left: applied.undo(kernel) }),
        }
    }

    fn try_apply(&self, kernel: &mut dyn Kernel, applied: &mut Applied) -> Result<(), Error> {
        let shared = || self.steps().iter().filter(|step| step.ownership == Ownership::Shared);
        if shared().next().is_some() {
            kernel.share()?;
        }
        // What is set on something that was there before can be set back, also if nobody hears that it was set.
        let changed = self.steps().iter().filter(|step| {
            step.ownership == Ownership::Own && matches!(step.resource, Resource::Settings(_))
        });
        applied.facts = Facts::read(kernel, shared().chain(changed))?;
        let mut todo = Vec::with_capacity(self.steps().len());
        for step in self.steps() {
            if step.ownership == Ownership::Own || applied.facts.is_wanting(step, &applied.companions)? {
                applied.remove_rivals(kernel, step)?;
                todo.push(step);
            }
        }
        for run in todo.chunk_by(|a, b| a.place == b.place) {
            applied.create(kernel, run)?;
        }
        Ok(())
    }

    fn addresses(&self) -> Vec<(Place, Address)> {
        let address = |step: &Step| match &step.resource {
            Resource::Address(address) => Some((step.place, address.clone())),
            _ => None,
        };
        self.steps().iter().filter_map(address).collect()
    }

    /// Compares everything with the kernel, except optional settings; empty if nothing differs.
    ///
    /// # Errors
    /// As [`Kernel::read`].
    pub fn check(&self, kernel: &mut dyn Kernel) -> Result<Vec<Difference>, Error> {
        // Whether an address is a bridge's own cannot be seen later on.
        let optional = |step: &&Step| match &step.resource {
            Resource::Sysctl(sysctl) => sysctl.optional,
            Resource::FixedMac(_) => true,
            _ => false,
        };
        let steps: Vec<_> = self.steps().iter().filter(|step| !optional(step)).collect();
        let facts = Facts::read(kernel, steps.iter().copied())?;
        Ok(steps.into_iter().flat_map(|step| facts.differences(step)).collect())
    }

    /// Removes what is the plan's own, in reverse, going on after failures; what is gone already is fine. What goes
    /// with an interface that is removed is not removed one by one. Returns what could not be removed.
    pub fn remove(&self, kernel: &mut dyn Kernel) -> Vec<Error> {
        let own = |step: &&Step| step.ownership == Ownership::Own;
        let steps: Vec<_> = self.steps().iter().filter(own).map(|s| (s.place, &s.resource)).collect();
        remove_in_reverse(kernel, &steps)
    }
}

/// A plan that was applied, and what it takes to undo it.
#[derive(Debug)]
pub struct Applied {
    facts: Facts,
    /// The plan's addresses, none of which stands in another's way.
    companions: Vec<(Place, Address)>,
    undo: Vec<Undo>,
}

/// How to take back one thing that was done.
#[derive(Debug)]
struct Undo {
    place: Place,
    ownership: Ownership,
    action: Action,
}

#[derive(Debug)]
enum Action {
    Remove(Resource),
    Restore(Resource),
}

impl Applied {
    /// What was read about shared resources before they were relied on.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Unmakes what was made, and only that. What is shared is taken back only if nobody can have begun to rely on
    /// it. Returns what could not be undone.
    pub fn undo(self, kernel: &mut dyn Kernel) -> Vec<Error> {
        let mut ends = Vec::new();
        for undo in &self.undo {
            if let Action::Remove(resource) = &undo.action {
                ends.extend(link_ends(undo.place, resource));
            }
        }
        let alone = self.undo.iter().any(|undo| undo.ownership == Ownership::Shared) && kernel.exclude();
        let mut failures = Vec::new();
        // In the order of making, like a plan's steps.
        let mut batch: Vec<(Place, &Resource)> = Vec::new();
        for undo in self.undo.iter().rev() {
            let (Action::Remove(resource) | Action::Restore(resource)) = &undo.action;
            if undo.ownership == Ownership::Shared
                && !(alone && is_unused(kernel, undo.place, resource, &ends))
            {
                continue;
            }
            match &undo.action {
                Action::Remove(resource) => batch.insert(0, (undo.place, resource)),
                Action::Restore(resource) if !goes_with(&ends, undo.place, resource) => {
                    failures.extend(flush_removals(kernel, &mut batch));
                    let results = kernel.create(undo.place, &[resource]);
                    // An address or a route that is there after all is where it should be.
                    let failed = |error: &Error| error.errno() != Some(Errno::EEXIST);
                    failures.extend(results.into_iter().filter_map(Result::err).filter(failed));
                }
                Action::Restore(_) => {}
            }
        }
        failures.extend(flush_removals(kernel, &mut batch));
        failures
    }

    /// Makes a run of steps of one place, remembering how to unmake each.
    fn create(&mut self, kernel: &mut dyn Kernel, run: &[&Step]) -> Result<(), Error> {
        let mut rest = run;
        while let [first, ..] = rest {
            let resources: Vec<_> = rest.iter().map(|step| &step.resource).collect();
            let results = kernel.create(first.place, &resources);
            if results.is_empty() {
                return Err(Error::Garbled {
                    operation: crate::error::Operation::Create,
                    reason: format!("nothing was done about {}", first.resource),
                });
            }
            let tried = results.len().min(rest.len());
            let mut failure = None;
            for (n, (step, result)) in rest.iter().zip(results).enumerate() {
                let outcome = match result {
                    Ok(Created::New) => {
                        self.remember(step, Action::Remove(step.resource.clone()));
                        Ok(())
                    }
                    Ok(Created::Kept) => Ok(()),
                    Ok(Created::Changed(before)) => {
                        self.remember(step, Action::Restore(before));
                        Ok(())
                    }
                    Err(error) if error.errno() == Some(Errno::EEXIST) && may_exist(step) => {
                        self.accept_existing(kernel, step, error)
                    }
                    Err(error) => {
                        if is_answer_lost(step, &error) {
                            rest.iter().skip(n).for_each(|step| self.remember_doubtful(kernel, step));
                        }
                        Err(error)
                    }
                };
                // The first failure is the cause; those after it are mostly its consequences.
                failure = failure.or_else(|| outcome.err());
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            rest = rest.get(tried..).unwrap_or_default();
        }
        Ok(())
    }

    fn remember(&mut self, step: &Step, action: Action) {
        self.undo.push(Undo { place: step.place, ownership: step.ownership, action });
    }

    /// Someone else was quicker; it must still be what we want.
    fn accept_existing(&mut self, kernel: &mut dyn Kernel, step: &Step, error: Error) -> Result<(), Error> {
        let facts = Facts::read(kernel, [step])?;
        if facts.is_wanting(step, &self.companions)? {
            return Err(error);
        }
        self.facts.absorb(facts);
        Ok(())
    }

    /// What may have been done without our being told is undone with the rest, if it is there just as it was wanted:
    /// then it would be strange if it were someone else's.
    fn remember_doubtful(&mut self, kernel: &mut dyn Kernel, step: &Step) {
        match &step.resource {
            Resource::Sysctl(sysctl) => {
                // One that was looked up is set back; an interface's own goes with it.
                if let Some(before) = self.facts.sysctl(step.place, &sysctl.key) {
                    let before = Sysctl { value: before.to_owned(), ..sysctl.clone() };
                    self.remember(step, Action::Restore(Resource::Sysctl(before)));
                }
            }
            // If it was not removed after all, it is there, and that is where it should be.
            Resource::NoRoute(route) => {
                self.remember(step, Action::Restore(Resource::Route(route.clone())));
            }
            Resource::Settings(settings) => {
                if let Some(before) = self.facts.link(step.place, &settings.link) {
                    let before = settings.as_of(before);
                    self.remember(step, Action::Restore(Resource::Settings(before)));
                }
            }
            // Nobody asks for it who has not seen it up.
            Resource::LinkDown(link) => {
                self.remember(step, Action::Restore(Resource::LinkUp(link.clone())));
            }
            resource => {
                let facts = Facts::read(kernel, [step]);
                if facts.is_ok_and(|facts| facts.differences(step).is_empty()) {
                    self.remember(step, Action::Remove(resource.clone()));
                }
            }
        }
    }

    /// Removes addresses that one to be added takes the place of.
    fn remove_rivals(&mut self, kernel: &mut dyn Kernel, step: &Step) -> Result<(), Error> {
        let Resource::Address(address) = &step.resource else { return Ok(()) };
        if address.others != OtherAddresses::Replaced {
            return Ok(());
        }
        let rivals = self.facts.rivals_of(step.place, address, &self.companions);
        // The last first: with the first IPv4 address of a subnet the kernel removes the others, and then they could
        // not be known as removed.
        let rivals: Vec<_> = rivals.into_iter().rev().cloned().map(Resource::Address).collect();
        for rival in rivals {
            for result in kernel.remove(step.place, &[&rival]) {
                let removed = match &result {
                    Ok(removed) => *removed == Removed::Now,
                    Err(error) => is_answer_lost(step, error),
                };
                if removed {
                    self.remember(step, Action::Restore(rival.clone()));
                }
                result?;
            }
        }
        Ok(())
    }
}

impl Facts {
    /// Whether a shared resource has yet to be made.
    ///
    /// # Errors
    /// [`Error::Conflict`] if something else is in its place.
    fn is_wanting(&self, step: &Step, companions: &[(Place, Address)]) -> Result<bool, Error> {
        let conflict = |found: String| {
            Err(Error::Conflict { object: step.resource.to_string(), place: step.place, found })
        };
        if let Resource::Address(address) = &step.resource
            && address.others == OtherAddresses::Refused
            && let Some(rival) = self.rivals_of(step.place, address, companions).first()
        {
            return conflict(format!("{}, another address,", rival.net));
        }
        let differences = self.differences(step);
        if let Resource::Link(wanted) = &step.resource {
            // A link that exists is taken as it is, as long as it is of the kind: its MTU and MAC are its maker's.
            return match self.link(step.place, &wanted.name) {
                None => Ok(true),
                Some(actual) if actual.kind == wanted.kind.name() => Ok(false),
                Some(actual) if actual.kind.is_empty() => {
                    conflict("an interface that is not virtual".to_owned())
                }
                Some(actual) => conflict(format!("a {}", actual.kind)),
            };
        }
        Ok(!differences.is_empty())
    }

    /// The addresses that stand in the way of one, and are not wanted beside it.
    fn rivals_of(&self, place: Place, wanted: &Address, companions: &[(Place, Address)]) -> Vec<&Address> {
        let is_companion = |rival: &Address| {
            companions
                .iter()
                .any(|(at, other)| *at == place && other.link == rival.link && other.net == rival.net)
        };
        self.rivals(place, wanted).into_iter().filter(|rival| !is_companion(rival)).collect()
    }
}

/// Whether "exists already" is no failure: what is shared, and routes, which a namespace may have been given before.
fn may_exist(step: &Step) -> bool {
    step.ownership == Ownership::Shared || matches!(step.resource, Resource::Route(_))
}

/// Whether a failure says only that nothing is known of what was asked for, nor of what was asked for after it in the
/// same batch. (That waiting took too long says just that.)
fn is_answer_lost(step: &Step, error: &Error) -> bool {
    !matches!(error, Error::Refused { .. } | Error::NoContainer | Error::Invalid(_) | Error::Namespace { .. })
        && !matches!(step.resource, Resource::Settled(_))
}

/// What pods are wired by.
const PODS_KINDS: [&str; 5] = ["veth", "macvlan", "ipvlan", "vlan", "tun"];

/// Whether nobody else can rely on a shared resource that this plan has made: no other plan has an interface that
/// needs it. `ends` are the interfaces that this plan itself has made.
fn is_unused(kernel: &mut dyn Kernel, place: Place, resource: &Resource, ends: &[(Place, LinkName)]) -> bool {
    // If it cannot be told, it is in use: a bridge too many harms no one.
    let Ok(links) = crate::kernel::read_links(kernel, place) else { return false };
    let others = || links.iter().filter(|link| !ends.contains(&(place, link.name.clone())));
    let holder = match resource {
        Resource::Link(link) => Some(link.name.as_str()),
        Resource::Isolation(isolation) => Some(isolation.bridge.as_str()),
        resource => resource.carrier(),
    };
    let holder = links.iter().find(|link| Some(link.name.as_str()) == holder);
    match holder {
        // A bridge is used by its ports and by what is on it, and so is what it has.
        Some(bridge) if bridge.kind == "bridge" => {
            let is_on_it =
                |link: &LinkState| link.peer_index == Some(bridge.index) && link.peer_namespace.is_none();
            !others().any(|link| link.master == Some(bridge.index) || is_on_it(link))
        }
        // Any pod uses what is the whole namespace's.
        _ => !others().any(|link| PODS_KINDS.contains(&link.kind.as_str())),
    }
}

fn flush_removals(kernel: &mut dyn Kernel, batch: &mut Vec<(Place, &Resource)>) -> Vec<Error> {
    let failures = remove_in_reverse(kernel, batch);
    batch.clear();
    failures
}

/// Removes resources in reverse, but for what an interface among them takes along.
fn remove_in_reverse(kernel: &mut dyn Kernel, steps: &[(Place, &Resource)]) -> Vec<Error> {
    let ends: Vec<_> = steps.iter().flat_map(|(place, resource)| link_ends(*place, resource)).collect();
    let removals: Vec<_> =
        steps.iter().rev().filter(|(place, resource)| !goes_with(&ends, *place, resource)).collect();
    removals
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|run| match run.first() {
            Some((place, _)) => {
                kernel.remove(*place, &run.iter().map(|(_, resource)| *resource).collect::<Vec<_>>())
            }
            None => Vec::new(),
        })
        .filter_map(Result::err)
        .collect()
}

/// Whether something goes along with one of the interfaces.
fn goes_with(ends: &[(Place, LinkName)], place: Place, resource: &Resource) -> bool {
    resource.carrier().is_some_and(|name| ends.iter().any(|(p, link)| *p == place && link.as_str() == name))
}

/// The interfaces that a link consists of, and where they are.
fn link_ends(place: Place, resource: &Resource) -> Vec<(Place, LinkName)> {
    let link = match resource {
        Resource::Link(link) => link,
        Resource::MovedLink(moved) => return vec![(place, moved.name.clone())],
        _ => return Vec::new(),
    };
    link.ends(place).map(|(place, name)| (place, name.clone())).collect()
}

/// A plan that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyError {
    /// What went wrong.
    pub cause: Error,
    /// What could not be undone afterwards; empty if the kernel is as it was.
    pub left: Vec<Error>,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        for left in &self.left {
            write!(f, "; and it could not be undone: {left}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl Difference {
    /// Whether the thing is not there at all.
    pub fn is_missing(&self) -> bool {
        self.deviation == Deviation::Missing
    }
}
