//! The cables on a node, and whose they are: all that is needed to know a node's attachments.

use ipnet::IpNet;
use netops::{Answer, Error, Kernel, LinkKind, LinkName, LinkState, Place, Query};

use crate::owner::MarkedOwner;

/// The interfaces on the host that bear an attachment's [mark](crate::Owner::mark) and are an end of its cable.
pub fn cables(links: &[LinkState]) -> impl Iterator<Item = (&LinkState, MarkedOwner<'_>)> {
    // What an attachment's traffic waits in bears its mark too, and is no end of a cable.
    let ends = links.iter().filter(|link| link.kind != LinkKind::Ifb.name());
    ends.filter_map(|link| Some((link, MarkedOwner::parse(link.alias.as_deref()?)?)))
}

/// The addresses of a cable's other end, but for those that every interface has. No path to its namespace is needed.
///
/// # Errors
/// As the kernel's.
pub fn peer_addresses(kernel: &mut dyn Kernel, link: &LinkName) -> Result<Vec<IpNet>, Error> {
    let answers = kernel.read(Place::Host, &[Query::PeerAddresses(link.clone())])?;
    Ok(match answers.into_iter().next() {
        Some(Answer::Addresses(addresses)) => {
            addresses.into_iter().map(|address| address.net).filter(|net| !is_link_local(net)).collect()
        }
        _ => Vec::new(),
    })
}

/// Whether an address is one that every interface has: IPv6's `fe80::/10`.
pub fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}
