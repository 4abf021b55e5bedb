//! What must be known of the kernel to compare a resource with it.

use crate::kernel::Query;
use crate::place::Place;
use crate::plan::Step;
use crate::resource::{Master, Resource, Route};

/// What must be asked, and where, to compare a step's resource with the kernel.
pub(super) fn queries(step: &Step) -> Vec<(Place, Query)> {
    let here = |query| vec![(step.place, query)];
    match &step.resource {
        Resource::Link(link) => {
            let parent = link.kind.parent().map(|parent| (parent.place, Query::Link(parent.name.clone())));
            let names = link.master.iter().chain([&link.name]);
            names.map(|name| (step.place, Query::Link(name.clone()))).chain(parent).collect()
        }
        Resource::LinkUp(link)
        | Resource::LinkDown(link)
        | Resource::Promiscuous(link)
        | Resource::FixedMac(link) => here(Query::Link(link.clone())),
        Resource::MovedLink(moved) => here(Query::Link(moved.name.clone())),
        Resource::Settings(settings) => here(Query::Link(settings.link.clone())),
        Resource::Port(port) => here(Query::Port(port.link.clone())),
        Resource::Master(Master { link, master }) => {
            [master, link].map(|name| (step.place, Query::Link(name.clone()))).into()
        }
        Resource::Address(address) => here(Query::Addresses(address.link.clone())),
        Resource::Settled(_) => Vec::new(),
        Resource::Route(route) | Resource::NoRoute(route) => here(routes_beside(route)),
        Resource::NextHop(hop) => here(Query::NextHop(hop.id)),
        Resource::Neighbour(wanted) => here(Query::NeighbourOf(wanted.link.clone(), wanted.address)),
        Resource::Proxy(_) => here(Query::Proxies),
        Resource::Fdb(wanted) => here(Query::FdbOf(wanted.link.clone(), wanted.mac)),
        Resource::Rule(_) => here(Query::Rules),
        Resource::Sysctl(sysctl) => here(Query::Sysctl(sysctl.key.clone())),
        Resource::Qdisc(qdisc) => here(Query::Qdiscs(qdisc.link.clone())),
        Resource::Redirect(redirect) => here(Query::Redirects(redirect.from.clone())),
        Resource::Entry(entry) => here(Query::Entry(entry.key())),
        Resource::Foreign(rules) => here(Query::Foreign(rules.clone())),
        Resource::Isolation(isolation) => here(Query::Isolation(isolation.clone())),
        Resource::ForwardJump(jump) => here(Query::ForwardJump(jump.clone())),
        Resource::OverlayRules(_) => here(Query::OverlayRules),
    }
}

/// The question whose answer has a route, if it is there: what leaves by its interface, or what was made by its maker.
pub(super) fn routes_beside(route: &Route) -> Query {
    match route.link() {
        Some(link) => Query::Routes(link.clone()),
        None => Query::RoutesOf { protocol: Some(route.protocol()), table: Some(route.table()) },
    }
}
