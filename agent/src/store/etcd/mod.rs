//! Nodes and subnets in etcd.
//!
//! ```text
//! config     what a person says of the servers
//! connect    connections to them
//! client     requests to the servers' JSON gateway, one server after the other
//! api        what is said and answered
//! layout     which keys there are
//! known      what is known of them: a topology, kept up to date by events
//! own        what this node writes: that it is alive, what it says of itself, its pods, its claims
//! free       the choice of a subnet
//! forget     a node that will not come back
//! ```
//!
//! A session reads all keys of the network as they were in one revision, then watches what happens from the next on. When
//! anything goes wrong it is given up, and the next begins by reading: nothing is missed. What was known stays until it has
//! been read again.

mod api;
mod client;
mod config;
mod connect;
mod forget;
mod free;
mod known;
mod layout;
mod own;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use overlay::report::{Problem, Severity};
use overlay::{Liveness, Pool, Role, View};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::saved::{Memory, Saved, SavedFile};
use super::{Links, Request, Running, Store};
use api::{EventKind, Number, Octets, Range, WatchCreate};
use client::{Client, Failure, Watch};
pub use config::{Config, Login, Tls};
use known::Known;
use layout::Layout;
use own::Own;

/// How many keys are read at once.
const PAGE: i64 = 500;
/// More keys than this are no network of ours: ten thousand nodes with a hundred pods each.
const MOST_KEYS: usize = 1 << 20;
/// Pauses between attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Nodes and subnets in etcd.
///
/// A subnet is claimed by a transaction that holds if nobody has it, and does not expire: two nodes never have one, whatever
/// happens, as long as etcd keeps what it has confirmed.
pub struct Etcd {
    config: Config,
    client: Client,
    layout: Layout,
    pool: Pool,
    network: String,
    state: PathBuf,
}

impl Etcd {
    /// For a network, whose name is in the keys, and whose subnets are parts of the pool. In the directory `state` it
    /// remembers `etcd-NETWORK.json`. The files that the configuration names are read; no server is asked yet.
    ///
    /// # Errors
    /// What is wrong with the configuration, or a file that it names.
    pub fn new(config: Config, network: &str, pool: Pool, state: &Path) -> Result<Self, String> {
        super::saved::check_network(network)?;
        let client = Client::new(&config)?;
        let layout = Layout::new(&config.prefix, network);
        Ok(Self { config, client, layout, pool, network: network.to_owned(), state: state.to_owned() })
    }
}

impl Store for Etcd {
    fn kind(&self) -> &'static str {
        "etcd"
    }

    fn endpoints(&self) -> Vec<String> {
        self.config.endpoints.clone()
    }

    fn run(self: Box<Self>, links: Links) -> Running {
        Box::pin(async move {
            let local = links.local.borrow().clone();
            let memory = Memory::of(SavedFile::new(&self.state, "etcd", &self.network), local.id);
            let own = match Own::new(self.layout.clone(), self.pool.clone(), &local, memory.saved()) {
                Ok(own) => own,
                Err(why) => return why,
            };
            let work = Work {
                store: *self,
                links,
                own,
                known: None,
                memory,
                unsaved: false,
                refused: None,
                cut_off: None,
            };
            work.run().await
        })
    }
}

/// The store at work.
struct Work {
    store: Etcd,
    links: Links,
    own: Own,
    /// What the servers have; `None` until they have been read once.
    known: Option<Known>,
    /// What is on disk.
    memory: Memory,
    /// Something that peers say is not there yet.
    unsaved: bool,
    /// What the servers refuse to write.
    refused: Option<String>,
    cut_off: Option<String>,
}

