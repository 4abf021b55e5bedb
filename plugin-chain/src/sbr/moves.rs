//! Which routes go to which table. Pure: from what was found in the container to a plan.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni_spec::{AddResult, IpConfig};
use ipnet::IpNet;
use netops::{Address, LinkName, Place, Plan, Resource, Route, Rule};

use super::SbrConfig;

/// Tables are taken from here on.
const FIRST_TABLE: u32 = 100;
/// `default`, `main` and `local` (`RT_TABLE_*`, `linux/rtnetlink.h`).
const RESERVED: std::ops::RangeInclusive<u32> = 253..=255;
const MAIN: u32 = 254;
/// `RTPROT_RA`: routes that a router announces, which come and go as it likes.
const ANNOUNCED: u8 = 9;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;
/// The metric of an IPv6 route that was not given one (`IP6_RT_PRIO_USER`).
const USUAL_METRIC: u32 = 1024;

/// What there is in the container.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) rules: Vec<Rule>,
    /// The tables that anybody uses.
    pub(super) tables: Vec<u32>,
    /// The interface's routes, in all tables.
    pub(super) routes: Vec<Route>,
    /// The interface's addresses.
    pub(super) addresses: Vec<Address>,
}

/// An address, and the table that is looked at for what it sends.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) net: IpNet,
    gateway: Option<IpAddr>,
    pub(super) table: u32,
    /// A rule leads there: the routes have been moved.
    settled: bool,
}

impl Found {
    /// The table of each address: one that it has already, else the first that is free.
    pub(super) fn homes(&self, addresses: &AddResult) -> Vec<Home> {
        let mut taken: BTreeSet<_> = self.tables.iter().copied().collect();
        // All below it are taken: where there are many addresses, nobody looks at the same tables again and again.
        let mut free = FIRST_TABLE;
        let mut home = |ip: &IpConfig| {
            let from = IpNet::from(ip.address.addr());
            let of_its_own = |rule: &&Rule| rule.source() == Some(from) && is_taken_by_us(rule.table);
            let settled = self.rules.iter().find(of_its_own).map(|rule| rule.table);
            let table = settled.unwrap_or_else(|| {
                while !is_taken_by_us(free) || taken.contains(&free) {
                    free += 1;
                }
                free
            });
            taken.insert(table);
            Home { net: ip.address, gateway: ip.gateway, table, settled: settled.is_some() }
        };
        addresses.ips.iter().map(&mut home).collect()
    }

    /// The rules for addresses that an attachment has had, or that are on its interface; those that lead to one table,
    /// if that is fixed.
    pub(super) fn rules_of(&self, addresses: &AddResult, fixed: Option<u32>) -> Vec<Rule> {
        let recorded = addresses.ips.iter().map(|ip| ip.address);
        let held = self.addresses.iter().map(|address| address.net);
        let sources: Vec<_> = recorded.chain(held).map(|net| IpNet::from(net.addr())).collect();
        let ours = |rule: &&Rule| {
            rule.source().is_some_and(|from| sources.contains(&from))
                && fixed.map_or_else(|| !RESERVED.contains(&rule.table), |fixed| rule.table == fixed)
        };
        self.rules.iter().filter(ours).cloned().collect()
    }

    fn has(&self, table: u32, destination: IpNet) -> bool {
        self.routes.iter().any(|route| route.table() == table && route.destination == destination)
    }
}

fn is_taken_by_us(table: u32) -> bool {
    table >= FIRST_TABLE && !RESERVED.contains(&table)
}

/// Plans the routes in each address's table, and that they are not where they were.
pub(super) fn plan(
    plan: &mut Plan,
    config: &SbrConfig,
    link: &LinkName,
    homes: &[Home],
    found: &Found,
    addresses: &AddResult,
) {
    let mut moved: Vec<&Route> =
        found.routes.iter().filter(|route| is_moved(route, config, homes, addresses)).collect();
    // A gateway is found through the routes without one: they go last, and are back first if this is undone.
    moved.sort_by_key(|route| route.gateway().is_none());
    for home in homes {
        let mut copies: Vec<Route> = moved
            .iter()
            .filter(|route| belongs(route, home, homes))
            // A gateway that is configured takes the place of any other.
            .filter(|route| config.gateway(home.net.addr()).is_none() || !is_usual_default(route))
            .map(|route| Route { table: Some(home.table), ..(*route).clone() })
            .collect();
        copies.extend(default_route(config, link, home, found, &copies));
        if home.settled {
            copies.extend(missing(link, home, homes, found, addresses, &copies));
        }
        // The last first, so that routes without a gateway are there before those with one.
        for route in copies.into_iter().rev() {
            plan.own(Place::Container, Resource::Route(route));
        }
    }
    if config.source_hints {
        plan_hints(plan, link, homes, found);
    }
    for route in moved {
        let kept = config.source_hints && is_hint(route, homes);
        // A link-local address is none of the attachment's, and has no rule.
        if !kept && !is_link_local(route) {
            plan.own(Place::Container, Resource::NoRoute(route.clone()));
        }
    }
}

