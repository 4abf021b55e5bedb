//! A node's way to a subnet of its own, where nobody hands them out.
//!
//! ```text
//!            a free prefix, at random          all consent, or nobody objects for a while; it is on disk
//!   nothing ─────────────────────────▶ tentative ────────────────────────────────────────────▶ held
//!      ▲                                   │                                                     │
//!      └──── somebody has it, or wants it ─┘      another holds it, and comes first: for pods    │
//!      ▲      and comes first                     that have addresses of it, lost                │
//!      └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! There is no vote, and no majority that must be there: a node decides by what it has heard. Since its claim was published, all
//! must have been exchanged with some member, so that the node knows who is there and what had been claimed before; and then
//! either all consent, or time has passed.
//!
//! **Consent.** Each live member that the node knows is asked ([`gossip::Gossip::ask`]), also who comes meanwhile. It
//! consents if it holds the claim itself, and knows of nobody else, itself included, who says anything of an overlapping
//! prefix; else it names who does. The member with which all was exchanged must be one that holds a prefix for good: no
//! newcomer, and none that was started a moment ago. Then two nodes do not get one prefix at once. Say that C and D did. All
//! that C's partner knew, C has asked; all that D's knew, D has. The two partners have been there for longer, and know one
//! another, so that both were asked by both. One of them has answered C and D in some order, and kept in mind what it
//! consented to first: as long as the first one still says that it wants the prefix, the second one is refused. (Who is
//! started again forgets. But then it holds nothing for good for a while, which is longer than what C says takes to reach
//! everybody.) It is the same if both have one partner, or if C and D know one another: then each is asked by the other. If D
//! does not hold by consent but by time, it hears in that time that C holds. None of this holds where the partners do not
//! know one another to be alive, which is to say, across a partition: there time would not have helped either. It takes one
//! way to each member and back, and costs as many messages, so that it is for clusters of some size only
//! ([`gossip::Gossip::has_consent`]): time is what counts in larger ones, and where one member does not answer, or has an
//! agent that is too old to understand the question.
//!
//! **Time** in which news go to everybody several times over ([`Settings::wait`]). Where nothing can be exchanged (streams are
//! blocked, datagrams are not), more of it will do. Time in which the node was suspended does not count: it heard nobody. And
//! who knows only of holders that have just come back themselves, such as a seed that is started again, waits until those who
//! were there all the time have found them.
//!
//! So two may hold one prefix, if they could not hear one another for longer than they waited. They find out as soon as they
//! can, and both know who yields: of two that hold a prefix the one with the higher id (ids are random, and no clock can be
//! trusted to say who was first; who has more pods changes while it is decided), but one that was away yields to one that was
//! not. Who yields claims another prefix for new pods; those it has keep their addresses, and are announced one
//! by one ([`Node::stray_addresses`](crate::Node::stray_addresses)).

mod taken;

use std::time::Duration;

use ipnet::IpNet;

use crate::id::NodeId;
use crate::node::{Subnet, SubnetState};
use crate::pool::{Pool, Range};
use gossip::Random;
pub(crate) use taken::{Stake, StakeKind, Taken};

/// Monotonic, since any start.
pub type Time = Duration;

/// How long things take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a node waits for objections, at the least. With more nodes, news take longer: see [`Settings::wait`].
    pub settle: Duration,
    /// How long what a forgotten node held stays unused.
    pub quarantine: Duration,
    /// How long a node must have been down before another may take its subnet, if there are hardly any left.
    pub reclaim_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(1500),
            quarantine: Duration::from_secs(600),
            reclaim_after: Duration::from_secs(24 * 3600),
        }
    }
}

impl Settings {
    /// How long to wait for objections among so many others. What one node says reaches all others in some multiple of the
    /// logarithm of their number; who is alone waits for nobody.
    pub fn wait(&self, others: usize) -> Duration {
        match others {
            0 => Duration::from_millis(100),
            _ => self.settle + Duration::from_millis(250) * others.ilog2(),
        }
    }
}

/// So many times longer waits who cannot exchange all with a member.
const WITHOUT_EXCHANGE: u32 = 4;
/// So many times longer than others object takes it until who comes back has heard of all.
const COMING_BACK: u32 = 4;
/// How often a pool without a free prefix is looked at.
const AGAIN: Duration = Duration::from_secs(5);
/// A pool with less than this part left is short: subnets of nodes that are down for long are taken.
const SHORT: u64 = 10;
/// How many prefixes are tried at random before they are gone through.
const TRIES: usize = 32;
/// How many are gone through.
const SCAN: u64 = 1 << 17;

