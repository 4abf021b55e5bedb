//! The things that are ours by the thousand: what they are found by, what there is of them, and when two are the same.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Scope;
use crate::error::Error;
use crate::kernel::{Answer, Kernel, Query};
use crate::lookup::Reachability;
use crate::name::{LinkName, MacAddr};
use crate::place::Place;
use crate::resource::{NeighbourEntry, Resource, Route, RouteTarget};
use crate::watching::Change;

/// What something is found by; at most one thing of ours has each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    NextHop(u32),
    Neighbour(LinkName, IpAddr),
    Proxy(LinkName, IpAddr),
    Fdb(LinkName, MacAddr),
    Route { table: u32, destination: IpNet, metric: u32 },
}

impl Key {
    /// In the order in which things are made.
    pub(super) const RANKS: [u8; 3] = [0, 1, 2];

    pub(super) fn of(resource: &Resource) -> Option<Self> {
        Some(match resource {
            Resource::NextHop(hop) => Self::NextHop(hop.id),
            Resource::Neighbour(neighbour) => Self::Neighbour(neighbour.link.clone(), neighbour.address),
            Resource::Proxy(proxy) => Self::Proxy(proxy.link.clone(), proxy.address),
            Resource::Fdb(entry) => Self::Fdb(entry.link.clone(), entry.mac),
            Resource::Route(route) => Self::of_route(route),
            _ => return None,
        })
    }

    fn of_route(route: &Route) -> Self {
        Self::Route { table: route.table(), destination: route.destination.trunc(), metric: route.metric() }
    }

    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::NextHop(_) => 0,
            Self::Neighbour(..) | Self::Proxy(..) | Self::Fdb(..) => 1,
            Self::Route { .. } => 2,
        }
    }
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Boxed: the table has more places than things.
    pub(super) ours: HashMap<Key, Box<Resource>>,
    /// More than one of a key, which we did not make.
    pub(super) surplus: Vec<(Key, Resource)>,
    /// Neighbours that the kernel has found by itself.
    found: HashSet<Key>,
    /// The interfaces that tunnels and neighbours are on, by index.
    links: HashMap<u32, LinkName>,
}

impl Seen {
    /// Asks for all that is ours: one list of each kind, of which the kernel leaves out what it can.
    pub(super) fn read(
        kernel: &mut dyn Kernel,
        scope: &Scope,
        with_neighbours: &[&LinkName],
    ) -> Result<Self, Error> {
        let mut links: Vec<_> = scope.links.iter().chain(with_neighbours.iter().copied()).collect();
        links.sort();
        links.dedup();
        let mut queries: Vec<_> = links.iter().map(|link| Query::Link((*link).clone())).collect();
        queries.extend([Query::NextHops(scope.protocol), Query::Proxies]);
        let of_table = |table: &u32| Query::RoutesOf { protocol: Some(scope.protocol), table: Some(*table) };
        queries.extend(scope.tables.iter().map(of_table));
        queries.extend(links.into_iter().cloned().map(Query::NeighboursOn));
        queries.extend(scope.links.iter().cloned().map(Query::FdbOn));
        let mut seen = Self::default();
        for answer in kernel.read(Place::Host, &queries)? {
            seen.take_in(scope, answer);
        }
        Ok(seen)
    }

