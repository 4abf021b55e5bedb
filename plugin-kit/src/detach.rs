//! The end of attachments: of one (`DEL`), and of all that nobody knows any more (`GC`).

use std::collections::HashSet;
use std::iter;

use cni_spec::plugin::{DelRequest, GcRequest};
use cni_spec::{AddResult, AttachmentId, Error};
use netops::{
    Answer, Kernel, Link, LinkKind, LinkName, LinkState, Mark, NamespaceProblem, Place, Plan, Query, Removed,
    Resource, VethPeer, read_link, read_links,
};

use crate::attach::Addressing;
use crate::error::{self, kernel_error};
use crate::kernels::{Kernels, Purpose};
use crate::owner::{MarkedOwner, Owner, network_prefix};

/// The cable of an attachment, by the names that follow from its owner.
pub(crate) fn cable_remnants(owner: &Owner) -> Result<Plan, Error> {
    let peer = VethPeer { place: Place::Container, name: owner.link()?, mtu: None, mac: None };
    let mut plan = Plan::new();
    plan.own(Place::Host, Resource::Link(Link::new(owner.host_interface(), LinkKind::Veth { peer })));
    Ok(plan)
}

/// Removes all that an attachment has in the kernel. Needs no namespace, no valid configuration, no previous result;
/// what is gone is fine.
pub(crate) fn detach(
    call: &DelRequest,
    owner: &Owner,
    remnants: &Plan,
    addressing: Addressing,
    kernels: &dyn Kernels,
) -> Result<(), Error> {
    let in_container = remnants.steps().iter().any(|step| step.place == Place::Container);
    let mut kernel = open(call, kernels, in_container)?;
    let mut errors = remove_marked(call, owner, addressing, &mut *kernel);
    let mut cable_found = false;
    for step in remnants.steps().iter().rev() {
        match kernel.remove(step.place, &[&step.resource]).pop() {
            Some(Ok(removed)) => cable_found |= step.place == Place::Host && removed == Removed::Now,
            // Whatever was in a namespace that is gone, or that is none, is gone with it.
            Some(Err(netops::Error::NoContainer)) | None => {}
            Some(Err(error)) => errors.push(kernel_error(&error)),
        }
    }
    if !in_container && !cable_found {
        errors.extend(remove_foreign_cable(call, owner, kernels).err());
    }
    error::join(errors)
}

/// Opens the kernel, with the container's namespace if it is wanted and still there.
fn open<'k>(
    call: &DelRequest,
    kernels: &'k dyn Kernels,
    wanted: bool,
) -> Result<Box<dyn Kernel + 'k>, Error> {
    let container = call.netns.as_deref().filter(|_| wanted);
    match kernels.open(container, Purpose::Detach) {
        // A path that leads nowhere, or to the plain file that an unmount left, is a namespace that is gone.
        Err(netops::Error::Namespace {
            problem: NamespaceProblem::Gone | NamespaceProblem::NotANamespace,
            ..
        }) => kernels.open(None, Purpose::Detach),
        opened => opened,
    }
    .map_err(|e| kernel_error(&e))
}

/// Removes what bears the owner's mark in nf_tables. With the attachment's previous result the entries are found by
/// their addresses; without it, or where it does not lead to all of them, all are looked through.
fn remove_marked(
    call: &DelRequest,
    owner: &Owner,
    addressing: Addressing,
    kernel: &mut dyn Kernel,
) -> Vec<Error> {
    let mark = owner.mark();
    let mut look = |queries: &[Query]| {
        let answers = kernel.read(Place::Host, queries).map_err(|e| kernel_error(&e))?;
        Ok::<_, Error>(marked(answers, |other| *other == mark))
    };
    let spoof_check = Query::SpoofCheck(owner.host_interface());
    let everything = [spoof_check.clone(), Query::Masquerades];
    let found = match call.config.prev_result() {
        // What has no address is not masqueraded. (And `loopback` is in every container.)
        _ if addressing == Addressing::Never => look(&[spoof_check]),
        Ok(Some(previous)) if is_of(&previous, owner) => {
            let masquerades = previous.ips.iter().map(|ip| Query::Masquerade(ip.address.addr()));
            match look(&iter::once(spoof_check).chain(masquerades).collect::<Vec<_>>()) {
                Ok(found) if masquerades_in(&found) < previous.ips.len() && may_masquerade(call) => {
                    look(&everything)
                }
                found => found,
            }
        }
        _ => look(&everything),
    };
    match found {
        Ok(found) => remove_all(kernel, &found),
        Err(error) => vec![error],
    }
}

