//! What a node says of itself, as bytes: a byte that tells the version, and then fields, of which a later version may have more
//! behind those that are known here.

use std::net::IpAddr;

use ipnet::IpNet;
use netops::MacAddr;
use serde::{Deserialize, Serialize};

use super::POD;
use crate::claim::{Stake, StakeKind};
use crate::id::{NodeId, NodeName};
use crate::machine::{Fingerprint, Machine};
use crate::node::{Mode, Node, Role, Subnet, Tunnel};
use crate::pod::Pod;
use crate::view::Local;

const VERSION: u8 = 1;
/// Addresses of a node, or of a pod's interface, that are told.
const MAX_ADDRESSES: usize = 8;
/// Prefixes of a node.
const MAX_STAKES: usize = 40;

/// What a node says of itself, apart from its subnets and pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: NodeName,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) role: Role,
    pub(super) mode: Mode,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) mtu: u32,
    pub(super) machine: Machine,
}

impl About {
    pub(super) fn of(local: &Local) -> Self {
        Self {
            name: local.name.clone(),
            addresses: local.addresses.iter().take(MAX_ADDRESSES).copied().collect(),
            role: local.role,
            mode: local.mode,
            tunnel: local.tunnel,
            mtu: local.mtu,
            machine: local.machine,
        }
    }

