//! What the kernel holds that is not ours, as far as anything follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netops::{
    Answer, Change, Error, Kernel, LinkName, LinkState, LinuxKernel, Place, Query, Route, RouteKind,
    RouteLookup, SysctlKey,
};
use overlay::fabric::{self, Host};
use overlay::{Hop, Node, Topology, Underlay};

/// `RT_TABLE_MAIN`
const MAIN_TABLE: u32 = 254;
/// How many addresses of one peer are looked at: more are no help.
const ADDRESSES: usize = 8;

/// What the kernel holds.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) underlay: Underlay,
    pub(super) host: Host,
    /// The addresses that were looked up, also those that are not reached.
    asked: BTreeSet<IpAddr>,
    /// By index: changes do not always have a name.
    links: BTreeMap<u32, LinkName>,
}

impl Observed {
    /// Looks at everything.
    pub(super) fn look(
        &mut self,
        kernel: &mut LinuxKernel,
        settings: &fabric::Settings,
        own: &Node,
        topology: &Topology,
    ) -> Result<(), Error> {
        let links = netops::read_links(kernel, Place::Host)?;
        self.links = links.iter().map(|link| (link.index, link.name.clone())).collect();
        self.asked.clear();
        self.underlay.hops.clear();
        self.look_up(kernel, &links, settings, own, topology)?;
        self.look_at_host(kernel, &links, settings)
    }

    /// Looks up the peers' addresses that are new, and forgets those that nobody has any more.
    pub(super) fn look_up_new(
        &mut self,
        kernel: &mut LinuxKernel,
        settings: &fabric::Settings,
        own: &Node,
        topology: &Topology,
    ) -> Result<(), Error> {
        let wanted = wanted(own, topology);
        self.underlay.addresses.clone_from(&own.addresses);
        self.asked.retain(|address| wanted.contains(address));
        self.underlay.hops.retain(|address, _| wanted.contains(address));
        if wanted.iter().all(|address| self.asked.contains(address)) {
            return Ok(());
        }
        let links = netops::read_links(kernel, Place::Host)?;
        self.look_up(kernel, &links, settings, own, topology)
    }

    fn look_up(
        &mut self,
        kernel: &mut LinuxKernel,
        links: &[LinkState],
        settings: &fabric::Settings,
        own: &Node,
        topology: &Topology,
    ) -> Result<(), Error> {
        self.underlay.addresses.clone_from(&own.addresses);
        let new: Vec<IpAddr> =
            wanted(own, topology).into_iter().filter(|address| !self.asked.contains(address)).collect();
        let queries: Vec<Query> = new.iter().map(|to| Query::RouteTo(RouteLookup::to(*to))).collect();
        for (address, answer) in new.iter().zip(kernel.read(Place::Host, &queries)?) {
            self.asked.insert(*address);
            let Answer::Way(Some(way)) = answer else { continue };
            let link = way.link.as_ref().and_then(|name| links.iter().find(|link| link.name == *name));
            let Some(link) = link.filter(|link| !is_ours(&link.name, settings)) else { continue };
            if way.kind == RouteKind::Unicast {
                let hop = Hop { link: link.name.clone(), mtu: link.mtu, on_segment: way.gateway.is_none() };
                self.underlay.hops.insert(*address, hop);
            }
        }
        Ok(())
    }

