//! Every attachment on this node, and whether it is well.
//!
//! The kernel says which there are: the host's end of every cable of ours bears its owner's mark, and the kernel tells
//! the addresses of the other end without a path to its namespace. What the runtimes' caches remember besides is what
//! other plugins made, and what has no end on the host. A cable of another maker's that no cache knows is told by its
//! address, if that is leased.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use cni_spec::runtime::{CachedAttachment, Progress};
use cni_spec::{AttachmentId, Interface};
use ipam::{Holder, Lease};
use ipnet::IpNet;
use netops::{
    Answer, Entry, EntryKind, Error, Kernel, LinkName, LinkState, Masquerade, Namespace, Place, Query,
};
use plugin_kit::{MarkedOwner, Owner, is_link_local, network_prefix, peer_addresses};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Networks, Store};

mod foreign;
#[cfg(test)]
mod tests;

/// A container's interface on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attachment {
    /// The network.
    pub(crate) network: String,
    /// The container's ID.
    pub(crate) container: String,
    /// The interface in the container.
    pub(crate) interface: String,
    /// Its addresses: as the kernel has them, where it can be asked, else as the result had them.
    pub(crate) addresses: Vec<IpNet>,
    /// The host's end, if it has one.
    pub(crate) host_interface: Option<String>,
    /// The bridge that the host's end is plugged into.
    pub(crate) bridge: Option<String>,
    /// The container's namespace, where a cache remembers it.
    pub(crate) netns: Option<String>,
    /// Who says that it exists.
    pub(crate) source: Source,
    /// Whose plugin made it.
    pub(crate) maker: Maker,
    /// What is wrong with it.
    pub(crate) problems: Vec<Problem>,
    /// Its names in full: a mark may have cut them.
    #[serde(skip)]
    pub(crate) id: Option<AttachmentId>,
}

/// Whose plugin made an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Maker {
    /// cnikit's: its mark is on the cable, or the cable has the name that it gives.
    Cnikit,
    /// The reference's, to judge by the cable's name: `veth` and eight digits.
    Reference,
    /// Somebody's.
    Unknown,
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cnikit => "cnikit",
            Self::Reference => "reference",
            Self::Unknown => "another",
        })
    }
}

/// Who says that an attachment exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The mark on an interface.
    Kernel,
    /// A lease of the address at the other end of a cable that bears no mark.
    Lease,
    /// A runtime's cache, no more.
    Cache,
}

/// Something that is wrong with an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A runtime began to attach it, and did not get to the end.
    HalfAttached,
    /// Its namespace is gone.
    NamespaceGone,
    /// The host's end is gone.
    HostInterfaceGone(String),
    /// The host's end is down.
    HostInterfaceDown,
    /// The host's end is up, the container's is not.
    NoCarrier,
    /// The host's end is in no bridge, and has no address to route from.
    NotPluggedIn,
    /// The bridge is down.
    BridgeDown(String),
    /// The container's interface has no address.
    NoAddress,
    /// The container's interface has lost an address.
    AddressGone(IpAddr),
    /// Nobody has a lease of an address: somebody else may get it.
    NoLease(IpAddr),
    /// Packets of an address should leave the node masqueraded, and do not.
    NotMasqueraded(IpAddr),
    /// Somebody else has the lease.
    LeaseOfAnother(IpAddr, String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfAttached => f.write_str("half attached: del it"),
            Self::NamespaceGone => f.write_str("namespace is gone: del it"),
            Self::HostInterfaceGone(name) => write!(f, "{name} is gone"),
            Self::HostInterfaceDown => f.write_str("host interface is down"),
            Self::NoCarrier => f.write_str("container's end is down"),
            Self::NotPluggedIn => f.write_str("in no bridge"),
            Self::BridgeDown(name) => write!(f, "bridge {name} is down"),
            Self::NoAddress => f.write_str("no address"),
            Self::AddressGone(address) => write!(f, "lost {address}"),
            Self::NoLease(address) => write!(f, "no lease of {address}"),
            Self::NotMasqueraded(address) => write!(f, "{address} is not masqueraded"),
            Self::LeaseOfAnother(address, holder) => write!(f, "lease of {address} is {holder}'s"),
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Attachment {
    /// Whether something holds on to it: an interface, or a namespace that is still there.
    pub(crate) fn is_live(&self) -> bool {
        !self.problems.contains(&Problem::NamespaceGone)
    }
}

/// What is known besides the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// What runtimes remember.
    pub(crate) cached: &'a [CachedAttachment],
    /// host-local's leases.
    pub(crate) stores: &'a [Store],
    /// Configurations.
    pub(crate) networks: &'a Networks,
}

