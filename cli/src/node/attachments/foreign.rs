//! Cables that bear no mark of ours.

use ipam::Holder;
use netops::{Address, Answer, Kernel, LinkName, LinkState, Place, Query};

use super::{Attachment, Maker, Source, Survey, is_link_local, lease_owner};

/// How many hexadecimal digits the reference gives a cable's name, after `veth`.
const DIGITS: usize = 8;

/// Whose a cable is to judge by its host's end's name, given the one that we would have given it.
pub(super) fn maker_of(name: &str, own: &LinkName) -> Maker {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    match name.strip_prefix("veth") {
        _ if name == own.as_str() => Maker::Cnikit,
        Some(digits) if digits.len() == DIGITS && digits.bytes().all(is_digit) => Maker::Reference,
        _ => Maker::Unknown,
    }
}

impl Survey<'_> {
    /// The attachment that a cable is, if the address at its other end is leased to an interface of that name. Which
    /// network it is, and which container's, only the lease can tell.
    pub(super) fn leased(&mut self, link: &LinkState) -> Option<Attachment> {
        // A pair of which both ends are here is the node's own.
        if link.kind != "veth" || link.peer_namespace.is_none() {
            return None;
        }
        let addresses = peer_addresses(self.kernel, link);
        let lease = |address: &Address| {
            self.sources.stores.iter().find_map(|store| {
                let lease = store.lease_of(address.net.addr())?;
                let named =
                    matches!(&lease.holder, Holder::Attachment(o) if o.interface() == address.link.as_str());
                lease_owner(store, lease).filter(|_| named)
            })
        };
        let owner = addresses.iter().find_map(lease)?;
        let mut attachment = Attachment {
            network: owner.network.to_string(),
            container: owner.container.to_string(),
            interface: owner.interface.to_string(),
            addresses: Vec::new(),
            host_interface: None,
            bridge: None,
            netns: None,
            source: Source::Lease,
            maker: maker_of(link.name.as_str(), &owner.host_interface()),
            problems: Vec::new(),
            id: Some(cni_spec::AttachmentId {
                container_id: owner.container.clone(),
                if_name: owner.interface.clone(),
            }),
        };
        self.look_at_cable(&mut attachment, link, None);
        self.look_at_leases(&mut attachment, owner.mark().as_str());
        Some(attachment)
    }
}

/// The other end's addresses, with the name that it has where it is.
fn peer_addresses(kernel: &mut dyn Kernel, link: &LinkState) -> Vec<Address> {
    let answers = kernel.read(Place::Host, &[Query::PeerAddresses(link.name.clone())]);
    match answers.ok().and_then(|answers| answers.into_iter().next()) {
        Some(Answer::Addresses(addresses)) => {
            addresses.into_iter().filter(|address| !is_link_local(&address.net)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cables_name_says_who_gave_it() {
        let own = LinkName::new("vethrrw6u6a4zy4").unwrap();
        let makers = ["vethrrw6u6a4zy4", "veth0a1b2c3d", "veth0a1b2c3g", "veth0a1b2c3d4", "lxc12345678"]
            .map(|name| maker_of(name, &own));
        let unknown = Maker::Unknown;
        assert_eq!(makers, [Maker::Cnikit, Maker::Reference, unknown, unknown, unknown]);
    }
}