/// What there is around a node.
pub(crate) struct Around<'a> {
    /// What others say of prefixes.
    pub(crate) taken: &'a Taken,
    /// Whom it knows and hears.
    pub(crate) standing: Standing,
    /// Its pods have addresses of a prefix.
    pub(crate) in_use: &'a dyn Fn(&IpNet) -> bool,
}

/// Whom a node knows and hears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// It knows others, or may be the first.
    pub(crate) admitted: bool,
    /// How many others are alive.
    pub(crate) others: usize,
    /// How many exchanges of everything it has begun.
    pub(crate) exchanges: u64,
    /// Which of them ended last, counted from 1. None where nobody is heard.
    pub(crate) exchanged: Option<u64>,
    /// The same, if it was with a member that holds a prefix for good.
    pub(crate) vouched: Option<u64>,
    /// All others that are alive know what this node says of prefixes, and have nothing against it.
    pub(crate) consented: bool,
    /// It is to have subnets.
    pub(crate) wanted: bool,
}

/// What speaks against a claim.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Objectors {
    /// Something does: somebody, or a prefix has to rest.
    pub(crate) any: bool,
    /// Who.
    pub(crate) nodes: Vec<NodeId>,
}

/// A node's subnets, one of each range.
#[derive(Debug)]
pub(crate) struct Claims {
    own: NodeId,
    settings: Settings,
    random: Random,
    claims: Vec<Claim>,
    lost: Vec<IpNet>,
    /// When it looked around last.
    looked: Time,
}

#[derive(Debug)]
struct Claim {
    range: Range,
    stage: Stage,
    /// There was no free one when it was looked for last.
    exhausted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nothing {
        again: Time,
    },
    /// `exchanges`: how many had been begun when it was published.
    Tentative {
        prefix: IpNet,
        until: Time,
        exchanges: u64,
    },
    Held {
        prefix: IpNet,
        returning: Option<Time>,
    },
}

impl Claims {
    /// With what was held before, by what is on disk.
    pub(crate) fn new(
        own: NodeId,
        pool: &Pool,
        settings: Settings,
        saved: &[Subnet],
        seed: u64,
        now: Time,
    ) -> Self {
        let claim = |range: &Range| {
            let held = saved
                .iter()
                .find(|subnet| subnet.state == SubnetState::Held && range.is_subnet(&subnet.prefix));
            let stage = match held {
                Some(subnet) => Stage::Held {
                    prefix: subnet.prefix,
                    returning: Some(now + settings.settle * COMING_BACK),
                },
                None => Stage::Nothing { again: now },
            };
            Claim { range: *range, stage, exhausted: false }
        };
        let claims: Vec<_> = pool.ranges().iter().map(claim).collect();
        // What was held of another range than today's is still some pods'.
        let is_kept = |prefix: &IpNet| {
            claims
                .iter()
                .any(|claim| matches!(claim.stage, Stage::Held { prefix: kept, .. } if kept == *prefix))
        };
        let lost =
            saved.iter().filter(|subnet| subnet.state != SubnetState::Tentative).map(|subnet| subnet.prefix);
        let lost = lost.filter(|prefix| !is_kept(prefix)).collect();
        Self { own, settings, random: Random::new(seed), claims, lost, looked: now }
    }

    /// Looks around. Whether what it says of prefixes has changed.
    pub(crate) fn step(&mut self, now: Time, around: &Around<'_>) -> bool {
        let before: Vec<Stake> = self.stakes().collect();
        self.looked = now;
        for n in 0..self.claims.len() {
            // A stage may end at once, and the next one with it: a held prefix is lost, another one is chosen.
            for _ in 0..3 {
                let Some(claim) = self.claims.get(n) else { break };
                let (stage, exhausted) = (claim.stage, claim.exhausted);
                let next = self.next(n, now, around);
                let Some(claim) = self.claims.get_mut(n) else { break };
                claim.stage = next;
                if next == stage && claim.exhausted == exhausted {
                    break;
                }
            }
        }
        self.lost.retain(|prefix| (around.in_use)(prefix));
        !self.stakes().eq(before)
    }

