//! From facts to hops and findings: where a packet goes, and where it would be lost.

use serde::Serialize;

use super::facts::{Bridge, Facts, Known, Leg, LocalPod, Peer, Tunnel};
use super::words::{interface_name, is_known, is_local, named, neighbour_told, path_told, told};

/// The way of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    pub(super) hops: Vec<Hop>,
    pub(super) findings: Vec<Finding>,
    /// Where it is lost, if it is: the hop's number, from 0.
    pub(super) lost_at: Option<usize>,
    /// The largest packet that gets there without being refused or fragmented, as far as is known from here.
    pub(super) mtu: Option<u32>,
}

/// A place that a packet comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hop {
    /// The machine: a pod's or a node's name.
    pub(super) on: String,
    /// What is there: `bridge cnikit0`.
    pub(super) what: String,
    /// What happens, in the kernel's words.
    pub(super) how: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    /// The hop's number, from 0.
    pub(super) hop: usize,
    /// The packet is lost there; else it may be.
    pub(super) lost: bool,
    pub(super) what: String,
    pub(super) advice: String,
}

/// Walks the packet's way, as far as facts lead.
pub(super) fn walk(facts: &Facts) -> Trace {
    let mut walk =
        Walk { facts, trace: Trace { hops: Vec::new(), findings: Vec::new(), lost_at: None, mtu: None } };
    walk.begin();
    if walk.goes_on() {
        walk.leave_pod();
    }
    if walk.goes_on() {
        walk.cross_node();
    }
    if walk.goes_on() {
        walk.arrive();
    }
    walk.trace.findings.sort_by_key(|finding| (finding.hop, !finding.lost));
    walk.trace
}

/// On the way.
pub(super) struct Walk<'a> {
    pub(super) facts: &'a Facts,
    pub(super) trace: Trace,
}

