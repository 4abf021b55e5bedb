//! The data plane: this node's kernel, kept as the topology wants it.
//!
//! ```text
//! Local, View ──▶ what the kernel holds besides (observe) ──▶ Paths ──▶ fabric::weave ──▶ Reconciler ──▶ Ways
//!                          ▲                                    ▲ │                          │
//!        Watch: what others change                     probes ──┘ └──▶ probes             kernel
//! ```
//!
//! [`run`] is one task. It is told of this node and of all others by two watched values, and tells what became of them by a
//! third. What happens within [`GATHERING`] is one piece of work: a thousand nodes that arrive at once are one plan. What
//! others change of it in the kernel is repaired as soon as it is heard of, and once in [`AUDIT`] everything is looked at
//! again. Nothing is removed when the agent ends: packets do not need it.
//!
//! Netlink is asked in place, and not by another thread: a plan of which one node changed takes a millisecond, and nothing else
//! that the agent does is in a greater hurry.

mod observe;
mod probes;
mod resume;
mod seal;
#[cfg(test)]
mod tests;
mod weaver;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netops::{Change, LinuxKernel, Place, Watch};
use overlay::path::{Paths, Probe, Seal};
use overlay::{Local, View, fabric, path};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::counters::KernelWork;
use crate::events;
use crate::known::Ways;
use crate::log;
use crate::told::say_problems;
use probes::Sockets;
use weaver::Weaver;

pub(crate) use seal::ProbeSeal;

/// How long is waited for what belongs to a change.
const GATHERING: Duration = Duration::from_millis(20);
/// How long until our part of nf_tables is looked at, after somebody has changed any of it.
const RULESET: Duration = Duration::from_millis(500);
/// How often everything is looked at, whatever was heard.
const AUDIT: Duration = Duration::from_secs(300);
/// How long until what was refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is told how paths are, where nothing has changed but the times.
const TELLING: Duration = Duration::from_secs(10);

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// What the kernel is to be made into.
    pub(crate) fabric: fabric::Settings,
    /// The UDP port of all nodes' probes.
    pub(crate) port: u16,
    /// The largest packet to and from pods, in bytes, if it was told.
    pub(crate) mtu: Option<u32>,
}

impl Settings {
    /// As the agent's are.
    pub(crate) fn of(settings: &crate::settings::Settings) -> Self {
        Self {
            fabric: fabric::Settings {
                pool: settings.pool.clone(),
                bridge: settings.bridge.clone(),
                tunnel: settings.tunnel_device.clone(),
                masquerade_except: settings.masquerade_except.clone(),
            },
            port: path::DEFAULT_PORT,
            mtu: settings.mtu,
        }
    }
}

/// What ties the data plane to the rest of the agent.
#[derive(Debug)]
pub(crate) struct Links {
    /// What this node knows of itself.
    pub(crate) local: watch::Receiver<Arc<Local>>,
    /// What its store knows.
    pub(crate) view: watch::Receiver<Arc<View>>,
    /// What has become of that.
    pub(crate) ways: watch::Sender<Arc<Ways>>,
    /// What is counted.
    pub(crate) work: Arc<KernelWork>,
}

/// Keeps this node's kernel as the topology wants it, in the namespace of the calling thread. Ends only with the reason why
/// it cannot go on.
pub(crate) async fn run(settings: Settings, links: Links, seal: Box<dyn Seal>) -> String {
    match DataPlane::open(settings, links, seal) {
        Ok(mut plane) => plane.work().await,
        Err(why) => why,
    }
}

/// Removes all that a data plane is made of from the kernel, but for the bridge, whose ports are pods', and for settings, which
/// others may rely on: for a node that leaves the network. Its agent must have ended. Returns how many things were removed.
///
/// # Errors
/// What could not be removed, for people.
pub(crate) fn remove_data_plane(settings: &crate::settings::Settings) -> Result<usize, String> {
    weaver::remove_all(&mut LinuxKernel::new(None), &Settings::of(settings).fabric)
}

struct DataPlane {
    settings: Settings,
    links: Links,
    weaver: Weaver,
    paths: Paths,
    sockets: Sockets,
    watch: Watch,
    /// Readable when the watch is.
    heard: AsyncFd<OwnedFd>,
    /// Probes that wait for the kernel to hold what they are to find out about.
    waiting: VecDeque<Probe>,
    /// When the kernel is brought to what is known, if it is not.
    due: Option<Instant>,
    /// When it is brought to that again, although nothing is known to have changed.
    again: Option<Instant>,
    quarrel: Quarrel,
    audit: Instant,
    telling: Instant,
    /// Everything must be looked at again.
    look: bool,
}

