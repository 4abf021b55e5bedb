//! Which ways there are to a peer, before any of them is tried: what follows from what both nodes say and from this node's
//! kernel.

use std::net::IpAddr;

use netops::LinkName;

use super::size;
use crate::fabric::gateway;
use crate::id::NodeId;
use crate::node::{Mode, Node, Role, SubnetState};
use crate::pool::Pool;
use crate::underlay::{Hop, Underlay};

/// What a tunnel adds to a packet: the inner Ethernet header, VXLAN's, UDP's and the outer IP header (RFC 7348).
pub(crate) fn tunnel_overhead(remote: IpAddr) -> u32 {
    let ip = if remote.is_ipv4() { 20 } else { 40 };
    14 + 8 + 8 + ip
}

/// A peer's own addresses as next hops: what plain routes need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Direct {
    /// The next hop of IPv4 routes. Where the peer has no IPv4 address on the segment it may be an IPv6 one (RFC 8950).
    pub v4: Option<Via>,
    /// The next hop of IPv6 routes.
    pub v6: Option<Via>,
}

/// An address on an interface's segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The interface.
    pub link: LinkName,
    /// The address.
    pub address: IpAddr,
}

impl Direct {
    /// The next hop of a family's routes.
    pub fn of(&self, ipv6: bool) -> Option<&Via> {
        if ipv6 { self.v6.as_ref() } else { self.v4.as_ref() }
    }

    /// The address that people are shown.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.v4.as_ref().or(self.v6.as_ref()).map(|via| via.address)
    }
}

/// A tunnel's possible other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) address: IpAddr,
    pub(super) ceiling: u32,
}

/// What a probe is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    /// The bridge's own address, so that the probe is as pods' packets are.
    pub(super) source: Option<IpAddr>,
    /// The address is one that only a node with pods has. Without it, it is the peer's own, which the main routing table
    /// leads to past any tunnel.
    pub(super) inside: bool,
}

/// The ways that there are to a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// The node that passes everything on.
    pub(super) router: Option<NodeId>,
    /// The tunnel's possible other ends, best first.
    pub(super) remotes: Vec<Remote>,
    pub(super) direct: Option<(Direct, u32)>,
    pub(super) target: Option<Target>,
    /// Where answers to the peer's probes are sent, if no way is known to be better.
    pub(super) address: Option<IpAddr>,
    /// Why there is no tunnel, or no plain route, where one is wanted.
    pub(super) obstacle: Option<Obstacle>,
}

/// Why a way that is wanted is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// None of the peer's addresses is reached from here.
    NoAddress,
    /// One of the two has no tunnel.
    NoTunnel,
    /// The tunnels' numbers differ: the peer's VNI and port.
    OtherTunnel(u32, u16),
    /// A router is between the two.
    NotOnSegment,
    /// All shall go by the router, and there is none.
    NoRouter,
}

/// How the node itself is, as far as the ways to others depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) pool: &'a Pool,
    pub(super) node: &'a Node,
    pub(super) underlay: &'a Underlay,
    /// The node that passes everything on: looked for once, not once for each peer.
    pub(super) router: Option<NodeId>,
}

impl Options {
    pub(super) fn of(here: Here<'_>, peer: &Node) -> Self {
        let mut options = Self {
            mode: here.node.mode,
            remotes: remotes(here, peer),
            direct: direct(here, peer),
            ..Self::default()
        };
        options.address = options.remotes.first().map(|remote| remote.address);
        options.target = target(here, peer, options.address);
        options.obstacle = options.address.is_none().then_some(Obstacle::NoAddress);
        if let Some(obstacle) = tunnel_obstacle(here.node, peer) {
            options.remotes.clear();
            if options.mode == Mode::Vxlan || options.direct.is_none() {
                options.obstacle = options.obstacle.or(Some(obstacle));
            }
        }
        if options.mode == Mode::Route && options.direct.is_none() {
            options.obstacle = options.obstacle.or(Some(Obstacle::NotOnSegment));
        }

        // Whoever has everything passed on also wants to be reached so; to the router itself there is no other way.
        let by_router = here.node.mode == Mode::Router || peer.mode == Mode::Router;
        let ends = here.node.role == Role::Worker && peer.role == Role::Worker;
        match here.router {
            Some(router) if by_router && ends => {
                options.router = Some(router);
                options.mode = Mode::Router;
                options.obstacle = None;
            }
            None if here.node.mode == Mode::Router && ends => options.obstacle = Some(Obstacle::NoRouter),
            _ if options.mode == Mode::Router => options.mode = Mode::Auto,
            _ => {}
        }
        options
    }
}

