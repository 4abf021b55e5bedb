//! The store `gossip`: agents tell one another. This is what moves its bytes; what they mean is [`overlay::mesh`]'s.
//!
//! ```text
//! sockets     datagrams, of both families
//! exchange    streams: all at once, for a joiner or a big gap
//! core        the mesh and its seals: what comes in, what goes out, what must be on disk before
//! disk        what outlives a restart
//! seeds       where others may be
//! ```

mod core;
mod disk;
mod exchange;
mod seeds;
mod sockets;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::gossip::seal::Keyring;
use cni_spec::NetworkName;
use overlay::{Local, NodeId, Pool};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::core::{Core, Shared};
use self::disk::Disk;
use self::exchange::Listeners;
use self::seeds::Seeds;
use self::sockets::Sockets;
use super::{Links, Request, Running, Store};
use crate::counters::Traffic;
use crate::log;
use crate::settings::GossipSettings;

/// The topology by gossip.
#[derive(Debug)]
pub struct Gossip {
    settings: GossipSettings,
    pool: Pool,
    disk: Disk,
    keys: watch::Receiver<Arc<Keyring>>,
    traffic: Arc<Traffic>,
}

impl Gossip {
    /// Of a node of a network; what must outlive a restart is in `state_dir`.
    pub(crate) fn new(
        settings: GossipSettings,
        pool: Pool,
        node: NodeId,
        network: &NetworkName,
        state_dir: PathBuf,
        keys: watch::Receiver<Arc<Keyring>>,
        traffic: Arc<Traffic>,
    ) -> Self {
        let disk = Disk::new(state_dir.join(format!("gossip-{network}.json")), node);
        Self { settings, pool, disk, keys, traffic }
    }
}

impl Store for Gossip {
    fn kind(&self) -> &'static str {
        "gossip"
    }

    fn endpoints(&self) -> Vec<String> {
        self.settings.seeds.iter().map(ToString::to_string).collect()
    }

    fn run(self: Box<Self>, links: Links) -> Running {
        Box::pin(async move {
            match run(*self, links).await {
                Ok(()) => "nobody asks any more".to_owned(),
                Err(why) => why,
            }
        })
    }
}

/// How long to wait before what could not be written is tried again.
const DISK_AGAIN: Duration = Duration::from_secs(1);

async fn run(store: Gossip, mut links: Links) -> Result<(), String> {
    let Gossip { settings, pool, disk, mut keys, traffic } = store;
    let sockets = Sockets::bind(&settings.listen, settings.port)?;
    let listeners = Listeners::bind(&settings.listen, settings.port)?;
    if !keys.borrow().is_secure() {
        log::warning("gossip goes without a key: whoever reaches its port can redirect every pod's traffic");
    }
    let local = (**links.local.borrow_and_update()).clone();
    let addresses = gossip_addresses(&local, settings.port);
    let mesh_settings = overlay::mesh::Settings {
        pool,
        gossip: ::gossip::Config::default(),
        claims: overlay::ClaimSettings::default(),
        bootstrap: settings.bootstrap,
    };
    let core = Core::new(mesh_settings, local, addresses, disk, keys.borrow_and_update().clone(), traffic)?;
    let core = Shared::new(core, sockets.clone());
    if !settings.seeds.is_empty() {
        // It is not alone, although nobody knows yet where the others are.
        core.join(&[seeds::nowhere()]);
    }
    // Gone with this future: who is told that this node leaves does not have to find out.
    let _farewell = core.farewell();
    let mut exchanges = JoinSet::new();
    exchanges.spawn(listeners.serve(core.clone()));
    let (resolved, mut resolutions) = mpsc::channel(1);
    let mut seeds = Seeds::new(settings.clone());

    loop {
        let due = core.work(&links.view);
        for address in core.wanted_exchanges() {
            exchanges.spawn(exchange::ask(core.clone(), address));
        }
        seeds.look(Instant::now(), core.is_isolated(), &resolved);
        let due = due.min(seeds.due()).min(core.disk_due(DISK_AGAIN));
        tokio::select! {
            () = sockets.readable() => sockets.drain(|from, datagram| core.receive(from, datagram)),
            () = core.woken() => {}
            () = sleep_until(due) => core.advance(),
            changed = links.local.changed() => {
                changed.map_err(|_| "nobody knows this node any more")?;
                let local = (**links.local.borrow_and_update()).clone();
                core.set_local(local, settings.port);
            }
            changed = keys.changed() => {
                changed.map_err(|_| "nobody has the keys any more")?;
                core.set_keyring(&keys.borrow_and_update());
            }
            Some(found) = resolutions.recv() => core.join(&seeds.found(found)),
            request = links.requests.recv() => match request {
                Some(Request::Forget { node, reply }) => {
                    // Who asked may have gone.
                    let _ = reply.send(core.forget(&node));
                }
                None => return Ok(()),
            },
            Some(_) = exchanges.join_next() => {}
        }
    }
}

/// Where others reach this node's gossip.
fn gossip_addresses(local: &Local, port: u16) -> Vec<SocketAddr> {
    local.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
}