/// Every attachment on this node, by network, container and interface.
///
/// # Errors
/// When the kernel does not tell which interfaces there are.
pub(crate) fn attachments(kernel: &mut dyn Kernel, sources: Sources<'_>) -> Result<Vec<Attachment>, Error> {
    let links = netops::read_links(kernel, Place::Host)?;
    let mut cached: BTreeMap<String, &CachedAttachment> =
        sources.cached.iter().map(|cached| (owner_of(cached).mark().as_str().to_owned(), cached)).collect();
    let masquerades = masquerades(kernel);
    let mut survey = Survey { kernel, links: &links, masquerades: masquerades.as_deref(), sources };
    let mut found = Vec::new();
    for (link, marked) in plugin_kit::cables(&links) {
        let Some(alias) = &link.alias else { continue };
        found.push(survey.marked(link, alias, marked, cached.remove(alias)));
    }
    for (mark, cached) in cached {
        found.push(survey.cached(&mark, cached));
    }
    let known: BTreeSet<_> = found.iter().filter_map(|a| a.host_interface.clone()).collect();
    let unknown = links.iter().filter(|link| !known.contains(link.name.as_str()));
    found.extend(unknown.filter_map(|link| survey.leased(link)).collect::<Vec<_>>());
    found.sort_by(|a, b| {
        (&a.network, &a.container, &a.interface).cmp(&(&b.network, &b.container, &b.interface))
    });
    Ok(found)
}

/// The host's interface whose other end has an address, whoever made it.
///
/// # Errors
/// As the kernel's.
pub(crate) fn address_in_use(kernel: &mut dyn Kernel, address: IpAddr) -> Result<Option<LinkName>, Error> {
    let links = netops::read_links(kernel, Place::Host)?;
    let cables = links.iter().filter(|link| link.kind == "veth");
    for link in cables {
        if peer_addresses(kernel, &link.name).is_ok_and(|nets| nets.iter().any(|net| net.addr() == address)) {
            return Ok(Some(link.name.clone()));
        }
    }
    Ok(None)
}

struct Survey<'a> {
    kernel: &'a mut dyn Kernel,
    links: &'a [LinkState],
    /// `None`: the kernel does not tell us.
    masquerades: Option<&'a [Masquerade]>,
    sources: Sources<'a>,
}

