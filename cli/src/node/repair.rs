//! What was lost of this node's attachments, made again: entries of nf_tables and settings of the node, which a
//! `nft flush ruleset`, a firewall's reload or `sysctl` takes and no runtime notices.
//!
//! What there should be, each plugin of an attachment's list says anew: with the parameters that the runtime's cache
//! remembers or, where it does not, with what the kernel, the leases and the configurations show.

use std::time::Duration;

use cni_spec::runtime::{self, CachedAttachment, Progress, Runtime};
use cni_spec::{AddResult, ErrorCode, Interface, IpConfig, NetworkList};
use netops::{
    Answer, EntryKind, Kernel, LinkName, LinkState, Namespace, Place, Query, Removed, Resource, read_entries,
    read_link,
};
use plugin_kit::{Owner, RepairMode};
use serde::Serialize;

use super::attachments::{Attachment, Sources, address_in_use, attachments};

/// How long a runtime's DEL, once it has begun, may take to be over.
const PAUSE: Duration = Duration::from_millis(100);
/// What only plugins make that leave a cable on the host.
const OF_CABLES: &[EntryKind] = &[EntryKind::Masquerade, EntryKind::SpoofCheck];

/// What was found and done.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Repairs {
    /// By attachment.
    pub(crate) attachments: Vec<Repaired>,
    /// Entries of attachments that are gone, which were removed; or would be.
    pub(crate) removed: Vec<String>,
}

/// What was found and done about an attachment.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Repaired {
    pub(crate) network: String,
    pub(crate) container: String,
    pub(crate) interface: String,
    /// What was missing, and has been made; or would be.
    pub(crate) made: Vec<String>,
    /// What was as it should be.
    pub(crate) fine: Vec<String>,
    /// What is missing still, and why.
    pub(crate) failed: Vec<String>,
    /// What there should be is not known, and why.
    pub(crate) unknown: Vec<String>,
    /// It is not there any more.
    pub(crate) gone: bool,
}

/// Makes again what was lost, or says what that is.
///
/// # Errors
/// When the kernel does not tell which interfaces there are.
pub(crate) fn repair(
    runtime: &Runtime,
    kernel: &mut dyn Kernel,
    sources: Sources<'_>,
    mode: RepairMode,
) -> Result<Repairs, netops::Error> {
    // Entries first: whoever attaches something makes them last.
    let entries = read_entries(kernel, OF_CABLES)?;
    let found = attachments(kernel, sources)?;
    let mut repairs = Repairs::default();
    for attachment in &found {
        repairs.attachments.push(repair_one(runtime, kernel, sources, attachment, mode));
    }
    if mode == RepairMode::Make && repairs.attachments.iter().any(|repaired| !repaired.made.is_empty()) {
        // A DEL that had removed its entries when we looked, but not its interface yet, has done so now.
        std::thread::sleep(PAUSE);
        for (repaired, attachment) in repairs.attachments.iter_mut().zip(&found) {
            if !repaired.made.is_empty() {
                repaired.gone = repair_one(runtime, kernel, sources, attachment, mode).gone;
            }
        }
    }
    for entry in entries {
        let mark = entry.mark().as_str();
        if found.iter().any(|attachment| is_of(attachment, mark)) || is_alive(kernel, &entry)? {
            continue;
        }
        let said = format!("{entry}, of {mark}");
        let removed = match mode {
            RepairMode::Make => kernel.remove(Place::Host, &[&Resource::Entry(entry)]).pop().transpose()?,
            RepairMode::Look => Some(Removed::Now),
        };
        repairs.removed.extend(removed.filter(|removed| *removed == Removed::Now).map(|_| said));
    }
    Ok(repairs)
}

fn is_of(attachment: &Attachment, mark: &str) -> bool {
    attachment.is_live() && owner_of(attachment).is_some_and(|owner| owner.mark().as_str() == mark)
}

/// Whether an entry serves somebody: an interface that bears its mark, or one that has its address or its name.
fn is_alive(kernel: &mut dyn Kernel, entry: &netops::Entry) -> Result<bool, netops::Error> {
    let links = netops::read_links(kernel, Place::Host)?;
    let mark = Some(entry.mark().as_str());
    Ok(links.iter().any(|link| link.alias.as_deref() == mark)
        || match entry {
            netops::Entry::Masquerade(masquerade) => address_in_use(kernel, masquerade.source)?.is_some(),
            netops::Entry::SpoofCheck(check) => links.iter().any(|link| link.name == check.port),
            _ => true,
        })
}

fn repair_one(
    runtime: &Runtime,
    kernel: &mut dyn Kernel,
    sources: Sources<'_>,
    attachment: &Attachment,
    mode: RepairMode,
) -> Repaired {
    let mut repaired = Repaired {
        network: attachment.network.clone(),
        container: attachment.container.clone(),
        interface: attachment.interface.clone(),
        ..Repaired::default()
    };
    let Some(owner) = owner_of(attachment) else {
        repaired.unknown.push("its names in full: its mark has cut them".to_owned());
        return repaired;
    };
    let is_it = |cached: &&CachedAttachment| {
        let id = cached.attachment.id();
        cached.network == owner.network && id.container_id == owner.container && id.if_name == owner.interface
    };
    let cached = sources.cached.iter().find(is_it);
    if cached.is_some_and(|cached| cached.progress == Progress::Partial) {
        repaired.unknown.push("half attached: del it".to_owned());
        return repaired;
    }
    // Nobody else of ours may change it meanwhile. It may have gone since the cache was read; or come, or be coming: what
    // its ADD has still to make is not to be there.
    let id = cached.map_or_else(
        || runtime::Attachment::new(owner.container.clone(), owner.interface.clone()),
        |cached| cached.attachment.clone(),
    );
    let held = runtime.hold(&owner.network, &id, |cached| {
        remembered(runtime, attachment, cached, mode, &mut repaired);
    });
    match held {
        Ok(Some(())) => {}
        Ok(None) if cached.is_some() => repaired.gone = true,
        Ok(None) => observed(runtime, kernel, sources, attachment, &owner, mode, &mut repaired),
        Err(error) => repaired.failed.push(error.to_string()),
    }
    repaired
}

