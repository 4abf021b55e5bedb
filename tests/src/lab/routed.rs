//! A second segment, and a router between the two.

use super::wire::Tap;
use super::{Lab, Machine};
use crate::node::Node;

/// A router between two segments: `leg1` is `192.168.1.1` and `fd01::1` on the first, `leg2` `192.168.2.1` and `fd02::1` on
/// the second. It knows no addresses of pods.
#[derive(Debug)]
pub struct Router {
    /// Its namespaces.
    pub node: Node,
}

impl Lab {
    /// Makes the second segment, and the router.
    pub fn divided(&self) -> Router {
        let node = Node::bare();
        let there = Self::path_of(&node);
        self.switch.shell(&format!(
            "ip link add segment2 type bridge; ip link set segment2 up
             ip link add leg1 type veth peer name leg1 netns {there}; ip link set leg1 master segment up
             ip link add leg2 type veth peer name leg2 netns {there}; ip link set leg2 master segment2 up"
        ));
        node.shell(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip link set lo up
             for leg in 1 2; do
               sysctl -qw net.ipv6.conf.leg$leg.accept_dad=0; ip link set leg$leg up
               ip addr add 192.168.$leg.1/24 dev leg$leg; ip addr add fd0$leg::1/64 dev leg$leg nodad
             done",
        );
        Router { node }
    }
}

impl Router {
    /// Moves a machine to a segment, 1 or 2: its cable, its addresses, and its default route, which is the router.
    pub fn moves(&self, lab: &Lab, machine: &Machine, segment: u8) {
        let number = machine.number;
        let bridge = if segment == 1 { "segment" } else { "segment2" };
        lab.switch.shell(&format!("ip link set port{number} master {bridge}"));
        let host = 10 + u16::from(number);
        // As a lease that is another one: the new address comes while the old one goes.
        machine.node.shell(&format!(
            "ip addr flush dev eth0 scope global
             ip addr add 192.168.{segment}.{host}/24 dev eth0
             ip addr add fd0{segment}::{host:x}/64 dev eth0 nodad
             ip route replace default via 192.168.{segment}.1
             ip -6 route replace default via fd0{segment}::1"
        ));
    }

    /// Packets of more bytes than this are not passed on any more; who sends them is told.
    pub fn narrows(&self, mtu: u32) {
        // The route's MTU, not the interface's: what comes in may be as large as before.
        self.node.shell(&format!(
            "for leg in 1 2; do
               ip route change 192.168.$leg.0/24 dev leg$leg proto kernel scope link src 192.168.$leg.1 mtu {mtu}
               ip -6 route change fd0$leg::/64 dev leg$leg proto kernel metric 256 mtu {mtu}
             done"
        ));
    }

    /// Begins to record what it passes on, once as it comes in and once as it leaves.
    pub fn tap(&self) -> Tap {
        Tap::of(&self.node)
    }
}
