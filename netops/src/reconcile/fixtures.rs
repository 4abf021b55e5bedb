//! What there is one of: links, addresses, settings, rules. Looked up in one batch, and made or corrected one by one.

use super::{Reconciled, Scope};
use crate::error::{Error, Operation};
use crate::facts::{Deviation, Difference, Facts};
use crate::kernel::{Created, Edit, Kernel, LinkState};
use crate::place::Place;
use crate::plan::{Ownership, Step};
use crate::resource::{Link, LinkSettings, Master, Resource};

/// Brings about what the steps say. Whether a link was made, with which much else comes and goes.
pub(super) fn reconcile(
    kernel: &mut dyn Kernel,
    scope: &Scope,
    steps: &[&Step],
    outcome: &mut Reconciled,
) -> Result<bool, Error> {
    let mut facts = Facts::read(kernel, steps.iter().copied())?;
    let mut made_links = false;
    for (number, step) in steps.iter().enumerate() {
        // Whether an address is a bridge's own cannot be seen later on: it is made so when the bridge is made.
        let only_at_first = matches!(step.resource, Resource::FixedMac(_));
        let differences = facts.differences(step);
        if differences.is_empty() || (only_at_first && !made_links) {
            continue;
        }
        match correct(kernel, scope, step, &facts, &differences) {
            Ok(what) => {
                what.note(step, &differences, outcome);
                if let (Resource::Link(_), Correction::Made | Correction::Changed) = (&step.resource, what) {
                    made_links = true;
                    // What was on it is gone, and what is to be on it was not there before.
                    let rest = steps.get(number + 1..).unwrap_or_default();
                    facts = Facts::read(kernel, rest.iter().copied())?;
                }
            }
            Err(error) => outcome.failures.push(error),
        }
    }
    Ok(made_links)
}

/// What was done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Correction {
    Made,
    Changed,
    /// It turned out to be as wanted, or as near to it as can be.
    None,
}

impl Correction {
    fn note(self, step: &Step, differences: &[Difference], outcome: &mut Reconciled) {
        match self {
            Self::Made => outcome.made += 1,
            Self::Changed => outcome.changed += 1,
            Self::None => return,
        }
        for difference in differences {
            outcome.note(|| match &difference.deviation {
                Deviation::Missing => format!("{} was missing", step.resource),
                Deviation::Wrong { what, wanted, actual } => {
                    format!("{}: {what} was {actual}, not {wanted}", step.resource)
                }
            });
        }
    }
}

fn correct(
    kernel: &mut dyn Kernel,
    scope: &Scope,
    step: &Step,
    facts: &Facts,
    differences: &[Difference],
) -> Result<Correction, Error> {
    let Step { place, resource, .. } = step;
    let missing = differences.iter().any(Difference::is_missing);
    match resource {
        Resource::Link(link) if !missing => {
            let Some(actual) = facts.link(*place, &link.name) else { return Ok(Correction::None) };
            correct_link(kernel, scope, step, link, actual, differences)
        }
        // In its place there is something else, and which of the two is to be is not ours to say.
        Resource::Route(_) | Resource::NextHop(_) | Resource::Rule(_) if !missing => {
            Err(conflict(step, differences))
        }
        // These are not changed, but made.
        Resource::Entry(_) | Resource::Qdisc(_) | Resource::Redirect(_) if !missing => {
            remove(kernel, *place, resource)?;
            create(kernel, *place, resource)?;
            Ok(Correction::Changed)
        }
        Resource::Neighbour(_) | Resource::Proxy(_) | Resource::Fdb(_) => {
            let edit = [Edit::Replace(resource)];
            kernel.edit(*place, &edit).into_iter().collect::<Result<Vec<()>, _>>()?;
            Ok(if missing { Correction::Made } else { Correction::Changed })
        }
        _ => create(kernel, *place, resource),
    }
}

/// A link that is there is given what it lacks. One of another kind is somebody else's; a tunnel of ours that leads elsewhere
/// is made anew.
fn correct_link(
    kernel: &mut dyn Kernel,
    scope: &Scope,
    step: &Step,
    link: &Link,
    actual: &LinkState,
    differences: &[Difference],
) -> Result<Correction, Error> {
    let place = step.place;
    if actual.kind != link.kind.name() {
        let found = if actual.kind.is_empty() {
            "an interface that is not virtual".to_owned()
        } else {
            format!("a {}", actual.kind)
        };
        return Err(Error::Conflict { object: step.resource.to_string(), place, found });
    }
    let wanted = link.kind.properties();
    let is_wrong =
        |(what, value): &(&str, String)| !actual.properties.iter().any(|p| p == &(*what, value.clone()));
    if let Some((what, value)) = wanted.iter().find(|property| is_wrong(property)) {
        if place != Place::Host || !scope.links.contains(&link.name) {
            let found = format!("one whose {what} is not {value}");
            return Err(Error::Conflict { object: step.resource.to_string(), place, found });
        }
        remove(kernel, place, &step.resource)?;
        create(kernel, place, &step.resource)?;
        return Ok(Correction::Changed);
    }
    let mut settings = LinkSettings::none(link.name.clone());
    settings.mac = link.mac.filter(|mac| actual.mac != Some(*mac));
    settings.mtu = link.mtu.filter(|mtu| step.ownership == Ownership::Own && actual.mtu != *mtu);
    let master = link.master.clone().map(|master| Master { link: link.name.clone(), master });
    let lacks = [
        (!settings.is_none()).then_some(Resource::Settings(settings)),
        master.map(Resource::Master),
        (link.up && !actual.up).then(|| Resource::LinkUp(link.name.clone())),
    ];
    let mut done = Correction::None;
    for resource in lacks.into_iter().flatten() {
        if create(kernel, place, &resource)? != Correction::None {
            done = Correction::Changed;
        }
    }
    // What is left, as what it is on, cannot be given to a link that is there.
    if done == Correction::None { Err(conflict(step, differences)) } else { Ok(done) }
}

fn create(kernel: &mut dyn Kernel, place: Place, resource: &Resource) -> Result<Correction, Error> {
    let nothing = || Error::Garbled {
        operation: Operation::Create,
        reason: format!("nothing was done about {resource}"),
    };
    match kernel.create(place, &[resource]).into_iter().next().ok_or_else(nothing)?? {
        Created::New => Ok(Correction::Made),
        Created::Changed(_) => Ok(Correction::Changed),
        Created::Kept => Ok(Correction::None),
    }
}

fn remove(kernel: &mut dyn Kernel, place: Place, resource: &Resource) -> Result<(), Error> {
    kernel.remove(place, &[resource]).into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

fn conflict(step: &Step, differences: &[Difference]) -> Error {
    let found = differences.iter().filter_map(|difference| match &difference.deviation {
        Deviation::Wrong { what, actual, .. } => Some(format!("one whose {what} is {actual}")),
        Deviation::Missing => None,
    });
    let found = found.collect::<Vec<_>>().join(" and ");
    Error::Conflict { object: step.resource.to_string(), place: step.place, found }
}
