//! What an agent finds that begins: the data plane of the one before, at work.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{
    Answer, Error, Kernel, LinkName, LinuxKernel, MacAddr, NextHop, Place, Plan, Query, Reachability,
    Resource, Route, RouteTarget, Scope, Via,
};
use overlay::fabric;
use overlay::path::Resumed;

/// What the kernel held when the agent began.
///
/// Until everybody is known again who was known before, what belongs to the others stays: to be told late of a node is no
/// reason to cut it off.
#[derive(Debug, Default)]
pub(super) struct Kept {
    resources: Vec<Resource>,
}

/// What something is found by.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key<'a> {
    NextHop(u32),
    Neighbour(&'a LinkName, IpAddr),
    Proxy(&'a LinkName, IpAddr),
    Fdb(&'a LinkName, MacAddr),
    Route(IpNet),
}

impl Kept {
    /// Reads what there is.
    pub(super) fn read(kernel: &mut LinuxKernel, scope: &Scope) -> Result<Self, Error> {
        let links = netops::read_links(kernel, Place::Host)?;
        let there = scope.links.iter().filter(|name| links.iter().any(|link| link.name == **name));
        let mut queries = vec![
            Query::NextHops(scope.protocol),
            Query::RoutesOf { protocol: Some(scope.protocol), table: scope.tables.first().copied() },
            Query::Proxies,
        ];
        queries.extend(there.clone().cloned().map(Query::NeighboursOn));
        queries.extend(there.cloned().map(Query::FdbOn));
        let mut resources = Vec::new();
        for answer in kernel.read(Place::Host, &queries)? {
            match answer {
                Answer::NextHops(hops) => {
                    let ours = hops.into_iter().filter(|hop| scope.next_hops.contains(&hop.id));
                    resources.extend(ours.map(Resource::NextHop));
                }
                Answer::Routes(routes) => {
                    // The one to nowhere does not depend on anybody.
                    let to_pods = routes.into_iter().filter(|route| route.target != RouteTarget::Blackhole);
                    resources.extend(to_pods.map(Resource::Route));
                }
                Answer::Neighbours(neighbours) => {
                    let ours = neighbours.into_iter().filter(|neighbour| {
                        neighbour.protocol == scope.protocol
                            && neighbour.reachability == Reachability::Permanent
                    });
                    resources.extend(ours.filter_map(|neighbour| {
                        Some(Resource::Neighbour(netops::NeighbourEntry {
                            link: neighbour.link,
                            address: neighbour.address,
                            mac: neighbour.mac?,
                            protocol: neighbour.protocol,
                        }))
                    }));
                }
                Answer::Proxies(proxies) => {
                    let ours = proxies.into_iter().filter(|proxy| proxy.protocol == scope.protocol);
                    resources.extend(ours.map(Resource::Proxy));
                }
                Answer::Fdb(entries) => resources.extend(entries.into_iter().map(Resource::Fdb)),
                _ => {}
            }
        }
        Ok(Self { resources })
    }

    /// How peers were reached, by the numbers of their next hops.
    pub(super) fn resumed(&self, scope: &Scope) -> BTreeMap<u32, Resumed> {
        let mut resumed = BTreeMap::new();
        for hop in self.next_hops() {
            let number = fabric::peers_next_hop(hop.id);
            let Some(number) = number else { continue };
            let direct = matches!(&hop.via, Via::Gateway { link, .. } if !scope.links.contains(link));
            let by_it = |route: &&Route| route.target == RouteTarget::NextHop(hop.id);
            if let Some(mtu) = self.routes().find(by_it).and_then(|route| route.mtu) {
                // IPv4's comes first, and counts.
                resumed.entry(number).or_insert(Resumed { direct, mtu });
            }
        }
        resumed
    }

    /// Adds to a plan what it has nothing in the place of.
    pub(super) fn add_to(&self, plan: &mut Plan) {
        let taken: HashSet<Key<'_>> = plan.steps().iter().filter_map(|step| key(&step.resource)).collect();
        let left: Vec<Resource> = self
            .resources
            .iter()
            .filter(|resource| key(resource).is_some_and(|key| !taken.contains(&key)))
            .cloned()
            .collect();
        for resource in left {
            plan.own(Place::Host, resource);
        }
    }

    fn next_hops(&self) -> impl Iterator<Item = &NextHop> {
        self.resources.iter().filter_map(|resource| match resource {
            Resource::NextHop(hop) => Some(hop),
            _ => None,
        })
    }

    fn routes(&self) -> impl Iterator<Item = &Route> {
        self.resources.iter().filter_map(|resource| match resource {
            Resource::Route(route) => Some(route),
            _ => None,
        })
    }
}

fn key(resource: &Resource) -> Option<Key<'_>> {
    Some(match resource {
        Resource::NextHop(hop) => Key::NextHop(hop.id),
        Resource::Neighbour(neighbour) => Key::Neighbour(&neighbour.link, neighbour.address),
        Resource::Proxy(proxy) => Key::Proxy(&proxy.link, proxy.address),
        Resource::Fdb(entry) => Key::Fdb(&entry.link, entry.mac),
        // Those of other tables are for probes.
        Resource::Route(route)
            if route.metric() == fabric::METRIC && route.table.is_none_or(|t| t == 254) =>
        {
            Key::Route(route.destination.trunc())
        }
        _ => return None,
    })
}
