//! What is known of the node's pods, and what has to be looked up because it changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netops::{Error, Kernel, LinkState, Place, read_links};
use overlay::Pod;
use plugin_kit::{MarkedOwner, network_prefix};
use tokio::time::Instant;

use super::PodsConfig;
use super::names::{PodName, Records};

/// When what is not known yet of a pod is looked up again. A runtime writes down what it has attached when all plugins of
/// the list are through.
const PATIENCE: &[Duration] = &[
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// The pods of a network on this node.
pub(super) struct Register {
    /// What the marks of the network's attachments begin with.
    prefix: String,
    records: Box<dyn Records>,
    /// By the index of the cable's end on the host.
    known: BTreeMap<u32, Known>,
}

/// What is known of a pod.
struct Known {
    /// As it was when it was looked at.
    link: Look,
    pod: Pod,
    /// What Kubernetes calls it, once that is known.
    name: Option<PodName>,
    /// When it is looked at again, if something is missing; and how often that was done.
    due: Option<Instant>,
    tries: usize,
}

/// What of a cable's end tells that its other end may have changed. Whatever is done to it, it goes down and up, or it is
/// another cable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    mark: String,
    up: bool,
    carrier: bool,
    peer: (Option<u32>, Option<i32>),
}

impl Register {
    pub(super) fn new(config: &PodsConfig, records: impl Records + 'static) -> Self {
        Self { prefix: network_prefix(&config.network), records: Box::new(records), known: BTreeMap::new() }
    }

    /// Looks at the node's interfaces, and into those pods whose cable has changed or of which something is missing.
    pub(super) fn survey(&mut self, kernel: &mut dyn Kernel, now: Instant) -> Result<(), Error> {
        let links = read_links(kernel, Place::Host)?;
        let is_ours = |link: &LinkState| link.alias.as_deref().is_some_and(|a| a.starts_with(&self.prefix));
        let cables: Vec<_> = plugin_kit::cables(&links).filter(|(link, _)| is_ours(link)).collect();
        self.known.retain(|index, known| {
            cables
                .iter()
                .any(|(link, _)| link.index == *index && link.alias.as_deref() == Some(&known.link.mark))
        });
        for (link, owner) in &cables {
            let look = Look::at(link);
            let known = match self.known.entry(link.index) {
                Entry::Vacant(vacant) => vacant.insert(Known::new(owner, look)),
                Entry::Occupied(known) => {
                    let known = known.into_mut();
                    let has_changed = known.link != look;
                    if has_changed {
                        (known.link, known.tries) = (look, 0);
                    } else if known.due.is_none_or(|due| due > now) {
                        continue;
                    }
                    known
                }
            };
            known.look(owner, link, kernel, &*self.records);
            known.wait(now);
        }
        Ok(())
    }

    /// When something that is missing may be there.
    pub(super) fn due(&self) -> Option<Instant> {
        self.known.values().filter_map(|known| known.due).min()
    }

    /// The pods, in the order of their containers and interfaces.
    pub(super) fn pods(&self) -> Vec<Pod> {
        let mut pods: Vec<_> = self.known.values().map(|known| known.pod.clone()).collect();
        pods.sort_by(|a, b| (a.container(), a.interface()).cmp(&(b.container(), b.interface())));
        pods
    }
}

impl Known {
    fn new(owner: &MarkedOwner<'_>, link: Look) -> Self {
        let pod = Pod::new(owner.container, owner.interface, []);
        Self { link, pod, name: None, due: None, tries: 0 }
    }

    /// Looks up addresses, and names if there are none yet.
    fn look(
        &mut self,
        owner: &MarkedOwner<'_>,
        link: &LinkState,
        kernel: &mut dyn Kernel,
        records: &dyn Records,
    ) {
        // A cable may be gone by now; there will be word of it.
        let there = plugin_kit::peer_addresses(kernel, &link.name).unwrap_or_default();
        // A container that may set its own addresses can set anybody's. What others are told is what it was given.
        let leased = if there.is_empty() { Vec::new() } else { records.leased(owner) };
        let mut addresses: Vec<IpAddr> =
            there.iter().map(IpNet::addr).filter(|ip| leased.contains(ip)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if self.name.is_none() {
            self.name = records.name(owner);
        }
        let PodName { namespace, name } = self.name.clone().unwrap_or_default();
        self.pod = Pod::new(owner.container, owner.interface, addresses)
            .named(namespace.as_deref(), name.as_deref());
    }

    /// Plans to look again, if something is missing and may still come.
    fn wait(&mut self, now: Instant) {
        let is_whole = self.name.is_some() && !self.pod.addresses().is_empty();
        self.due = PATIENCE.get(self.tries).filter(|_| !is_whole).map(|pause| now + *pause);
        self.tries += 1;
    }
}

impl Look {
    fn at(link: &LinkState) -> Self {
        Self {
            mark: link.alias.clone().unwrap_or_default(),
            up: link.up,
            carrier: link.carrier,
            peer: (link.peer_index, link.peer_namespace),
        }
    }
}