/// An attachment of which a runtime remembers everything.
fn remembered(
    runtime: &Runtime,
    attachment: &Attachment,
    cached: &CachedAttachment,
    mode: RepairMode,
    repaired: &mut Repaired,
) {
    let list = match cached.network_list() {
        Ok(list) => list,
        Err(error) => return repaired.unknown.push(format!("its configuration: {error}")),
    };
    let mut parameters = cached.attachment.clone();
    // A path may be unmounted while its namespace lives on, as the cable shows.
    let reachable = parameters.netns().is_some_and(|netns| Namespace::open(netns).is_ok());
    if !reachable && attachment.host_interface.is_some() {
        parameters = parameters.with_netns("");
    }
    let result = cached.result.clone().unwrap_or_default();
    repair_chain(runtime, &list, &parameters, &result, mode, repaired);
}

/// An attachment that no cache tells of: its network's configuration and what can be seen of it.
fn observed(
    runtime: &Runtime,
    kernel: &mut dyn Kernel,
    sources: Sources<'_>,
    attachment: &Attachment,
    owner: &Owner,
    mode: RepairMode,
    repaired: &mut Repaired,
) {
    let Some(list) = sources.networks.list(&attachment.network) else {
        return repaired.unknown.push("its network's configuration".to_owned());
    };
    let Some(result) = result_of(kernel, attachment, owner) else {
        return repaired.unknown.push("its interfaces".to_owned());
    };
    for plugin in list.plugins.iter().filter(|plugin| plugin.wants("portMappings")) {
        let kind = &plugin.plugin_type;
        repaired.unknown.push(format!("{kind}: which ports: no runtime's cache tells"));
    }
    let parameters = runtime::Attachment::new(owner.container.clone(), owner.interface.clone());
    repair_chain(runtime, list, &parameters, &result, mode, repaired);
}

/// Asks each plugin of a list.
fn repair_chain(
    runtime: &Runtime,
    list: &NetworkList,
    parameters: &runtime::Attachment,
    result: &AddResult,
    mode: RepairMode,
    repaired: &mut Repaired,
) {
    for plugin in &list.plugins {
        let kind = &plugin.plugin_type;
        let known = match plugins::find(kind.as_str()) {
            Some(plugins::Entry::Interface(known)) => known,
            Some(_) => continue,
            None => {
                repaired.unknown.push(format!("{kind}: not one of cnikit's plugins"));
                continue;
            }
        };
        let repair = runtime
            .request(list, plugin, parameters, Some(result))
            .and_then(|call| known.repair(&call, mode));
        match repair {
            Ok(repair) => {
                repaired.gone |= repair.gone;
                repaired.made.extend(repair.made);
                repaired.fine.extend(repair.fine);
                repaired.failed.extend(repair.failed.iter().map(|error| format!("{kind}: {error}")));
            }
            Err(error) if error.code() == ErrorCode::INVALID_NETNS => repaired.gone = true,
            Err(error) => repaired.failed.push(format!("{kind}: {error}")),
        }
    }
}

/// What the result of an attachment was, as far as it can be seen: both ends of its cable, and its addresses.
fn result_of(kernel: &mut dyn Kernel, attachment: &Attachment, owner: &Owner) -> Option<AddResult> {
    let name = LinkName::new(attachment.host_interface.as_deref()?).ok()?;
    let host = read_link(kernel, Place::Host, &name).ok()??;
    let peer = match kernel.read(Place::Host, &[Query::Peer(name)]).ok()?.into_iter().next()? {
        Answer::Links(links) => links.into_iter().next()?,
        _ => return None,
    };
    let mac = |link: &LinkState| link.mac.map(|mac| mac.to_string());
    let mut ends = [
        Interface::on_host(host.name.to_string()),
        // Where that is nobody here can say; that it is elsewhere is all that counts.
        Interface::in_sandbox(owner.interface.to_string(), format!("container {}", owner.container)),
    ];
    ends[0].mac = mac(&host);
    ends[1].mac = mac(&peer);
    let mut result = AddResult { interfaces: ends.into(), ..AddResult::default() };
    for net in &attachment.addresses {
        result.ips.push(IpConfig { interface: Some(1), ..IpConfig::new(*net) });
    }
    Some(result)
}

/// The names of an attachment in full, if they are known.
fn owner_of(attachment: &Attachment) -> Option<Owner> {
    let id = attachment.id.clone()?;
    Some(Owner {
        network: attachment.network.parse().ok()?,
        container: id.container_id,
        interface: id.if_name,
    })
}

impl Repaired {
    /// Whether all is as it should be, as far as that is known.
    pub(crate) fn is_well(&self, mode: RepairMode) -> bool {
        self.gone || (self.failed.is_empty() && (mode == RepairMode::Make || self.made.is_empty()))
    }
}