    pub(super) fn into_node(self, id: NodeId, subnets: Vec<Subnet>, pods: Vec<Pod>) -> Node {
        let Self { name, addresses, role, mode, tunnel, mtu, machine } = self;
        Node { id, name, addresses, subnets, role, mode, tunnel, mtu, machine, pods }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Machine { id, boot, mac } = self.machine;
        let about = RawAbout {
            name: self.name.as_str().to_owned(),
            addresses: self.addresses.clone(),
            role: match self.role {
                Role::Worker => 0,
                Role::Router => 1,
            },
            mode: match self.mode {
                Mode::Auto => 0,
                Mode::Vxlan => 1,
                Mode::Route => 2,
                Mode::Router => 3,
            },
            tunnel: self.tunnel.map(|Tunnel { vni, port }| (vni, port)),
            mtu: self.mtu,
        };
        let machine: RawMachine =
            (id.map(Fingerprint::bytes), boot.map(Fingerprint::bytes), mac.map(MacAddr::bytes));
        encode(&(about, machine))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (raw, later): (RawAbout, _) = decode_first(bytes)?;
        // An earlier version ends here.
        let (id, boot, mac): RawMachine = match later {
            [] => (None, None, None),
            _ => postcard::take_from_bytes(later).map_err(|error| error.to_string())?.0,
        };
        if raw.addresses.len() > MAX_ADDRESSES {
            return Err(format!("{} addresses", raw.addresses.len()));
        }
        Ok(Self {
            name: NodeName::new(&raw.name)?,
            addresses: raw.addresses,
            role: if raw.role == 1 { Role::Router } else { Role::Worker },
            // What is not known here is left to probes.
            mode: match raw.mode {
                1 => Mode::Vxlan,
                2 => Mode::Route,
                3 => Mode::Router,
                _ => Mode::Auto,
            },
            tunnel: raw.tunnel.map(|(vni, port)| Tunnel { vni, port }),
            mtu: raw.mtu,
            machine: Machine {
                id: id.map(Fingerprint::from_bytes),
                boot: boot.map(Fingerprint::from_bytes),
                mac: mac.map(MacAddr::new),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
struct RawAbout {
    name: String,
    addresses: Vec<IpAddr>,
    role: u8,
    mode: u8,
    tunnel: Option<(u32, u16)>,
    mtu: u32,
}

/// What follows.
type RawMachine = (Option<[u8; 8]>, Option<[u8; 8]>, Option<[u8; 6]>);

pub(super) fn encode_stakes(stakes: &[Stake]) -> Vec<u8> {
    let raw = |stake: &Stake| {
        let kind = match stake.kind {
            StakeKind::Tentative => 0,
            StakeKind::Returning => 1,
            StakeKind::Held => 2,
            StakeKind::Lost => 3,
            StakeKind::Freed => 4,
        };
        (stake.prefix, kind)
    };
    encode(&stakes.iter().take(MAX_STAKES).map(raw).collect::<Vec<(IpNet, u8)>>())
}

pub(super) fn decode_stakes(bytes: &[u8]) -> Result<Vec<Stake>, String> {
    let raw: Vec<(IpNet, u8)> = decode(bytes)?;
    if raw.len() > MAX_STAKES {
        return Err(format!("{} subnets", raw.len()));
    }
    let stake = |(prefix, kind): (IpNet, u8)| {
        // Of what is not known here one keeps away.
        let kind = match kind {
            0 => StakeKind::Tentative,
            1 => StakeKind::Returning,
            2 => StakeKind::Held,
            4 => StakeKind::Freed,
            _ => StakeKind::Lost,
        };
        match prefix == prefix.trunc() {
            true => Ok(Stake { prefix, kind }),
            false => Err(format!("subnet {prefix} has host bits")),
        }
    };
    raw.into_iter().map(stake).collect()
}

pub(super) fn encode_pod(pod: &Pod) -> Vec<u8> {
    encode(&RawPod::of(pod))
}

/// One of a node's keys for each interface of a pod: a hash (FNV-1a) of its names, as they are told.
pub(super) fn pod_key(pod: &Pod) -> String {
    let RawPod { container, interface, .. } = RawPod::of(pod);
    let bytes = container.bytes().chain([0]).chain(interface.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{POD}{hash:016x}")
}

pub(super) fn decode_pod(bytes: &[u8]) -> Result<Pod, String> {
    let RawPod { container, interface, addresses, namespace, name } = decode(bytes)?;
    if addresses.len() > MAX_ADDRESSES {
        return Err(format!("a pod with {} addresses", addresses.len()));
    }
    // Names end up on terminals.
    let texts = [Some(container), Some(interface), namespace, name];
    if let Some(text) = texts.into_iter().flatten().find(|text| text.chars().any(char::is_control)) {
        return Err(format!("a pod's name \"{}\"", text.escape_debug()));
    }
    Ok(Pod::new(container, interface, addresses).named(namespace, name))
}

#[derive(Serialize, Deserialize)]
struct RawPod<'a> {
    container: &'a str,
    interface: &'a str,
    addresses: Vec<IpAddr>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> RawPod<'a> {
    fn of(pod: &'a Pod) -> Self {
        let cut = |text: &'a str, length: usize| text.get(..length).unwrap_or(text);
        Self {
            container: cut(pod.container(), 255),
            interface: cut(pod.interface(), 15),
            addresses: pod.addresses().iter().take(MAX_ADDRESSES).copied().collect(),
            // Kubernetes' own limits: RFC 1123.
            namespace: pod.namespace().map(|text| cut(text, 63)),
            name: pod.name().map(|text| cut(text, 253)),
        }
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    // Into memory, of types that postcard has: there is nothing to fail. What is empty is refused by whoever reads it.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    decode_first(bytes).map(|(value, _later)| value)
}

/// And what a later version has behind it.
fn decode_first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    match bytes {
        [VERSION, rest @ ..] => postcard::take_from_bytes(rest).map_err(|error| error.to_string()),
        [version, ..] => Err(format!("version {version} of its words")),
        [] => Err("nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about() -> About {
        About {
            name: NodeName::new("n1").unwrap(),
            addresses: vec!["192.168.1.11".parse().unwrap(), "fd01::b".parse().unwrap()],
            role: Role::Router,
            mode: Mode::Vxlan,
            tunnel: Some(Tunnel { vni: 4096, port: 4789 }),
            mtu: 1500,
            machine: Machine {
                id: Some(Fingerprint::from_bytes([7; 8])),
                boot: Some(Fingerprint::from_bytes([8; 8])),
                mac: Some(MacAddr::new([0x52, 0x54, 0, 0, 0, 1])),
            },
        }
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        assert_eq!(About::decode(&about().encode()), Ok(about()));
        let stakes = [
            Stake { prefix: "10.0.1.0/24".parse().unwrap(), kind: StakeKind::Held },
            Stake { prefix: "fd00::/64".parse().unwrap(), kind: StakeKind::Returning },
        ];
        assert_eq!(decode_stakes(&encode_stakes(&stakes)), Ok(stakes.to_vec()));
        let pod = Pod::new("c1", "eth0", ["10.0.1.9".parse().unwrap()]).named(Some("default"), None);
        assert_eq!(decode_pod(&encode_pod(&pod)), Ok(pod));
    }

    #[test]
    fn a_later_version_may_say_more() {
        let more = [about().encode(), vec![1, 2, 3]].concat();
        assert_eq!(About::decode(&more), Ok(about()));
        assert!(About::decode(&[9, 1]).unwrap_err().contains("version 9"));
    }

    #[test]
    fn an_earlier_version_says_nothing_of_its_machine_and_does_not_mind_what_is_said() {
        let told = about().encode();
        let (_, machine) = decode_first::<RawAbout>(&told).unwrap();
        assert_eq!(machine.len(), 25);
        let earlier = &told[..told.len() - machine.len()];
        assert_eq!(About::decode(earlier), Ok(About { machine: Machine::default(), ..about() }));
        assert!(About::decode(&told[..told.len() - 1]).is_err());
    }

    #[test]
    fn the_longest_names_fit_a_datagram() {
        let pod = Pod::new(&"c".repeat(400), &"i".repeat(15), ["fd00::1".parse().unwrap(); 20])
            .named(Some(&"n".repeat(63)), Some(&"p".repeat(253)));
        let told = encode_pod(&pod);
        assert!(told.len() < 800);
        assert_eq!(pod_key(&decode_pod(&told).unwrap()), pod_key(&pod));
        let about = About { name: NodeName::new(&"n".repeat(253)).unwrap(), ..about() };
        assert!(about.encode().len() < 800);
        let stake = Stake { prefix: "fd00::/64".parse().unwrap(), kind: StakeKind::Lost };
        assert!(encode_stakes(&[stake; 99]).len() < 900);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for bytes in [bytes.clone(), [vec![VERSION], bytes].concat()] {
                let _ = (About::decode(&bytes), decode_stakes(&bytes), decode_pod(&bytes));
            }
        }
    }
}
