//! A node: what agents run, and what they run on.

use std::net::SocketAddr;
use std::time::Duration;

use gossip::Random;
use overlay::mesh::{Mesh, Saved, Settings};
use overlay::{Fingerprint, Local, Mode, NodeId, NodeName, Pod, Role, Tunnel};

/// A node: what agents run, and what they run on.
#[derive(Debug)]
pub struct Machine {
    /// What it says of itself.
    pub local: Local,
    /// What is on its disk.
    pub disk: Saved,
    /// What was on its disk before the last write: what is there after a crash if the disk has lied.
    pub disk_before: Saved,
    /// How far its clock is ahead: it was suspended, or set.
    pub ahead: Duration,
    /// Where it looks for others.
    pub seeds: Vec<usize>,
    /// The agent, unless it is dead.
    pub mesh: Option<Mesh>,
    pub(crate) settings: Settings,
    /// How often it was started.
    pub(crate) lives: u64,
    /// When it will be woken next.
    pub(crate) wakes: Duration,
    pub(crate) seen: u64,
    pub(crate) traffic: Traffic,
}

/// What a node has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Datagrams.
    pub(crate) messages: u64,
    /// Bytes of datagrams, seal and headers included, and of streams.
    pub(crate) bytes: u64,
}

/// What IPv4 and UDP add to a datagram.
pub(crate) const HEADERS: u64 = 28;

/// Where a node is.
pub(crate) fn address(n: usize) -> SocketAddr {
    let [_, a, b, c] = u32::try_from(n + 1).unwrap().to_be_bytes();
    SocketAddr::from(([10, a, b, c], 4793))
}

/// Which node is there.
pub(crate) fn number(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        std::net::IpAddr::V4(ip) => usize::try_from(ip.to_bits() & 0x00ff_ffff).ok()?.checked_sub(1),
        std::net::IpAddr::V6(_) => None,
    }
}

/// What a node of a number says of the machine that it is on: as much as agents do, and nothing that another one says.
pub fn hardware(number: u64) -> overlay::Machine {
    let hash = |of: u64| Some(Fingerprint::from_bytes(Random::new(number ^ of).number().to_be_bytes()));
    let [_, _, rest @ ..] = number.to_be_bytes();
    let [_, last @ ..] = rest.map(|byte| format!(":{byte:02x}"));
    overlay::Machine {
        id: hash(1 << 63),
        boot: hash(1 << 62),
        mac: format!("02{}", last.concat()).parse().ok(),
    }
}

impl Machine {
    pub(crate) fn new(n: usize, id: u64, settings: Settings, seeds: Vec<usize>) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id.to_be_bytes());
        bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
        let local = Local {
            id: NodeId::from_bytes(bytes),
            name: NodeName::new(&format!("n{n}")).unwrap(),
            addresses: vec![address(n).ip()],
            role: Role::Worker,
            mode: Mode::Auto,
            tunnel: Some(Tunnel { vni: 4096, port: 4789 }),
            mtu: 1500,
            machine: hardware(id ^ n as u64),
            pods: Vec::new(),
        };
        Self {
            local,
            disk: Saved::default(),
            disk_before: Saved::default(),
            ahead: Duration::ZERO,
            seeds,
            mesh: None,
            settings,
            lives: 0,
            wakes: Duration::MAX,
            seen: 0,
            traffic: Traffic::default(),
        }
    }

    /// One more pod, with the `nth` address of its subnet; none, if it has no subnet.
    pub(crate) fn add_pod(&mut self, nth: usize) -> Option<Pod> {
        let subnets = self.mesh.as_ref()?.subnets();
        let held = subnets.iter().find(|subnet| subnet.state == overlay::SubnetState::Held)?;
        let address = held.prefix.hosts().nth(nth)?;
        let container = format!("{:032x}{:032x}", self.local.id.spread(), nth);
        let pod = Pod::new(&container, "eth0", [address])
            .named(Some("default"), Some(&format!("web-5d4f8c7b9-{nth:05}")));
        self.local.pods.push(pod.clone());
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart_and_nothing_of_them_is_unknown() {
        let [one, other] = [1, 2].map(hardware);
        assert!(one.id.is_some() && one.boot.is_some() && one.mac.is_some(), "{one:?}");
        assert!(one.id != other.id && one.boot != other.boot && one.mac != other.mac);
        assert_ne!(one.id, one.boot);
    }
}
