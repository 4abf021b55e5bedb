//! One peer: the way to it, and what probes say of that and of a better one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::{Direct, Options};
use super::round::{Context, Flight, Round};
use super::size::{Outcome, Size};
use super::{By, Reach, Trial as Tried};
use crate::id::NodeId;
use crate::node::{Mode, Node};
use crate::report::Way;
use crate::topology::Liveness;

/// Answers in a row by which a plain route proves itself.
const PROOF: u32 = 3;
/// Between probes that prove one.
const PROOF_PAUSE: Duration = Duration::from_millis(50);
/// Probes in a row that are lost until a plain route is left alone for a while.
const LOSSES: u32 = 2;
/// How long that is at first; twice as long each time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is at most.
const PATIENCE_ENDS: Duration = Duration::from_secs(600);
/// Between tries of a way on which nothing comes back; twice as long each time, until it is as long as all rest.
const SILENCE: Duration = Duration::from_secs(5);

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: Arc<Node>,
    pub(super) liveness: Liveness,
    pub(super) options: Options,
    pub(super) way: Way,
    pub(super) size: Size,
    check: Round,
    /// Boxed: at rest most peers have none.
    trial: Option<Box<Trial>>,
    /// How often plain routes have failed after they had proved themselves, and when the last one did so.
    relapses: u32,
    proved: Option<Instant>,
    /// How often in a row all rounds of probes were in vain.
    pub(super) silent: u32,
    pub(super) answered: Option<Instant>,
    pub(super) round_trip: Option<Duration>,
}

/// A plain route that may be better than the tunnel in use.
#[derive(Debug)]
struct Trial {
    round: Round,
    wins: u32,
    losses: u32,
    patience: Duration,
    /// It has failed before; there is no hurry.
    not_before: Instant,
}

/// What this node's kernel did for a peer before this agent began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Its routes had the peer's own address as next hop.
    pub direct: bool,
    /// Their MTU.
    pub mtu: u32,
}

impl Peer {
    /// One that was not known. `begin` is when it is probed first.
    pub(super) fn new(
        node: Arc<Node>,
        liveness: Liveness,
        options: Options,
        resumed: Option<Resumed>,
        begin: Instant,
    ) -> Self {
        let mut peer = Self {
            node,
            liveness,
            options,
            way: Way::None,
            size: Size::new(super::size::BASE),
            check: Round::due(begin),
            trial: None,
            relapses: 0,
            proved: None,
            silent: 0,
            answered: None,
            round_trip: None,
        };
        peer.way = peer.first_way(resumed.is_some_and(|resumed| resumed.direct));
        peer.size = match resumed {
            Some(resumed) => Size::resumed(peer.ceiling(), resumed.mtu, begin),
            None => Size::new(peer.ceiling()),
        };
        peer.set_trial(begin);
        peer
    }

    /// What is said of it, or possible, has changed.
    pub(super) fn update(&mut self, node: Arc<Node>, liveness: Liveness, options: Options, now: Instant) {
        let woken = liveness != self.liveness;
        let other = options != self.options;
        let other_direct = options.direct != self.options.direct;
        (self.node, self.liveness, self.options) = (node, liveness, options);
        if other {
            if self.is_possible() {
                self.size.promise(self.ceiling(), now);
            } else {
                self.take(self.first_way(false), now);
            }
            if other_direct {
                self.trial = None;
            }
            self.set_trial(now);
        }
        if (woken && liveness != Liveness::Down) || other {
            self.check.hurry(now);
        }
    }

    /// When it is to be looked at next.
    pub(super) fn due(&self) -> Option<Instant> {
        let check = (self.way != Way::None).then_some(self.check.due);
        let trial = self.trial.as_ref().map(|trial| trial.round.due);
        self.options.target.and_then(|_| check.into_iter().chain(trial).min())
    }