/// Why a session ended.
enum Ended {
    /// The agent has.
    Stopped,
    /// A server has compacted what was to come next: all is read again.
    Behind,
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Work {
    async fn run(mut self) -> String {
        self.publish(false);
        let mut pause = PAUSES.0;
        loop {
            let ended = self.session().await;
            if self.cut_off.is_none() {
                // It had begun, so the servers had been reached.
                pause = PAUSES.0;
            }
            match ended {
                Ended::Stopped => break,
                Ended::Behind => continue,
                Ended::Failed(failure) => self.cut_off = Some(failure.text()),
            }
            self.publish(false);
            // Not all nodes at once, when a server comes back.
            let spread = own::random().unwrap_or_default() % 1000;
            if !self.wait(pause.mul_f64(0.5 + spread as f64 / 1000.0)).await {
                break;
            }
            pause = (pause * 2).min(PAUSES.1);
            if let Err(why) = self.store.client.renew(&self.store.config) {
                self.cut_off = Some(why);
            }
        }
        "the agent has ended".to_owned()
    }

    /// From reading all to the first failure.
    async fn session(&mut self) -> Ended {
        match self.begin().await {
            Ok(watch) => self.go_on(watch).await,
            Err(failure) => failure.into(),
        }
    }

    async fn begin(&mut self) -> Result<Watch, Failure> {
        let (known, revision) = read_all(&mut self.store.client, &self.store.layout).await?;
        let watch = WatchCreate {
            key: self.store.layout.root().into(),
            range_end: Octets::after_prefix(self.store.layout.root()),
            start_revision: Number(revision + 1),
            fragment: true,
        };
        let watch = self.store.client.watch(watch).await?;
        self.known = Some(known);
        self.unsaved = true;
        self.cut_off = None;
        self.write().await?;
        self.publish(true);
        Ok(watch)
    }

    async fn go_on(&mut self, mut watch: Watch) -> Ended {
        let mut beat = interval(own::LEASE / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                answer = watch.next() => match answer {
                    Ok(answer) => self.hear(answer, &mut watch).await,
                    Err(failure) => Err(failure.into()),
                },
                changed = self.links.local.changed() => match changed {
                    Ok(()) => self.write().await.map_err(Ended::from),
                    Err(_) => Err(Ended::Stopped),
                },
                _ = beat.tick() => self.beat().await.map_err(Ended::from),
                Some(request) = self.links.requests.recv() => {
                    self.answer(request).await;
                    Ok(())
                }
            };
            if let Err(ended) = done {
                return ended;
            }
            self.publish(false);
        }
    }

    /// What a watch tells, and all that it has already received.
    async fn hear(&mut self, mut answer: api::WatchAnswer, watch: &mut Watch) -> Result<(), Ended> {
        loop {
            if answer.compact_revision.0 != 0 {
                return Err(Ended::Behind);
            }
            if answer.canceled {
                let why = format!("etcd has ended the watch: {}", answer.cancel_reason);
                return Err(Failure::Unreachable(why).into());
            }
            self.unsaved |= !answer.events.is_empty();
            for event in answer.events {
                let Some(known) = &mut self.known else { continue };
                match event.kind {
                    EventKind::Put => known.put(&event.kv),
                    EventKind::Delete => known.delete(&event.kv.key.0, event.kv.mod_revision.0),
                }
            }
            if !watch.has_more() {
                break;
            }
            answer = watch.next().await?;
        }
        Ok(self.write().await?)
    }

    async fn beat(&mut self) -> Result<(), Failure> {
        self.own.keep_alive(&mut self.store.client).await?;
        // Also what was refused before.
        self.write().await?;
        self.save(true);
        Ok(())
    }