fn masquerades_in(found: &[(Place, Resource)]) -> usize {
    found.iter().filter(|(_, resource)| matches!(resource, Resource::Masquerade(_))).count()
}

/// Whether the configuration says that the attachment masquerades, or cannot be read.
fn may_masquerade(call: &DelRequest) -> bool {
    !matches!(call.config.get::<bool>("ipMasq"), Ok(None | Some(false)))
}

/// Whether a result is the attachment's own, and not one that a runtime mixed up: it names the host's end of its cable,
/// or addresses and no such end at all.
fn is_of(result: &AddResult, owner: &Owner) -> bool {
    let mut cables = result.interfaces.iter().filter(|i| i.sandbox.is_none() && i.name.starts_with("veth"));
    match cables.next() {
        None => !result.ips.is_empty(),
        Some(first) => iter::once(first).chain(cables).any(|i| i.name == owner.host_interface().as_str()),
    }
}

/// The reference gives the host's end a random name: such a cable is found by its other end, if the container is
/// still there. So is one of our own that was renamed; but not another network's, whose interface's being there is
/// why this one's `ADD` failed.
fn remove_foreign_cable(call: &DelRequest, owner: &Owner, kernels: &dyn Kernels) -> Result<(), Error> {
    if call.netns.is_none() {
        return Ok(());
    }
    let mut kernel = open(call, kernels, true)?;
    let name = owner.link()?;
    let link = match read_link(&mut *kernel, Place::Container, &name) {
        Ok(Some(link)) if link.kind == "veth" => link,
        Ok(_) | Err(netops::Error::NoContainer) => return Ok(()),
        Err(error) => return Err(kernel_error(&error)),
    };
    let links = read_links(&mut *kernel, Place::Host).map_err(|e| kernel_error(&e))?;
    let is_other_end = |end: &&LinkState| {
        end.kind == "veth" && Some(end.index) == link.peer_index && end.peer_index == Some(link.index)
    };
    let mark = links.iter().find(is_other_end).and_then(|end| end.alias.as_deref());
    if mark.is_some_and(|mark| MarkedOwner::parse(mark).is_some() && mark != owner.mark().as_str()) {
        return Ok(());
    }
    let resource = veth_by_name(link.name);
    error::join(remove_all(&mut *kernel, &[(Place::Container, resource)]))
}

/// Removes what bears the mark of an attachment of the network that is not valid any more.
pub(crate) fn collect_garbage(call: &GcRequest, kernels: &dyn Kernels) -> Result<(), Error> {
    let network = call.config.name();
    let owner = |valid: &AttachmentId| Owner {
        network: network.clone(),
        container: valid.container_id.clone(),
        interface: valid.if_name.clone(),
    };
    let valid: HashSet<Mark> = call.valid_attachments.iter().map(|v| owner(v).mark()).collect();
    let prefix = network_prefix(network);
    let stale = |mark: &Mark| mark.as_str().starts_with(&prefix) && !valid.contains(mark);

    let mut kernel = kernels.open(None, Purpose::Detach).map_err(|e| kernel_error(&e))?;
    let answers =
        kernel.read(Place::Host, &[Query::Masquerades, Query::SpoofChecks]).map_err(|e| kernel_error(&e))?;
    let mut found = marked(answers, stale);
    let links = read_links(&mut *kernel, Place::Host).map_err(|e| kernel_error(&e))?;
    for link in links {
        let mark = link.alias.as_deref().and_then(|alias| Mark::new(alias).ok());
        if mark.is_some_and(|mark| stale(&mark)) {
            found.push((Place::Host, veth_by_name(link.name)));
        }
    }
    error::join(remove_all(&mut *kernel, &found))
}

