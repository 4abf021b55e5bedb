//! Who an attachment belongs to, and everything that follows from that alone: its mark in the kernel, the name of its
//! host interface, its MAC addresses.
//!
//! Because they follow, nothing has to be remembered: a DEL that is told no more than three names finds all that an
//! ADD made, after a crash at any instant.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

use cni_spec::{ContainerId, Error, IfName, NetworkName, plugin};
use netops::{LinkName, MacAddr, Mark};

/// The three names that identify an attachment: network, container, interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The network's name.
    pub network: NetworkName,
    /// The container's ID.
    pub container: ContainerId,
    /// The interface's name in the container.
    pub interface: IfName,
}

/// What every mark begins with.
const PREFIX: &str = "cnikit";
/// Bytes of a network's name in a mark. With a container ID of 64 (what runtimes use) and an interface name of 15,
/// a mark has 120 bytes at most.
const NETWORK_BYTES: usize = 32;
/// Bytes of a container ID in a mark.
const CONTAINER_BYTES: usize = 64;

impl Owner {
    /// Whose attachment a call is about.
    pub(crate) fn of<N>(call: &plugin::Request<N>) -> Self {
        Self {
            network: call.config.name().clone(),
            container: call.container_id.clone(),
            interface: call.if_name.clone(),
        }
    }

    /// The container's interface.
    ///
    /// # Errors
    /// When it has a name that the kernel does not take.
    pub fn link(&self) -> Result<LinkName, Error> {
        LinkName::new(self.interface.as_str()).map_err(|e| Error::environment(format!("CNI_IFNAME: {e}")))
    }

    /// What is written on everything that the attachment owns in the kernel: `cnikit NETWORK CONTAINER INTERFACE`.
    /// A name that is too long is cut and ends in `~` and a hash of the whole.
    pub fn mark(&self) -> Mark {
        let text = format!(
            "{}{} {}",
            network_prefix(&self.network),
            fit(self.container.as_str(), CONTAINER_BYTES),
            fit(self.interface.as_str(), LinkName::MAX),
        );
        #[allow(clippy::expect_used)]
        // invariant: `fit` yields printable ASCII of bounded length; see NETWORK_BYTES
        Mark::new(&text).expect("a mark of bounded parts")
    }

    /// The host's end of the attachment's cable: `veth` and 55 bits of hash, which makes a clash of two among a
    /// thousand pods a matter of one in 10^11. Tools that look for `veth*` find it.
    pub fn host_interface(&self) -> LinkName {
        host_interface(self.network.as_str(), self.container.as_str(), self.interface.as_str())
    }

    /// The MAC address of the container's interface: locally administered, and in a network always the same for the same
    /// address. Whoever gets an address after another container has its MAC address as well, so that nobody's neighbour
    /// table is out of date. Without an address it is always the same for the same attachment.
    pub fn container_mac(&self, address: Option<IpAddr>) -> MacAddr {
        let hash = match address {
            Some(address) => hash(&["container MAC", self.network.as_str(), &address.to_string()]),
            None => self.hash("container MAC"),
        };
        let [a, b, c, d, e, _, _, _] = hash.to_be_bytes();
        MacAddr::new([0x02, a, b, c, d, e])
    }

    /// The MAC address of the host's end. It begins with `fe`, the highest there is of its kind: a bridge that has no
    /// address of its own takes its ports' lowest, and must not take this one.
    pub fn host_mac(&self) -> MacAddr {
        let [a, b, c, d, e, _, _, _] = self.hash("host MAC").to_be_bytes();
        MacAddr::new([0xfe, a, b, c, d, e])
    }

    fn hash(&self, purpose: &str) -> u64 {
        hash(&[purpose, self.network.as_str(), self.container.as_str(), self.interface.as_str()])
    }
}

/// What an attachment's mark says, as far as it fits (see [`Owner::mark`]): for people, and for telling networks apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedOwner<'a> {
    /// The network's name, perhaps cut.
    pub network: &'a str,
    /// The container's ID, perhaps cut.
    pub container: &'a str,
    /// The interface's name in the container.
    pub interface: &'a str,
}

impl<'a> MarkedOwner<'a> {
    /// Reads an alias or comment; `None` if it is not one of ours.
    pub fn parse(mark: &'a str) -> Option<Self> {
        let mut parts = mark.split(' ');
        let (prefix, network, container, interface) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (prefix == PREFIX && parts.next().is_none()).then_some(Self { network, container, interface })
    }

    /// [`Owner::host_interface`], unless a name was cut.
    pub(crate) fn host_interface(&self) -> LinkName {
        host_interface(self.network, self.container, self.interface)
    }
}

fn host_interface(network: &str, container: &str, interface: &str) -> LinkName {
    derived_name(&["host interface", network, container, interface])
}

