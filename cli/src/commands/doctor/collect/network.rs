//! Interfaces and routes, as the kernel has them.

use netops::{Answer, Kernel, LinkState, LinuxKernel, Place, Query, read_links};
use plugin_kit::{MarkedOwner, is_link_local};

use crate::commands::doctor::facts::{Link, Network, Route};

pub(super) fn network() -> Option<Network> {
    let mut kernel = LinuxKernel::new(None);
    let links = read_links(&mut kernel, Place::Host).ok()?;
    let mut network = Network::default();
    for link in &links {
        let queries = [Query::Addresses(link.name.clone()), Query::Routes(link.name.clone())];
        // It may have gone meanwhile.
        let answers = kernel.read(Place::Host, &queries).unwrap_or_default();
        let mut found = describe(link);
        for answer in answers {
            match answer {
                Answer::Addresses(addresses) => {
                    let nets = addresses.iter().map(|address| address.net);
                    found.addresses.extend(nets.filter(|net| !is_link_local(net)));
                }
                Answer::Routes(routes) => {
                    network.routes.extend(routes.iter().filter_map(|route| describe_route(route, link)))
                }
                _ => {}
            }
        }
        network.links.push(found);
    }
    Some(network)
}

fn describe(link: &LinkState) -> Link {
    Link {
        name: link.name.to_string(),
        kind: link.kind.clone(),
        mac: link.mac.map(|mac| mac.to_string()),
        mtu: link.mtu,
        up: link.up,
        carrier: link.carrier,
        addresses: Vec::new(),
        is_port: link.master.is_some(),
        is_pods: link.alias.as_deref().is_some_and(|alias| MarkedOwner::parse(alias).is_some()),
    }
}

fn describe_route(route: &netops::Route, link: &LinkState) -> Option<Route> {
    const MAIN: u32 = 254;
    (route.table() == MAIN).then(|| Route {
        destination: route.destination,
        gateway: route.gateway(),
        link: link.name.to_string(),
        protocol: route.protocol,
    })
}
