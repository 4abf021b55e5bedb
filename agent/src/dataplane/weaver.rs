//! The kernel's half: what it holds is looked at, and brought to what it must hold.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use netops::{Change, Error, Kernel, LinuxKernel, Plan, Reconciled, Reconciler, Resource};
use overlay::fabric::{self, Facts, Settings};
use overlay::path::{Reach, Resumed};
use overlay::report::{Problem, Severity};
use overlay::{Node, NodeId, Topology, Underlay, View};

use super::HERE;
use super::observe::Observed;
use super::resume::Kept;
use crate::log;

/// How long what the agent before has made for nodes that are not known yet is kept.
const KEPT: Duration = Duration::from_secs(60);
/// How many refusals are told one by one.
const TOLD: usize = 5;

pub(super) struct Weaver {
    settings: Settings,
    kernel: LinuxKernel,
    port: u32,
    reconciler: Reconciler,
    observed: Observed,
    kept: Option<Kept>,
    /// When that is over, counted from when the store has told of somebody first.
    kept_until: Option<Instant>,
    problems: Vec<Problem>,
    succeeded: bool,
    /// The last plan's hash: of many nodes it takes more memory than anything else here.
    plan: u64,
}

/// What came of it.
pub(super) struct Woven {
    /// What was known before, the kernel did not hold.
    pub(super) repaired: bool,
    /// Something was refused, and must be tried again.
    pub(super) refused: bool,
    /// When it is time for another look at what is known, whatever happens.
    pub(super) again: Option<Instant>,
    /// The number by which the kernel knows our changes, if it is another than before.
    pub(super) port: Option<u32>,
}

impl Weaver {
    pub(super) fn open(settings: Settings) -> Result<Self, Error> {
        let mut kernel = LinuxKernel::new(None);
        let (_, scope) = fabric::unweave(&settings);
        let kept = Kept::read(&mut kernel, &scope)?;
        Ok(Self {
            port: kernel.port(HERE)?,
            settings,
            kernel,
            reconciler: Reconciler::new(scope),
            observed: Observed::default(),
            kept: Some(kept),
            kept_until: None,
            problems: Vec::new(),
            succeeded: false,
            plan: hash(&Plan::new()),
        })
    }

    /// The number by which the kernel knows our changes.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// How peers were reached when the agent began.
    pub(super) fn resumed(&self) -> BTreeMap<u32, Resumed> {
        self.kept.as_ref().map(|kept| kept.resumed(self.reconciler.scope())).unwrap_or_default()
    }