/// What the marks of all attachments of a network begin with.
pub fn network_prefix(network: &NetworkName) -> String {
    format!("{PREFIX} {} ", fit(network.as_str(), NETWORK_BYTES))
}

/// The name of an interface that many attachments share, derived from what it is for: `veth` and 55 bits of hash.
pub fn derived_name(parts: &[&str]) -> LinkName {
    let name = format!("veth{}", base32(hash(parts) >> 9));
    #[allow(clippy::expect_used)] // invariant: 4 + 11 ASCII letters and digits
    LinkName::new(&name).expect("a name of 15 letters and digits")
}

/// A number derived from what it is for: 64 bits of hash, the same for ever.
pub fn derived_number(parts: &[&str]) -> u64 {
    hash(parts)
}

/// A locally administered MAC address that no other node is likely to have: for what is shared on this one, and may
/// meet other nodes' on a segment.
pub(crate) fn random_mac() -> MacAddr {
    // The standard library's hash keys are the kernel's random numbers.
    let random = RandomState::new().build_hasher().finish();
    let [a, b, c, d, e, _, _, _] = random.to_be_bytes();
    MacAddr::new([0x02, a, b, c, d, e])
}

/// A name that fits into so many bytes of printable ASCII without a space: itself, or its beginning, `~` and a hash.
fn fit(name: &str, bytes: usize) -> String {
    let printable = name.bytes().all(|b| b.is_ascii_graphic());
    if printable && name.len() <= bytes {
        return name.to_owned();
    }
    let digits = if bytes > 32 { 16 } else { 8 };
    let tail = format!("{:016x}", hash(&[name]));
    let head = name.chars().filter(char::is_ascii_graphic).take(bytes - digits - 1);
    head.chain(['~']).chain(tail.chars().take(digits)).collect()
}

/// FNV-1a over the parts, each followed by a byte that no name holds, and mixed (MurmurHash3's finaliser) so that
/// every bit depends on every byte. Not a secret: container IDs are the runtime's to choose, not a container's.
fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Eleven letters and digits for the lower 55 bits.
fn base32(mut bits: u64) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(11);
    for _ in 0..11 {
        text.push(char::from(DIGITS[(bits & 31) as usize]));
        bits >>= 5;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(network: &str, container: &str, interface: &str) -> Owner {
        Owner {
            network: network.parse().unwrap(),
            container: container.parse().unwrap(),
            interface: interface.parse().unwrap(),
        }
    }

    #[test]
    fn a_mark_says_whose_it_is_in_words() {
        let owner = owner("podnet", "c1", "eth0");
        assert_eq!(owner.mark().as_str(), "cnikit podnet c1 eth0");
        let marked = MarkedOwner { network: "podnet", container: "c1", interface: "eth0" };
        assert_eq!(marked.host_interface(), owner.host_interface());
        assert_eq!(MarkedOwner::parse(owner.mark().as_str()), Some(marked));
        assert_eq!(MarkedOwner::parse("uplink"), None);
        assert_eq!(MarkedOwner::parse("cnikit a b c d"), None);
    }

    #[test]
    fn long_and_strange_names_fit_and_differ() {
        let a = owner(&"n".repeat(250), &"c".repeat(250), "0123456789abcde");
        let b = owner(&"n".repeat(251), &"c".repeat(250), "0123456789abcde");
        let c = owner(&"n".repeat(250), &"c".repeat(251), "0123456789abcde");
        let d = owner("n", "c", "ä");
        let e = owner("n", "c", "ö");
        for owner in [&a, &b, &c, &d, &e] {
            let mark = owner.mark();
            assert!(mark.as_str().starts_with(&network_prefix(&owner.network)), "{mark}");
            assert!(MarkedOwner::parse(mark.as_str()).is_some(), "{mark}");
        }
        assert_ne!(a.mark(), b.mark());
        assert_ne!(a.mark(), c.mark());
        assert_ne!(d.mark(), e.mark());
    }

    #[test]
    fn one_networks_prefix_is_no_other_networks() {
        let short: NetworkName = "net".parse().unwrap();
        assert!(!owner("net2", "c", "eth0").mark().as_str().starts_with(&network_prefix(&short)));
    }

    #[test]
    fn every_name_counts_for_the_host_interface() {
        let names = [owner("n", "c", "e"), owner("n", "c", "f"), owner("n", "d", "e"), owner("m", "c", "e")];
        for (i, a) in names.iter().enumerate() {
            for b in &names[i + 1..] {
                assert_ne!(a.host_interface(), b.host_interface());
                assert_ne!(a.container_mac(None), b.container_mac(None));
            }
        }
        // Kept for ever: pods that were attached by an older version must be found by a newer one.
        assert_eq!(names[0].host_interface().as_str().len(), 15);
        assert!(names[0].container_mac(None).is_unicast() && names[0].host_mac().is_unicast());
    }
}