    fn next(&mut self, n: usize, now: Time, around: &Around<'_>) -> Stage {
        let Some(&Claim { range, stage, .. }) = self.claims.get(n) else {
            return Stage::Nothing { again: now };
        };
        match stage {
            Stage::Held { .. } if !around.standing.wanted => Stage::Nothing { again: now },
            Stage::Held { prefix, returning } => {
                let kind = if returning.is_some() { StakeKind::Returning } else { StakeKind::Held };
                if around.taken.overlapping(&prefix).any(|(id, stake)| self.yields(kind, id, stake.kind)) {
                    self.lost.push(prefix);
                    return Stage::Nothing { again: now };
                }
                // Who hears of nobody has not heard who else holds it.
                let is_over = |until: &Time| around.standing.admitted && now >= *until;
                Stage::Held { prefix, returning: returning.filter(|until| !is_over(until)) }
            }
            Stage::Tentative { prefix, until, exchanges } => {
                let objects =
                    |(id, stake): (NodeId, Stake)| self.yields(StakeKind::Tentative, id, stake.kind);
                // Whoever vouches holds a prefix for good, so that not all is hearsay. What others say of the prefix to whom
                // this node would not yield, they have to take back first.
                let is_consented = || {
                    around.standing.consented
                        && around.standing.vouched.is_some_and(|last| last > exchanges)
                        && around.taken.overlapping(&prefix).next().is_none()
                };
                let wait = self.settings.wait(around.standing.others);
                let is_informed = around.standing.exchanged.is_none_or(|last| last > exchanges);
                let due = if is_informed { until } else { until + wait * (WITHOUT_EXCHANGE - 1) };
                let due =
                    if around.taken.is_hearsay() { due + self.settings.settle * COMING_BACK } else { due };
                if !around.standing.wanted || around.taken.overlapping(&prefix).any(objects) {
                    Stage::Nothing { again: now }
                } else if !around.standing.admitted || now > due + wait {
                    // Nobody could have objected, or nobody could have been heard: it was suspended.
                    Stage::Tentative { prefix, until: now + wait, exchanges }
                } else if now >= due || is_consented() {
                    Stage::Held { prefix, returning: None }
                } else {
                    stage
                }
            }
            Stage::Nothing { again }
                if around.standing.wanted && around.standing.admitted && now >= again =>
            {
                let found = self.find(&range, around.taken);
                if let Some(claim) = self.claims.get_mut(n) {
                    claim.exhausted = found.is_none();
                }
                match found {
                    Some(prefix) => Stage::Tentative {
                        prefix,
                        until: now + self.settings.wait(around.standing.others),
                        exchanges: around.standing.exchanges,
                    },
                    None => Stage::Nothing { again: now + AGAIN },
                }
            }
            Stage::Nothing { .. } => stage,
        }
    }

    /// Whether this node, which says one thing of a prefix, makes way for another, which says something of it too.
    fn yields(&self, own: StakeKind, other: NodeId, others: StakeKind) -> bool {
        let rank = |kind| match kind {
            StakeKind::Tentative => 0,
            StakeKind::Returning => 2,
            StakeKind::Held => 3,
            // Its pods are announced one by one: in a held prefix they come first by their length. A new one is found elsewhere.
            StakeKind::Lost | StakeKind::Freed => 1,
        };
        rank(others) > rank(own) || rank(others) == rank(own) && other < self.own
    }

    /// Others were told to forget this node: it was away for long, and what it holds may have been given to another.
    pub(crate) fn was_away(&mut self, now: Time) {
        for claim in &mut self.claims {
            if let Stage::Held { returning, .. } = &mut claim.stage {
                *returning = Some(now + self.settings.settle * COMING_BACK);
            }
        }
    }

    /// Something is claimed, and not held yet.
    pub(crate) fn is_claiming(&self) -> bool {
        self.claims.iter().any(|claim| matches!(claim.stage, Stage::Tentative { .. }))
    }

    /// Who else has something to say of a prefix that another node claims: `None`, if it does not claim any. This node, if it
    /// is one of them, comes first.
    pub(crate) fn objectors(&self, id: &NodeId, taken: &Taken) -> Option<Objectors> {
        let claimed = taken.of(id).iter().filter(|stake| stake.kind == StakeKind::Tentative);
        let mut objectors: Option<Objectors> = None;
        for Stake { prefix, .. } in claimed {
            let objectors = objectors.get_or_insert_default();
            let overlaps = |own: &IpNet| own.contains(prefix) || prefix.contains(own);
            if self.stakes().any(|own| overlaps(&own.prefix)) && !objectors.nodes.contains(&self.own) {
                objectors.nodes.insert(0, self.own);
            }
            objectors
                .nodes
                .extend(taken.overlapping(prefix).map(|(other, _)| other).filter(|other| other != id));
            objectors.any |= !objectors.nodes.is_empty() || taken.is_quarantined(prefix);
        }
        objectors
    }

