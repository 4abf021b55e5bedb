//! Where others may be: addresses as they are written, names as they resolve now.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::sockets::is_own;
use crate::log;
use crate::settings::{GossipSettings, Seed};

/// How long after a look seeds are looked at again, as long as nobody answers: at first, when a whole cluster may be about to
/// start, and at the most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How long a name server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a look has found: for each seed its addresses, or why there are none.
pub(super) type Found = Vec<(Seed, Result<Vec<SocketAddr>, String>)>;

/// Where others may be.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<Seed>,
    /// Where this node listens: at all of its addresses, if none is here.
    listen: Vec<IpAddr>,
    port: u16,
    next: Option<Instant>,
    pause: Duration,
    looking: bool,
}

impl Seeds {
    /// For a node that listens itself, and is nobody that it could ask.
    pub(super) fn new(settings: GossipSettings) -> Self {
        let GossipSettings { seeds, listen, port, .. } = settings;
        Self {
            next: (!seeds.is_empty()).then(Instant::now),
            seeds,
            listen,
            port,
            pause: AGAIN.0,
            looking: false,
        }
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        self.next.filter(|_| !self.looking).unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    /// Looks, if it is time: as long as nobody answers, and names may resolve to something else.
    pub(super) fn look(&mut self, now: Instant, is_isolated: bool, found: &mpsc::Sender<Found>) {
        if !is_isolated {
            self.pause = AGAIN.0;
        } else if !self.looking && self.next.is_none() && !self.seeds.is_empty() {
            self.next = Some(now + self.pause);
            self.pause = (self.pause * 2).min(AGAIN.1);
        }
        if self.looking || self.next.is_none_or(|next| now < next) {
            return;
        }
        self.looking = true;
        self.next = None;
        let (seeds, found) = (self.seeds.clone(), found.clone());
        tokio::spawn(async move {
            let mut all = Vec::new();
            for seed in seeds {
                let addresses = resolve(&seed).await;
                all.push((seed, addresses));
            }
            // Who asked may have gone.
            let _ = found.send(all).await;
        });
    }

    fn is_own(&self, address: &SocketAddr) -> bool {
        let listens = match self.listen.is_empty() {
            true => is_own(address.ip()),
            false => self.listen.contains(&address.ip()),
        };
        address.port() == self.port && listens
    }

    /// The addresses of others. A name that has none yet counts as somebody who does not answer: the node is not alone.
    pub(super) fn found(&mut self, found: Found) -> Vec<SocketAddr> {
        self.looking = false;
        let mut addresses = BTreeSet::new();
        for (seed, resolved) in found {
            match resolved {
                Ok(resolved) => {
                    addresses.extend(resolved.into_iter().filter(|address| !self.is_own(address)))
                }
                Err(why) => {
                    log::warning(format_args!("seed {seed}: {why}"));
                    addresses.insert(nowhere());
                    self.next = Some(Instant::now() + AGAIN.1);
                }
            }
        }
        addresses.into_iter().collect()
    }
}

/// The address of somebody whose address is not known: nothing is sent there.
pub(super) fn nowhere() -> SocketAddr {
    SocketAddr::new(IpAddr::from(Ipv6Addr::UNSPECIFIED), 0)
}

async fn resolve(seed: &Seed) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = seed.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, seed.port)]);
    }
    let looking = timeout(PATIENCE, lookup_host((seed.host.as_str(), seed.port))).await;
    let found: Vec<_> =
        looking.map_err(|_| "the name server does not answer")?.map_err(|e| e.to_string())?.collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}