/// Removes nf_tables entries in a plan's way whose owner has no interface any more: a reference's DEL, which knows
/// nothing of them, was the last of it. Tells whether there were any.
///
/// # Errors
/// If the owner of one is alive; the error names it.
pub(crate) fn remove_abandoned(plan: &Plan, kernel: &mut dyn Kernel) -> Result<bool, Error> {
    let queries: Vec<_> = plan.steps().iter().filter_map(|step| entry_query(&step.resource)).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    let found = marked(answers, |_| true);
    if found.is_empty() {
        return Ok(false);
    }
    let links = read_links(kernel, Place::Host).map_err(|e| kernel_error(&e))?;
    for (_, entry) in &found {
        let Some(mark) = mark_of(entry).filter(|mark| is_alive(mark, &links)) else { continue };
        let ours = plan.steps().iter().any(|step| mark_of(&step.resource) == Some(mark));
        let text = match ours {
            true => format!("{entry} is this attachment's already: a second ADD needs a DEL before it"),
            false => format!("{entry} is another attachment's: do two networks share a subnet?"),
        };
        return Err(Error::new(error::CONFLICT, text).with_details(mark.to_string()));
    }
    error::join(remove_all(kernel, &found))?;
    Ok(true)
}

/// Whether an attachment has its interface on the host: by its mark, or, should someone have changed that, by its name.
fn is_alive(mark: &Mark, links: &[LinkState]) -> bool {
    let name = MarkedOwner::parse(mark.as_str()).map(|owner| owner.host_interface());
    links.iter().any(|link| link.alias.as_deref() == Some(mark.as_str()) || Some(&link.name) == name.as_ref())
}

/// What asks for the nf_tables entry of a resource's key, if it is one.
fn entry_query(resource: &Resource) -> Option<Query> {
    match resource {
        Resource::Masquerade(masquerade) => Some(Query::Masquerade(masquerade.source)),
        Resource::SpoofCheck(check) => Some(Query::SpoofCheck(check.port.clone())),
        _ => None,
    }
}

fn mark_of(resource: &Resource) -> Option<&Mark> {
    match resource {
        Resource::Masquerade(masquerade) => Some(&masquerade.mark),
        Resource::SpoofCheck(check) => Some(&check.mark),
        _ => None,
    }
}

/// A cable of which one end's name is known, to be removed: the other end's does not matter.
fn veth_by_name(name: LinkName) -> Resource {
    let peer = VethPeer { place: Place::Container, name: name.clone(), mtu: None, mac: None };
    Resource::Link(Link::new(name, LinkKind::Veth { peer }))
}

/// The nf_tables entries among answers whose mark is wanted.
fn marked(answers: Vec<Answer>, wanted: impl Fn(&Mark) -> bool) -> Vec<(Place, Resource)> {
    let mut found = Vec::new();
    for answer in answers {
        match answer {
            Answer::Masquerades(list) => found.extend(list.into_iter().map(Resource::Masquerade)),
            Answer::SpoofChecks(list) => found.extend(list.into_iter().map(Resource::SpoofCheck)),
            _ => {}
        }
    }
    found.retain(|resource| mark_of(resource).is_some_and(&wanted));
    found.into_iter().map(|resource| (Place::Host, resource)).collect()
}

/// Removes resources in their order, going on after failures.
fn remove_all(kernel: &mut dyn Kernel, found: &[(Place, Resource)]) -> Vec<Error> {
    let mut errors = Vec::new();
    for run in found.chunk_by(|a, b| a.0 == b.0) {
        let Some((place, _)) = run.first() else { continue };
        let resources: Vec<_> = run.iter().map(|(_, resource)| resource).collect();
        errors.extend(kernel.remove(*place, &resources).into_iter().filter_map(Result::err));
    }
    errors.iter().map(kernel_error).collect()
}