    pub(super) fn underlay(&self) -> &Underlay {
        &self.observed.underlay
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The kernel was brought to what it must hold at least once, as far as it lets.
    pub(super) fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    /// What was seen of the kernel is to be looked at again.
    pub(super) fn forget(&mut self) {
        self.reconciler.forget();
    }

    /// Whether what is not ours has changed, or something of ours that there is one of, and that is looked at each time.
    pub(super) fn is_touched_by(&mut self, change: &Change) -> bool {
        // That it is noticed is due also if it is both.
        let ours = self.reconciler.notice(change);
        let touched = match change {
            Change::Rule { table, .. } => {
                table.is_some_and(|table| self.reconciler.scope().tables.contains(&table))
            }
            _ => self.observed.is_touched_by(change, &self.settings),
        };
        touched || (ours && matches!(change, Change::Link { .. }))
    }

    /// Whether what is ours has changed.
    pub(super) fn notice(&mut self, change: &Change) -> bool {
        self.reconciler.notice(change)
    }

    /// Looks at what else the kernel holds: at everything, or at the ways to addresses that are new.
    pub(super) fn observe(&mut self, own: &Node, topology: &Topology, everything: bool) -> Result<(), Error> {
        let Self { observed, kernel, settings, .. } = self;
        if everything {
            observed.look(kernel, settings, own, topology)
        } else {
            observed.look_up_new(kernel, settings, own, topology)
        }
    }

    /// Brings the kernel to what it must hold.
    pub(super) fn weave(
        &mut self,
        own: &Node,
        view: &View,
        reaches: &BTreeMap<NodeId, Reach>,
        now: Instant,
    ) -> Woven {
        let mut fabric = fabric::weave(&Facts {
            settings: &self.settings,
            own,
            topology: &view.topology,
            reaches,
            underlay: &self.observed.underlay,
            host: &self.observed.host,
        });
        self.keep(&mut fabric.plan, view, now);
        if !view.subnets.is_empty() {
            self.remove_stale(&fabric.stale);
        }
        self.problems = fabric.problems;
        let plan = hash(&fabric.plan);
        let known = plan == std::mem::replace(&mut self.plan, plan);
        let mut repaired = false;
        let refused = match self.reconciler.reconcile(&fabric.plan, &mut self.kernel) {
            Ok(done) => {
                repaired = known && done.done() > 0;
                say(&done);
                self.problems.extend(done.failures.iter().take(TOLD).map(of_refusal));
                // What is in the way of one peer's routes is told, and no reason to be without all others.
                self.succeeded = true;
                !done.failures.is_empty()
            }
            Err(error) => {
                self.problems.push(of_refusal(&error));
                true
            }
        };
        let port = self.kernel.port(HERE).ok().filter(|port| *port != self.port);
        self.port = port.unwrap_or(self.port);
        // While the store is cut off, it is not over at its end.
        let again =
            self.kept.as_ref().and(self.kept_until).map(|until| until.max(now + Duration::from_secs(1)));
        Woven { repaired, refused, again, port }
    }

    /// Until everybody can be known again, nobody is cut off.
    fn keep(&mut self, plan: &mut Plan, view: &View, now: Instant) {
        let until = *self.kept_until.get_or_insert(now + KEPT);
        if now >= until && view.cut_off.is_none() {
            self.kept = None;
        }
        if let Some(kept) = &self.kept {
            kept.add_to(plan);
        }
    }

    /// Addresses of the bridge. One without a prefix leads nothing away, and may be the gateway of pods that are not known
    /// yet.
    fn remove_stale(&mut self, stale: &[Resource]) {
        let leads_away = |resource: &&Resource| matches!(resource, Resource::Address(a) if a.net.prefix_len() < a.net.max_prefix_len());
        let early = self.kept.is_some();
        for resource in stale.iter().filter(|resource| !early || leads_away(resource)) {
            match self.kernel.remove(HERE, &[resource]).into_iter().next() {
                Some(Err(error)) => log::error(error),
                _ => log::info(format_args!("{resource} is of a subnet that is not held any more: removed")),
            }
        }
    }
}

pub(super) fn remove_all(kernel: &mut LinuxKernel, settings: &Settings) -> Result<usize, String> {
    let (nothing, scope) = fabric::unweave(settings);
    let mut reconciler = Reconciler::new(scope);
    let done = reconciler.reconcile(&nothing, kernel).map_err(|error| error.to_string())?;
    let rest = fabric::ground_left(settings);
    let rest: Vec<&Resource> = rest.iter().collect();
    let removed = kernel.remove(HERE, &rest);
    let gone = removed.iter().filter(|result| matches!(result, Ok(netops::Removed::Now))).count();
    let refused = removed.into_iter().filter_map(Result::err).chain(done.failures);
    let refused: Vec<String> = refused.map(|error| error.to_string()).collect();
    if refused.is_empty() { Ok(done.removed + gone) } else { Err(refused.join("; ")) }
}

fn hash(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    plan.hash(&mut hasher);
    hasher.finish()
}

fn say(done: &Reconciled) {
    let Reconciled { made, changed, removed, log: lines, failures } = done;
    if done.done() > 0 {
        let first = lines.first().map(String::as_str).unwrap_or_default();
        log::info(format_args!("kernel: {made} made, {changed} changed, {removed} removed: {first}"));
        for line in lines.iter().skip(1) {
            log::debug(|| format!("kernel: {line}"));
        }
    }
    for failure in failures.iter().take(TOLD) {
        log::error(failure);
    }
}

fn of_refusal(error: &Error) -> Problem {
    Problem {
        severity: Severity::Error,
        what: format!("the kernel does not hold what it must: {error}"),
        advice: "what is in the way must go; the agent tries again every few seconds".to_owned(),
    }
}
