//! The names in cnikit's nf_tables ruleset, for whoever writes it (`linux/nft`, which draws it) or types it (`script`).

use ipnet::IpNet;

use crate::name::LinkName;
use crate::port_mapping::{Aspect, Condition, HostPort, PortMapping, PortMasquerade};
use crate::resource::IpVersion;

/// The table, in the families `inet` and `bridge`.
pub(crate) const TABLE: &str = "cnikit";
/// The base chain that looks up sources of packets that leave.
pub(crate) const POSTROUTING: &str = "postrouting";
/// The map of IPv4 sources.
pub(crate) const MASQUERADE4: &str = "masquerade4";
/// The map of IPv6 sources.
pub(crate) const MASQUERADE6: &str = "masquerade6";
/// The base chain that looks up bridge ports and source MAC addresses; in the family `inet`, what comes to this node.
pub(crate) const PREROUTING: &str = "prerouting";
/// The set of bridge ports that are checked.
pub(crate) const CHECKED: &str = "checked";
/// The set of ports and the source MAC addresses that they may use.
pub(crate) const ALLOWED: &str = "allowed";

/// The set of IPv4 addresses whose packets pass the host's own packet filter.
pub(crate) const PODS4: &str = "pods4";
/// The set of IPv6 addresses whose packets pass the host's own packet filter.
pub(crate) const PODS6: &str = "pods6";
/// The base chain, before the host's own packet filter, that puts [`PASS`] on packets of those addresses.
pub(crate) const FORWARD: &str = "forward";
/// The base chain, behind it, that takes [`PASS`] off again.
pub(crate) const FORWARDED: &str = "forwarded";
/// The bit of a packet's mark that says that it may pass. It is set between two chains only, so that it is in nobody's way:
/// not those of kube-proxy (0x4000, 0x8000), portmap (0x2000), Cilium (0x0f00), Calico (0xffff0000), Tailscale (0x00ff0000),
/// which mean something to others, at other times.
pub(crate) const PASS: u32 = 0x1000;
/// The base chain that looks up pairs of bridges.
pub(crate) const ISOLATION: &str = "isolation";
/// The set of bridges that are isolated from one another.
pub(crate) const CLOSED: &str = "closed";
/// The set of pairs of a bridge and itself that are let pass nevertheless.
pub(crate) const WITHIN_BRIDGE: &str = "within";
/// The set of pairs of a bridge and itself that are not let pass at all.
pub(crate) const ISOLATED: &str = "isolated";

/// The table of an overlay.
pub(crate) const OVERLAY_TABLE: &str = "cnikit-overlay";
/// The set of protocols and ports of tunnels.
pub(crate) const TUNNELS: &str = "tunnels";
/// The set of interfaces by which pods' packets come.
pub(crate) const BRIDGES: &str = "bridges";
/// The base chain for what comes to this node.
pub(crate) const INPUT: &str = "input";
/// Where the overlay looks at what pods send: before it is led elsewhere (`NF_IP_PRI_NAT_DST`).
pub(crate) const BEFORE_DESTINATION_NAT: i32 = -110;

/// The sets of ranges whose packets get the node's own address, and of those to which they do not.
pub(crate) const fn range_sets(version: IpVersion) -> (&'static str, &'static str) {
    match version {
        IpVersion::V4 => ("sources4", "exceptions4"),
        IpVersion::V6 => ("sources6", "exceptions6"),
    }
}

/// Where `iptables` keeps its rules about forwarded packets.
pub(crate) const FILTER: &str = "filter";
/// The chain in it that they all go through.
pub(crate) const HOST_FORWARD: &str = "FORWARD";
/// The chain of all CNI plugins in it, the reference's and ours.
pub(crate) const CNI_FORWARD: &str = "CNI-FORWARD";
/// What the jump to that is commented with: the reference finds it by this, and we find the reference's.
pub(crate) const CNI_FORWARD_COMMENT: &str = "CNI firewall plugin rules";
/// What the jump to the administrator's chain is commented with.
pub(crate) const ADMIN_COMMENT: &str = "CNI firewall plugin admin overrides";

/// What a subnet's chain is called in front of the subnet.
const WITHIN: &str = "within-";

/// The chain that masquerades what leaves a subnet. `nft` takes no colon in a name.
pub(crate) fn chain_of(subnet: IpNet) -> String {
    format!("{WITHIN}{}", subnet.trunc()).replace(':', "_")
}

/// The subnet that a chain is of, if it is one's.
pub(crate) fn subnet_of(chain: &str) -> Option<IpNet> {
    chain.strip_prefix(WITHIN)?.replace('_', ":").parse().ok()
}

/// The names of what leads through the node's ports, and of what is there for spares.
pub(crate) struct Ports {
    /// The base chain for what comes to the node.
    pub(crate) prerouting: &'static str,
    /// The base chain for what the node sends.
    pub(crate) output: &'static str,
    /// How much later than destination NAT otherwise they are passed through.
    pub(crate) later: i32,
    /// The chain with the look-ups.
    pub(crate) lookups: &'static str,
}