impl Survey<'_> {
    /// An attachment whose host's end is there, and bears its mark.
    fn marked(
        &mut self,
        link: &LinkState,
        mark: &str,
        marked: MarkedOwner<'_>,
        cached: Option<&CachedAttachment>,
    ) -> Attachment {
        let cut = mark.contains('~');
        let leased = || if cut { self.leased_to(mark) } else { None };
        let owner = cached.map(owner_of).or_else(leased).or_else(|| exact(&marked));
        let text = |full: Option<&str>, cut: &str| full.unwrap_or(cut).to_owned();
        let mut attachment = Attachment {
            network: text(owner.as_ref().map(|o| o.network.as_str()), marked.network),
            container: text(owner.as_ref().map(|o| o.container.as_str()), marked.container),
            interface: text(owner.as_ref().map(|o| o.interface.as_str()), marked.interface),
            addresses: Vec::new(),
            host_interface: None,
            bridge: None,
            netns: cached.and_then(|cached| cached.attachment.netns()).map(str::to_owned),
            source: Source::Kernel,
            maker: Maker::Cnikit,
            problems: Vec::new(),
            id: owner.map(|o| AttachmentId { container_id: o.container, if_name: o.interface }),
        };
        attachment.problems.extend(cached.and_then(half_attached));
        self.look_at_cable(&mut attachment, link, cached);
        if cached.is_some_and(wants_masquerade) {
            self.look_at_masquerades(&mut attachment, mark);
        }
        self.look_at_leases(&mut attachment, mark);
        attachment
    }

    /// An attachment that a runtime remembers and no mark tells of.
    fn cached(&mut self, mark: &str, cached: &CachedAttachment) -> Attachment {
        let id = cached.attachment.id();
        let ends: Vec<_> = host_ends(cached).collect();
        let own = owner_of(cached).host_interface();
        let makers = ends.iter().map(|end| foreign::maker_of(&end.name, &own));
        let mut attachment = Attachment {
            network: cached.network.to_string(),
            container: id.container_id.to_string(),
            interface: id.if_name.to_string(),
            addresses: cached.result.iter().flat_map(|r| &r.ips).map(|ip| ip.address).collect(),
            host_interface: None,
            bridge: None,
            netns: cached.attachment.netns().map(str::to_owned),
            source: Source::Cache,
            maker: makers.max_by_key(|maker| *maker != Maker::Unknown).unwrap_or(Maker::Unknown),
            problems: half_attached(cached).into_iter().collect(),
            id: Some(id),
        };
        let cable = |end: &&Interface| {
            self.links.iter().find(|link| link.name.as_str() == end.name && link.kind == "veth")
        };
        match ends.iter().find_map(cable) {
            Some(link) => self.look_at_cable(&mut attachment, link, Some(cached)),
            None => {
                // A path may be unmounted while its namespace lives on. Where a cable shows that, nobody looks here.
                if cached.attachment.netns().is_some_and(|netns| Namespace::open(netns).is_err()) {
                    attachment.problems.push(Problem::NamespaceGone);
                } else {
                    let gone = |end: &&&Interface| !self.links.iter().any(|l| l.name.as_str() == end.name);
                    let gone = ends.iter().find(gone).map(|end| Problem::HostInterfaceGone(end.name.clone()));
                    attachment.problems.extend(gone);
                }
            }
        }
        self.look_at_leases(&mut attachment, mark);
        attachment
    }

    /// What a cable says: where it is plugged in, whether it is up, which addresses its other end has.
    fn look_at_cable(
        &mut self,
        attachment: &mut Attachment,
        link: &LinkState,
        cached: Option<&CachedAttachment>,
    ) {
        attachment.host_interface = Some(link.name.to_string());
        let mut problem = |problem| attachment.problems.push(problem);
        if !link.up {
            problem(Problem::HostInterfaceDown);
        } else if !link.carrier {
            problem(Problem::NoCarrier);
        }
        match link.master.map(|index| self.links.iter().find(|link| link.index == index)) {
            Some(Some(bridge)) => {
                attachment.bridge = Some(bridge.name.to_string());
                if !bridge.up {
                    problem(Problem::BridgeDown(bridge.name.to_string()));
                }
            }
            Some(None) => {}
            None if self.routes_from(link) => {}
            None => problem(Problem::NotPluggedIn),
        }
        let recorded = cached.and_then(|cached| cached.result.as_ref());
        let recorded: Option<Vec<IpNet>> = recorded.map(|r| r.ips.iter().map(|ip| ip.address).collect());
        match (peer_addresses(self.kernel, &link.name), recorded) {
            (Ok(actual), recorded) => {
                for lost in recorded.iter().flatten().filter(|net| !actual.contains(net)) {
                    problem(Problem::AddressGone(lost.addr()));
                }
                // A network without IPAM gives none.
                if actual.is_empty() && recorded.is_none() {
                    problem(Problem::NoAddress);
                }
                attachment.addresses = actual;
            }
            // The kernel does not tell us.
            (Err(_), recorded) => attachment.addresses = recorded.unwrap_or_default(),
        }
    }

    /// Whether an interface has an address of its own, as the host's end of a point-to-point cable.
    fn routes_from(&mut self, link: &LinkState) -> bool {
        let answers = self.kernel.read(Place::Host, &[Query::Addresses(link.name.clone())]);
        match answers.ok().and_then(|answers| answers.into_iter().next()) {
            Some(Answer::Addresses(addresses)) => addresses.iter().any(|a| !is_link_local(&a.net)),
            // Who may not ask has no reason to complain.
            _ => true,
        }
    }

    fn look_at_masquerades(&self, attachment: &mut Attachment, mark: &str) {
        let Some(masquerades) = self.masquerades else { return };
        let ours = |address: &IpAddr| {
            masquerades.iter().any(|entry| entry.source == *address && entry.mark.as_str() == mark)
        };
        let addresses = attachment.addresses.iter().map(IpNet::addr);
        let missing: Vec<_> = addresses.filter(|a| !ours(a)).map(Problem::NotMasqueraded).collect();
        attachment.problems.extend(missing);
    }

    fn look_at_leases(&mut self, attachment: &mut Attachment, mark: &str) {
        if !self.sources.networks.may_lease(&attachment.network) {
            return;
        }
        let Some(store) = self.sources.stores.iter().find(|store| store.network == attachment.network) else {
            return;
        };
        for net in &attachment.addresses {
            let address = net.addr();
            match store.lease_of(address) {
                None => attachment.problems.push(Problem::NoLease(address)),
                Some(lease) if is_held_by(store, lease, mark) => {}
                Some(lease) => {
                    attachment.problems.push(Problem::LeaseOfAnother(address, lease.holder.to_string()));
                }
            }
        }
    }

    /// The names in full that a mark stands for, if one of the leases has them.
    fn leased_to(&self, mark: &str) -> Option<Owner> {
        let stores = self.sources.stores.iter();
        stores.filter_map(|store| Some((store, store.network.parse().ok()?))).find_map(|(store, network)| {
            if !mark.starts_with(&network_prefix(&network)) {
                return None;
            }
            let owners = store.leases.iter().filter_map(|lease| lease_owner(store, lease));
            owners.into_iter().find(|owner| owner.mark().as_str() == mark)
        })
    }
}