    /// Time has passed: what was not answered is lost, what is due is probed.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        if self.options.target.is_none() {
            return;
        }
        // A round that ends may call for the next one at once.
        for _ in 0..2 {
            if self.way != Way::None && self.check.due <= context.now {
                if self.check.is_open() { self.end_round(context) } else { self.begin_round(context) }
            }
        }
        self.advance_trial(context);
    }

    /// A probe was answered, if it was one of this peer's that still counts.
    pub(super) fn receive(&mut self, nonce: u64, context: &mut Context<'_>) {
        if let Some(flight) = self.check.land(nonce) {
            self.hears(flight, context.now);
            if self.check.is_complete() || self.size.suffices(self.check.answered()) {
                self.end_round(context);
                self.advance(context);
            }
        } else if let Some(trial) = &mut self.trial
            && let Some(flight) = trial.round.land(nonce)
        {
            trial.round.close();
            trial.wins += 1;
            trial.losses = 0;
            trial.round.due = context.now + PROOF_PAUSE;
            let proved = trial.wins >= PROOF;
            self.hears(flight, context.now);
            if proved {
                self.promote(context);
            }
        }
    }

    fn hears(&mut self, flight: Flight, now: Instant) {
        self.round_trip = Some(now.saturating_duration_since(flight.sent));
        self.answered = Some(now);
    }

    fn begin_round(&mut self, context: &mut Context<'_>) {
        let by = match (self.way, self.options.target) {
            (Way::Vxlan { .. }, Some(target)) if !target.inside => By::Tunnel,
            _ => By::Main,
        };
        let sizes = self.size.sizes(context.now);
        self.check.open(&by, &sizes, context);
    }

    fn end_round(&mut self, context: &mut Context<'_>) {
        let answered = self.check.close();
        match self.size.learn(&answered, context.now) {
            Outcome::Settled => {
                if self.silent > 0 || self.proved.is_none() {
                    self.speaks(context.now);
                }
                self.check.due = context.rest();
            }
            Outcome::Unclear => self.check.due = context.now,
            Outcome::Dead => self.fails(context),
        }
    }

    /// A way on which nothing had come back for a while, or ever, is answered: so a plain route may be, that was not.
    fn speaks(&mut self, now: Instant) {
        self.silent = 0;
        self.proved = Some(now);
        if let Some(trial) = &mut self.trial {
            trial.losses = 0;
            trial.round.hurry(now.max(trial.not_before));
        }
    }

    /// Nothing comes back.
    fn fails(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.silent += 1;
        // It is agents that answer probes, and kernels that carry packets: where nothing else is heard of the peer either, that
        // says nothing of the way.
        let is_heard = !matches!(self.liveness, Liveness::Suspect | Liveness::Down);
        match self.way {
            _ if !is_heard => self.check.due = context.pause(silence(self.silent).min(context.interval)),
            Way::Route { .. } if self.options.mode == Mode::Auto && !self.options.remotes.is_empty() => {
                let long_ago = self.proved.is_none_or(|proved| now >= proved + PATIENCE_ENDS);
                self.relapses = if long_ago { 1 } else { self.relapses + 1 };
                self.take(self.first_way(false), now);
                self.set_trial(now + patience(self.relapses));
            }
            Way::Vxlan { remote } => {
                let at = self.options.remotes.iter().position(|other| other.address == remote);
                let next = at.map(|at| (at + 1) % self.options.remotes.len());
                let next = next.and_then(|next| self.options.remotes.get(next)).copied();
                if let Some(next) = next.filter(|next| next.address != remote) {
                    let silent = self.silent;
                    self.take(Way::Vxlan { remote: next.address }, now);
                    self.silent = silent;
                }
                self.check.due = context.pause(silence(self.silent).min(context.interval));
            }
            _ => self.check.due = context.pause(silence(self.silent).min(context.interval)),
        }
    }

    fn advance_trial(&mut self, context: &mut Context<'_>) {
        let Some((direct, ceiling)) = &self.options.direct else { return };
        let Some(trial) = self.trial.as_mut().filter(|trial| trial.round.due <= context.now) else { return };
        if trial.round.is_open() {
            trial.round.close();
            (trial.wins, trial.losses) = (0, trial.losses + 1);
            if trial.losses >= LOSSES {
                trial.losses = 0;
                trial.round.due = context.pause(trial.patience);
                trial.patience = (trial.patience * 2).min(PATIENCE_ENDS);
                return;
            }
        }
        let by = match self.options.target {
            Some(target) if target.inside => {
                direct.of(target.address.is_ipv6()).map(|via| By::Direct(via.link.clone()))
            }
            _ => Some(By::Main),
        };
        match by {
            Some(by) => trial.round.open(&by, &[*ceiling], context),
            // Not of the family that is probed.
            None => trial.round.due = context.pause(trial.patience),
        }
    }

    /// The plain route has proved itself, with packets as large as interfaces promise.
    fn promote(&mut self, context: &mut Context<'_>) {
        let Some((direct, ceiling)) = &self.options.direct else { return };
        let Some(gateway) = direct.address() else { return };
        self.size = Size::proven(*ceiling);
        self.way = Way::Route { gateway };
        self.trial = None;
        self.silent = 0;
        self.proved = Some(context.now);
        self.check = Round::due(context.rest());
    }

    fn take(&mut self, way: Way, now: Instant) {
        self.way = way;
        self.size = Size::new(self.ceiling());
        self.silent = 0;
        self.check = Round::due(now);
    }

    /// The way that is taken before anything is known: of two, the one that nearly always works.
    fn first_way(&self, direct: bool) -> Way {
        let Options { mode, router, remotes, .. } = &self.options;
        let tunnel = remotes.first().map(|remote| Way::Vxlan { remote: remote.address });
        let route = self.options.direct.as_ref().and_then(|(direct, _)| direct.address());
        let route = route.map(|gateway| Way::Route { gateway });
        let way = match mode {
            Mode::Router => router.map(|router| Way::Router { router }),
            Mode::Vxlan => tunnel,
            Mode::Route => route,
            Mode::Auto if direct => route.or(tunnel),
            Mode::Auto => tunnel.or(route),
        };
        way.unwrap_or(Way::None)
    }

    /// Whether the way that is taken is still one.
    fn is_possible(&self) -> bool {
        let Options { mode, router, remotes, direct, .. } = &self.options;
        match self.way {
            Way::Router { router: by } => *mode == Mode::Router && *router == Some(by),
            Way::Vxlan { remote } => {
                matches!(mode, Mode::Auto | Mode::Vxlan)
                    && remotes.iter().any(|other| other.address == remote)
            }
            Way::Route { gateway } => {
                matches!(mode, Mode::Auto | Mode::Route)
                    && direct.as_ref().is_some_and(|(direct, _)| direct.address() == Some(gateway))
            }
            Way::None => self.first_way(false) == Way::None,
        }
    }

    /// What interfaces promise of the way that is taken.
    fn ceiling(&self) -> u32 {
        let Options { remotes, direct, .. } = &self.options;
        let promised = match self.way {
            Way::Vxlan { remote } => {
                remotes.iter().find(|other| other.address == remote).map(|remote| remote.ceiling)
            }
            Way::Route { .. } => direct.as_ref().map(|(_, ceiling)| *ceiling),
            Way::Router { .. } | Way::None => None,
        };
        promised.unwrap_or(super::size::BASE)
    }

    /// A plain route is worth a try if it is possible and not in use.
    fn set_trial(&mut self, begin: Instant) {
        let wanted = self.options.mode == Mode::Auto
            && matches!(self.way, Way::Vxlan { .. })
            && self.options.direct.is_some()
            && self.options.target.is_some();
        if !wanted {
            self.trial = None;
        } else if self.trial.is_none() {
            self.trial = Some(Box::new(Trial {
                round: Round::due(begin),
                wins: 0,
                losses: 0,
                patience: PATIENCE,
                not_before: begin,
            }));
        }
    }

    /// What the kernel must hold for it.
    pub(super) fn reach(&self) -> Reach {
        let direct = || self.options.direct.as_ref().map(|(direct, _)| direct.clone());
        let target = self.options.target;
        let inside = target.filter(|target| target.inside).map(|target| target.address);
        let outside = target.filter(|target| !target.inside).map(|target| target.address);
        Reach {
            way: self.way,
            mtu: self.size.current(),
            direct: direct().filter(|_| matches!(self.way, Way::Route { .. })).unwrap_or_default(),
            tunnel: self.options.remotes.first().map(|remote| (remote.address, remote.ceiling)),
            trial: self.trial.as_ref().and(inside).zip(direct()).map(|(to, by)| Tried { to, by }),
            outside: outside.filter(|_| matches!(self.way, Way::Vxlan { .. })),
        }
    }

    /// Where its probes are answered: its own address that is best known to work.
    pub(super) fn answers_to(&self) -> Option<IpAddr> {
        match self.way {
            Way::Vxlan { remote } => Some(remote),
            Way::Route { gateway } => Some(gateway),
            Way::Router { .. } | Way::None => self.options.address,
        }
    }

    pub(super) fn has_trial_failed(&self) -> bool {
        self.relapses > 0 || self.trial.as_ref().is_some_and(|trial| trial.patience > PATIENCE)
    }

    pub(super) fn direct(&self) -> Option<&Direct> {
        self.options.direct.as_ref().map(|(direct, _)| direct)
    }

    pub(super) fn id(&self) -> NodeId {
        self.node.id
    }
}

/// How long a plain route is left alone that has failed so often.
fn patience(relapses: u32) -> Duration {
    PATIENCE.saturating_mul(1 << (relapses.saturating_sub(1)).min(10)).min(PATIENCE_ENDS)
}

fn silence(rounds: u32) -> Duration {
    SILENCE.saturating_mul(1 << (rounds.saturating_sub(1)).min(10))
}