/// … of which there are two sets: that of spares is passed through second, and is there only if there are any.
pub(crate) const fn ports(spare: bool) -> Ports {
    match spare {
        false => Ports { prerouting: PREROUTING, output: "output", later: 0, lookups: "hostports" },
        true => Ports {
            prerouting: "spare_prerouting",
            output: "spare_output",
            later: 1,
            lookups: "spare_hostports",
        },
    }
}

/// The maps that say by which chain a port's connections go, and to where, as [`port_maps`] numbers them.
pub(crate) const PORT_MAPS: [(&str, &str); 8] = [
    ("hostports4", "backends4"),
    ("hostports6", "backends6"),
    ("hostports_at4", "backends_at4"),
    ("hostports_at6", "backends_at6"),
    ("spare_hostports4", "spare_backends4"),
    ("spare_hostports6", "spare_backends6"),
    ("spare_hostports_at4", "spare_backends_at4"),
    ("spare_hostports_at6", "spare_backends_at6"),
];

/// Which of [`PORT_MAPS`] a port is in.
pub(crate) fn port_maps(port: &HostPort) -> usize {
    usize::from(port.address.is_ipv6()) + 2 * usize::from(!port.is_any()) + 4 * usize::from(port.spare)
}

/// The base chain that masquerades what carries a bit.
pub(crate) fn chain_of_bit(bit: u8) -> String {
    format!("marked-{bit}")
}

/// How long a name may be: `nft` takes 255 bytes, and so does the kernel (`NFT_NAME_MAXLEN`).
pub(crate) const LONGEST_NAME: usize = 255;
/// What stands before a prefix whose connections are masqueraded.
const SNAT: &str = "snat";
/// What stands before a condition that must not be so.
const NOT: &str = "not";
const SOURCE: &str = "from";
const DESTINATION: &str = "to";
const INTERFACE: &str = "by";

/// The chain by which a mapped port's connections go. It says all that is not in an element, in words between hyphens:
/// `backends4-snat-10.22.0.0/16-13-not-from-10.0.0.0/8`.
pub(crate) fn port_chain(mapping: &PortMapping) -> String {
    let (_, backends) = PORT_MAPS[port_maps(&mapping.port)];
    let mut words = vec![backends.to_owned()];
    let prefix = |net: &IpNet| net.trunc().to_string().replace(':', "_");
    if let Some(PortMasquerade { from, bit }) = &mapping.masquerade {
        words.extend([SNAT.to_owned(), prefix(from), bit.to_string()]);
    }
    for Condition { what, inverted } in &mapping.conditions {
        words.extend(inverted.then(|| NOT.to_owned()));
        let (aspect, value) = match what {
            Aspect::Source(net) => (SOURCE, prefix(net)),
            Aspect::Destination(net) => (DESTINATION, prefix(net)),
            Aspect::Interface(name) => (INTERFACE, word_of(name)),
        };
        words.extend([aspect.to_owned(), value]);
    }
    words.join("-")
}

/// What a chain says, if it is one by which a mapped port's connections go: whether of spares, and what is done.
pub(crate) fn parse_port_chain(chain: &str) -> Option<(bool, Option<PortMasquerade>, Vec<Condition>)> {
    let prefix = |word: &str| word.replace('_', ":").parse::<IpNet>().ok();
    let mut words = chain.split('-').peekable();
    let backends = words.next()?;
    let number = PORT_MAPS.iter().position(|(_, known)| *known == backends)?;
    let masquerade = match words.next_if_eq(&SNAT) {
        Some(_) => Some(PortMasquerade { from: prefix(words.next()?)?, bit: words.next()?.parse().ok()? }),
        None => None,
    };
    let mut conditions = Vec::new();
    while words.peek().is_some() {
        let inverted = words.next_if_eq(&NOT).is_some();
        let what = match (words.next()?, words.next()?) {
            (SOURCE, net) => Aspect::Source(prefix(net)?),
            (DESTINATION, net) => Aspect::Destination(prefix(net)?),
            (INTERFACE, name) => Aspect::Interface(name_of(name)?),
            _ => return None,
        };
        conditions.push(Condition { what, inverted });
    }
    Some((number >= PORT_MAPS.len() / 2, masquerade, conditions))
}

/// An interface's name as a word: what is neither a letter nor a digit is `_` and two hexadecimal digits.
fn word_of(name: &LinkName) -> String {
    let letter = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    };
    name.as_str().bytes().map(letter).collect()
}

fn name_of(word: &str) -> Option<LinkName> {
    let mut parts = word.split('_');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part.get(2..)?.bytes());
    }
    LinkName::new(std::str::from_utf8(&bytes).ok()?).ok()
}
