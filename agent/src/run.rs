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
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::choice::Chosen;
use crate::dataplane::{self, ProbeSeal};
use crate::error::Error;
use crate::files;
use crate::keys;
use crate::known::{Known, StoreFacts, Ways};
use crate::local::{self, Underlay};
use crate::pods::{self, PodsConfig};
use crate::settings::{GossipSettings, Settings, StoreSettings};
use crate::store::Links;
use crate::systemd::ServiceManager;
use crate::traffic::Traffic;
use crate::{api, conf_list, log, told};

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
    let path = settings.state_dir.join("lock");
    files::lock(&path).map_err(Error::io(format!("take {}", path.display())))
}

async fn work(settings: Settings, manager: Option<ServiceManager>) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let addresses = Underlay::look(&settings).addresses;
    let (reload, reloaded) = watch::channel(());
    let traffic = Arc::<Traffic>::default();
    let Chosen { store, id, keys } = Chosen::new(&settings, &addresses, reloaded, &traffic)?;
    let mut parts = Parts::default();
    let (pods, pods_receiver) = watch::channel(Vec::new());
    parts.start("what looks for pods", watch_pods(PodsConfig::new(settings.network.clone()), pods));
    // It has looked when it waits for the first time. Others must not be told that this node's pods are gone: some of them
    // have routes of their own.
    tokio::task::yield_now().await;
    let first = Local { pods: pods_receiver.borrow().clone(), ..local::first(&settings, id) };
    let (local, local_receiver) = watch::channel(Arc::new(first));
    let (view, view_receiver) = watch::channel(Arc::<View>::default());
    let mtu = settings.mtu.unwrap_or_else(|| local::pods_mtu(&local.borrow()));
    let (ways, ways_receiver) = watch::channel(Arc::new(Ways { mtu, ..Ways::default() }));
    let (requests, requests_receiver) = mpsc::channel(4);
    let known = Arc::new(Known {
        id,
        started: Instant::now(),
        store: StoreFacts { kind: store.kind(), endpoints: store.endpoints() },
        local: local_receiver.clone(),
        view: view_receiver.clone(),
        ways: ways_receiver,
        requests,
        traffic,
        settings,
    });
    log::info(format_args!(
        "node \"{}\" ({}) of network \"{}\", store {}: {}",
        known.settings.name,
        known.id,
        known.settings.network,
        known.store.kind,
        known.store.endpoints.join(", ")
    ));

    let links = Links { local: local_receiver, view, requests: requests_receiver };
    parts.start("the store", store.run(links));
    let listener = api::listen(&known.settings.run_dir)
        .map_err(Error::io(format!("listen at {}", known.settings.run_dir.join(api::SOCKET).display())))?;
    parts.start("the API", api::serve_people(listener, Arc::clone(&known)));
    if let Some(address) = known.settings.health {
        let listener = TcpListener::bind(address).await.map_err(Error::io(format!("listen at {address}")))?;
        parts.start("the health API", api::serve_watchers(listener, Arc::clone(&known)));
    }
    parts.start("what tells the plugin", told::tell_plugin(Arc::clone(&known)));
    if known.settings.role == Role::Worker && known.settings.conf_dir.is_some() {
        parts.start("what tells the runtime", conf_list::write_when_ready(Arc::clone(&known)));
    }
    if let Some(manager) = manager.clone() {
        parts.start("what tells the service manager", told::tell_manager(Arc::clone(&known), manager));
    }
    parts.start("what looks at this node", local::keep(known.settings.clone(), pods_receiver, local));
    let plane = dataplane::Links { local: known.local.clone(), view: known.view.clone(), ways };
    let seal = Box::new(ProbeSeal::new(keys.subscribe()));
    parts.start("the data plane", dataplane::run(dataplane::Settings::of(&known.settings), plane, seal));

    loop {
        tokio::select! {
            ended = parts.ended() => return Err(ended),
            asked = signals.next() => match asked {
                Asked::End => break,
                Asked::Reload => read_files_again(&reload, &keys, manager.as_ref(), &known),
            }
        }
    }
    log::info("asked to end; the kernel keeps what was made");
    if let Some(manager) = &manager {
        manager.stopping();
    }
    parts.stop().await;
    Ok(())
}

async fn watch_pods(config: PodsConfig, told: watch::Sender<Vec<Pod>>) -> String {
    match pods::watch(config, told).await {
        Ok(()) => "nobody listens".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn read_files_again(
    reload: &watch::Sender<()>,
    keys: &watch::Sender<Arc<Keyring>>,
    manager: Option<&ServiceManager>,
    known: &Known,
) {
    log::info("asked to read files again");
    if let Some(manager) = manager {
        manager.reloading();
    }
    reload.send_replace(());
    if let StoreSettings::Gossip(GossipSettings { key_file: Some(path), .. }) = &known.settings.store {
        keys::read_again(path, &known.settings.network, keys);
    }
    if let Some(manager) = manager {
        manager.ready(&told::status_line(known));
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
struct Signals {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let of = |kind| signal(kind).map_err(Error::io("wait for signals"));
        Ok(Self {
            term: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            hangup: of(SignalKind::hangup())?,
        })
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
