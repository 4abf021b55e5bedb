//! Nodes, and what their kernels must hold.

mod hold;
mod lead;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{LinkName, NextHop, OverlayRules, Plan, Resource, Route, RouteTarget, Via};

use super::*;
use crate::id::NodeName;
use crate::machine::Machine;
use crate::node::{Mode, Role, Subnet, SubnetState, Tunnel};
use crate::path::{self, Direct, Reach, Trial};
use crate::pod::Pod;
use crate::pool::Range;
use crate::report::Way;
use crate::underlay::Hop;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n + 1; 16])
}

fn own_address(n: u8, ipv6: bool) -> IpAddr {
    if ipv6 { format!("2001:db8::{}", n + 1).parse().unwrap() } else { IpAddr::from([192, 168, 1, n + 1]) }
}

fn settings() -> Settings {
    let range = |cluster: &str, subnet_length| Range { cluster: cluster.parse().unwrap(), subnet_length };
    Settings {
        pool: Pool::new(vec![range("10.244.0.0/20", 24), range("fd00:244::/60", 64)]).unwrap(),
        bridge: LinkName::new("cnikit0").unwrap(),
        tunnel: LinkName::new("cnikit-vxlan").unwrap(),
        masquerade_except: Some(vec!["192.168.0.0/16".parse().unwrap()]),
    }
}

fn node(n: u8) -> Node {
    Node {
        id: id(n),
        name: NodeName::new(&format!("n{n}")).unwrap(),
        addresses: vec![own_address(n, false), own_address(n, true)],
        subnets: Vec::new(),
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: Some(Tunnel { vni: 1, port: 4789 }),
        mtu: 1500,
        machine: Machine::default(),
        pods: Vec::new(),
    }
}

fn subnet(index: u8, ipv6: bool, state: SubnetState) -> Subnet {
    let prefix = if ipv6 { format!("fd00:244:0:{index:x}::/64") } else { format!("10.244.{index}.0/24") };
    Subnet { prefix: prefix.parse().unwrap(), state }
}

fn pod(address: IpAddr) -> Pod {
    Pod::new(&format!("c{address}"), "eth0", [address])
}

/// By which way each peer is reached from each node, unless by the router.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Tunnel(bool),
    Direct,
    /// IPv4 as it is, IPv6 through the tunnel.
    Half,
}

fn reach(peer: u8, kind: Kind) -> Reach {
    let via =
        |ipv6| Some(path::Via { link: LinkName::new("eth0").unwrap(), address: own_address(peer, ipv6) });
    let gateway = own_address(peer, false);
    let (way, direct) = match kind {
        Kind::Tunnel(ipv6) => (Way::Vxlan { remote: own_address(peer, ipv6) }, Direct::default()),
        Kind::Direct => (Way::Route { gateway }, Direct { v4: via(false), v6: via(true) }),
        Kind::Half => (Way::Route { gateway }, Direct { v4: via(false), v6: None }),
    };
    Reach { way, mtu: 1400, direct, tunnel: Some((gateway, 1350)), trial: None, outside: None }
}

fn underlay(own: u8, count: u8) -> Underlay {
    let hop = Hop { link: LinkName::new("eth0").unwrap(), mtu: 1500, on_segment: true };
    let peers = (0..count).filter(|n| *n != own);
    let addresses = peers.flat_map(|n| [own_address(n, false), own_address(n, true)]);
    Underlay {
        addresses: vec![own_address(own, false), own_address(own, true)],
        hops: addresses.map(|address| (address, hop.clone())).collect(),
        ipv6: true,
    }
}

fn resources(plan: &Plan) -> impl Iterator<Item = &Resource> {
    plan.steps().iter().map(|step| &step.resource)
}

fn routes(plan: &Plan) -> impl Iterator<Item = &Route> {
    resources(plan).filter_map(|resource| match resource {
        Resource::Route(route) => Some(route),
        _ => None,
    })
}

fn next_hop(plan: &Plan, number: u32) -> Option<&NextHop> {
    resources(plan).find_map(|resource| match resource {
        Resource::NextHop(hop) if hop.id == number => Some(hop),
        _ => None,
    })
}

/// The node's address that a packet is sent to; `None`: it is for the bridge.
fn leads(plan: &Plan, to: IpAddr) -> Result<Option<IpAddr>, String> {
    let mut best: Option<(u8, u32, Option<&Route>)> = None;
    let mut offer = |net: IpNet, metric: u32, route: Option<&'_ Route>| {
        let (length, contains) = (net.prefix_len(), net.contains(&to));
        let better =
            best.is_none_or(|(other, least, _)| length > other || (length == other && metric < least));
        if contains && better {
            // The borrow of the plan outlives this function's loop.
            best = Some((length, metric, route.map(|route| routes(plan).find(|r| *r == route).unwrap())));
        }
    };
    for route in routes(plan).filter(|route| route.table.is_none()) {
        offer(route.destination, route.metric.unwrap_or(0), Some(route));
    }
    for resource in resources(plan) {
        if let Resource::Address(address) = resource
            && address.prefix_route
        {
            offer(address.net.trunc(), 0, None);
        }
    }
    let Some((_, _, route)) = best else { return Err(format!("no route to {to}")) };
    match route.map(|route| &route.target) {
        None | Some(RouteTarget::Link { .. }) => Ok(None),
        Some(RouteTarget::NextHop(number)) => {
            let hop = next_hop(plan, *number).ok_or("a next hop that there is not")?;
            assert_eq!(hop.protocol, PROTOCOL);
            match &hop.via {
                Via::Gateway { address, link, .. } if link.as_str() == "eth0" => Ok(Some(*address)),
                Via::Gateway { address, link, .. } => {
                    let neighbour = resources(plan).find_map(|resource| match resource {
                        Resource::Neighbour(n) if n.link == *link && n.address == *address => Some(n.mac),
                        _ => None,
                    });
                    let mac = neighbour.ok_or("no neighbour")?;
                    let remote = resources(plan).find_map(|resource| match resource {
                        Resource::Fdb(entry) if entry.link == *link && entry.mac == mac => Some(entry.remote),
                        _ => None,
                    });
                    remote.map(Some).ok_or_else(|| "no FDB entry".to_owned())
                }
                other => Err(format!("{other:?}")),
            }
        }
        Some(other) => Err(format!("{to}: {other:?}")),
    }
}

/// Whether a setting that there is one of is on.
fn is_set(fabric: &Fabric, setting: &str) -> bool {
    resources(&fabric.plan).any(
        |resource| matches!(resource, Resource::Sysctl(s) if s.key.as_str().ends_with(setting) && s.value == "1"),
    )
}
