//! The end of attachments: of one (`DEL`), and of all that nobody knows any more (`GC`).

use std::collections::HashSet;
use std::iter;

use cni_spec::plugin::{DelRequest, GcRequest};
use cni_spec::{AddResult, AttachmentId, Error};
use netops::{
    Answer, Entry, EntryKey, EntryKind, ForeignRules, Kernel, Link, LinkKind, LinkName, LinkState, Mark,
    NamespaceProblem, Place, Plan, Query, Removed, Resource, read_entries, read_link, read_links,
};

use crate::attach::{Attach, Remains};
use crate::error::{self, kernel_error};
use crate::kernels::{Kernels, Purpose};
use crate::owner::{MarkedOwner, Owner, network_prefix};

/// What leads to the entries that an attachment may have in nf_tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// What entries there may be.
    pub kinds: &'static [EntryKind],
    /// The keys that they have, one look-up each; `None` if nothing is known of them: then all entries of the kinds are
    /// looked through for the owner's mark.
    pub keys: Option<Vec<EntryKey>>,
    /// How many entries there surely are: if fewer are found, the keys are wrong, and all entries are looked through.
    pub at_least: usize,
}

impl Traces {
    /// There are no entries.
    pub const fn none() -> Self {
        Self { kinds: &[], keys: Some(Vec::new()), at_least: 0 }
    }

    /// The entries that go with a cable: its spoof check, and the masquerades of the addresses in the previous result.
    pub(crate) fn of_cable(call: &DelRequest, owner: &Owner) -> Self {
        let spoof_check = EntryKey::SpoofCheck(owner.host_interface());
        let keys = match call.config.prev_result() {
            Ok(Some(previous)) if is_of(&previous, owner) => {
                let masquerades = previous.ips.iter().map(|ip| EntryKey::Masquerade(ip.address.addr()));
                Some(masquerades.chain([spoof_check]).collect())
            }
            _ => None,
        };
        let mut at_least = usize::from(may_be(call, "macspoofchk"));
        if may_be(call, "ipMasq") {
            // All keys but the spoof check's.
            at_least += keys.as_ref().map_or(0, |keys: &Vec<_>| keys.len() - 1);
        }
        Self { kinds: &[EntryKind::Masquerade, EntryKind::SpoofCheck], keys, at_least }
    }
}

/// Removes all that an attachment has in the kernel. Needs no namespace, no valid configuration, no previous result;
/// what is gone is fine.
pub(crate) fn detach<P: Attach>(
    plugin: &P,
    call: &DelRequest,
    owner: &Owner,
    kernels: &dyn Kernels,
) -> Result<(), Error> {
    let inside = matches!(P::REMAINS, Remains::Inside | Remains::Interface(_));
    let mut kernel = open(call, kernels, inside)?;
    let kernel = &mut *kernel;
    // nf_tables first: what waits for the links' end waits for the closing of its socket as well.
    let mut errors = remove_marked(plugin.traces(call, owner), &owner.mark(), kernel);
    errors.extend(remove_foreign(kernel, plugin.references_rules(call, owner)));
    match P::REMAINS {
        Remains::Cable => errors.extend(remove_cable(call, owner, kernel, kernels).err()),
        Remains::Interface(kind) => errors.extend(remove_interface(kind, owner, kernel).err()),
        Remains::Inside | Remains::Outside => match plugin.remnants(call, owner, kernel) {
            Ok(remnants) => errors.extend(remnants.remove(kernel).iter().filter_map(left)),
            Err(error) => errors.push(error),
        },
    }
    errors.extend(plugin.restore(call, owner, kernel).err());
    error::join(errors)
}

