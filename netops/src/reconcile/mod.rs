//! Bringing the kernel to a plan, again and again: what is missing is made, what differs is changed, what was ours and is not
//! wanted any more is removed, and the rest is left alone.
//!
//! ```text
//! Plan ─┬─ fixtures    links, addresses, settings, rules … ── Facts ──▶ made or corrected, one by one
//!       └─ objects     next hops, neighbours, FDB entries, routes: by the thousand
//!                        seen (one dump of each, or what was seen last time) ─ difference ─▶ Kernel::edit
//! ```
//!
//! Order keeps packets flowing: a next hop is there before its neighbour, and both before the routes that take it; what is
//! stale goes last, the routes first. Nothing is ever flushed.

mod fixtures;
mod objects;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use crate::error::{Errno, Error};
use crate::kernel::{Edit, Kernel};
use crate::name::LinkName;
use crate::place::Place;
use crate::plan::{Plan, Step};
use crate::resource::{Resource, RouteTarget};
use crate::watching::Change;

use objects::{Key, Seen};

/// What is ours in a namespace, so that it may be changed and removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The number that our routes, next hops and neighbours carry (`rtm_protocol`, `nh_protocol`, `NDA_PROTOCOL`). What
    /// carries another is never touched.
    pub protocol: u8,
    /// The numbers among which our next hops are.
    pub next_hops: RangeInclusive<u32>,
    /// Our tunnels: every FDB entry of theirs is ours, since the kernel does not remember who made one, and so is how they are
    /// made: one of another network, port or address is made anew.
    pub links: Vec<LinkName>,
    /// The routing tables that our routes are in.
    pub tables: Vec<u32>,
}

impl Plan {
    /// Brings the kernel to this plan, and removes what is ours and not in it. Whose a step is makes no difference, but that
    /// the MTU of a shared link is its maker's. A second time, nothing is written.
    ///
    /// Next hops, neighbours, FDB entries and routes of the host that carry the scope's number are compared with all that
    /// there are; other steps by themselves, and what they made is not removed when they are gone.
    ///
    /// # Errors
    /// When the kernel cannot be asked what there is. What cannot be done is in [`Reconciled::failures`], and everything else
    /// is done nevertheless.
    pub fn reconcile(&self, kernel: &mut dyn Kernel, scope: &Scope) -> Result<Reconciled, Error> {
        Reconciler::new(scope.clone()).reconcile(self, kernel)
    }
}

/// What came of bringing the kernel to a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// How many things were missing.
    pub made: usize,
    /// How many were other than wanted.
    pub changed: usize,
    /// How many were ours and not wanted any more.
    pub removed: usize,
    /// What was done, for a log: the first [`Self::MOST_LINES`] of it.
    pub log: Vec<String>,
    /// What could not be done. A [`Error::Conflict`] is somebody else's thing in the place of ours; it was left alone.
    pub failures: Vec<Error>,
}

impl Reconciled {
    /// How many lines the log has at most.
    pub const MOST_LINES: usize = 64;

    /// Whether all was as wanted: nothing was done, and nothing remains to be done.
    pub fn is_unchanged(&self) -> bool {
        self.done() == 0 && self.failures.is_empty()
    }

    /// How many things were made, changed or removed.
    pub fn done(&self) -> usize {
        self.made + self.changed + self.removed
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.log.len() < Self::MOST_LINES {
            self.log.push(line());
        }
    }
}

/// Brings the kernel to one plan after another, and remembers what it has seen and done of next hops, neighbours, FDB entries
/// and routes: for one changed machine among thousands it writes a few messages and asks for no list.
///
/// What others do to them in the meantime it does not see by itself. Whoever [watches](crate::Watch) the kernel tells it
/// ([`Reconciler::notice`]), and whoever wishes to make sure from time to time has it [forget](Reconciler::forget).
#[derive(Debug)]
pub struct Reconciler {
    scope: Scope,
    seen: Option<Seen>,
}

impl Reconciler {
    /// One that has seen nothing yet.
    pub fn new(scope: Scope) -> Self {
        Self { scope, seen: None }
    }

    /// What is ours.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What there is has to be looked at again.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Hears of a change that was not our own doing. Whether what is ours may be otherwise than it was seen to be: then it is
    /// forgotten, and it is time to reconcile.
    pub fn notice(&mut self, change: &Change) -> bool {
        let matters = self.seen.as_ref().is_none_or(|seen| seen.is_doubted_by(&self.scope, change));
        if matters {
            self.forget();
        }
        matters
    }