fn masquerades(kernel: &mut dyn Kernel) -> Option<Vec<Masquerade>> {
    let entries = netops::read_entries(kernel, &[EntryKind::Masquerade]).ok()?;
    let masquerade = |entry| match entry {
        Entry::Masquerade(masquerade) => Some(masquerade),
        _ => None,
    };
    Some(entries.into_iter().filter_map(masquerade).collect())
}

/// Whether the configuration that an attachment was made with says `ipMasq`.
fn wants_masquerade(cached: &CachedAttachment) -> bool {
    let list = cached.network_list();
    list.is_ok_and(|list| list.plugins.iter().any(|p| p.document.get("ipMasq") == Some(&Value::Bool(true))))
}

fn half_attached(cached: &CachedAttachment) -> Option<Problem> {
    (cached.progress == Progress::Partial).then_some(Problem::HalfAttached)
}

/// The interfaces of a result that are on the host.
fn host_ends(cached: &CachedAttachment) -> impl Iterator<Item = &Interface> {
    let interfaces = cached.result.iter().flat_map(|result| &result.interfaces);
    interfaces.filter(|interface| interface.sandbox.is_none())
}

fn owner_of(cached: &CachedAttachment) -> Owner {
    let AttachmentId { container_id, if_name } = cached.attachment.id();
    Owner { network: cached.network.clone(), container: container_id, interface: if_name }
}

/// The owner that a mark names, if it has not been cut: networks and containers have no `~` in their names.
fn exact(marked: &MarkedOwner<'_>) -> Option<Owner> {
    Some(Owner {
        network: marked.network.parse().ok()?,
        container: marked.container.parse().ok()?,
        interface: marked.interface.parse().ok()?,
    })
}

fn lease_owner(store: &Store, lease: &Lease) -> Option<Owner> {
    let Holder::Attachment(owner) = &lease.holder else { return None };
    Some(Owner {
        network: store.network.parse().ok()?,
        container: owner.container_id().parse().ok()?,
        interface: owner.interface().parse().ok()?,
    })
}

fn is_held_by(store: &Store, lease: &Lease, mark: &str) -> bool {
    match &lease.holder {
        // Leases of before 2018 are a container's, whichever the interface.
        Holder::Container(id) => MarkedOwner::parse(mark).is_some_and(|owner| owner.container == id),
        _ => lease_owner(store, lease).is_some_and(|owner| owner.mark().as_str() == mark),
    }
}