/// What could not be removed. Whatever was in a namespace that is gone, or that is none, is gone with it.
fn left(error: &netops::Error) -> Option<Error> {
    match error {
        netops::Error::NoContainer => None,
        error => Some(kernel_error(error)),
    }
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

/// Removes the entries of nf_tables that bear a mark.
fn remove_marked(traces: Traces, mark: &Mark, kernel: &mut dyn Kernel) -> Vec<Error> {
    let everything = || traces.kinds.iter().copied().map(Query::Entries).collect::<Vec<_>>();
    let mut look = |queries: Vec<Query>| {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
        Ok::<_, Error>(marked(answers, |other| other == mark))
    };
    let found = match traces.keys {
        Some(keys) => match look(keys.into_iter().map(Query::Entry).collect()) {
            Ok(found) if found.len() < traces.at_least => look(everything()),
            found => found,
        },
        None => look(everything()),
    };
    match found {
        Ok(found) => remove_all(kernel, &found),
        Err(error) => vec![error],
    }
}

/// Removes netfilter rules that another implementation made.
pub(crate) fn remove_foreign(kernel: &mut dyn Kernel, rules: Vec<ForeignRules>) -> Vec<Error> {
    let found: Vec<_> = rules.into_iter().map(|rules| (Place::Host, Resource::from(rules))).collect();
    remove_all(kernel, &found)
}

/// Whether the configuration says that something is so, or cannot be read.
fn may_be(call: &DelRequest, key: &str) -> bool {
    !matches!(call.config.get::<bool>(key), Ok(None | Some(false)))
}

/// Removes an attachment's cable, by the names that follow from its owner.
fn remove_cable(
    call: &DelRequest,
    owner: &Owner,
    kernel: &mut dyn Kernel,
    kernels: &dyn Kernels,
) -> Result<(), Error> {
    let cable = by_name(owner.host_interface());
    match kernel.remove(Place::Host, &[&cable]).pop() {
        Some(Ok(Removed::Now)) => Ok(()),
        Some(Err(error)) => Err(kernel_error(&error)),
        Some(Ok(Removed::Before)) | None => remove_foreign_cable(call, owner, kernels),
    }
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
    if links.iter().find(is_other_end).is_some_and(|end| is_anothers(end, owner)) {
        return Ok(());
    }
    let resource = by_name(link.name);
    error::join(remove_all(&mut *kernel, &[(Place::Container, resource)]))
}

/// Removes the interface in the container, if it is of a kind, and not another attachment's, whose being there is why
/// this one's `ADD` failed.
fn remove_interface(kind: &str, owner: &Owner, kernel: &mut dyn Kernel) -> Result<(), Error> {
    let name = owner.link()?;
    match read_link(kernel, Place::Container, &name) {
        Ok(Some(link)) if link.kind == kind && !is_anothers(&link, owner) => {
            error::join(remove_all(kernel, &[(Place::Container, by_name(name))]))
        }
        Ok(_) | Err(netops::Error::NoContainer) => Ok(()),
        Err(error) => Err(kernel_error(&error)),
    }
}

/// Whether an interface bears an attachment's mark.
pub(crate) fn is_marked(link: &LinkState) -> bool {
    link.alias.as_deref().is_some_and(|alias| MarkedOwner::parse(alias).is_some())
}

/// Whether an interface bears the mark of another attachment.
fn is_anothers(link: &LinkState, owner: &Owner) -> bool {
    is_marked(link) && link.alias.as_deref() != Some(owner.mark().as_str())
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
    let entries = read_entries(&mut *kernel, EntryKind::ALL).map_err(|e| kernel_error(&e))?;
    let mut found: Vec<_> = entries
        .into_iter()
        .filter(|entry| stale(entry.mark()))
        .map(|entry| (Place::Host, Resource::Entry(entry)))
        .collect();
    let links = read_links(&mut *kernel, Place::Host).map_err(|e| kernel_error(&e))?;
    for link in links {
        let mark = link.alias.as_deref().and_then(|alias| Mark::new(alias).ok());
        if mark.is_some_and(|mark| stale(&mark)) {
            found.push((Place::Host, by_name(link.name)));
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
    let entries = || plan.steps().iter().filter_map(|step| entry_of(&step.resource));
    let queries: Vec<_> = entries().map(|entry| Query::Entry(entry.key())).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    let found = marked(answers, |_| true);
    if found.is_empty() {
        return Ok(false);
    }
    let links = read_links(kernel, Place::Host).map_err(|e| kernel_error(&e))?;
    for (_, entry) in &found {
        let Some(mark) = entry_of(entry).map(Entry::mark) else { continue };
        if !is_alive(mark, &links) && !is_led_to(entry, plan, &links, kernel)? {
            continue;
        }
        let ours = entries().any(|entry| entry.mark() == mark);
        let text = match ours {
            true => format!("{entry} is this attachment's already: a second ADD needs a DEL before it"),
            false => format!("{entry} is another attachment's: {}", hint(entry)),
        };
        return Err(Error::new(error::CONFLICT, text).with_details(mark.to_string()));
    }
    error::join(remove_all(kernel, &found))?;
    Ok(true)
}

/// What may be wrong when something is another attachment's.
fn hint(entry: &Resource) -> &'static str {
    match entry_of(entry).map(|entry| entry.key().kind()) {
        Some(EntryKind::PortMapping) => "a port of the node can lead to one container only",
        _ => "do two networks share a subnet?",
    }
}

/// Whether an attachment has its interface on the host: by its mark, or, should someone have changed that, by its name.
/// What it waits in (`bandwidth`) bears the mark as well, and outlives the container's namespace.
fn is_alive(mark: &Mark, links: &[LinkState]) -> bool {
    let name = MarkedOwner::parse(mark.as_str()).map(|owner| owner.host_interface());
    let is_its =
        |link: &&LinkState| link.alias.as_deref() == Some(mark.as_str()) || Some(&link.name) == name.as_ref();
    links.iter().filter(is_its).any(|link| link.kind != LinkKind::Ifb.name())
}

/// Whether a port leads to somebody who is there, although by an interface that does not bear our mark: one that another
/// program's plugin made. The address of the dead may be the plan's own by now.
fn is_led_to(
    entry: &Resource,
    plan: &Plan,
    links: &[LinkState],
    kernel: &mut dyn Kernel,
) -> Result<bool, Error> {
    let target = |resource: &Resource| match entry_of(resource) {
        Some(Entry::PortMapping(mapping)) => Some(mapping.to.ip()),
        _ => None,
    };
    let Some(address) = target(entry) else { return Ok(false) };
    if plan.steps().iter().any(|step| target(&step.resource) == Some(address)) {
        return Ok(false);
    }
    // One that bears a mark is somebody else's, who has got the address since.
    let cables = links.iter().filter(|link| link.kind == "veth" && !is_marked(link));
    let queries: Vec<_> = cables.map(|link| Query::PeerAddresses(link.name.clone())).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    let has = |answer| match answer {
        Answer::Addresses(addresses) => {
            addresses.iter().any(|held: &netops::Address| held.net.addr() == address)
        }
        _ => false,
    };
    Ok(answers.into_iter().any(has))
}

/// The entry of nf_tables that a resource is, if it is one.
fn entry_of(resource: &Resource) -> Option<&Entry> {
    match resource {
        Resource::Entry(entry) => Some(entry),
        _ => None,
    }
}

/// An interface of which the name is known, to be removed: what it is does not matter.
pub(crate) fn by_name(name: LinkName) -> Resource {
    Resource::Link(Link::new(name, LinkKind::Any))
}

/// The nf_tables entries among answers whose mark is wanted.
fn marked(answers: Vec<Answer>, wanted: impl Fn(&Mark) -> bool) -> Vec<(Place, Resource)> {
    let entries = answers.into_iter().flat_map(|answer| match answer {
        Answer::Entries(entries) => entries,
        _ => Vec::new(),
    });
    entries.filter(|entry| wanted(entry.mark())).map(|entry| (Place::Host, Resource::Entry(entry))).collect()
}

/// Removes resources in their order, going on after failures.
pub(crate) fn remove_all(kernel: &mut dyn Kernel, found: &[(Place, Resource)]) -> Vec<Error> {
    let mut errors = Vec::new();
    for run in found.chunk_by(|a, b| a.0 == b.0) {
        let Some((place, _)) = run.first() else { continue };
        let resources: Vec<_> = run.iter().map(|(_, resource)| resource).collect();
        errors.extend(kernel.remove(*place, &resources).into_iter().filter_map(Result::err));
    }
    errors.iter().map(kernel_error).collect()
}
