//! What a server says beside the address.

use std::net::{IpAddr, Ipv4Addr};

use cni_spec::{Dns, Route};
use dhcproto::v4::{DhcpOption, DhcpOptions, OptionCode};
use ipnet::{IpNet, Ipv4Net};

use crate::codec::value;
use crate::lease::Facts;
use crate::names;

/// Everything that a lease can hold; what makes no sense is left out.
pub(super) fn facts(options: &DhcpOptions, priority: Option<u32>) -> Facts {
    let gateway = value!(options, Router).and_then(|routers| routers.first().copied());
    let gateway = gateway.filter(|router| !router.is_unspecified());
    let mut routes: Vec<(Ipv4Net, Option<Ipv4Addr>)> = Vec::new();
    for (destination, router) in value!(options, ClasslessStaticRoute).into_iter().flatten() {
        // 0.0.0.0 stands for what is on the link.
        routes.push((destination.trunc(), Some(*router).filter(|router| !router.is_unspecified())));
    }
    if routes.is_empty() {
        // Classless routes stand for both of these (RFC 3442).
        let pairs = value!(options, StaticRoutingTable).into_iter().flatten();
        routes
            .extend(pairs.filter_map(|(destination, router)| Some((classful(*destination)?, Some(*router)))));
        routes.extend(gateway.map(|router| (Ipv4Net::default(), Some(router))));
    }
    let route = |(destination, router): (Ipv4Net, Option<Ipv4Addr>)| {
        let mut route = Route::new(IpNet::V4(destination));
        route.gw = router.map(IpAddr::V4);
        route.priority = priority;
        route
    };
    let servers = value!(options, DomainNameServer).into_iter().flatten();
    let search = value!(options, DomainSearch).into_iter().flatten();
    Facts {
        gateway: gateway.map(IpAddr::V4),
        routes: routes.into_iter().map(route).collect(),
        dns: Dns {
            nameservers: servers.map(Ipv4Addr::to_string).collect(),
            domain: value!(options, DomainName).and_then(|name| names::harmless(name)),
            search: search.filter_map(|name| names::harmless(&name.to_ascii())).collect(),
            options: Vec::new(),
        },
    }
}

/// A destination in option 33 (RFC 2132, 5.8): its class says how long its prefix is.
fn classful(destination: Ipv4Addr) -> Option<Ipv4Net> {
    let length = match destination.octets()[0] {
        // 0.0.0.0 is no destination here.
        0 | 224.. => return None,
        1..128 => 8,
        128..192 => 16,
        192..224 => 24,
    };
    Ipv4Net::new(destination, length).ok()
}