    /// As [`Plan::reconcile`].
    ///
    /// # Errors
    /// As [`Plan::reconcile`].
    pub fn reconcile(&mut self, plan: &Plan, kernel: &mut dyn Kernel) -> Result<Reconciled, Error> {
        let mut outcome = Reconciled::default();
        let (objects, fixtures): (Vec<_>, Vec<_>) =
            plan.steps().iter().partition(|step| self.is_object(step));
        if fixtures::reconcile(kernel, &self.scope, &fixtures, &mut outcome)? {
            // With a link much has come and gone.
            self.forget();
        }
        let wanted = Wanted::of(&objects, &mut outcome);
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => Seen::read(kernel, &self.scope, &wanted.links())?,
        };
        let mut work = Work { kernel, scope: &self.scope, seen, outcome, gone: HashSet::new() };
        work.bring_about(&wanted)?;
        work.remove_stale(&wanted);
        let Work { mut seen, outcome, .. } = work;
        // Where plain routes have followed tunnels, most of it has gone.
        seen.ours.shrink_to_fit();
        // What was refused may be otherwise than it was thought to be.
        self.seen = outcome.failures.is_empty().then_some(seen);
        Ok(outcome)
    }

    /// Whether a step is about one of the things that are ours by the thousand.
    fn is_object(&self, step: &Step) -> bool {
        step.place == Place::Host && self.scope.has(&step.resource)
    }
}

impl Scope {
    /// Whether something is, or would be, ours by its number.
    fn has(&self, resource: &Resource) -> bool {
        match resource {
            Resource::NextHop(hop) => hop.protocol == self.protocol && self.next_hops.contains(&hop.id),
            Resource::Neighbour(neighbour) => neighbour.protocol == self.protocol,
            Resource::Proxy(proxy) => proxy.protocol == self.protocol,
            Resource::Fdb(entry) => self.links.contains(&entry.link),
            Resource::Route(route) => {
                route.protocol() == self.protocol && self.tables.contains(&route.table())
            }
            _ => false,
        }
    }
}

/// What there is to be, by what it is found by.
struct Wanted<'a> {
    objects: HashMap<Key, &'a Resource>,
    /// In the plan's order.
    keys: Vec<Key>,
}

impl<'a> Wanted<'a> {
    fn of(steps: &[&'a Step], outcome: &mut Reconciled) -> Self {
        let mut wanted = Self { objects: HashMap::with_capacity(steps.len()), keys: Vec::new() };
        for step in steps {
            let Some(key) = Key::of(&step.resource) else { continue };
            if let Some(other) = wanted.objects.get(&key) {
                if !objects::is_same(other, &step.resource) {
                    outcome.failures.push(Error::Conflict {
                        object: step.resource.to_string(),
                        place: Place::Host,
                        found: "another one in the same plan".to_owned(),
                    });
                }
                continue;
            }
            wanted.objects.insert(key.clone(), &step.resource);
            wanted.keys.push(key);
        }
        wanted
    }

    /// The links that have neighbours.
    fn links(&self) -> Vec<&LinkName> {
        let mut links: Vec<_> = self
            .objects
            .values()
            .filter_map(|resource| match resource {
                Resource::Neighbour(neighbour) => Some(&neighbour.link),
                _ => None,
            })
            .collect();
        links.sort();
        links.dedup();
        links
    }
}

/// Bringing about what is wanted, and what has come of it so far.
struct Work<'a> {
    kernel: &'a mut dyn Kernel,
    scope: &'a Scope,
    seen: Seen,
    outcome: Reconciled,
    /// Next hops that were removed in the present batch: their routes went with them.
    gone: HashSet<u32>,
}

