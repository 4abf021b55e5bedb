//! The agent at work: its parts, and what ties them together.
//!
//! ```text
//! underlay, pods ──▶ Local ──▶ store ──▶ View ──▶ data plane ──▶ Ways
//!                                          │                      │
//!                                          └───▶ the plugin's file, the API, systemd
//! ```
//!
//! Each part is a task on one thread; what one knows, others watch. None of them ends unless it cannot go on, and then
//! the whole process does: the service manager starts it again, and the kernel keeps the data plane meanwhile.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gossip::seal::Keyring;
use overlay::{Local, Pod, Role, View};
use plugin_kit::files;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::choice::Chosen;
use crate::dataplane::{self, ProbeSeal};
use crate::error::Error;
use crate::files::lock;
use crate::keys;
use crate::known::{Known, StoreFacts, Ways};
use crate::local::{self, Underlay};
use crate::pods::{self, PodsConfig};
use crate::settings::{GossipSettings, Settings, StoreSettings};
use crate::store::Links;
use crate::systemd::ServiceManager;
use crate::{api, conf_list, log, told};

/// In the state's directory: whoever has it locked is the only one who works with that.
pub(crate) const LOCK: &str = "lock";

/// Runs the agent until a signal ends it (`SIGTERM`, `SIGINT`). What it has made in the kernel stays.
///
/// # Errors
/// Why it does not start, or cannot go on.
pub fn run(settings: Settings, manager: Option<ServiceManager>) -> Result<(), Error> {
    log::init(settings.log_format, settings.log_level);
    let _lock = take_directories(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start the runtime"))?;
    let outcome = runtime.block_on(work(settings, manager));
    // A part that hangs in a system call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Makes the directories; there is one agent for each.
fn take_directories(settings: &Settings) -> Result<File, Error> {
    let make = |path: &Path, mode| {
        files::make_directory(path, mode).map_err(Error::io(format!("make {}", path.display())))
    };
    make(&settings.state_dir, 0o700)?;
    make(&settings.run_dir, 0o755)?;
    let path = settings.state_dir.join(LOCK);
    lock(&path).map_err(Error::io(format!("take {}", path.display())))
}

async fn work(settings: Settings, manager: Option<ServiceManager>) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let mut agent = Agent::start(settings, manager).await?;
    loop {
        tokio::select! {
            ended = agent.parts.ended() => return Err(ended),
            asked = signals.next() => match asked {
                Asked::End => break,
                Asked::Reload => agent.read_files_again(),
            }
        }
    }
    agent.stop().await;
    Ok(())
}

/// An agent at work.
struct Agent {
    known: Arc<Known>,
    parts: Parts,
    manager: Option<ServiceManager>,
    /// Who is told that files are to be read again.
    reload: watch::Sender<()>,
    keys: watch::Sender<Arc<Keyring>>,
}

impl Agent {
    async fn start(settings: Settings, manager: Option<ServiceManager>) -> Result<Self, Error> {
        let (reload, reloaded) = watch::channel(());
        let traffic = Arc::default();
        let addresses = Underlay::look(&settings).addresses;
        let Chosen { store, id, keys } = Chosen::new(&settings, &addresses, reloaded, &traffic)?;

        let mut parts = Parts::default();
        let (pods, pods_receiver) = watch::channel(Vec::new());
        parts.start("what looks for pods", watch_pods(pods_config(&settings), pods));
        // It has looked when it waits for the first time. Others must not be told that this node's pods are gone: some of
        // them have routes of their own.
        tokio::task::yield_now().await;
        let first = Local { pods: pods_receiver.borrow().clone(), ..local::first(&settings, id) };
        let mtu = settings.mtu.unwrap_or_else(|| local::pods_mtu(&first));

        let local = watch::Sender::new(Arc::new(first));
        let view = watch::Sender::new(Arc::<View>::default());
        let ways = watch::Sender::new(Arc::new(Ways { mtu, ..Ways::default() }));
        let (requests, requests_receiver) = mpsc::channel(4);
        let known = Arc::new(Known {
            id,
            started: Instant::now(),
            store: StoreFacts { kind: store.kind(), endpoints: store.endpoints(), pods: store.pods() },
            local: local.subscribe(),
            view: view.subscribe(),
            ways: ways.subscribe(),
            requests,
            traffic,
            kernel: Arc::default(),
            settings,
        });
        say_who(&known);

        let links = Links { local: local.subscribe(), view, requests: requests_receiver };
        parts.start("the store", store.run(links));
        parts.start("what keeps the process small", keep_small());
        parts.start("what looks at this node", local::keep(known.settings.clone(), pods_receiver, local));
        parts.start("the data plane", data_plane(&known, ways, &keys));
        let mut agent = Self { known, parts, manager, reload, keys };
        agent.start_telling().await?;
        Ok(agent)
    }

    /// Starts what tells others, asked and unasked.
    async fn start_telling(&mut self) -> Result<(), Error> {
        let Self { known, parts, manager, .. } = self;
        let socket = known.settings.run_dir.join(api::SOCKET);
        let listener = api::listen(&known.settings.run_dir)
            .map_err(Error::io(format!("listen at {}", socket.display())))?;
        parts.start("the API", api::serve_people(listener, Arc::clone(known)));
        if let Some(address) = known.settings.health {
            let listener =
                TcpListener::bind(address).await.map_err(Error::io(format!("listen at {address}")))?;
            parts.start("the health API", api::serve_watchers(listener, Arc::clone(known)));
        }
        parts.start("what tells the plugin", told::tell_plugin(Arc::clone(known)));
        if known.settings.role == Role::Worker && known.settings.conf_dir.is_some() {
            parts.start("what tells the runtime", conf_list::write_when_ready(Arc::clone(known)));
        }
        if let Some(manager) = manager {
            parts.start(
                "what tells the service manager",
                told::tell_manager(Arc::clone(known), manager.clone()),
            );
        }
        Ok(())
    }

    fn read_files_again(&self) {
        log::info("asked to read files again");
        if let Some(manager) = &self.manager {
            manager.reloading();
        }
        self.reload.send_replace(());
        let settings = &self.known.settings;
        if let StoreSettings::Gossip(GossipSettings { key_file: Some(path), .. }) = &settings.store {
            keys::read_again(path, &settings.network, &self.keys);
        }
        if let Some(manager) = &self.manager {
            manager.ready(&told::status_line(&self.known));
        }
    }

    async fn stop(&mut self) {
        log::info("asked to end; the kernel keeps what was made");
        if let Some(manager) = &self.manager {
            manager.stopping();
        }
        self.parts.stop().await;
    }
}

fn say_who(known: &Known) {
    let Known { settings, store, id, .. } = known;
    let from = store.endpoints.join(", ");
    let (name, network, kind) = (&settings.name, &settings.network, store.kind);
    log::info(format_args!("node \"{name}\" ({id}) of network \"{network}\", store {kind}: {from}"));
}

fn pods_config(settings: &Settings) -> PodsConfig {
    PodsConfig {
        network: settings.network.clone(),
        data_dir: settings.data_dir.clone(),
        cache_dir: settings.cache_dir.clone(),
    }
}

async fn watch_pods(config: PodsConfig, told: watch::Sender<Vec<Pod>>) -> String {
    match pods::watch(config, told).await {
        Ok(()) => "nobody listens".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn data_plane(
    known: &Known,
    ways: watch::Sender<Arc<Ways>>,
    keys: &watch::Sender<Arc<Keyring>>,
) -> impl Future<Output = String> + Send + use<> {
    let (local, view, work) = (known.local.clone(), known.view.clone(), Arc::clone(&known.kernel));
    let links = dataplane::Links { local, view, ways, work };
    let seal = Box::new(ProbeSeal::new(keys.subscribe()));
    dataplane::run(dataplane::Settings::of(&known.settings), links, seal)
}

/// How often memory is given back that was needed for a moment.
const SHRINK: Duration = Duration::from_secs(60);

/// A thousand nodes that come at once are much work, and then hardly any.
async fn keep_small() -> String {
    loop {
        tokio::time::sleep(SHRINK).await;
        netops::shrink_footprint();
    }
}

/// The agent's parts at work.
#[derive(Default)]
struct Parts {
    tasks: JoinSet<(&'static str, String)>,
}

impl Parts {
    fn start(&mut self, name: &'static str, part: impl Future<Output = String> + Send + 'static) {
        self.tasks.spawn(async move { (name, part.await) });
    }

    /// Waits for one to end.
    async fn ended(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok((part, why))) => Error::Ended { part, why },
            // Where, and with what words, the panic has said itself.
            Some(Err(error)) => Error::Ended { part: "a part of the agent", why: error.to_string() },
            None => Error::Ended { part: "everything", why: "there was nothing to do".to_owned() },
        }
    }

    /// Ends all: a store says goodbye when it is dropped.
    async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// What people say to the process.
pub(crate) struct Signals {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Error> {
        let of = |kind| signal(kind).map_err(Error::io("wait for signals"));
        Ok(Self {
            term: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    /// Waits for one that asks for the end.
    pub(crate) async fn end(&mut self) {
        while !matches!(self.next().await, Asked::End) {}
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// What a signal means.
enum Asked {
    End,
    Reload,
}