/// Whether a route is to be where the addresses' rules lead, and nowhere else. Once that has been done, only of the
/// attachment's own routes is it known that they should not be back: others may have come since.
fn is_moved(route: &Route, config: &SbrConfig, homes: &[Home], addresses: &AddResult) -> bool {
    let mut family = homes.iter().filter(|home| of_one_family(home.net, route.destination)).peekable();
    let anybodys = family.peek().is_some();
    let settled = family.all(|home| home.settled);
    let own = || {
        route.destination.prefix_len() == 0
            || homes.iter().any(|home| home.net.trunc() == route.destination)
            || addresses.routes.iter().any(|own| own.dst.trunc() == route.destination)
    };
    let stays = || config.source_hints && is_hint(route, homes);
    anybodys
        && route.table() == MAIN
        && route.protocol != Some(ANNOUNCED)
        && (!settled || (own() && !stays()))
}

/// Whether an address's packets take a route: one that leads through its subnet, and one that leads through no address's.
fn belongs(route: &Route, home: &Home, homes: &[Home]) -> bool {
    let leads_through =
        |home: &Home| [route.source, route.gateway()].into_iter().flatten().any(|ip| home.net.contains(&ip));
    of_one_family(home.net, route.destination) && (leads_through(home) || !homes.iter().any(leads_through))
}

/// The way to everything else, unless one was found.
fn default_route(
    config: &SbrConfig,
    link: &LinkName,
    home: &Home,
    found: &Found,
    copies: &[Route],
) -> Option<Route> {
    let configured = config.gateway(home.net.addr());
    let destination = plugin_kit::default_route(home.net.addr());
    let is_there = copies.iter().any(is_usual_default) || found.has(home.table, destination);
    let gateway = configured.or_else(|| home.gateway.filter(|_| !is_there))?;
    Some(Route { table: Some(home.table), ..Route::new(destination, Some(gateway), link.clone()) })
}

/// What should have been moved to an address's table, and is not there.
fn missing(
    link: &LinkName,
    home: &Home,
    homes: &[Home],
    found: &Found,
    addresses: &AddResult,
    copies: &[Route],
) -> Vec<Route> {
    let copied = |route: &Route| copies.iter().any(|copy| copy.destination == route.destination);
    let held = found.addresses.iter().any(|held| held.net == home.net && held.prefix_route);
    let subnet = (held && home.net.prefix_len() < home.net.max_prefix_len())
        .then(|| Route::new(home.net.trunc(), None, link.clone()));
    let routes = addresses.routes.iter().filter(|route| route.table.is_none_or(|table| table == MAIN));
    let routes = routes.map(|route| Route::new(route.dst, route.gw.or(home.gateway), link.clone()));
    subnet
        .into_iter()
        .chain(routes.filter(|route| belongs(route, home, homes)))
        .filter(|route| !found.has(home.table, route.destination) && !copied(route))
        .map(|route| Route { table: Some(home.table), ..route })
        .collect()
}

/// Plans that the `main` table leads to each address's subnet, with that address as the source.
fn plan_hints(plan: &mut Plan, link: &LinkName, homes: &[Home], found: &Found) {
    let main = || found.routes.iter().filter(|route| route.table() == MAIN);
    for home in homes.iter().filter(|home| home.net.prefix_len() < home.net.max_prefix_len()) {
        let subnet = home.net.trunc();
        if !main().any(|route| route.destination == subnet && is_hint(route, homes)) {
            let source = Some(home.net.addr());
            plan.own(
                Place::Container,
                Resource::Route(Route { source, ..Route::new(subnet, None, link.clone()) }),
            );
        }
    }
}

/// Whether a route may stay in the `main` table, for what is sent from no address in particular.
fn is_hint(route: &Route, homes: &[Home]) -> bool {
    let to_own_subnet =
        |home: &Home| home.net.trunc() == route.destination && route.source == Some(home.net.addr());
    route.scope == Some(SCOPE_LINK) || homes.iter().any(to_own_subnet)
}

fn is_usual_default(route: &Route) -> bool {
    route.destination.prefix_len() == 0 && matches!(route.metric, None | Some(0 | USUAL_METRIC))
}

fn is_link_local(route: &Route) -> bool {
    matches!(route.destination.addr(), IpAddr::V6(address) if address.is_unicast_link_local())
}

fn of_one_family(a: IpNet, b: IpNet) -> bool {
    a.addr().is_ipv4() == b.addr().is_ipv4()
}