    /// All that is known to a member is to be asked for: a claim waits for it.
    pub(crate) fn wants_exchange(&self, last: u64) -> bool {
        let waits =
            |claim: &Claim| matches!(claim.stage, Stage::Tentative { exchanges, .. } if last <= exchanges);
        self.claims.iter().any(waits)
    }

    /// A free prefix, at random.
    fn find(&mut self, range: &Range, taken: &Taken) -> Option<IpNet> {
        let lost = &self.lost;
        let is_free = |prefix: &IpNet| {
            taken.is_free(prefix) && !lost.iter().any(|lost| lost.contains(prefix) || prefix.contains(lost))
        };
        let count = range.len();
        for _ in 0..TRIES {
            if let Some(prefix) = range.subnet(self.random.below(count)).filter(is_free) {
                return Some(prefix);
            }
        }
        // Hardly any is left. Many look at once: each begins elsewhere.
        let first = self.random.below(count);
        (0..count.min(SCAN)).filter_map(|n| range.subnet((first + n) % count)).find(is_free)
    }

    /// What it says of prefixes.
    pub(crate) fn stakes(&self) -> impl Iterator<Item = Stake> + '_ {
        let claimed = self.claims.iter().filter_map(|claim| match claim.stage {
            Stage::Nothing { .. } => None,
            Stage::Tentative { prefix, .. } => Some(Stake { prefix, kind: StakeKind::Tentative }),
            Stage::Held { prefix, returning: None } => Some(Stake { prefix, kind: StakeKind::Held }),
            Stage::Held { prefix, returning: Some(_) } => Some(Stake { prefix, kind: StakeKind::Returning }),
        });
        claimed.chain(self.lost.iter().map(|prefix| Stake { prefix: *prefix, kind: StakeKind::Lost }))
    }

    /// Why it has no subnet of some range, if it has none.
    pub(crate) fn waiting(&self, standing: &Standing) -> Option<String> {
        let of = |claim: &Claim| match claim.stage {
            Stage::Held { .. } => None,
            _ if !standing.wanted => None,
            _ if !standing.admitted => Some(
                "no other node has answered yet: is the agent of a seed running, and with the same key?"
                    .to_owned(),
            ),
            Stage::Tentative { prefix, .. } => Some(format!("waiting for objections to {prefix}")),
            Stage::Nothing { .. } if claim.exhausted => Some(format!(
                "{} has no free prefix of length {}: give the cluster a larger range, or forget nodes that will not come \
                 back (cnikit node forget)",
                claim.range.cluster, claim.range.subnet_length
            )),
            Stage::Nothing { .. } => Some(format!("looking for a free prefix in {}", claim.range.cluster)),
        };
        self.claims.iter().find_map(of)
    }

    /// The ranges of which hardly any subnet is left.
    pub(crate) fn short(&self, taken: &Taken) -> impl Iterator<Item = Range> {
        let own: Vec<Stake> = self.stakes().collect();
        let is_short = |range: &Range| {
            let own = own.iter().filter(|stake| range.is_subnet(&stake.prefix)).count() as u64;
            let left = range.len().saturating_sub(taken.used(range).saturating_add(own));
            left.saturating_mul(SHORT) < range.len()
        };
        self.claims.iter().map(|claim| claim.range).filter(is_short).collect::<Vec<_>>().into_iter()
    }

    /// When to look around at the latest, if nothing happens.
    pub(crate) fn timeout(&self) -> Time {
        let due = |claim: &Claim| match claim.stage {
            Stage::Nothing { again } => again,
            Stage::Tentative { until, .. } if until <= self.looked => self.looked + self.settings.settle,
            Stage::Tentative { until, .. } => until,
            Stage::Held { returning, .. } => returning.unwrap_or(Time::MAX),
        };
        self.claims.iter().map(due).min().unwrap_or(Time::MAX)
    }
}

#[cfg(test)]
mod tests;
