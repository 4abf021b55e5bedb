//! What would become of a packet at a hop, and what to do about it.

use std::net::IpAddr;

use overlay::Liveness;
use overlay::report::Way as AgentsWay;

use super::facts::{Interface, Kind, Known, Leg, Node, Peer};
use super::walk::Walk;
use super::words::interface_name;

/// What a tunnel puts around a packet: Ethernet, VXLAN, UDP, and IPv4 or IPv6.
const AROUND_IPV4: u32 = 14 + 8 + 8 + 20;
const AROUND_IPV6: u32 = 14 + 8 + 8 + 40;

impl Walk<'_> {
    pub(super) fn judge_forwarding(&mut self, node: &Node) {
        if node.forwards == Some(false) {
            self.lose(
                "the node does not forward packets (ip_forward, or forwarding of IPv6, is 0)".to_owned(),
                "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; the agent sets it when it starts"
                    .to_owned(),
            );
        }
        let came_by = self.facts.bridge.as_ref().map(|bridge| &bridge.interface.name);
        if let (1, Some(came_by), Some(back)) = (node.reverse_filter, came_by, &node.back_by)
            && came_by != back
        {
            self.lose(
                format!("rp_filter is strict on {came_by}, and the node answers the source by {back}"),
                format!("sysctl -w net.ipv4.conf.{came_by}.rp_filter=2, or see to the route back"),
            );
        }
        for chain in &node.dropped_by {
            self.doubt(
                format!("{chain} drops what none of its rules lets pass; they are not looked at"),
                "chain the plugin `firewall` behind `overlay`, or accept the cluster's range there"
                    .to_owned(),
            );
        }
    }

    pub(super) fn duplicates(&mut self) {
        for duplicate in &self.facts.duplicates {
            self.doubt(
                duplicate.clone(),
                "packets reach one of them only: make the younger one anew".to_owned(),
            );
        }
    }

    pub(super) fn advice_about_routes(&self) -> &'static str {
        if self.facts.agent.is_some() {
            "the agent makes routes to pods, and does not answer: start `cnikit agent`"
        } else {
            "`cnikit peers` shows which node has the subnet, and why there is no way to it"
        }
    }

    pub(super) fn judge_way(&mut self, leg: &Leg, on: &str, advice: &str) {
        let to = self.facts.destination.address;
        let Some(way) = &leg.way else {
            return self.lose(format!("{on} has no route to {to}"), advice.to_owned());
        };
        let route = way.route.map_or_else(|| "a route".to_owned(), |route| format!("route {route}"));
        match way.kind {
            Kind::Blackhole => self.lose(
                format!("{route} of {on} is a blackhole: no node has that part of the cluster's range"),
                advice.to_owned(),
            ),
            Kind::Unreachable => self.lose(format!("{on} says that {to} is unreachable"), advice.to_owned()),
            Kind::Prohibited => {
                self.lose(
                    format!("{route} of {on} forbids it"),
                    "somebody made such a route or rule".to_owned(),
                );
            }
            Kind::Other => self.lose(format!("{route} of {on} is for no single machine"), advice.to_owned()),
            Kind::Sent | Kind::Local => self.judge_size(way.mtu),
        }
    }

    pub(super) fn judge_interface(&mut self, interface: Option<&Interface>) {
        let Some(Interface { name, up, carrier, mtu, .. }) = interface else { return };
        match (up, carrier) {
            (false, _) => self.lose(format!("{name} is down"), format!("ip link set {name} up")),
            (true, false) => self.lose(
                format!("{name} has no carrier: nothing is plugged in, or its other end is down"),
                format!("ip link show {name}"),
            ),
            (true, true) => self.judge_size(Some(*mtu)),
        }
    }

    pub(super) fn judge_neighbour(&mut self, leg: &Leg) {
        let Some(neighbour) = &leg.neighbour else { return };
        if neighbour.known == Known::Failed {
            self.lose(
                format!(
                    "{} does not answer on {} (ARP, or neighbour discovery)",
                    neighbour.address,
                    interface_name(leg)
                ),
                "it is down, or on another segment".to_owned(),
            );
        }
    }

    /// Something carries no larger packets than these.
    pub(super) fn judge_size(&mut self, mtu: Option<u32>) {
        let Some(mtu) = mtu.filter(|mtu| *mtu > 0) else { return };
        let least = self.trace.mtu.map_or(mtu, |known| known.min(mtu));
        self.trace.mtu = Some(least);
        if let Some(size) = self.facts.size.filter(|size| *size > mtu && self.goes_on()) {
            self.lose(
                format!("a packet of {size} bytes is too large: {mtu} at most"),
                "one that may be fragmented is; else its sender is told to send smaller ones".to_owned(),
            );
        }
    }

    /// A tunnel asks nobody for MAC addresses: what is not told is not known.
    pub(super) fn judge_told_neighbour(&mut self, leg: &Leg) {
        let address =
            leg.neighbour.as_ref().map_or_else(String::new, |neighbour| neighbour.address.to_string());
        self.lose(
            format!(
                "{} has no neighbour entry for {address}: nobody is asked through a tunnel",
                interface_name(leg)
            ),
            "the agent makes it: `cnikit status` tells whether it is at work".to_owned(),
        );
    }

    pub(super) fn judge_tunnel_mtu(&mut self, leg: &Leg, underlay: &Leg, remote: IpAddr) {
        let around = if remote.is_ipv4() { AROUND_IPV4 } else { AROUND_IPV6 };
        let carried = underlay.way.as_ref().and_then(|way| way.mtu);
        let carried = carried.or_else(|| underlay.interface.as_ref().map(|interface| interface.mtu));
        let Some(carried) = carried else { return };
        let room = carried.saturating_sub(around);
        let inner = leg.way.as_ref().and_then(|way| way.mtu);
        let inner = inner.or_else(|| leg.interface.as_ref().map(|interface| interface.mtu));
        if inner.is_some_and(|inner| inner > room) {
            self.doubt(
                format!(
                    "the tunnel takes packets of {} bytes, and {} carries {room} and what is put around them",
                    inner.unwrap_or_default(),
                    interface_name(underlay)
                ),
                "what is larger is fragmented or dropped; the agent sets the MTU by what its probes find"
                    .to_owned(),
            );
        }
        self.judge_size(Some(room));
    }

    pub(super) fn judge_peer(&mut self, peer: &Peer) {
        match peer.liveness {
            Liveness::Down => self.doubt(
                format!("{} has not answered for long", peer.name),
                "routes to it stay, and nobody may be there: look at the node".to_owned(),
            ),
            Liveness::Suspect => self.doubt(
                format!("{} has not answered for a moment", peer.name),
                "wait a few seconds, and look at the node".to_owned(),
            ),
            Liveness::Alive | Liveness::Unknown => {}
        }
        let Some(path) = &peer.path else { return };
        if path.answered.is_none() && path.way != AgentsWay::None {
            self.doubt(
                format!("no probe of the way to {} was ever answered", peer.name),
                "a packet filter between the nodes may drop it: UDP to the tunnel's port, or pods' addresses"
                    .to_owned(),
            );
        }
        if path.mtu_confirmed {
            self.judge_size(Some(path.mtu));
        }
        if let Some(node) = &self.facts.node
            && let Some(problem) = differs(path.way, node, peer, self.facts.destination.address.is_ipv6())
        {
            self.doubt(
                problem,
                "the agent is about to change it, or somebody else has: look again".to_owned(),
            );
        }
    }
}

/// How the kernel's way is another one than the agent says.
fn differs(agents: AgentsWay, node: &Node, peer: &Peer, ipv6: bool) -> Option<String> {
    let remote = node.tunnel.as_ref().and_then(|tunnel| tunnel.remote);
    let gateway = node.leg.way.as_ref().and_then(|way| way.gateway);
    let name = &peer.name;
    let is_peers = |address: Option<IpAddr>| address.is_some_and(|address| peer.addresses.contains(&address));
    match agents {
        AgentsWay::Vxlan { remote: expected } if remote != Some(expected) => Some(format!(
            "the agent says that {name} is reached by a tunnel to {expected}; the kernel does otherwise"
        )),
        // It names one address of two: packets of the other family go to the peer's address of that, or by a tunnel if it has none.
        AgentsWay::Route { gateway: expected }
            if expected.is_ipv6() != ipv6 && is_peers(remote.or(gateway)) =>
        {
            None
        }
        AgentsWay::Route { gateway: expected } if gateway != Some(expected) || remote.is_some() => {
            Some(format!(
                "the agent says that {name} is reached by a route to {expected}; the kernel does otherwise"
            ))
        }
        AgentsWay::None => Some(format!("the agent says that there is no way to {name}")),
        _ => None,
    }
}