impl DataPlane {
    fn open(settings: Settings, links: Links, seal: Box<dyn Seal>) -> Result<Self, String> {
        let io = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let mut watch = Watch::open(None).map_err(|error| error.to_string())?;
        let weaver = Weaver::open(settings.fabric.clone()).map_err(|error| error.to_string())?;
        watch.disregard(weaver.port());
        let descriptor = watch.as_fd().try_clone_to_owned().map_err(io("watch the kernel"))?;
        let heard = events::readable(descriptor).map_err(io("watch the kernel"))?;
        let port = settings.port;
        let sockets =
            Sockets::open(port).map_err(|error| format!("listen for probes at UDP port {port}: {error}"))?;

        let now = Instant::now();
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| format!("the kernel's random numbers: {error}"))?;
        let of_paths = path::Settings {
            id: links.local.borrow().id,
            pool: settings.fabric.pool.clone(),
            port: settings.port,
        };
        let paths = Paths::new(of_paths, seal, weaver.resumed(), u64::from_ne_bytes(seed), now);
        Ok(Self {
            settings,
            links,
            weaver,
            paths,
            sockets,
            watch,
            heard,
            waiting: VecDeque::new(),
            due: Some(now),
            again: None,
            quarrel: Quarrel::default(),
            audit: now + AUDIT,
            telling: now + TELLING,
            look: true,
        })
    }

    async fn work(&mut self) -> String {
        loop {
            let next = [self.due, self.again, self.paths.timeout(), Some(self.audit), Some(self.telling)];
            let next = next.into_iter().flatten().min();
            let timeout = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = self.links.local.changed() => match changed {
                    Ok(()) => self.hurry(GATHERING),
                    Err(_) => return "nobody tells of this node any more".to_owned(),
                },
                changed = self.links.view.changed() => match changed {
                    Ok(()) => self.hurry(GATHERING),
                    Err(_) => return "nobody tells of other nodes any more".to_owned(),
                },
                ready = self.heard.readable() => match ready {
                    Ok(mut ready) => {
                        ready.clear_ready();
                        let changes = self.watch.read();
                        self.hear(&changes);
                    }
                    Err(error) => return format!("watch the kernel: {error}"),
                },
                received = self.sockets.receive() => match received {
                    Ok(received) => {
                        let now = Instant::now();
                        received.iter().for_each(|datagram| self.paths.receive(now, datagram));
                    }
                    Err(error) => return format!("receive probes: {error}"),
                },
                () = timeout => {}
            }
            self.advance(Instant::now());
        }
    }

    /// What is due is done, and what is to be sent, sent.
    fn advance(&mut self, now: Instant) {
        self.paths.advance(now);
        if self.audit <= now {
            self.audit = now + AUDIT;
            self.weaver.forget();
            self.look = true;
            self.hurry(Duration::ZERO);
        }
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            self.hurry(Duration::ZERO);
        }
        if self.paths.changed() {
            self.hurry(GATHERING);
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.weave(now);
        }
        if self.telling <= now {
            self.telling = now + TELLING;
            self.tell(now);
        }
        self.send();
    }

    fn hurry(&mut self, within: Duration) {
        let due = Instant::now() + within;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    fn try_again(&mut self, within: Duration) {
        let then = Instant::now() + within;
        self.again = Some(self.again.map_or(then, |before| before.min(then)));
    }

    /// Others have changed something.
    fn hear(&mut self, changes: &[Change]) {
        for change in changes {
            let mut within = GATHERING;
            if matches!(change, Change::Ruleset) {
                // Whose it was is not told, and others may change theirs all the time.
                within = RULESET;
            } else if self.weaver.is_touched_by(change) {
                log::debug(|| format!("heard: {change:?}"));
                self.look = true;
            } else if !self.weaver.notice(change) {
                continue;
            }
            // Where nothing else is due, what somebody undoes again and again is not repaired without end.
            let pause = self.quarrel.pause(Instant::now()).max(within);
            if pause == GATHERING {
                self.hurry(GATHERING);
            } else {
                self.try_again(pause);
            }
        }
    }

    /// Brings the kernel to what is known.
    fn weave(&mut self, now: Instant) {
        let (local, view) =
            (self.links.local.borrow_and_update().clone(), self.links.view.borrow_and_update().clone());
        // Before the store has said anything, nothing is known, which is not the same as that there is nobody.
        if view.topology.members().len() == 0 && view.subnets.is_empty() {
            return;
        }
        let own = local.with_subnets(view.subnets.clone());
        let looked = self.weaver.observe(&own, &view.topology, std::mem::take(&mut self.look));
        if let Err(error) = looked {
            log::error(format_args!("the kernel does not say what it holds: {error}"));
            self.look = true;
            return self.try_again(AGAIN);
        }
        self.paths.update(now, &own, &view.topology, self.weaver.underlay());
        // What this has changed is part of what follows.
        self.paths.changed();
        let woven = self.weaver.weave(&own, &view, &self.paths.reaches(), now);
        self.links.work.add(now.elapsed(), woven.repaired, woven.refused);
        self.quarrel.note(now, woven.repaired);
        if woven.refused {
            self.look = true;
            self.try_again(AGAIN);
        }
        if let Some(again) = woven.again {
            self.try_again(again.saturating_duration_since(now));
        }
        if let Some(port) = woven.port {
            self.watch.disregard(port);
        }
        self.tell(now);
    }

    /// Says how everything is, if it is otherwise than it was said to be.
    fn tell(&mut self, now: Instant) {
        let (local, view) = (self.links.local.borrow(), self.links.view.borrow());
        let peers = view.topology.peers(&local.id).map(|peer| peer.node.id);
        let mut problems = self.weaver.problems().to_vec();
        problems.extend(self.paths.problems());
        problems.sort();
        let told = Ways {
            paths: peers.filter_map(|id| Some((id, self.paths.path(&id, now)?))).collect(),
            mtu: self.settings.mtu.unwrap_or_else(|| crate::local::pods_mtu(&local)),
            problems,
            reconciled: self.weaver.has_succeeded(),
        };
        drop((local, view));
        self.links.ways.send_if_modified(|ways| {
            // How long ago each path was answered is for whoever asks: nobody is woken for that.
            let differs = ways.essence() != told.essence();
            if differs {
                say_what_changed(ways, &told);
            }
            *ways = Arc::new(told);
            differs
        });
    }

    /// Sends what shall be sent. What is to find out about a way waits until the kernel has it; answers do not.
    fn send(&mut self) {
        while let Some(probe) = self.paths.transmit() {
            if probe.whole {
                self.waiting.push_back(probe);
            } else if let Err(error) = self.sockets.send(&probe) {
                log::debug(|| format!("answer to {}: {error}", probe.to));
            }
        }
        if self.due.is_some() {
            return;
        }
        for probe in std::mem::take(&mut self.waiting) {
            if let Err(error) = self.sockets.send(&probe) {
                log::debug(|| format!("probe of {} bytes to {}: {error}", probe.bytes.len(), probe.to));
            }
        }
    }
}

