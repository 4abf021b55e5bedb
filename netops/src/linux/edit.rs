//! [`Kernel::edit`](crate::Kernel::edit): thousands of requests, as many in a datagram as fit, of which the last is
//! acknowledged.
//!
//! The kernel tells of what it refuses whether it is asked to acknowledge or not, by the number of the request. It works off a
//! datagram to the end, whatever it refuses of it.

use std::collections::HashMap;

use super::netlink::{Datagram, Refusal, Reply};
use super::remove::was_gone;
use super::rtnetlink::{neighbour, next_hop, route};
use super::{LinuxKernel, read, refused};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Edit;
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::Resource;

/// How long a datagram may get. What the kernel copies in one piece it has to find in one piece.
const FULL: usize = 32 * 1024;
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const INSTEAD: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

pub(super) fn edit(kernel: &mut LinuxKernel, place: Place, edits: &[Edit<'_>]) -> Vec<Result<(), Error>> {
    let indices = match indices(kernel, place, edits) {
        Ok(indices) => indices,
        Err(error) => return vec![Err(error); edits.len()],
    };
    let mut results = Vec::with_capacity(edits.len());
    let mut rest = edits;
    while !rest.is_empty() {
        let (mut datagram, written) = fill(place, rest, &indices);
        let (now, later) = rest.split_at(written.len());
        results.extend(send(kernel, place, now, &mut datagram, written));
        rest = later;
    }
    results
}

/// What became of writing one request: it is a message of the datagram, or there is nothing to be done, or nothing that can.
enum Written {
    Message,
    Needless,
    Impossible(Error),
}

/// Writes requests until a datagram is full.
fn fill(
    place: Place,
    edits: &[Edit<'_>],
    indices: &HashMap<&LinkName, Option<u32>>,
) -> (Datagram, Vec<Written>) {
    let mut datagram = Datagram::default();
    let mut written = Vec::new();
    for edit in edits {
        if datagram.length() >= FULL {
            break;
        }
        written.push(write(place, *edit, indices, &mut datagram));
    }
    (datagram, written)
}

fn write(
    place: Place,
    edit: Edit<'_>,
    indices: &HashMap<&LinkName, Option<u32>>,
    datagram: &mut Datagram,
) -> Written {
    if let Edit::Remove(Resource::NextHop(hop)) = edit {
        // By its number, wherever it leads.
        next_hop::delete(datagram, hop.id);
        return Written::Message;
    }
    let index = match link(edit.resource()).map(|link| (link, indices.get(link).copied().flatten())) {
        None => None,
        Some((_, Some(index))) => Some(index),
        // With its interface it is gone.
        Some((_, None)) if matches!(edit, Edit::Remove(_)) => return Written::Needless,
        Some((link, None)) => {
            let detail = Some(format!("there is no interface \"{link}\""));
            return impossible(place, edit, Refusal { errno: Errno::ENODEV, detail });
        }
    };
    let flags = if matches!(edit, Edit::Replace(_)) { INSTEAD } else { NEW };
    match (edit, index) {
        (Edit::Remove(Resource::Route(route)), _) => route::delete(datagram, index, route),
        (Edit::Remove(Resource::Neighbour(neighbour)), Some(index)) => {
            neighbour::delete(datagram, index, neighbour.address);
        }
        (Edit::Remove(Resource::Proxy(proxy)), Some(index)) => {
            neighbour::delete_proxy(datagram, index, proxy.address);
        }
        (Edit::Remove(Resource::Fdb(entry)), Some(index)) => {
            neighbour::delete_fdb(datagram, index, entry.mac);
        }
        (_, _) => match (edit.resource(), index) {
            (Resource::Route(route), _) => route::put(datagram, flags, index, route),
            (Resource::NextHop(hop), _) => next_hop::put(datagram, flags, index, hop),
            (Resource::Neighbour(neighbour), Some(index)) => {
                neighbour::put(datagram, flags, index, neighbour);
            }
            (Resource::Proxy(proxy), Some(index)) => neighbour::put_proxy(datagram, flags, index, proxy),
            (Resource::Fdb(entry), Some(index)) => neighbour::put_fdb(datagram, flags, index, entry),
            _ => {
                let detail = Some("not one of many".to_owned());
                return impossible(place, edit, Refusal { errno: Errno::EOPNOTSUPP, detail });
            }
        },
    }
    Written::Message
}

fn impossible(place: Place, edit: Edit<'_>, refusal: Refusal) -> Written {
    Written::Impossible(refused(operation(edit), place, &edit.resource().to_string(), refusal))
}

/// Sends a datagram, and says of each of its requests what came of it.
fn send(
    kernel: &mut LinuxKernel,
    place: Place,
    edits: &[Edit<'_>],
    datagram: &mut Datagram,
    written: Vec<Written>,
) -> Vec<Result<(), Error>> {
    let mut replies = match exchange(kernel, place, datagram) {
        Ok(replies) => replies.into_iter(),
        Err(error) => return vec![Err(error); edits.len()],
    };
    let mut outcome = |(edit, written): (&Edit<'_>, Written)| match written {
        Written::Needless => Ok(()),
        Written::Impossible(error) => Err(error),
        Written::Message => match (edit, replies.next().unwrap_or_default().refusal) {
            (_, None) => Ok(()),
            (Edit::Remove(resource), Some(refusal)) if was_gone(resource, &refusal) => Ok(()),
            (_, Some(refusal)) => {
                let resource = edit.resource();
                Err(refused(operation(*edit), place, &resource.to_string(), refusal))
            }
        },
    };
    edits.iter().zip(written).map(&mut outcome).collect()
}

fn exchange(kernel: &mut LinuxKernel, place: Place, datagram: &mut Datagram) -> Result<Vec<Reply>, Error> {
    let Some(last) = datagram.len().checked_sub(1) else { return Ok(Vec::new()) };
    let socket = kernel.side(place)?.route()?;
    socket.expect_many();
    let replies = socket.exchange_whole(datagram, last);
    replies.map_err(|failure| super::failed(Operation::Create, place, "many things", failure))
}

fn operation(edit: Edit<'_>) -> Operation {
    match edit {
        Edit::Make(_) | Edit::Replace(_) => Operation::Create,
        Edit::Remove(_) => Operation::Remove,
    }
}

/// The interface that something refers to.
fn link(resource: &Resource) -> Option<&LinkName> {
    match resource {
        Resource::Route(route) => route.link(),
        Resource::NextHop(hop) => hop.via.link(),
        Resource::Neighbour(neighbour) => Some(&neighbour.link),
        Resource::Proxy(proxy) => Some(&proxy.link),
        Resource::Fdb(entry) => Some(&entry.link),
        _ => None,
    }
}

/// The indices of the interfaces that are referred to, looked up anew: others make and remove them too.
fn indices<'a>(
    kernel: &mut LinuxKernel,
    place: Place,
    edits: &[Edit<'a>],
) -> Result<HashMap<&'a LinkName, Option<u32>>, Error> {
    let mut names: Vec<_> = edits.iter().filter_map(|edit| link(edit.resource())).collect();
    names.sort();
    names.dedup();
    read::indices(kernel, place, &names)
}
