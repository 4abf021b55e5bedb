//! [`Kernel::remove`](crate::Kernel::remove).

use std::os::fd::AsFd;

use super::create::Means;
use super::netlink::{Datagram, Refusal, Reply};
use super::rtnetlink::link::Flag;
use super::rtnetlink::{address, link, neighbour, next_hop, route, rule, tc};
use super::{LinuxKernel, detached, foreign, nft, read, refused};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Removed;
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::{MovedLink, Resource, Route, RouteTarget};

pub(super) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    resources: &[&Resource],
) -> Vec<Result<Removed, Error>> {
    if let Err(error) = kernel.side(place) {
        return vec![Err(error); resources.len()];
    }
    let mut outcomes = Vec::with_capacity(resources.len());
    let kind = |resource: &Resource| (Means::of(resource), matches!(resource, Resource::Link(_)));
    for run in resources.chunk_by(|a, b| kind(a) == kind(b)) {
        outcomes.extend(match run.first().map(|first| kind(first)) {
            Some((Means::Rtnetlink, true)) => links(kernel, place, run),
            Some((Means::Rtnetlink, false)) => by_rtnetlink(kernel, place, run),
            Some((Means::Nftables, _)) => nft::remove(kernel, place, run),
            Some((Means::Netfilter, _)) => foreign::remove(kernel, place, run),
            Some((Means::Ruleset, _)) => take_down(kernel, place, run),
            // These have no opposite.
            Some((Means::File | Means::Patience, _)) | None => vec![Ok(Removed::Before); run.len()],
        });
    }
    outcomes
}

/// Takes down what can be taken down of what was set up.
fn take_down(kernel: &mut LinuxKernel, place: Place, run: &[&Resource]) -> Vec<Result<Removed, Error>> {
    let mut remove = |resource: &&Resource| match resource {
        Resource::Isolation(isolation) => nft::isolation::remove(kernel, place, isolation),
        Resource::OverlayRules(_) => nft::overlay::remove(kernel, place),
        _ => Ok(Removed::Before),
    };
    run.iter().map(&mut remove).collect()
}

/// Removes links: by a process of its own, if that is wanted and as far as it works, else by this one, which then
/// learns what stands in the way.
fn links(kernel: &mut LinuxKernel, place: Place, run: &[&Resource]) -> Vec<Result<Removed, Error>> {
    let mut gone = Vec::new();
    if kernel.detached {
        gone = match remove_detached(
            kernel,
            place,
            run.iter().filter_map(|resource| link_of(resource)).collect(),
        ) {
            Ok(gone) => gone,
            Err(error) => return vec![Err(error); run.len()],
        };
    }
    let is_gone = |resource: &&&Resource| link_of(resource).is_some_and(|name| gone.contains(&name));
    let left: Vec<_> = run.iter().filter(|resource| !is_gone(resource)).copied().collect();
    let mut outcomes = by_rtnetlink(kernel, place, &left).into_iter();
    kernel.forget_links();
    let outcome = |resource| if is_gone(&resource) { Some(Ok(Removed::Now)) } else { outcomes.next() };
    run.iter().filter_map(outcome).collect()
}

/// Removes those links that are there, and returns those that are gone by that.
fn remove_detached<'a>(
    kernel: &mut LinuxKernel,
    place: Place,
    links: Vec<&'a LinkName>,
) -> Result<Vec<&'a LinkName>, Error> {
    let mut gone = detached::present(kernel, place, links)?;
    if !gone.is_empty() {
        let left = detached::remove(kernel, place, gone.clone())?;
        gone.retain(|link| !left.contains(link));
    }
    Ok(gone.into_iter().map(|(name, _)| name).collect())
}

fn link_of(resource: &Resource) -> Option<&LinkName> {
    match resource {
        Resource::Link(link) => Some(&link.name),
        _ => None,
    }
}

/// All in one datagram: that one fails is nothing to the others.
fn by_rtnetlink(kernel: &mut LinuxKernel, place: Place, run: &[&Resource]) -> Vec<Result<Removed, Error>> {
    let mut datagram = Datagram::default();
    // By resource, the message that decides, or none if there is nothing to remove.
    let messages: Vec<_> =
        run.iter().map(|resource| write_request(kernel, place, resource, &mut datagram)).collect();
    let mut replies = match kernel.exchange(place, &mut datagram, Operation::Remove, "interfaces") {
        Ok(replies) => replies,
        Err(error) => return vec![Err(error); run.len()],
    };
    let mut decide = |resource: &Resource, message: Option<usize>| {
        let Some(message) = message else { return Ok(Removed::Before) };
        let reply: Reply = replies.get_mut(message).map(std::mem::take).unwrap_or_default();
        match reply.refusal {
            None => Ok(Removed::Now),
            Some(refusal) if was_gone(resource, &refusal) => Ok(Removed::Before),
            Some(refusal) => Err(refused(Operation::Remove, place, &resource.to_string(), refusal)),
        }
    };
    run.iter().zip(messages).map(|(resource, message)| decide(resource, message?)).collect()
}