/// The peer's own addresses that are reached from here, and how. One among pods' addresses would be reached through
/// what it is to carry.
fn reached<'a>(here: Here<'a>, peer: &'a Node) -> impl Iterator<Item = (IpAddr, &'a Hop)> + Clone {
    let outside = peer.addresses.iter().filter(move |address| here.pool.range_of(**address).is_none());
    outside.filter_map(move |address| Some((*address, here.underlay.hops.get(address)?)))
}

/// The tunnel's possible ends.
fn remotes(here: Here<'_>, peer: &Node) -> Vec<Remote> {
    let remote = |(address, hop): (IpAddr, &Hop)| Remote {
        address,
        ceiling: promised(hop.mtu, peer).saturating_sub(tunnel_overhead(address)).max(size::SMALLEST),
    };
    // A tunnel is of one family. Where both nodes have both, both take the one that costs less.
    let mut remotes: Vec<_> = reached(here, peer).map(remote).collect();
    remotes.sort_by_key(|remote| remote.address.is_ipv6());
    remotes
}

/// The peer's addresses that are on this node's segments.
fn direct(here: Here<'_>, peer: &Node) -> Option<(Direct, u32)> {
    let near = reached(here, peer).filter(|(_, hop)| hop.on_segment);
    let mut near =
        near.map(|(address, hop)| (Via { link: hop.link.clone(), address }, promised(hop.mtu, peer)));
    let v6 = near.clone().find(|(via, _)| via.address.is_ipv6());
    let v4 = near.find(|(via, _)| via.address.is_ipv4()).or_else(|| v6.clone());
    let ceiling = v4.iter().chain(&v6).map(|(_, mtu)| *mtu).min()?;
    let via = |found: Option<(Via, u32)>| found.map(|(via, _)| via);
    Some((Direct { v4: via(v4), v6: via(v6) }, ceiling))
}

/// What both ends' interfaces carry.
fn promised(mtu: u32, peer: &Node) -> u32 {
    // A peer may say anything.
    let theirs = if peer.mtu < size::SMALLEST { u32::MAX } else { peer.mtu };
    mtu.min(theirs).clamp(size::SMALLEST, 65535)
}

fn tunnel_obstacle(own: &Node, peer: &Node) -> Option<Obstacle> {
    match (own.tunnel, peer.tunnel) {
        (Some(own), Some(theirs)) if own == theirs => None,
        (Some(_), Some(theirs)) => Some(Obstacle::OtherTunnel(theirs.vni, theirs.port)),
        _ => Some(Obstacle::NoTunnel),
    }
}

/// The bridge's address over there, from the bridge's address here. A node without pods is probed at its own address.
///
/// After a conflict both bridges may have one address: that of the prefix that one lost, and whose pods it still has. A node
/// believes no packet from an address of its own, nor sends one there to anybody else. Such a path is not probed.
fn target(here: Here<'_>, peer: &Node, outside: Option<IpAddr>) -> Option<Target> {
    let bridge_address = |node: &Node, ipv6: bool| {
        // A peer may say anything: what lies outside the cluster's range is not its to have.
        let mut held = node.held().filter(|net| here.pool.holds(net));
        held.find(|net| net.addr().is_ipv6() == ipv6).map(gateway)
    };
    let inside = |ipv6: bool| {
        let address = bridge_address(peer, ipv6)?;
        let source = bridge_address(here.node, ipv6);
        let is_twice =
            is_gateway(here.node, address) || source.is_some_and(|source| is_gateway(peer, source));
        (!is_twice).then_some(Target { address, source, inside: true })
    };
    let both: Vec<_> = [false, true].into_iter().filter_map(inside).collect();
    let outside = outside.filter(|_| peer.role == Role::Router);
    // One that is sent as pods send comes first.
    let inside = both.iter().find(|target| target.source.is_some()).or_else(|| both.first()).copied();
    inside.or_else(|| outside.map(|address| Target { address, source: None, inside: false }))
}

/// Whether a node's bridge has an address, for pods of a subnet that it has or had.
fn is_gateway(node: &Node, address: IpAddr) -> bool {
    let subnets = node.subnets.iter().filter(|subnet| subnet.state != SubnetState::Tentative);
    subnets.into_iter().any(|subnet| gateway(subnet.prefix) == address)
}