    /// Writes what this node has to say. What is refused is no reason to stop listening.
    async fn write(&mut self) -> Result<(), Failure> {
        let local = self.links.local.borrow_and_update().clone();
        let Some(known) = &mut self.known else { return Ok(()) };
        match self.own.write(&mut self.store.client, known, &local).await {
            Ok(()) => self.refused = None,
            Err(Failure::Refused(why)) => self.refused = Some(why),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request) {
        let Request::Forget { node, reply } = request;
        let this = self.links.local.borrow().id;
        let outcome = match &mut self.known {
            Some(known) => {
                forget::forget(&mut self.store.client, known, &self.store.layout, &this, &node).await
            }
            None => Err("etcd has not been read yet".to_owned()),
        };
        // Who asked may have gone.
        let _ = reply.send(outcome);
    }

    /// Lets time pass between two sessions; `false` if the agent has ended.
    async fn wait(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return true,
                changed = self.links.local.changed() => match changed {
                    Ok(()) => self.publish(false),
                    Err(_) => return false,
                },
                Some(Request::Forget { reply, .. }) = self.links.requests.recv() => {
                    let why = self.cut_off.clone().unwrap_or_default();
                    let _ = reply.send(Err(format!("nothing was forgotten: {why}")));
                }
            }
        }
    }

    /// Tells the agent what is known, if that is something else than before. Subnets are on disk first.
    fn publish(&mut self, peers_too: bool) {
        self.save(peers_too);
        let view = self.view();
        // Who reads it compares; nothing is told twice.
        self.links.view.send_if_modified(|shown| {
            let differs = **shown != view;
            if differs {
                *shown = Arc::new(view);
            }
            differs
        });
    }

    fn view(&mut self) -> View {
        let local = self.links.local.borrow_and_update().clone();
        let mut topology = match &mut self.known {
            Some(known) => known.topology().clone(),
            None => self.memory.saved().topology(),
        };
        let subnets = match &self.known {
            Some(known) => self.own.subnets(known, &local),
            None => self.own.previous().to_vec(),
        };
        let liveness = topology.get(&local.id).map_or(Liveness::Unknown, |member| member.liveness);
        topology.insert(Arc::new(local.with_subnets(subnets.clone())), liveness);
        View {
            waiting: if local.role == Role::Worker { self.waiting(&subnets) } else { None },
            problems: self.problems(),
            topology: Arc::new(topology),
            subnets,
            cut_off: self.cut_off.clone(),
        }
    }

    fn waiting(&self, subnets: &[overlay::Subnet]) -> Option<String> {
        self.store.pool.lacking(subnets).next()?;
        let why = self.own.waiting().or_else(|| self.refused.clone()).or_else(|| self.cut_off.clone());
        Some(why.unwrap_or_else(|| "etcd has not answered yet".to_owned()))
    }

    fn problems(&self) -> Vec<Problem> {
        let problem =
            |severity, what: String, advice: &str| Problem { severity, what, advice: advice.to_owned() };
        let mut problems = Vec::new();
        if let Some(known) = &self.known {
            problems.extend(self.own.problems(known));
            let count = known.strange().len();
            if let Some((key, why)) = known.strange().next() {
                let what = format!("{count} keys in etcd make no sense, as {}: {why}", key.escape_debug());
                problems.push(problem(
                    Severity::Warning,
                    what,
                    "see who wrote them; delete them with etcdctl del",
                ));
            }
        }
        if let Some(why) = &self.refused {
            let advice = "until etcd takes it, other nodes do not know what has changed here";
            problems.push(problem(Severity::Error, why.clone(), advice));
        }
        problems.extend(self.memory.problem());
        problems
    }

    /// Brings what is on disk up to date: the node's own subnets at once, as pods are about to have addresses of them; the
    /// peers when there is time.
    fn save(&mut self, peers_too: bool) {
        let local = self.links.local.borrow().clone();
        let Some(known) = &mut self.known else { return };
        let subnets = self.own.subnets(known, &local);
        self.own.remember(&subnets);
        let nodes = (peers_too && std::mem::take(&mut self.unsaved))
            .then(|| Saved::peers(known.topology(), &local.id));
        self.memory.keep(subnets, Some(self.own.instance.clone()), nodes);
    }
}

/// Reads all keys of a network as they are in one revision, and says in which.
async fn read_all(client: &mut Client, layout: &Layout) -> Result<(Known, i64), Failure> {
    let mut known = Known::new(layout.clone());
    let mut range = Range {
        key: layout.root().into(),
        range_end: Some(Octets::after_prefix(layout.root())),
        limit: Number(PAGE),
        revision: Number(0),
    };
    let mut count = 0;
    loop {
        let answer = client.range(&range).await?;
        if range.revision.0 == 0 {
            range.revision = answer.header.revision;
        }
        count += answer.kvs.len();
        answer.kvs.iter().for_each(|kv| known.put(kv));
        match answer.kvs.into_iter().next_back() {
            Some(last) if answer.more && count < MOST_KEYS => {
                // The next key there can be.
                range.key = last.key;
                range.key.0.push(0);
            }
            _ if answer.more => {
                let why = format!("there are more than {MOST_KEYS} keys below {}", layout.root());
                return Err(Failure::Refused(why));
            }
            _ => return Ok((known, range.revision.0)),
        }
    }
}
