//! What happens to the pods: they are attached, they talk, they are checked, they are detached.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni_spec::AddResult;

use super::super::echo::Family;
use super::super::namespaces::take_note;
use super::super::ping::{Pinger, Witness};
use super::report::{Attached, Done, OUTSIDE, Talk};
use super::world::{Pod, World};
use crate::exit::Exit;
use crate::failure::Failure;

/// Pings after the first, of which the fastest counts.
const REPEATS: usize = 3;

/// `ADD` of every pod.
pub(super) fn attach(world: &World) -> Result<Vec<Attached>, Failure> {
    world.pods.iter().map(|pod| attach_one(world, pod)).collect()
}

fn attach_one(world: &World, pod: &Pod) -> Result<Attached, Failure> {
    let start = Instant::now();
    let result = world.runtime.add(&world.list, &pod.attachment)?;
    let took = start.elapsed();
    let on_host = |nth: usize| {
        let mut interfaces = result.interfaces.iter().filter(|interface| interface.sandbox.is_none());
        interfaces.nth(nth).map(|interface| interface.name.clone()).unwrap_or_default()
    };
    take_note(&on_host(1))?;
    let plugins = world.calls.of(&pod.name);
    Ok(Attached {
        pod: pod.name.clone(),
        netns: pod.netns.clone(),
        interface: pod.attachment.if_name().to_string(),
        addresses: own_addresses(&result, pod),
        gateways: result.ips.iter().filter_map(|ip| ip.gateway).collect(),
        // The reference's order, which other programs rely on too: the bridge, the cable's end, the pod's end.
        bridge: on_host(0),
        host_interface: on_host(1),
        plugins,
        took,
    })
}

fn own_addresses(result: &AddResult, pod: &Pod) -> Vec<ipnet::IpNet> {
    let name = pod.attachment.if_name().as_str();
    let own = result.ips.iter().filter(|ip| result.interface_of(ip).is_none_or(|own| own.name == name));
    own.map(|ip| ip.address).collect()
}

/// Each pod asks its neighbour, the gateway, and the outside.
pub(super) fn talk(world: &World, attached: &[Attached]) -> Result<Vec<Talk>, Failure> {
    let mut talks = Vec::new();
    let pods = || world.pods.iter().zip(attached);
    if attached.len() > 1 {
        for ((pod, home), neighbour) in pods().zip(attached.iter().cycle().skip(1)) {
            let addresses = neighbour.addresses.iter().map(|net| net.addr());
            talks.extend(ask_all(world, pod, home, &neighbour.pod, addresses)?);
        }
    }
    for (pod, home) in pods() {
        talks.extend(ask_all(world, pod, home, "gateway", home.gateways.iter().copied())?);
    }
    for (pod, home) in pods() {
        let addresses = world.setting.outside_addresses.iter().map(|net| net.addr());
        talks.extend(ask_all(world, pod, home, OUTSIDE, addresses)?);
    }
    Ok(talks)
}

/// Asks every address of one that the pod has an address of the same family for.
fn ask_all(
    world: &World,
    pod: &Pod,
    home: &Attached,
    to: &str,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<Vec<Talk>, Failure> {
    let speaks =
        |address: &IpAddr| home.addresses.iter().any(|own| own.addr().is_ipv4() == address.is_ipv4());
    let failed = |error: io::Error| {
        Failure::new(Exit::Failed, format!("open a socket for ICMP in a namespace: {error}"))
    };
    addresses.filter(speaks).map(|address| ask(world, pod, to, address).map_err(failed)).collect()
}

fn ask(world: &World, pod: &Pod, to: &str, address: IpAddr) -> io::Result<Talk> {
    let family = Family::of(address);
    let witness = if to == OUTSIDE { Some(Witness::open(&world.outside, family)?) } else { None };
    // Each pod has its namespace to itself, so one identifier does for all.
    let mut pinger = Pinger::open(&pod.namespace, family, 1)?;
    let first = pinger.ping(address);
    let mut talk = Talk {
        from: pod.name.clone(),
        to: to.to_owned(),
        address,
        first: None,
        then: None,
        error: first.as_ref().err().map(|error| format!("{} to {address}: {error}", pod.name)),
        seen_as: None,
    };
    if let Ok(Some(time)) = first {
        talk.first = Some(time);
        let others: Vec<Duration> =
            (0..REPEATS).filter_map(|_| pinger.ping(address).ok().flatten()).collect();
        talk.then = others.into_iter().min();
    }
    if let Some(witness) = witness {
        // One that is not the node's says more than one that is.
        let sources = witness.sources()?;
        let is_uplink =
            |source: &&IpAddr| world.setting.uplink_addresses.iter().any(|net| net.addr() == **source);
        talk.seen_as = sources.iter().find(|source| !is_uplink(source)).or_else(|| sources.first()).copied();
    }
    Ok(talk)
}

/// `CHECK` of every pod.
pub(super) fn check(world: &World) -> Result<Vec<Done>, Failure> {
    timed(world, |pod| world.runtime.check(&world.list, &pod.attachment))
}

/// `DEL` of every pod.
pub(super) fn delete(world: &World) -> Result<Vec<Done>, Failure> {
    timed(world, |pod| world.runtime.del(&world.list, &pod.attachment))
}

fn timed<E: Into<Failure>>(world: &World, act: impl Fn(&Pod) -> Result<(), E>) -> Result<Vec<Done>, Failure> {
    let each = |pod: &Pod| {
        let start = Instant::now();
        act(pod).map_err(Into::into)?;
        Ok(Done { what: pod.name.clone(), took: start.elapsed() })
    };
    world.pods.iter().map(each).collect()
}
