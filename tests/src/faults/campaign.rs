//! All rounds of a scenario.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::thread;

use nix::errno::Errno;
use serde_json::{Value, json};

use super::refusal::REFUSALS;
use super::scenario::Scenario;
use super::tracer::{Arrival, Fault, Kind, Tracer};
use super::ward::{Round, Verb, Ward};
use crate::call::Implementation;

/// Which faults happen where.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Only these errors, where they fit.
    pub errnos: Option<Vec<Errno>>,
    /// How many of the errors that fit a point, or a request there, are tried.
    pub errors_per_point: usize,
    /// What kinds of things happen.
    pub kinds: Vec<Kind>,
    /// How processes die.
    pub kills: Vec<Fault>,
    /// The points' numbers, from 1.
    pub points: RangeInclusive<usize>,
    /// Only every n-th fault.
    pub step: usize,
    /// How many nodes there are at once.
    pub jobs: usize,
}

/// What rounds came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The points where something happened.
    pub points: usize,
    /// Rounds in which it happened.
    pub rounds: usize,
    /// Calls that failed, or were killed.
    pub failed: usize,
    /// Of those, calls that said so well; a call that was killed cannot.
    pub reported: usize,
    /// Rounds with something left by a failed ADD, or by a DEL or GC that said it was done.
    pub before: usize,
    /// Rounds with something left after the clean-up.
    pub after: usize,
    /// Of those, rounds after which another pod's state was different.
    pub others: usize,
    /// Rounds in which a success was none by the plugin's own CHECK, or a clean-up or a repetition failed.
    pub troubles: usize,
    /// Calls that did not end.
    pub hung: usize,
}

impl Default for Campaign {
    /// Everything, everywhere.
    fn default() -> Self {
        Self {
            errnos: None,
            errors_per_point: usize::MAX,
            kinds: Kind::ALL.to_vec(),
            kills: Fault::KILLS.to_vec(),
            points: 1..=usize::MAX,
            step: 1,
            jobs: thread::available_parallelism().map_or(1, Into::into),
        }
    }
}

impl Campaign {
    /// Everything that can happen to one verb of a scenario: a tally for each of [`Kind::ALL`]. Tells of each round that was
    /// not clean.
    pub fn run(
        &self,
        scenario: &Scenario,
        plugins: &Implementation,
        verb: Verb,
        tell: &(dyn Fn(usize, Fault, &Round) + Sync),
    ) -> [Tally; 3] {
        let mut ward = Ward::new(scenario, plugins);
        let (counted, census) = ward.census(verb);
        if !counted.is_clean() {
            // Without a fault: there is nothing to be learned from faults.
            tell(0, Fault::KILLS[0], &counted);
        }
        let faults = Mutex::new(self.faults(&census).into_iter());
        let tallies = Mutex::new(<[Tally; 3]>::default());
        let work = |mut ward: Ward| {
            loop {
                let Some((number, fault)) = faults.lock().unwrap().next() else { return };
                let killing = fault.kind() == Kind::Death;
                let round = ward.round(verb, &mut Tracer::at(number, fault), killing);
                if round.hit.is_some() {
                    tallies.lock().unwrap()[fault.kind() as usize].add(number, &round);
                    if !round.is_clean() {
                        tell(number + 1, fault, &round);
                    }
                }
                if !round.leaves_the_node() {
                    ward = Ward::new(scenario, plugins);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.jobs {
                scope.spawn(|| work(Ward::new(scenario, plugins)));
            }
            work(ward);
        });
        tallies.into_inner().unwrap()
    }

    /// Each fault with the number of its point, from 0.
    fn faults(&self, census: &[Arrival]) -> Vec<(usize, Fault)> {
        let chosen = |errnos: &'static [Errno]| {
            let fits = |errno: &&Errno| self.errnos.as_ref().is_none_or(|only| only.contains(errno));
            errnos.iter().filter(fits).take(self.errors_per_point).copied().collect::<Vec<_>>()
        };
        let mut faults = Vec::new();
        for (number, arrival) in
            census.iter().enumerate().filter(|(number, _)| self.points.contains(&(number + 1)))
        {
            let errors = chosen(arrival.point.errnos).into_iter().map(Fault::Fail);
            let refusals = (0..arrival.requests).flat_map(|request| {
                chosen(REFUSALS).into_iter().map(move |errno| Fault::Refuse { request, errno })
            });
            let all = errors.chain(refusals).chain(self.kills.iter().copied());
            faults.extend(all.map(|fault| (number, fault)));
        }
        let wanted = faults.into_iter().filter(|(_, fault)| self.kinds.contains(&fault.kind()));
        wanted.step_by(self.step).collect()
    }
}

/// Whether a difference is about what another pod has: in its namespace, or something that was on the node before.
fn is_anothers(difference: &str) -> bool {
    let on_the_node =
        ["/host/", "/files/", "/tuning/", "/served/"].iter().any(|place| difference.starts_with(place));
    let gone = difference.ends_with(", ours null") || difference.contains(": only theirs: ");
    difference.starts_with("/stays/") || (on_the_node && gone)
}

impl Tally {
    fn add(&mut self, number: usize, round: &Round) {
        self.points = self.points.max(number + 1);
        self.rounds += 1;
        self.failed += usize::from(round.failed);
        self.reported += usize::from(round.failed && round.reported);
        self.before += usize::from(!round.before.is_empty());
        self.after += usize::from(!round.after.is_empty());
        self.others += usize::from(round.after.iter().any(|line| is_anothers(line)));
        self.troubles += usize::from(!round.troubles.is_empty());
        self.hung += usize::from(round.hung);
    }

    /// The tally for programs.
    pub fn json(&self) -> Value {
        json!({
            "points": self.points, "rounds": self.rounds, "failed": self.failed, "reported": self.reported,
            "leftBefore": self.before, "leftAfter": self.after, "othersTouched": self.others,
            "troubles": self.troubles, "hung": self.hung,
        })
    }
}
