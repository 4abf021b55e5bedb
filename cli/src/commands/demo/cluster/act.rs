//! What happens: pods are attached, all of them ask one another, packets are caught, and all of it goes again.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netops::{LinkName, LinuxKernel, Namespace, PacketSocket, Place, read_link, read_links};

use super::super::echo::Family;
use super::super::namespaces::take_note;
use super::super::ping::{Pinger, Witness};
use super::frame::{self, Layer};
use super::report::{Attached, Capture, Deleted, Ping};
use super::world::{Node, Pod, World};
use crate::exit::Exit;
use crate::failure::Failure;

/// Pings after the first, of which the fastest counts.
const REPEATS: usize = 2;
/// The largest frame that is looked at.
const FRAME: usize = 2048;

/// A pod, and what came of its `ADD`.
pub(super) struct Home {
    pub(super) pod: Pod,
    pub(super) attached: Attached,
}

impl Home {
    /// Makes a pod on a node, and attaches it.
    pub(super) fn new(world: &World, place: usize, number: usize) -> Result<Self, Failure> {
        let Some(node) = world.nodes.get(place) else {
            return Err(Failure::new(Exit::Failed, "there is no such node"));
        };
        let pod = Pod::new(place, number)?;
        let start = Instant::now();
        let result = node.attach(&pod)?;
        let took = start.elapsed();
        let interface = pod.attachment.if_name().as_str();
        let own =
            result.ips.iter().filter(|ip| result.interface_of(ip).is_none_or(|own| own.name == interface));
        let on_host = result.interfaces.iter().filter(|interface| interface.sandbox.is_none());
        let attached = Attached {
            pod: pod.name.clone(),
            node: node.name.clone(),
            netns: pod.netns.clone(),
            addresses: own.map(|ip| ip.address).collect(),
            gateways: result.ips.iter().filter_map(|ip| ip.gateway).collect(),
            // The reference's order, which other programs rely on too: the bridge, the cable's end, the pod's end.
            host_interface: on_host.map(|interface| interface.name.clone()).nth(1).unwrap_or_default(),
            took,
        };
        node.namespace.enter(|| take_note(&attached.host_interface))??;
        Ok(Self { pod, attached })
    }
}

/// So many pods on every node that is to have some.
pub(super) fn attach(world: &World, pods: usize) -> Result<Vec<Home>, Failure> {
    let workers = world.workers().flat_map(|(place, _)| (0..pods).map(move |number| (place, number)));
    workers.map(|(place, number)| Home::new(world, place, number)).collect()
}

/// Which pairs ask one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pairs {
    All,
    /// Both on other nodes than this, or both on it.
    SameSideOf(usize),
    /// The first pod of each node.
    OneOfEachNode,
}

impl Pairs {
    fn include(self, homes: &[Home], from: &Home, to: &Home) -> bool {
        let is_first = |home: &Home| firsts(homes).any(|first| first.pod.name == home.pod.name);
        match self {
            Self::All => true,
            Self::SameSideOf(node) => (from.pod.node == node) == (to.pod.node == node),
            Self::OneOfEachNode => is_first(from) && is_first(to),
        }
    }
}

/// The first pod of each node.
pub(super) fn firsts(homes: &[Home]) -> impl Iterator<Item = &Home> + Clone {
    let earlier = |at: usize| homes.iter().take(at);
    homes
        .iter()
        .enumerate()
        .filter(move |(at, home)| earlier(*at).all(|other| other.pod.node != home.pod.node))
        .map(|(_, home)| home)
}

/// Each pod asks each other, as far as the pairs include them.
pub(super) fn talk(homes: &[Home], pairs: Pairs) -> Result<Vec<Ping>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Failed, format!("open a socket for ICMP in a namespace: {error}"))
    };
    let mut pings = Vec::new();
    for from in homes {
        for to in homes.iter().filter(|to| to.pod.name != from.pod.name && pairs.include(homes, from, to)) {
            if let (Some(source), Some(address)) = (from.attached.address(), to.attached.address()) {
                pings.push(ask(from, to, source, address).map_err(failed)?);
            }
        }
    }
    Ok(pings)
}

fn ask(from: &Home, to: &Home, source: IpAddr, address: IpAddr) -> io::Result<Ping> {
    let family = Family::of(address);
    let witness = Witness::open(&to.pod.namespace, family)?;
    // Each pod has its namespace to itself, so one identifier does for all.
    let mut pinger = Pinger::open(&from.pod.namespace, family, 1)?;
    let first = pinger.ping(address);
    let mut then = None;
    if matches!(first, Ok(Some(_))) {
        then = (0..REPEATS).filter_map(|_| pinger.ping(address).ok().flatten()).min();
    }
    let sources = witness.sources()?;
    // One that is not the pod's says more than one that is.
    let seen_as = sources.iter().find(|seen| **seen != source).or_else(|| sources.first()).copied();
    Ok(Ping {
        from: from.pod.name.clone(),
        to: to.pod.name.clone(),
        source,
        address,
        between_nodes: from.pod.node != to.pod.node,
        error: first.as_ref().err().map(|error| format!("{} to {address}: {error}", from.pod.name)),
        first: first.ok().flatten(),
        then,
        seen_as,
    })
}

