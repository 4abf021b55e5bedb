//! A plan: what must exist, in order, and where.

use crate::name::LinkName;
use crate::place::Place;
use crate::resource::Resource;

/// Whose a step's resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// The plan's alone: made by it, gone with it. That it exists already is an error.
    Own,
    /// Many plans': made by whoever comes first, then left alone. It is looked up first, and stays when a plan is removed.
    Shared,
}

/// One resource of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Where it must exist.
    pub place: Place,
    /// Whose it is.
    pub ownership: Ownership,
    /// What must exist.
    pub resource: Resource,
}

impl Step {
    /// The interfaces that a link of the plan's own consists of, the bridge that it is plugged into last.
    pub fn links(&self) -> impl Iterator<Item = (Place, &LinkName)> {
        let link = match &self.resource {
            Resource::Link(link) if self.ownership == Ownership::Own => Some(link),
            _ => None,
        };
        let moved = match &self.resource {
            Resource::MovedLink(moved) => Some((self.place, &moved.name)),
            _ => None,
        };
        let ends = link.into_iter().flat_map(|link| link.ends(self.place)).chain(moved);
        ends.chain(link.and_then(|link| Some((self.place, link.master.as_ref()?))))
    }
}

/// What must exist, in the order in which it can be made; removed in reverse.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// A plan of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what this plan alone makes.
    pub fn own(&mut self, place: Place, resource: Resource) -> &mut Self {
        self.steps.push(Step { place, ownership: Ownership::Own, resource });
        self
    }

    /// Adds what many plans share.
    pub fn share(&mut self, place: Place, resource: Resource) -> &mut Self {
        self.steps.push(Step { place, ownership: Ownership::Shared, resource });
        self
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps that another plan does not have.
    pub fn without(&self, other: &Self) -> Self {
        Self { steps: self.steps.iter().filter(|step| !other.steps.contains(step)).cloned().collect() }
    }

    /// The steps of some kind.
    pub fn only(&self, kind: impl Fn(&Step) -> bool) -> Self {
        Self { steps: self.steps.iter().filter(|step| kind(step)).cloned().collect() }
    }

    /// Appends another plan's steps.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.steps.extend(other.steps);
        self
    }
}
