//! The pods of this node, and the namespaces that they are in.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use netops::{LinkName, LinkState, LinuxKernel, Namespace, Place, read_link};
use overlay::report::MapNode;

use super::ends::HerePod;
use crate::node::Attachment;

/// The pods of this node: from the kernel, with the names that the agent knows.
pub(super) fn here(attachments: &[Attachment], node: Option<&MapNode>) -> Vec<HerePod> {
    attachments.iter().map(|attachment| pod(attachment, node)).collect()
}

fn pod(attachment: &Attachment, node: Option<&MapNode>) -> HerePod {
    let addresses: Vec<_> = attachment.addresses.iter().map(ipnet::IpNet::addr).collect();
    // A mark may have cut the container's name; addresses are whole.
    let is_it = |pod: &&overlay::Pod| pod.addresses().iter().any(|address| addresses.contains(address));
    let known = node.and_then(|node| node.node.pods.iter().find(is_it));
    let has_name = known.filter(|pod| pod.name().is_some());
    HerePod {
        container: attachment.container.clone(),
        name: has_name.map(ToString::to_string),
        interface: attachment.interface.clone(),
        addresses,
        host_interface: attachment.host_interface.clone(),
        netns: attachment.netns.clone(),
    }
}

/// A pod's namespace: where a runtime remembers it, where namespaces have names, or where processes are. It is the one
/// in which the pod's interface and the host's end say that they are tied to one another.
pub(super) fn namespace(pod: &HerePod, links: &[LinkState]) -> Option<Namespace> {
    let end = links.iter().find(|link| Some(link.name.as_str()) == pod.host_interface.as_deref())?;
    let name = LinkName::new(&pod.interface).ok()?;
    let remembered = pod.netns.iter().map(PathBuf::from);
    let named =
        Namespace::list(Namespace::DIRECTORIES).into_iter().map(|namespace| namespace.path().to_owned());
    remembered.chain(named).chain(of_processes()).find_map(|path| {
        let namespace = Namespace::open(path).ok()?;
        let mut kernel = LinuxKernel::new(Some(namespace.try_clone().ok()?));
        let inside = read_link(&mut kernel, Place::Container, &name).ok()??;
        let is_tied = inside.peer_index == Some(end.index) && end.peer_index == Some(inside.index);
        (is_tied && inside.peer_namespace.is_some()).then_some(namespace)
    })
}

/// The namespaces of processes, each once.
fn of_processes() -> impl Iterator<Item = PathBuf> {
    let mut seen = BTreeSet::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    processes.map(|entry| entry.path().join("ns/net")).filter(move |path| {
        // `net:[4026531840]`: one text for each namespace.
        fs::read_link(path).is_ok_and(|target| seen.insert(target))
    })
}
