//! The mesh and its seals, in one place for datagrams and streams: what comes in, what goes out, what must be on disk
//! before.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::gossip::seal::{Incoming, Keyring, NONCE, Opener, Received, Refused, Sealer, Ticket, counter_start};
use overlay::mesh::{Mesh, Settings};
use overlay::report::{Forgotten, Problem, Severity};
use overlay::{Local, View};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::disk::Disk;
use super::gossip_addresses;
use super::sockets::Sockets;
use crate::counters::Traffic;
use crate::log;

/// How long others may take to answer before it is said that none does.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// How often it is said that datagrams are refused.
const REFUSALS_SAID: Duration = Duration::from_secs(60);

/// The mesh and its seals.
#[derive(Debug)]
pub(super) struct Core {
    mesh: Mesh,
    sealer: Sealer,
    opener: Opener,
    disk: Disk,
    /// Why what must be written cannot be.
    disk_trouble: Option<(Instant, String)>,
    /// Time begins with it.
    started: Instant,
    /// Which of the mesh's views was told, and whether that was among the first.
    told: Option<(u64, bool)>,
    refusals_said: Option<Instant>,
    traffic: Arc<Traffic>,
}

impl Core {
    /// Of a node that goes on where its last life ended.
    pub(super) fn new(
        settings: Settings,
        local: Local,
        addresses: Vec<SocketAddr>,
        mut disk: Disk,
        keyring: Arc<Keyring>,
        traffic: Arc<Traffic>,
    ) -> Result<Self, String> {
        let started = Instant::now();
        let saved = disk.load()?;
        let counter = counter_start(wall_clock(), disk.counter());
        disk.set_counter(counter);
        let sender = *local.id.as_bytes();
        Ok(Self {
            mesh: Mesh::new(settings, local, addresses, saved, random(), Duration::ZERO),
            sealer: Sealer::new(Arc::clone(&keyring), sender, counter),
            opener: Opener::new(keyring),
            disk,
            disk_trouble: None,
            started,
            told: None,
            refusals_said: None,
            traffic,
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Puts on disk what must be there before anybody hears of it.
    fn save(&mut self) {
        while let Some(wanted) = self.mesh.unsaved() {
            if let Err(error) = self.disk.save(&wanted) {
                log::error(format_args!("{error}: nothing is told to other nodes until it can be written"));
                self.disk_trouble = Some((Instant::now(), error));
                return;
            }
            if self.disk_trouble.take().is_some() {
                log::info("what must be kept can be written again");
            }
            self.mesh.saved(self.now(), wanted);
        }
    }

    /// Others take what this node sends for what a machine that had its id has sent already.
    fn count_anew(&mut self) {
        let theirs = self.opener.latest(self.mesh.id().as_bytes());
        let counter = counter_start(wall_clock(), self.disk.counter().max(theirs));
        // With the new life, it is on the disk before anything is sent.
        self.disk.set_counter(counter);
        self.sealer.count_from(counter);
        log::info("the other machine with this node's id is silent: this one speaks to others again");
    }

    fn refuse(&mut self, from: SocketAddr, why: Refused) {
        self.traffic.refused.add(1);
        let now = Instant::now();
        if self.refusals_said.is_none_or(|said| now.duration_since(said) >= REFUSALS_SAID) {
            self.refusals_said = Some(now);
            log::warning(format_args!("what {} sends is refused: {why}", from.ip()));
        }
    }

    /// What the mesh knows, and what else people should.
    fn view(&mut self) -> View {
        let mut view = self.mesh.view();
        if self.now() < FIRST_ANSWERS {
            view.cut_off = None;
        }
        view.problems.extend(self.disk_trouble.as_ref().map(|(_, error)| Problem {
            severity: Severity::Error,
            what: error.clone(),
            advice: "make room for it: until then this node tells others nothing".to_owned(),
        }));
        view
    }
}

/// The core, for the loop and for the streams.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    core: Arc<Mutex<Core>>,
    sockets: Sockets,
    woken: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(core: Core, sockets: Sockets) -> Self {
        Self { core: Arc::new(Mutex::new(core)), sockets, woken: Arc::default() }
    }

    /// Nothing waits while it is held.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what follows from what has happened: saves, sends, and tells what is known now. When there is more to do at the
    /// latest.
    pub(super) fn work(&self, view: &watch::Sender<Arc<View>>) -> Instant {
        let mut core = self.lock();
        self.flush(&mut core);
        let revision = (core.mesh.revision(), core.now() < FIRST_ANSWERS);
        if core.told != Some(revision) {
            core.told = Some(revision);
            let now_known = Arc::new(core.view());
            view.send_if_modified(|known| {
                let differs = **known != *now_known;
                *known = now_known;
                differs
            });
        }
        let due = core.started + core.mesh.timeout();
        match core.now() < FIRST_ANSWERS {
            true => due.min(core.started + FIRST_ANSWERS),
            false => due,
        }
    }

    fn flush(&self, core: &mut Core) {
        core.save();
        while let Some(datagram) = core.mesh.transmit() {
            // A seed whose name is not known yet has no address.
            if datagram.to.ip().is_unspecified() {
                continue;
            }
            let frame = core.sealer.seal(nonce(), &datagram.payload);
            core.traffic.sent.add(1);
            core.traffic.sent_bytes.add(frame.len());
            self.sockets.send(datagram.to, &frame);
            core.save();
        }
    }

    /// Something else than a datagram has changed the mesh.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    pub(super) fn receive(&self, from: SocketAddr, frame: &[u8]) {
        let mut core = self.lock();
        core.traffic.received.add(1);
        core.traffic.received_bytes.add(frame.len());
        let now = core.now();
        match core.opener.open(now, frame) {
            Ok(opened) => core.mesh.receive(now, from, &opened.payload),
            Err(why) => {
                if let Refused::Replayed(sender) = why {
                    core.mesh.receive_refused(now, from, sender);
                }
                core.refuse(from, why);
            }
        }
    }

    pub(super) fn advance(&self) {
        let mut core = self.lock();
        let now = core.now();
        core.mesh.advance(now);
        if core.mesh.outlives_twin(now) {
            core.count_anew();
        }
    }

    pub(super) fn set_local(&self, local: Local, port: u16) {
        let mut core = self.lock();
        let now = core.now();
        core.mesh.set_gossip_addresses(now, gossip_addresses(&local, port));
        core.mesh.set_local(now, local);
    }

    pub(super) fn set_keyring(&self, keyring: &Arc<Keyring>) {
        let mut core = self.lock();
        core.sealer.set_keyring(Arc::clone(keyring));
        core.opener.set_keyring(Arc::clone(keyring));
    }

    pub(super) fn join(&self, seeds: &[SocketAddr]) {
        let mut core = self.lock();
        let now = core.now();
        core.mesh.join(now, seeds);
        // What it waits for has changed.
        core.told = None;
    }

    pub(super) fn forget(&self, node: &str) -> Result<Forgotten, String> {
        let mut core = self.lock();
        let now = core.now();
        let forgotten = core.mesh.forget(now, node)?;
        log::info(format_args!(
            "node \"{}\" ({}) is forgotten, as was asked for",
            forgotten.name, forgotten.node
        ));
        Ok(forgotten)
    }

    /// No other node answers.
    pub(super) fn is_isolated(&self) -> bool {
        self.lock().mesh.is_isolated()
    }

    /// When to try again to write what could not be written.
    pub(super) fn disk_due(&self, again: Duration) -> Instant {
        let never = Instant::now() + Duration::from_secs(3600);
        self.lock().disk_trouble.as_ref().map_or(never, |(since, _)| *since + again)
    }

    /// Where streams are to be opened to.
    pub(super) fn wanted_exchanges(&self) -> Vec<SocketAddr> {
        let mut core = self.lock();
        let wanted = std::iter::from_fn(|| core.mesh.wants_exchange());
        wanted.filter(|address| !address.ip().is_unspecified()).collect()
    }

    //----------------------------------------------------------------------------------------------------- for streams

    /// All that is sent on a stream of one's own, and what its answer is known by.
    pub(super) fn request(&self) -> (Vec<u8>, Ticket) {
        let mut core = self.lock();
        core.traffic.exchanges.add(1);
        let now = core.now();
        let request = core.mesh.exchange_request(now);
        core.sealer.request(nonce, &request)
    }

    /// Adds a frame to what comes in.
    pub(super) fn take(
        &self,
        from: SocketAddr,
        message: &mut Incoming,
        frame: &[u8],
    ) -> Result<Option<Received>, Refused> {
        let mut core = self.lock();
        core.traffic.received_bytes.add(frame.len());
        let now = core.now();
        let taken = core.opener.take(now, message, frame);
        if let Err(why) = &taken {
            core.refuse(from, *why);
        }
        taken
    }

    /// All that is answered on somebody else's stream.
    pub(super) fn answer(&self, request: &Received) -> Option<Vec<u8>> {
        let mut core = self.lock();
        let now = core.now();
        let answer = core.mesh.exchange_answer(now, &request.payload).ok()?;
        core.save();
        // What is not on disk is not told.
        if core.mesh.unsaved().is_some() {
            return None;
        }
        self.woken.notify_one();
        Some(core.sealer.answer(nonce, &request.ticket, &answer))
    }

    /// Takes in what came back on a stream of one's own.
    pub(super) fn finish(&self, answer: &Received) -> Result<(), String> {
        let mut core = self.lock();
        let now = core.now();
        core.mesh.exchange_finish(now, &answer.payload).map_err(|error| error.to_string())?;
        self.woken.notify_one();
        Ok(())
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.lock().traffic.sent_bytes.add(bytes);
    }

    /// Says goodbye when it is dropped.
    pub(super) fn farewell(&self) -> Farewell {
        Farewell(self.clone())
    }
}

/// Says goodbye when it is dropped.
pub(super) struct Farewell(Shared);

impl Drop for Farewell {
    fn drop(&mut self) {
        let mut core = self.0.lock();
        let now = core.now();
        core.mesh.leave(now);
        self.0.flush(&mut core);
    }
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Never the same twice.
fn nonce() -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    fill(&mut nonce);
    nonce
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// getrandom(2) fails only before the kernel's pool is ready, which no network is before.
fn fill(bytes: &mut [u8]) {
    while getrandom::fill(bytes).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
