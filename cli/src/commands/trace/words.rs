//! Facts in the words of `ip route get` and its like.

use super::facts::{Interface, Kind, Known, Leg, Neighbour, Way};

pub(super) fn is_local(leg: &Leg) -> bool {
    leg.way.as_ref().is_some_and(|way| way.kind == Kind::Local)
}

pub(super) fn path_told(path: &overlay::report::Path) -> String {
    match path.answered {
        Some(seconds) => format!("last probe answered {seconds} s ago"),
        None => path.reason.to_string(),
    }
}

/// A route in the words of `ip route get`.
pub(super) fn told(way: Option<&Way>) -> Option<String> {
    let Way { kind, route, next_hop, gateway, link, mtu } = way?;
    let mut words = vec![route.map_or_else(|| "route".to_owned(), |route| format!("route {route}"))];
    match kind {
        Kind::Sent => {}
        Kind::Local => words.push("local".to_owned()),
        Kind::Blackhole => words.push("blackhole".to_owned()),
        Kind::Unreachable => words.push("unreachable".to_owned()),
        Kind::Prohibited => words.push("prohibited".to_owned()),
        Kind::Other => words.push("broadcast or multicast".to_owned()),
    }
    words.extend(next_hop.map(|id| format!("nhid {id}")));
    words.extend(gateway.map(|gateway| format!("via {gateway}")));
    words.extend(link.as_ref().map(|link| format!("dev {link}")));
    words.extend(mtu.map(|mtu| format!("mtu {mtu}")));
    Some(words.join(" "))
}

pub(super) fn neighbour_told(leg: &Leg) -> Option<String> {
    let neighbour = leg.neighbour.as_ref()?;
    Some(match neighbour.known {
        Known::As(mac) => format!("{} is at {mac}", neighbour.address),
        Known::NotYet => format!("{} will be asked for", neighbour.address),
        Known::Failed => format!("{} does not answer", neighbour.address),
    })
}

pub(super) fn interface_name(leg: &Leg) -> String {
    let named = leg.interface.as_ref().map(|interface| interface.name.clone());
    named.or_else(|| leg.way.as_ref()?.link.clone()).unwrap_or_default()
}

pub(super) fn named(interface: &Interface) -> String {
    let kind = if interface.kind.is_empty() { "interface" } else { &interface.kind };
    format!("{kind} {}", interface.name)
}

pub(super) fn is_known(neighbour: &Neighbour) -> bool {
    matches!(neighbour.known, Known::As(_))
}