/// Writes the request to remove something, and says which that is, if there is any need for one.
fn write_request(
    kernel: &mut LinuxKernel,
    place: Place,
    resource: &Resource,
    datagram: &mut Datagram,
) -> Result<Option<usize>, Error> {
    match resource {
        Resource::Link(link) => link::delete(datagram, &link.name),
        Resource::LinkUp(name) => link::set_flag(datagram, name, Flag::Up, false),
        Resource::Promiscuous(name) => link::set_flag(datagram, name, Flag::Promiscuous, false),
        Resource::Master(master) => match index(kernel, place, &master.link)? {
            Some(index) => link::set_master(datagram, index, 0),
            None => return Ok(None),
        },
        Resource::MovedLink(moved) => return take_back(kernel, place, moved, datagram),
        Resource::Address(address) => match index(kernel, place, &address.link)? {
            Some(index) => address::delete(datagram, index, address),
            None => return Ok(None),
        },
        Resource::Route(route) => match route.link().map(|link| index(kernel, place, link)).transpose()? {
            Some(None) => return Ok(None),
            Some(index) => route::delete(datagram, index, route),
            None => route::delete(datagram, None, route),
        },
        Resource::NextHop(hop) => next_hop::delete(datagram, hop.id),
        Resource::Neighbour(neighbour) => match index(kernel, place, &neighbour.link)? {
            Some(index) => neighbour::delete(datagram, index, neighbour.address),
            None => return Ok(None),
        },
        Resource::Proxy(proxy) => match index(kernel, place, &proxy.link)? {
            Some(index) => neighbour::delete_proxy(datagram, index, proxy.address),
            None => return Ok(None),
        },
        Resource::Fdb(entry) => match index(kernel, place, &entry.link)? {
            Some(index) => neighbour::delete_fdb(datagram, index, entry.mac),
            None => return Ok(None),
        },
        Resource::Qdisc(qdisc) => match index(kernel, place, &qdisc.link)? {
            Some(index) => tc::delete(datagram, index, &qdisc.discipline),
            None => return Ok(None),
        },
        Resource::Redirect(redirect) => match index(kernel, place, &redirect.from)? {
            Some(index) => tc::delete_redirects(datagram, index),
            None => return Ok(None),
        },
        Resource::Rule(rule) => rule::delete(datagram, rule),
        // These have no opposite, or go by other means.
        Resource::Settings(_)
        | Resource::LinkDown(_)
        | Resource::FixedMac(_)
        | Resource::NoRoute(_)
        | Resource::Port(_)
        | Resource::Settled(_)
        | Resource::Sysctl(_)
        | Resource::Entry(_)
        | Resource::Foreign(_)
        | Resource::Isolation(_)
        | Resource::ForwardJump(_)
        | Resource::OverlayRules(_) => {
            return Ok(None);
        }
    }
    Ok(datagram.len().checked_sub(1))
}

/// Writes the request to take a moved link back, if it is there and known by its alias.
fn take_back(
    kernel: &mut LinuxKernel,
    place: Place,
    moved: &MovedLink,
    datagram: &mut Datagram,
) -> Result<Option<usize>, Error> {
    let Some(link) = read::link(kernel, place, &moved.name)? else { return Ok(None) };
    if link.alias.as_deref() != Some(moved.original.as_str()) {
        return Ok(None);
    }
    if read::link(kernel, moved.from, &moved.original)?.is_some() {
        let text = format!("there is an interface \"{}\" in the {}'s namespace", moved.original, moved.from);
        let refusal = Refusal { errno: Errno::EEXIST, detail: Some(text) };
        let object = Resource::MovedLink(moved.clone()).to_string();
        return Err(refused(Operation::Remove, place, &object, refusal));
    }
    let home = kernel.side(moved.from)?.namespace()?.as_fd();
    link::move_to(datagram, link.index, home, &moved.original, "");
    kernel.forget_links();
    Ok(datagram.len().checked_sub(1))
}

fn index(kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<Option<u32>, Error> {
    if let Some(known) = kernel.side(place)?.links.get(name) {
        return Ok(Some(known.index));
    }
    Ok(read::link(kernel, place, name)?.map(|link| link.index))
}

/// Whether the kernel refused because there was nothing to remove.
pub(super) fn was_gone(resource: &Resource, refusal: &Refusal) -> bool {
    match resource {
        // `ENXIO`: there is no IPv6 on the interface, whose MTU is too small for it.
        Resource::Address(_) => {
            matches!(refusal.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO)
        }
        // What a next hop that is gone means for IPv4's routes by it, which are gone with it.
        Resource::Route(Route { target: RouteTarget::NextHop(_), .. }) if refusal.errno == Errno::EINVAL => {
            true
        }
        // `ENOENT`: the IPv6 default route that stands for there being none, out of loopback (`fib6_null_entry`).
        Resource::Route(_) | Resource::NoRoute(_) => {
            matches!(refusal.errno, Errno::ESRCH | Errno::ENODEV | Errno::ENOENT)
        }
        Resource::NextHop(_) | Resource::Neighbour(_) | Resource::Proxy(_) | Resource::Fdb(_) => {
            matches!(refusal.errno, Errno::ENOENT | Errno::ENODEV)
        }
        // `EINVAL`: another discipline is in the place, one of the kernel's own for instance; nothing that a filter
        // could hang from.
        Resource::Qdisc(_) | Resource::Redirect(_) => {
            matches!(refusal.errno, Errno::EINVAL | Errno::ENODEV | Errno::ENOENT)
        }
        // `EAFNOSUPPORT`: there are no rules of that family.
        Resource::Rule(_) => [Errno::ENOENT, Errno::new(libc::EAFNOSUPPORT)].contains(&refusal.errno),
        _ => refusal.errno == Errno::ENODEV,
    }
}