    fn take_in(&mut self, scope: &Scope, answer: Answer) {
        match answer {
            Answer::Links(links) => self.links.extend(links.into_iter().map(|link| (link.index, link.name))),
            Answer::NextHops(hops) => hops.into_iter().for_each(|hop| self.add(scope, hop.into())),
            Answer::Routes(routes) => routes.into_iter().for_each(|route| self.add(scope, route.into())),
            Answer::Proxies(proxies) => proxies.into_iter().for_each(|proxy| self.add(scope, proxy.into())),
            Answer::Fdb(entries) => entries.into_iter().for_each(|entry| self.add(scope, entry.into())),
            Answer::Neighbours(neighbours) => {
                for neighbour in neighbours {
                    let key = Key::Neighbour(neighbour.link.clone(), neighbour.address);
                    match (neighbour.mac, neighbour.reachability) {
                        (Some(mac), Reachability::Permanent) => {
                            let entry = NeighbourEntry {
                                link: neighbour.link,
                                address: neighbour.address,
                                mac,
                                protocol: neighbour.protocol,
                            };
                            self.add(scope, entry.into());
                        }
                        _ => drop(self.found.insert(key)),
                    }
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, scope: &Scope, resource: Resource) {
        let Some(key) = Key::of(&resource).filter(|_| scope.has(&resource)) else { return };
        if let Some(other) = self.ours.insert(key.clone(), Box::new(resource)) {
            self.surplus.push((key, *other));
        }
    }

    /// Whether a change that we have not made may have made this untrue.
    pub(super) fn is_doubted_by(&self, scope: &Scope, change: &Change) -> bool {
        let knows = |key| self.ours.contains_key(&key);
        match change {
            Change::Overrun => true,
            // These are looked at each time.
            Change::Rule { .. } | Change::Setting { .. } | Change::Ruleset => false,
            // With a link, and with an address, go routes and next hops of which nobody is told.
            Change::Link { index, name, .. } => {
                self.links.contains_key(index) || name.as_ref().is_some_and(|name| self.leads_out_of(name))
            }
            Change::Address { gone, .. } => *gone,
            Change::Route { destination, table, metric, protocol, .. } => {
                *protocol == scope.protocol && scope.tables.contains(table)
                    || knows(Key::Route { table: *table, destination: *destination, metric: *metric })
            }
            Change::NextHop { id, .. } => knows(Key::NextHop(*id)),
            Change::Neighbour { link, address, .. } => {
                let link = self.links.get(link);
                link.is_some_and(|link| knows(Key::Neighbour(link.clone(), *address)))
            }
            // The kernel does not say who has done this one: ours is what has come about as we know it.
            Change::Fdb { link, mac, remote, gone } => {
                let Some(link) = self.links.get(link).filter(|link| scope.links.contains(link)) else {
                    return false;
                };
                match (self.ours.get(&Key::Fdb(link.clone(), *mac)).map(|ours| &**ours), gone) {
                    (Some(Resource::Fdb(ours)), false) => Some(ours.remote) != *remote,
                    (known, gone) => known.is_some() == *gone,
                }
            }
        }
    }

    fn leads_out_of(&self, name: &LinkName) -> bool {
        self.ours.values().any(|resource| resource.carrier() == Some(name.as_str()))
    }

    /// Whether what may be in the place of something is nobody's, or ours: a neighbour that the kernel has found by itself, an
    /// FDB entry.
    pub(super) fn gives_way(&self, key: &Key) -> bool {
        matches!(key, Key::Fdb(..)) || self.found.contains(key)
    }
}

/// The places that routes of others' are in.
pub(super) fn routes_of_others(
    kernel: &mut dyn Kernel,
    scope: &Scope,
    tables: &[u32],
) -> Result<HashSet<Key>, Error> {
    let all = |table: &u32| Query::RoutesOf { protocol: None, table: Some(*table) };
    let answers = kernel.read(Place::Host, &tables.iter().map(all).collect::<Vec<_>>())?;
    let routes = answers.into_iter().flat_map(|answer| match answer {
        Answer::Routes(routes) => routes,
        _ => Vec::new(),
    });
    Ok(routes.filter(|route| route.protocol() != scope.protocol).map(|route| Key::of_route(&route)).collect())
}

/// Whether two say the same, be it in other words.
pub(super) fn is_same(a: &Resource, b: &Resource) -> bool {
    match (a, b) {
        (Resource::Route(a), Resource::Route(b)) => {
            a.target == b.target
                && a.destination.trunc() == b.destination.trunc()
                && (a.table(), a.metric(), a.protocol()) == (b.table(), b.metric(), b.protocol())
                && (a.source, a.mtu, a.advmss, scope(a)) == (b.source, b.mtu, b.advmss, scope(b))
        }
        (a, b) => a == b,
    }
}

/// The scope that a route has, or will be given. IPv6 has none.
fn scope(route: &Route) -> u8 {
    match (route.destination, &route.target, route.scope) {
        (IpNet::V6(_), ..) => 0,
        (_, _, Some(scope)) => scope,
        (_, RouteTarget::Link { gateway: None, .. }, None) => libc::RT_SCOPE_LINK,
        (_, _, None) => libc::RT_SCOPE_UNIVERSE,
    }
}

/// What it is, for a log.
pub(super) fn subject(resource: &Resource) -> String {
    match resource {
        Resource::Route(route) => format!("route {}", route.destination),
        other => other.to_string(),
    }
}

/// What there is to say of it, for a log.
pub(super) fn substance(resource: &Resource) -> String {
    match resource {
        Resource::NextHop(hop) => hop.via.to_string(),
        Resource::Neighbour(neighbour) => neighbour.mac.to_string(),
        Resource::Proxy(_) => "there".to_owned(),
        Resource::Fdb(entry) => format!("at {}", entry.remote),
        Resource::Route(route) => match route.mtu {
            Some(mtu) => format!("{} mtu {mtu}", route.target),
            None => route.target.to_string(),
        },
        other => other.to_string(),
    }
}
