//! Attachments that the reference made: what it keeps elsewhere counts as ours would, and goes when they go.

use std::collections::HashSet;
use std::net::IpAddr;

use cni_spec::plugin::GcRequest;
use cni_spec::{AttachmentId, Error};
use netops::{Address, Answer, Kernel, LinkState, Place, Plan, Query, Resource, read_links};

use crate::detach::{by_name, is_marked, remove_all, remove_foreign};
use crate::error::{self, kernel_error};
use crate::kernels::{Kernels, Purpose};
use crate::owner::Owner;
use crate::reference;

/// Whether something is a matter of netfilter, where each implementation has its own ways.
pub(crate) fn is_filter(resource: &Resource) -> bool {
    matches!(resource, Resource::Entry(_) | Resource::ForwardJump(_) | Resource::Isolation(_))
}

/// How netfilter differs from a plan, where the reference's rules are as good as ours.
///
/// # Errors
/// As the kernel's.
pub(crate) fn check(filters: &Plan, owner: &Owner, kernel: &mut dyn Kernel) -> Result<Vec<Error>, Error> {
    let mut errors = Vec::new();
    if filters.check(kernel).map_err(|e| kernel_error(&e))?.is_empty() {
        return Ok(errors);
    }
    for step in filters.steps() {
        let plan = filters.only(|other| other == step);
        let differences = plan.check(kernel).map_err(|e| kernel_error(&e))?;
        if differences.is_empty() || is_served(&step.resource, owner, kernel)? {
            continue;
        }
        errors
            .extend(differences.iter().map(|difference| Error::new(error::DIFFERS, difference.to_string())));
    }
    Ok(errors)
}

/// Whether rules of the reference's do what something of ours would, as far as it can be known.
pub(crate) fn is_served(resource: &Resource, owner: &Owner, kernel: &mut dyn Kernel) -> Result<bool, Error> {
    let rules = reference::equivalents(resource, owner);
    let queries: Vec<_> = rules.into_iter().map(Query::Foreign).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    Ok(answers.contains(&Answer::Foreign(true)))
}

/// The reference's plugins whose attachments have an end on the node.
const CABLE_MAKERS: [&str; 2] = ["bridge", "ptp"];

/// Removes what the reference has made for attachments of the network that are not valid any more. Their leases, and
/// the comments on its rules, say which those are.
pub(crate) fn collect(
    call: &GcRequest,
    plugin: &str,
    stale: &[(AttachmentId, IpAddr)],
    kernels: &dyn Kernels,
) -> Result<(), Error> {
    let network = call.config.name();
    let owner = |attachment: &AttachmentId| Owner {
        network: network.clone(),
        container: attachment.container_id.clone(),
        interface: attachment.if_name.clone(),
    };
    let containers: HashSet<&str> = call.valid_attachments.iter().map(|v| v.container_id.as_str()).collect();
    let instances: HashSet<_> =
        call.valid_attachments.iter().map(|v| reference::instance(&owner(v))).collect();

    let mut kernel = kernels.open(None, Purpose::Detach).map_err(|e| kernel_error(&e))?;
    let queries: Vec<_> = reference::indices().map(Query::Comments).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    let comments: Vec<_> = answers.into_iter().flat_map(comments).collect();
    let mut rules = reference::stale(
        network,
        &comments,
        |container| containers.contains(container),
        |instance| instances.contains(instance),
    );
    for (attachment, address) in stale {
        rules.extend(reference::spoof_check(&owner(attachment)));
        rules.extend(reference::firewall([*address]));
    }
    let mut known = HashSet::new();
    rules.retain(|rules| known.insert(rules.clone()));
    let mut errors = remove_foreign(&mut *kernel, rules);
    // Of a plugin that makes no cables, one with such an address is the node's own: `host-device` gave its other end away.
    let foreign = match CABLE_MAKERS.contains(&plugin) {
        true => foreign_cables(call, stale, &mut *kernel),
        false => Ok(Vec::new()),
    };
    match foreign {
        Ok(cables) => {
            let cables: Vec<_> = cables.into_iter().map(|cable| (Place::Host, by_name(cable.name))).collect();
            errors.extend(remove_all(&mut *kernel, &cables));
        }
        Err(error) => errors.push(error),
    }
    error::join(errors)
}

fn comments(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Comments(comments) => comments,
        _ => Vec::new(),
    }
}

/// Cables without a mark of ours, where the network's are plugged in, whose other end has one of some leases' addresses
/// and interface names.
fn foreign_cables(
    call: &GcRequest,
    stale: &[(AttachmentId, IpAddr)],
    kernel: &mut dyn Kernel,
) -> Result<Vec<LinkState>, Error> {
    if stale.is_empty() {
        return Ok(Vec::new());
    }
    let links = read_links(kernel, Place::Host).map_err(|e| kernel_error(&e))?;
    let master = match bridge_of(call) {
        Some(name) => match links.iter().find(|link| link.name.as_str() == name) {
            Some(bridge) => Some(bridge.index),
            None => return Ok(Vec::new()),
        },
        None => None,
    };
    // The other end is elsewhere: a pair of which both ends are here is the node's own.
    let is_cable = |link: &LinkState| link.kind == "veth" && link.peer_namespace.is_some();
    let candidates = links.into_iter().filter(|l| is_cable(l) && l.master == master && !is_marked(l));
    let is_stale = |net: &Address| {
        stale.iter().any(|(attachment, address)| {
            (attachment.if_name.as_str(), *address) == (net.link.as_str(), net.net.addr())
        })
    };
    let mut found = Vec::new();
    for cable in candidates {
        let answers = kernel.read(Place::Host, &[Query::PeerAddresses(cable.name.clone())]);
        if let Some(Answer::Addresses(nets)) = answers.map_err(|e| kernel_error(&e))?.first()
            && nets.iter().any(is_stale)
        {
            found.push(cable);
        }
    }
    Ok(found)
}

/// The bridge that a network's cables are plugged into, if it has one.
fn bridge_of(call: &GcRequest) -> Option<String> {
    let kind = call.config.get::<String>("type").ok()??;
    (kind == "bridge").then(|| match call.config.get::<String>("bridge") {
        Ok(Some(name)) if !name.is_empty() => name,
        _ => "cni0".to_owned(),
    })
}