    fn look_at_host(
        &mut self,
        kernel: &mut LinuxKernel,
        links: &[LinkState],
        settings: &fabric::Settings,
    ) -> Result<(), Error> {
        let below: BTreeSet<LinkName> = self.underlay.hops.values().map(|hop| hop.link.clone()).collect();
        let tunnels =
            links.iter().filter(|link| is_tunnel(&link.name, settings)).map(|link| link.name.clone());
        let inward: Vec<LinkName> = below.iter().cloned().chain(tunnels).collect();
        let mut queries = vec![
            Query::RoutesOf { protocol: None, table: Some(MAIN_TABLE) },
            Query::Addresses(settings.bridge.clone()),
            Query::Sysctl(setting("net/ipv6/conf/all/disable_ipv6")?),
            Query::Sysctl(setting("net/ipv4/neigh/default/gc_thresh3")?),
            Query::Sysctl(setting("net/ipv6/neigh/default/gc_thresh3")?),
            Query::Sysctl(setting("net/ipv4/conf/all/rp_filter")?),
        ];
        queries.extend(inward.iter().map(|link| Query::Sysctl(SysctlKey::ipv4(link, "rp_filter"))));
        queries.extend(below.iter().map(|link| Query::Sysctl(SysctlKey::ipv6(link, "accept_ra"))));
        let mut answers = kernel.read(Place::Host, &queries)?.into_iter();
        let routes = match answers.next() {
            Some(Answer::Routes(routes)) => routes,
            _ => Vec::new(),
        };
        let bridge_addresses = match answers.next() {
            Some(Answer::Addresses(addresses)) => addresses,
            _ => Vec::new(),
        };
        let mut number = || match answers.next() {
            Some(Answer::Sysctl(Some(value))) => value.trim().parse::<u32>().ok(),
            _ => None,
        };
        self.underlay.ipv6 = number().is_some_and(|disabled| disabled == 0);
        let neighbour_limits = [number(), number()];
        let all = number().unwrap_or(0);
        let strict = inward.iter().filter(|_| number().unwrap_or(0).max(all) == 1).cloned().collect();
        let has_v6 = settings.pool.ranges().iter().any(|range| range.cluster.addr().is_ipv6());
        let advertised = below.iter().filter(|_| number() == Some(1) && has_v6).cloned().collect();
        let bridge = links.iter().find(|link| link.name == settings.bridge);
        let is_foreign = |route: &Route| {
            let by_us = route.protocol() == fabric::PROTOCOL;
            let of_ours = route.link().is_some_and(|link| is_ours(link, settings));
            !by_us && !of_ours && route.destination.prefix_len() > 0
        };
        self.host = Host {
            bridge_mac: bridge.and_then(|bridge| bridge.mac),
            bridge_addresses,
            routes: routes.into_iter().filter(is_foreign).collect(),
            neighbour_limits,
            strict,
            advertised,
        };
        Ok(())
    }

    /// Whether an interface is ours, or leads to other nodes.
    fn matters(&self, name: &LinkName, settings: &fabric::Settings) -> bool {
        is_ours(name, settings) || self.underlay.hops.values().any(|hop| hop.link == *name)
    }

    /// Whether a change may make it look otherwise.
    pub(super) fn is_touched_by(&self, change: &Change, settings: &fabric::Settings) -> bool {
        match change {
            Change::Link { name, index, .. } => name
                .as_ref()
                .or_else(|| self.links.get(index))
                .is_some_and(|name| self.matters(name, settings)),
            // Of an interface that was not there yet, too.
            Change::Address { .. } | Change::Overrun => true,
            // Of one that is not known, settings are told when it comes, too.
            Change::Setting { link } => {
                let name = link.and_then(|link| self.links.get(&link));
                name.is_none_or(|name| self.matters(name, settings))
            }
            Change::Route { table, protocol, .. } => *protocol != fabric::PROTOCOL && *table == MAIN_TABLE,
            _ => false,
        }
    }
}

fn setting(path: &str) -> Result<SysctlKey, Error> {
    let garbled = |reason| Error::Garbled { operation: netops::Operation::Read, reason };
    SysctlKey::new(path).map_err(|invalid| garbled(invalid.to_string()))
}

/// The addresses of peers that are not this node's own as well.
fn wanted(own: &Node, topology: &Topology) -> BTreeSet<IpAddr> {
    let addresses = topology.peers(&own.id).flat_map(|peer| peer.node.addresses.iter().take(ADDRESSES));
    addresses.copied().filter(|address| !own.addresses.contains(address)).collect()
}

fn is_tunnel(link: &LinkName, settings: &fabric::Settings) -> bool {
    fabric::tunnel_links(settings).contains(link)
}

fn is_ours(link: &LinkName, settings: &fabric::Settings) -> bool {
    *link == settings.bridge || is_tunnel(link, settings)
}