impl Walk<'_> {
    pub(super) fn goes_on(&self) -> bool {
        self.trace.lost_at.is_none()
    }

    /// Who sends it, and the first look-up.
    fn begin(&mut self) {
        let Facts { source, pod, .. } = self.facts;
        let Some(name) = &source.pod else { return };
        let from = source.address.map(|address| format!("from {address}"));
        let Some(leg) = pod else {
            self.hop(name, "pod", from.into_iter().collect());
            self.doubt(
                "the pod's namespace was not found: its own routes are not looked at".to_owned(),
                "is it gone? `cnikit list` tells; or start this as root on the node itself".to_owned(),
            );
            return;
        };
        let how = from.into_iter().chain(told(leg.way.as_ref())).collect();
        self.hop(name, &format!("pod {}", interface_name(leg)), how);
        self.duplicates();
        self.judge_way(leg, &format!("pod {name}"), "`cnikit check` compares the pod with what its ADD made");
        self.judge_interface(leg.interface.as_ref());
        self.judge_neighbour(leg);
    }

    /// Along the cable, and into the bridge.
    fn leave_pod(&mut self) {
        let Facts { source, host_end, bridge, pod, .. } = self.facts;
        if source.pod.is_none() {
            return;
        }
        if let Some(end) = host_end {
            self.hop(&source.node, &named(end), Vec::new());
            self.judge_interface(Some(end));
        }
        if !self.goes_on() {
            return;
        }
        let Some(Bridge { interface, addresses }) = bridge else { return };
        let gateway = pod.as_ref().and_then(|leg| leg.way.as_ref()?.gateway);
        let how = gateway.map(|gateway| format!("to its own address {gateway}"));
        self.hop(&source.node, &named(interface), how.filter(|_| gateway.is_some()).into_iter().collect());
        self.judge_interface(Some(interface));
        if let Some(gateway) = gateway.filter(|gateway| !addresses.contains(gateway)) {
            self.lose(
                format!("the pod's gateway {gateway} is no address of {}", interface.name),
                "the agent gives it to the bridge: `cnikit status` tells whether it is at work".to_owned(),
            );
        }
    }

    /// The node's own look-up, and what it leads to.
    fn cross_node(&mut self) {
        let Some(node) = &self.facts.node else { return };
        let machine = &self.facts.source.node;
        self.hop(machine, "routes", told(node.leg.way.as_ref()).into_iter().collect());
        if self.facts.source.pod.is_none() {
            self.duplicates();
        }
        self.judge_forwarding(node);
        self.judge_way(&node.leg, machine, self.advice_about_routes());
        if !self.goes_on() || is_local(&node.leg) {
            return;
        }
        if let Some(interface) = &node.leg.interface {
            if self.facts.neighbour_pod.is_none() {
                // Through a tunnel nobody is asked.
                let is_asked = node.tunnel.is_none() || node.leg.neighbour.as_ref().is_some_and(is_known);
                let how = neighbour_told(&node.leg).filter(|_| is_asked);
                self.hop(machine, &named(interface), how.into_iter().collect());
            }
            self.judge_interface(Some(interface));
            self.judge_size(node.leg.way.as_ref().and_then(|way| way.mtu));
        }
        match &node.tunnel {
            _ if !self.goes_on() => {}
            Some(tunnel) => self.enter_tunnel(&node.leg, tunnel),
            None => self.judge_neighbour(&node.leg),
        }
    }

    fn enter_tunnel(&mut self, leg: &Leg, tunnel: &Tunnel) {
        let machine = &self.facts.source.node;
        let link = interface_name(leg);
        let (Some(neighbour), Some(remote)) = (&leg.neighbour, tunnel.remote) else {
            let known = leg.neighbour.as_ref().map(|neighbour| neighbour.known);
            if let Some(Known::As(mac)) = known {
                self.lose(
                    format!("{link} has no FDB entry for {mac}: it does not know which machine has it"),
                    "the agent makes it: `cnikit status` tells whether it is at work".to_owned(),
                );
            } else {
                self.judge_told_neighbour(leg);
            }
            return;
        };
        if !is_known(neighbour) {
            self.judge_told_neighbour(leg);
            return;
        }
        let Some(underlay) = &tunnel.underlay else { return };
        let how = [format!("wrapped, to {remote}")].into_iter().chain(told(underlay.way.as_ref()));
        let what = underlay.interface.as_ref().map_or_else(|| "underlay".to_owned(), named);
        self.hop(machine, &what, how.chain(neighbour_told(underlay)).collect());
        self.judge_way(underlay, machine, "without a way to the node itself there is none to its pods");
        if !self.goes_on() {
            return;
        }
        self.judge_interface(underlay.interface.as_ref());
        self.judge_neighbour(underlay);
        self.judge_tunnel_mtu(leg, underlay, remote);
    }

    /// The last hops: a pod of this node, the node itself, or what the agent knows of the other side.
    fn arrive(&mut self) {
        let Facts { source, destination, pod, node, neighbour_pod, peer, .. } = self.facts;
        if pod.as_ref().is_some_and(is_local) {
            return;
        }
        if let Some(LocalPod { name, host_end, is_kept_apart }) = neighbour_pod {
            if let Some(end) = host_end {
                self.hop(&source.node, &named(end), Vec::new());
                self.judge_interface(Some(end));
            }
            if *is_kept_apart {
                self.lose(
                    "the bridge keeps both ports apart (isolated)".to_owned(),
                    "portIsolation in the network's configuration asks for that".to_owned(),
                );
            }
            if self.goes_on() {
                self.hop(name, "pod", vec![format!("at {}", destination.address)]);
            }
            return;
        }
        if node.as_ref().is_some_and(|node| is_local(&node.leg)) {
            self.hop(&source.node, "node", vec![format!("{} is its own", destination.address)]);
            return;
        }
        match peer {
            Some(peer) => self.arrive_at(peer),
            None => self.arrive_nowhere(),
        }
    }

    fn arrive_at(&mut self, peer: &Peer) {
        let destination = self.facts.destination.address;
        if let Some((router, _)) = &peer.router {
            self.hop(router, "router", vec![format!("passes it on to {}", peer.name)]);
        }
        let mut how = vec![format!("{}, as the agent sees it", peer.liveness)];
        how.extend(peer.path.as_ref().map(path_told));
        self.hop(&peer.name, "node", how);
        self.judge_peer(peer);
        if peer.addresses.contains(&destination) {
            return;
        }
        let subnet = peer.subnet.map(|subnet| format!("in {subnet}"));
        self.hop(&peer.name, &format!("bridge {}", peer.bridge), subnet.into_iter().collect());
        match (&peer.pod, &self.facts.lacking_pods) {
            (Some((pod, interface)), _) => {
                self.hop(pod, &format!("pod {interface}"), vec![format!("at {destination}")]);
            }
            (None, Some(why)) => self.doubt(
                format!("whether a pod on {} has {destination} is not known: {why}", peer.name),
                format!("on {}, `cnikit list` knows", peer.name),
            ),
            (None, None) => self.lose(
                format!("no pod on {} has {destination}", peer.name),
                "it is gone, or the agent has not heard of it yet: `cnikit topology --all`".to_owned(),
            ),
        }
    }

    /// Beyond what is known: the world, or a node that nobody tells of.
    fn arrive_nowhere(&mut self) {
        let Facts { destination, agent, node, .. } = self.facts;
        let is_agents = node.as_ref().is_some_and(|node| {
            node.tunnel.is_some() || node.leg.way.as_ref().is_some_and(|way| way.next_hop.is_some())
        });
        match agent {
            Some(reason) if is_agents => self.doubt(
                format!("what is on the other side is not known: {reason}"),
                "`cnikit agent` knows the other nodes".to_owned(),
            ),
            None if destination.is_in_cluster => self.doubt(
                format!("no node that the agent knows has {}", destination.address),
                "`cnikit topology` shows who has which subnet".to_owned(),
            ),
            _ => {}
        }
    }

    fn hop(&mut self, on: &str, what: &str, how: Vec<String>) {
        self.trace.hops.push(Hop { on: on.to_owned(), what: what.to_owned(), how });
    }

    pub(super) fn lose(&mut self, what: String, advice: String) {
        let hop = self.here();
        self.trace.lost_at.get_or_insert(hop);
        self.trace.findings.push(Finding { hop, lost: true, what, advice });
    }

    pub(super) fn doubt(&mut self, what: String, advice: String) {
        let hop = self.here();
        self.trace.findings.push(Finding { hop, lost: false, what, advice });
    }

    fn here(&self) -> usize {
        self.trace.hops.len().saturating_sub(1)
    }
}