impl Work<'_> {
    fn bring_about(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        for rank in Key::RANKS {
            let keys: Vec<_> = wanted.keys.iter().filter(|key| key.rank() == rank).collect();
            let mut edits = Vec::new();
            for key in keys {
                let Some(resource) = wanted.objects.get(key) else { continue };
                match self.seen.ours.get(key) {
                    Some(actual) if objects::is_same(actual, resource) => {}
                    Some(_) => edits.push((key, Edit::Replace(resource))),
                    None if self.seen.gives_way(key) => edits.push((key, Edit::Replace(resource))),
                    None => edits.push((key, Edit::Make(resource))),
                }
            }
            self.spare_others(&mut edits)?;
            self.apply(&edits);
        }
        Ok(())
    }

    /// Takes routes out of what is to be replaced whose place somebody else's is in too: the kernel would replace the first
    /// of the two, whoever's that is (`fib_table_insert()`).
    fn spare_others(&mut self, edits: &mut Vec<(&Key, Edit<'_>)>) -> Result<(), Error> {
        let replaces = |(key, edit): &(&Key, Edit<'_>)| match (key, edit) {
            (Key::Route { table, .. }, Edit::Replace(_)) => Some(*table),
            _ => None,
        };
        let mut tables: Vec<_> = edits.iter().filter_map(replaces).collect();
        tables.sort_unstable();
        tables.dedup();
        if tables.is_empty() {
            return Ok(());
        }
        let others = objects::routes_of_others(self.kernel, self.scope, &tables)?;
        let (spared, left): (Vec<_>, Vec<_>) =
            edits.drain(..).partition(|edit| replaces(edit).is_some() && others.contains(edit.0));
        *edits = left;
        self.outcome.failures.extend(spared.iter().map(|(_, edit)| conflict(edit.resource())));
        Ok(())
    }

    fn apply(&mut self, edits: &[(&Key, Edit<'_>)]) {
        let requests: Vec<_> = edits.iter().map(|(_, edit)| *edit).collect();
        let results = if requests.is_empty() { Vec::new() } else { self.kernel.edit(Place::Host, &requests) };
        for ((key, edit), result) in edits.iter().zip(results) {
            match (edit, result) {
                (_, Ok(())) => self.done(key, *edit),
                (Edit::Make(resource), Err(error)) if error.errno() == Some(Errno::EEXIST) => {
                    self.outcome.failures.push(conflict(resource));
                }
                (Edit::Replace(resource @ Resource::NextHop(_)), Err(error)) if error.errno().is_some() => {
                    self.make_anew(key, resource, error);
                }
                (_, Err(error)) => self.outcome.failures.push(error),
            }
        }
        let gone = std::mem::take(&mut self.gone);
        self.seen.forget_routes_by(&gone);
    }

    /// A next hop that cannot be made another: one for IPv6 routes cannot become one of IPv4. It is removed and made, and its
    /// routes, which go with it, are made again in their turn.
    fn make_anew(&mut self, key: &Key, resource: &Resource, error: Error) {
        let Some(before) = self.seen.ours.get(key).cloned() else { return self.outcome.failures.push(error) };
        let edits = [Edit::Remove(&before), Edit::Make(resource)];
        match self.kernel.edit(Place::Host, &edits).into_iter().find_map(Result::err) {
            None => {
                if let Resource::NextHop(hop) = resource {
                    self.gone.insert(hop.id);
                }
                self.done(key, Edit::Replace(resource));
            }
            Some(_) => self.outcome.failures.push(error),
        }
    }

    /// Removes what is ours and not wanted: routes first, next hops last.
    fn remove_stale(&mut self, wanted: &Wanted<'_>) {
        for rank in Key::RANKS.into_iter().rev() {
            let stale = |key: &&Key| key.rank() == rank && !wanted.objects.contains_key(*key);
            let mut keys: Vec<_> = self.seen.ours.keys().filter(stale).cloned().collect();
            keys.sort();
            let mut resources: Vec<_> =
                keys.iter().filter_map(|key| Some((key, (**self.seen.ours.get(key)?).clone()))).collect();
            let surplus = std::mem::take(&mut self.seen.surplus);
            let (now, later): (Vec<_>, Vec<_>) = surplus.into_iter().partition(|(key, _)| key.rank() == rank);
            self.seen.surplus = later;
            resources.extend(now.iter().map(|(key, resource)| (key, resource.clone())));
            let edits: Vec<_> =
                resources.iter().map(|(key, resource)| (*key, Edit::Remove(resource))).collect();
            self.apply(&edits);
        }
    }

    fn done(&mut self, key: &Key, edit: Edit<'_>) {
        let resource = edit.resource();
        match edit {
            Edit::Remove(_) => {
                self.outcome.removed += 1;
                self.outcome.note(|| format!("{resource} was not wanted any more"));
                self.seen.ours.remove(key);
                if let Resource::NextHop(hop) = resource {
                    self.gone.insert(hop.id);
                }
                return;
            }
            Edit::Replace(_) if self.seen.ours.contains_key(key) => {
                self.outcome.changed += 1;
                let before = self.seen.ours.get(key).map(|ours| objects::substance(ours)).unwrap_or_default();
                self.outcome.note(|| {
                    format!(
                        "{} was {before}, not {}",
                        objects::subject(resource),
                        objects::substance(resource)
                    )
                });
            }
            Edit::Make(_) | Edit::Replace(_) => {
                self.outcome.made += 1;
                self.outcome.note(|| format!("{resource} was missing"));
            }
        }
        self.seen.ours.insert(key.clone(), Box::new(resource.clone()));
    }
}

fn conflict(resource: &Resource) -> Error {
    let found = match resource {
        Resource::Route(route) => format!("another program's route with metric {}", route.metric()),
        _ => "another program's".to_owned(),
    };
    Error::Conflict { object: resource.to_string(), place: Place::Host, found }
}

impl Seen {
    /// Next hops are gone, and their routes with them.
    fn forget_routes_by(&mut self, gone: &HashSet<u32>) {
        if gone.is_empty() {
            return;
        }
        let by_one = |resource: &Resource| match resource {
            Resource::Route(route) => matches!(route.target, RouteTarget::NextHop(id) if gone.contains(&id)),
            _ => false,
        };
        self.ours.retain(|_, resource| !by_one(resource));
        self.surplus.retain(|(_, resource)| !by_one(resource));
    }
}
