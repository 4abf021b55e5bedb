//! What a server says beside the address.

use std::net::{IpAddr, Ipv4Addr};

use cni_spec::{Dns, Route};
use ipnet::{IpNet, Ipv4Net};

use super::message::{Options, code};
use crate::lease::Facts;
use crate::names;

/// Everything that a lease can hold; what makes no sense is left out.
pub(super) fn facts(options: &Options, priority: Option<u32>) -> Facts {
    let gateway = options.address(code::ROUTERS).filter(|router| !router.is_unspecified());
    let value = |code| options.get(code).unwrap_or_default();
    let mut routes = classless_routes(value(code::CLASSLESS_ROUTES));
    if routes.is_empty() {
        // Classless routes stand for both of these (RFC 3442).
        routes = static_routes(value(code::STATIC_ROUTES));
        routes.extend(gateway.map(|router| (Ipv4Net::default(), Some(router))));
    }
    let route = |(destination, router): (Ipv4Net, Option<Ipv4Addr>)| {
        let mut route = Route::new(IpNet::V4(destination));
        route.gw = router.map(IpAddr::V4);
        route.priority = priority;
        route
    };
    Facts {
        gateway: gateway.map(IpAddr::V4),
        routes: routes.into_iter().map(route).collect(),
        dns: Dns {
            nameservers: addresses(value(code::NAME_SERVERS)).map(|server| server.to_string()).collect(),
            domain: options.get(code::DOMAIN).and_then(names::from_text),
            search: names::read(value(code::SEARCH), true),
            options: Vec::new(),
        },
    }
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    bytes.chunks_exact(4).map(|octets| Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
}

/// Option 33 (RFC 2132, 5.8): pairs of a destination, whose class says how long its prefix is, and a router.
fn static_routes(bytes: &[u8]) -> Vec<(Ipv4Net, Option<Ipv4Addr>)> {
    let mut routes = Vec::new();
    for pair in bytes.chunks_exact(8) {
        let mut pair = addresses(pair);
        let (Some(destination), Some(router)) = (pair.next(), pair.next()) else { break };
        let length = match destination.octets()[0] {
            // 0.0.0.0 is no destination here.
            0 | 224.. => continue,
            1..128 => 8,
            128..192 => 16,
            192..224 => 24,
        };
        routes.extend(Ipv4Net::new(destination, length).ok().map(|net| (net, Some(router))));
    }
    routes
}

/// Option 121 (RFC 3442): a prefix length, as many bytes of the destination as matter, and a router; 0.0.0.0 for what
/// is on the link.
fn classless_routes(mut bytes: &[u8]) -> Vec<(Ipv4Net, Option<Ipv4Addr>)> {
    let mut routes = Vec::new();
    while let [length @ 0..=32, rest @ ..] = bytes {
        let significant = usize::from(length.div_ceil(8));
        let (Some(given), Some(router)) = (rest.get(..significant), rest.get(significant..significant + 4))
        else {
            break;
        };
        let mut destination = [0; 4];
        destination[..significant].copy_from_slice(given);
        let router = addresses(router).next().filter(|router| !router.is_unspecified());
        routes.extend(Ipv4Net::new(destination.into(), *length).ok().map(|net| (net.trunc(), router)));
        bytes = &rest[significant + 4..];
    }
    routes
}