/// How long until one answers another, asked again and again; `None` if it does not within a time.
pub(super) fn until_answered(from: &Home, to: &Home, within: Duration) -> Option<Duration> {
    const A_MOMENT: Duration = Duration::from_millis(100);
    let start = Instant::now();
    let address = to.attached.address()?;
    let mut pinger = Pinger::open(&from.pod.namespace, Family::of(address), 2).ok()?;
    while start.elapsed() < within {
        match pinger.ping_within(A_MOMENT, address) {
            Ok(Some(_)) => return Some(start.elapsed()),
            Ok(None) => {}
            // There is no route yet.
            Err(_) => std::thread::sleep(A_MOMENT / 4),
        }
    }
    None
}

/// Listens on a node's cable, so that what is said there can be looked at later.
pub(super) struct Tap {
    node: String,
    socket: PacketSocket,
}

impl Tap {
    pub(super) fn on(world: &World, node: &Node) -> Result<Self, Failure> {
        let socket = PacketSocket::open_all(&world.segment, port(world, node)?)?;
        Ok(Self { node: node.name.clone(), socket })
    }

    /// The first that was said and is meant.
    fn find(&self, is_meant: impl Fn(&[Layer]) -> bool) -> Result<Option<(usize, Vec<Layer>)>, Failure> {
        let mut buffer = [0; FRAME];
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(length) => {
                    let layers: Vec<Layer> = frame::layers(buffer.get(..length).unwrap_or_default());
                    if is_meant(&layers) {
                        return Ok(Some((length, layers)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => {
                    return Err(Failure::new(
                        Exit::Failed,
                        format!("catch packets of {}: {error}", self.node),
                    ));
                }
            }
        }
    }

    /// The first probe that went through a tunnel from here.
    pub(super) fn probe(&self, world: &World) -> Result<Option<Capture>, Failure> {
        let of = |address: IpAddr| world.nodes.iter().find(|node| node.address == address);
        let ends = |layers: &[Layer]| match frame::ends_of_probe(layers) {
            Some((from, to)) => of(from).filter(|from| from.name == self.node).zip(of(to)),
            None => None,
        };
        let found = self.find(|layers| ends(layers).is_some())?;
        Ok(found.and_then(|(bytes, layers)| {
            let (from, to) = ends(&layers)?;
            Some(Capture {
                from: from.name.clone(),
                to: to.name.clone(),
                node: self.node.clone(),
                bytes,
                layers,
            })
        }))
    }
}

/// Catches one ping between two nodes on the cable of the first.
pub(super) fn capture(world: &World, from: &Home, to: &Home) -> Result<Option<Capture>, Failure> {
    let Some(node) = world.nodes.get(from.pod.node) else { return Ok(None) };
    let (Some(source), Some(address)) = (from.attached.address(), to.attached.address()) else {
        return Ok(None);
    };
    let tap = Tap::on(world, node)?;
    let refused = |error: io::Error| Failure::new(Exit::Failed, format!("ping from {}: {error}", node.name));
    let mut pinger = Pinger::open(&from.pod.namespace, Family::of(address), 3).map_err(refused)?;
    // Without an answer there may be something to see nevertheless.
    let _ = pinger.ping(address);
    let found = tap.find(|layers| frame::is_request(layers, source, address))?;
    Ok(found.map(|(bytes, layers)| {
        let (from, to) = (from.pod.name.clone(), to.pod.name.clone());
        Capture { from, to, node: node.name.clone(), bytes, layers }
    }))
}

/// The index of a node's port on the segment.
fn port(world: &World, node: &Node) -> Result<u32, Failure> {
    let mut kernel = LinuxKernel::new(Some(world.segment.try_clone()?));
    match read_link(&mut kernel, Place::Container, &node.port)? {
        Some(link) => Ok(link.index),
        None => Err(Failure::new(Exit::Failed, format!("{} is not plugged into the segment", node.name))),
    }
}

/// `DEL` of every pod, and a look at what is left.
pub(super) fn delete(world: &World, homes: &[Home]) -> Result<Deleted, Failure> {
    let start = Instant::now();
    for home in homes {
        if let Some(node) = world.nodes.get(home.pod.node) {
            node.detach(&home.pod)?;
        }
    }
    let took = start.elapsed();
    let mut left = Vec::new();
    for home in homes {
        let namespace = Namespace::open(&home.pod.netns)?;
        left.extend(links_in(namespace)?.into_iter().map(|link| format!("{link} in {}", home.pod.name)));
    }
    for (_, node) in world.workers() {
        let links = links_in(Namespace::open(&node.netns)?)?;
        let cables = homes.iter().map(|home| home.attached.host_interface.as_str());
        let cables: Vec<_> = cables.filter(|cable| links.iter().any(|link| link == cable)).collect();
        left.extend(cables.into_iter().map(|cable| format!("{cable} on {}", node.name)));
        let cached = node.runtime.attachments()?.attachments;
        left.extend(
            cached.iter().map(|cached| format!("{} in the cache of {}", cached.identity(), node.name)),
        );
    }
    Ok(Deleted { pods: homes.len(), left, took })
}

/// The interfaces in a namespace, but for its loopback.
fn links_in(namespace: Namespace) -> Result<Vec<String>, Failure> {
    let links = read_links(&mut LinuxKernel::new(Some(namespace)), Place::Container)?;
    let others = links.iter().filter(|link| link.name != LinkName::loopback());
    Ok(others.map(|link| link.name.to_string()).collect())
}