/// Somebody else who wants the kernel otherwise, and does not give in.
#[derive(Debug, Default)]
struct Quarrel {
    /// Repairs in a row that came soon after one another.
    rounds: u32,
    last: Option<Instant>,
}

impl Quarrel {
    /// Repairs that follow one another faster than this are more than one thing's going wrong.
    const SOON: Duration = Duration::from_secs(10);
    /// So many are made at once.
    const PATIENCE: u32 = 5;

    /// The kernel was brought to what is known, and it took changes or not.
    fn note(&mut self, now: Instant, repaired: bool) {
        if repaired {
            let soon = self.last.is_some_and(|last| now < last + Self::SOON);
            self.rounds = if soon { self.rounds.saturating_add(1) } else { 0 };
            self.last = Some(now);
        }
    }

    /// How long to leave it to the other.
    fn pause(&self, now: Instant) -> Duration {
        match self.last {
            Some(last) if self.rounds > Self::PATIENCE => (last + AGAIN).saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }
}

/// Ways and problems that are new, or gone.
fn say_what_changed(before: &Ways, now: &Ways) {
    say_problems(&before.problems, &now.problems);
    log::debug(|| {
        let differs = |id: &&overlay::NodeId| {
            let essence = |ways: &Ways| ways.paths.get(*id).map(|path| (path.way, path.mtu));
            essence(before) != essence(now)
        };
        let changed = now.paths.keys().filter(differs).count();
        format!("the ways to {changed} nodes are new, or others than before")
    });
}

/// Whose changes are not news.
const HERE: Place = Place::Host;
