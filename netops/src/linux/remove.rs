//! [`Kernel::remove`](crate::Kernel::remove).

use super::create::Means;
use super::netlink::{Datagram, Refusal, Reply};
use super::rtnetlink::link::Flag;
use super::rtnetlink::{address, link, route};
use super::{LinuxKernel, nft, read, refused};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Removed;
use crate::name::LinkName;
use crate::plan::Place;
use crate::resource::Resource;

pub(super) fn remove(
    kernel: &mut LinuxKernel,
    place: Place,
    resources: &[&Resource],
) -> Vec<Result<Removed, Error>> {
    if kernel.room(place).is_err() {
        // The container is gone, and all that was in it.
        return vec![Ok(Removed::Before); resources.len()];
    }
    let mut outcomes = Vec::with_capacity(resources.len());
    for run in resources.chunk_by(|a, b| Means::of(a) == Means::of(b)) {
        outcomes.extend(match run.first().map(|first| Means::of(first)) {
            Some(Means::Rtnetlink) => by_rtnetlink(kernel, place, run),
            Some(Means::Nftables) => nft::remove(kernel, place, run),
            _ => vec![Ok(Removed::Before); run.len()],
        });
    }
    outcomes
}

/// All in one datagram: that one fails is nothing to the others.
fn by_rtnetlink(kernel: &mut LinuxKernel, place: Place, run: &[&Resource]) -> Vec<Result<Removed, Error>> {
    let mut datagram = Datagram::default();
    // By resource, the message that decides, or what is known without one.
    let mut verdicts = Vec::with_capacity(run.len());
    for resource in run {
        verdicts.push(write_request(kernel, place, resource, &mut datagram));
    }
    let mut replies = match kernel.exchange(place, &mut datagram, Operation::Remove, "interfaces") {
        Ok(replies) => replies,
        Err(error) => return vec![Err(error); run.len()],
    };
    if run.iter().any(|resource| matches!(resource, Resource::Link(_))) {
        kernel.forget_links();
    }
    let decide = |(resource, verdict): (&&Resource, _)| match verdict {
        Err(error) => Err(error),
        Ok(None) => Ok(Removed::Before),
        Ok(Some(message)) => {
            let reply: Reply = replies.get_mut(message).map(std::mem::take).unwrap_or_default();
            match reply.refusal {
                None => Ok(Removed::Now),
                Some(refusal) if was_gone(resource, &refusal) => Ok(Removed::Before),
                Some(refusal) => Err(refused(Operation::Remove, place, &resource.to_string(), refusal)),
            }
        }
    };
    run.iter().zip(verdicts).map(decide).collect()
}

/// Writes the request to remove something; returns which message of the datagram that is, if there is any need for one.
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
        Resource::Address(address) => match index(kernel, place, &address.link)? {
            Some(index) => address::delete(datagram, index, address),
            None => return Ok(None),
        },
        Resource::Route(route) => match index(kernel, place, &route.link)? {
            Some(index) => route::delete(datagram, index, route),
            None => return Ok(None),
        },
        // These have no opposite.
        Resource::Port(_)
        | Resource::Settled(_)
        | Resource::Sysctl(_)
        | Resource::Masquerade(_)
        | Resource::SpoofCheck(_) => {
            return Ok(None);
        }
    }
    Ok(datagram.len().checked_sub(1))
}

fn index(kernel: &mut LinuxKernel, place: Place, name: &LinkName) -> Result<Option<u32>, Error> {
    if let Some(known) = kernel.room(place)?.links.get(name) {
        return Ok(Some(known.index));
    }
    Ok(read::link(kernel, place, name)?.map(|link| link.index))
}

/// Whether the kernel refused because there was nothing to remove.
fn was_gone(resource: &Resource, refusal: &Refusal) -> bool {
    match resource {
        Resource::Address(_) => matches!(refusal.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV),
        Resource::Route(_) => matches!(refusal.errno, Errno::ESRCH | Errno::ENODEV),
        _ => refusal.errno == Errno::ENODEV,
    }
}
