//! What a command is for, in a sentence.

use crate::entry::Entry;
use crate::place::Place;
use crate::resource::{
    Discipline, LinkKind, LinkSettings, Master, Neighbours, Qdisc, Resource, Route, RouteTarget, Selector,
    Via,
};

/// What making something is for.
pub(super) fn of(place: Place, resource: &Resource) -> String {
    match resource {
        Resource::Link(link) => match &link.kind {
            LinkKind::Bridge { .. } => {
                format!("Bridge \"{}\": the switch that containers are plugged into.", link.name)
            }
            LinkKind::Veth { peer } => format!(
                "A virtual cable: one end is \"{}\" in the {place}, the other \"{}\" in the {}.",
                link.name, peer.name, peer.place
            ),
            LinkKind::Dummy => {
                format!("Dummy \"{}\": an interface that drops what is sent to it.", link.name)
            }
            LinkKind::Vrf { table } => {
                format!("VRF \"{}\": its interfaces know the routes of table {table} alone.", link.name)
            }
            LinkKind::Ifb => {
                format!("Ifb \"{}\": where packets queue that have come in by another interface.", link.name)
            }
            LinkKind::Macvlan { parent, mode, .. } => format!(
                "\"{}\" in the {place} shares \"{}\" of the {}, with a MAC address of its own ({mode} mode).",
                link.name, parent.name, parent.place
            ),
            LinkKind::Ipvlan { parent, mode } => format!(
                "\"{}\" in the {place} shares \"{}\" of the {}, with its MAC address ({mode} mode).",
                link.name, parent.name, parent.place
            ),
            LinkKind::Vlan { parent, id } => format!(
                "\"{}\" in the {place} is VLAN {id} of \"{}\" of the {}.",
                link.name, parent.name, parent.place
            ),
            LinkKind::Tap(_) => {
                format!("Tap \"{}\": an interface whose cable ends in a program.", link.name)
            }
            LinkKind::Vxlan(vxlan) => format!(
                "Tunnel \"{}\": frames for other machines go in UDP packets to their port {}.",
                link.name, vxlan.port
            ),
            LinkKind::Any => format!("Interface \"{}\".", link.name),
        },
        Resource::LinkUp(link) => format!("\"{link}\" goes up."),
        Resource::Master(Master { link, master }) => format!("\"{link}\" belongs to \"{master}\"."),
        Resource::LinkDown(link) => format!("\"{link}\" goes down."),
        Resource::MovedLink(moved) => format!(
            "\"{}\" of the {} becomes \"{}\" in the {place}; its alias keeps its name.",
            moved.original, moved.from, moved.name
        ),
        Resource::Promiscuous(link) => format!("\"{link}\" takes every frame, whomever it is for."),
        Resource::Settings(settings) => settings_purpose(settings),
        Resource::FixedMac(link) => format!("\"{link}\" keeps its address, whatever ports it gets."),
        Resource::Port(port) => format!("How the bridge treats its port \"{}\".", port.link),
        Resource::Address(address) => format!("Address {} on \"{}\".", address.net, address.link),
        Resource::Settled(link) => format!("Wait until nobody has claimed the addresses of \"{link}\"."),
        Resource::Route(route) => route_purpose(route),
        Resource::NoRoute(route) => match route.link() {
            Some(link) => {
                format!("{} is not looked for through \"{link}\" by everybody.", route.destination)
            }
            None => format!("{} is not looked for there by everybody.", route.destination),
        },
        Resource::NextHop(hop) => match &hop.via {
            Via::Gateway { address, link, .. } => {
                format!("Next hop {}: the machine {address}, reached through \"{link}\".", hop.id)
            }
            Via::Link { link, .. } => format!("Next hop {}: whoever is on \"{link}\".", hop.id),
            Via::Blackhole { .. } => format!("Next hop {}: nowhere.", hop.id),
        },
        Resource::Neighbour(neighbour) => {
            format!("{} is known to be {}.", neighbour.address, neighbour.mac)
        }
        Resource::Proxy(proxy) => {
            format!("Who asks for {} on \"{}\" is answered by this machine.", proxy.address, proxy.link)
        }
        Resource::Fdb(entry) => {
            format!("Frames for {} go through the tunnel to {}.", entry.mac, entry.remote)
        }
        Resource::OverlayRules(_) => {
            "What leaves the pods' ranges for the world takes the node's own address, and no pod speaks to a tunnel's end.".to_owned()
        }
        Resource::Rule(rule) => match rule.selector {
            Selector::From(from) => {
                format!("What {from} sends goes by routing table {}, before any other.", rule.table)
            }
            Selector::Mark { mark, .. } => {
                format!("What carries the mark {mark:#x} goes by routing table {}.", rule.table)
            }
        },
        Resource::Sysctl(sysctl) => sysctl_purpose(sysctl.key.as_str(), &sysctl.value)
            .map_or_else(|| format!("Setting {} of the {place}.", sysctl.key), str::to_owned),
        Resource::Qdisc(qdisc) => qdisc_purpose(qdisc),
        Resource::Redirect(redirect) => {
            format!("What comes in by \"{}\" goes through \"{}\" first.", redirect.from, redirect.to)
        }
        Resource::Entry(entry) => entry_purpose(entry),
        Resource::Foreign(rules) => format!("Another program's {rules}."),
        Resource::Isolation(isolation) => match isolation.neighbours {
            Neighbours::Reachable => format!("No other bridge is forwarded to \"{}\".", isolation.bridge),
            Neighbours::Unreachable => {
                format!("No bridge is forwarded to \"{}\", itself included.", isolation.bridge)
            }
        },
        Resource::ForwardJump(jump) => {
            format!("The host's own packet filter lets pass what is forwarded for pods ({}).", jump.version)
        }
    }
}

fn route_purpose(route: &Route) -> String {
    let whom = match route.destination.prefix_len() {
        0 => "Everything else".to_owned(),
        _ => route.destination.to_string(),
    };
    let (is_default, destination) = (route.destination.prefix_len() == 0, route.destination);
    match &route.target {
        RouteTarget::Link { gateway: Some(gateway), .. } if is_default => {
            format!("{whom} goes by way of {gateway}.")
        }
        RouteTarget::Link { gateway: None, link, .. } if is_default => {
            format!("{whom} goes out of \"{link}\".")
        }
        RouteTarget::Link { gateway: Some(gateway), .. } => {
            format!("{destination} is reached by way of {gateway}.")
        }
        RouteTarget::Link { gateway: None, link, .. } => {
            format!("{destination} is reached directly, through \"{link}\".")
        }
        RouteTarget::NextHop(id) => format!("{whom} goes by way of next hop {id}."),
        RouteTarget::Blackhole => format!("{whom} is dropped here."),
        RouteTarget::Unreachable => format!("{whom} is not reached from here, and whoever tries is told."),
    }
}

fn settings_purpose(settings: &LinkSettings) -> String {
    let said =
        settings.properties().into_iter().filter_map(|(what, value)| Some(format!("{what} {}", value?)));
    format!("Settings of \"{}\": {}.", settings.link, said.collect::<Vec<_>>().join(", "))
}

fn qdisc_purpose(qdisc: &Qdisc) -> String {
    let link = &qdisc.link;
    match qdisc.discipline {
        Discipline::TokenBucket(bucket) => format!(
            "\"{link}\" sends {} bytes per second, and {} bytes at once after a pause.",
            bucket.rate, bucket.burst
        ),
        Discipline::Ingress => format!("What comes in by \"{link}\" can be told where to go."),
    }
}

fn entry_purpose(entry: &Entry) -> String {
    match entry {
        Entry::Masquerade(masquerade) => format!(
            "What {} sends beyond {} takes the node's own address.",
            masquerade.source,
            masquerade.within.trunc()
        ),
        Entry::PortMapping(mapping) => {
            format!("What comes to {} goes to {}.", mapping.port, mapping.to)
        }
        Entry::SpoofCheck(check) => format!("Port \"{}\" may send as {} only.", check.port, check.mac),
        Entry::Forwarded(forwarded) => format!(
            "{} may send anywhere, and be answered, whatever the host's own packet filter forbids.",
            forwarded.address
        ),
    }
}

/// What removing it is.
pub(super) fn of_removal(place: Place, resource: &Resource) -> String {
    match resource {
        Resource::LinkUp(link) => format!("\"{link}\" goes down."),
        Resource::Master(Master { link, master }) => format!("\"{link}\" is no longer \"{master}\"'s."),
        Resource::Promiscuous(link) => format!("\"{link}\" takes only frames for itself."),
        _ => format!("Remove {resource} from the {place}."),
    }
}

/// What some well-known settings are for.
fn sysctl_purpose(key: &str, value: &str) -> Option<&'static str> {
    let setting = key.rsplit('/').next()?;
    Some(match (setting, value) {
        ("ip_forward", "1") => "The node forwards IPv4 packets between its interfaces.",
        ("forwarding", "1") if key.ends_with("ipv6/conf/all/forwarding") => {
            "The node forwards IPv6 packets between its interfaces."
        }
        ("route_localnet", "1") => "What comes from a loopback address of the node may leave it here.",
        ("accept_ra", "0") => "Router advertisements are ignored: a container gives nobody a route.",
        ("accept_dad", "0") => "No wait for duplicate addresses: an allocator has seen to that.",
        ("arp_notify" | "ndisc_notify", "1") => {
            "Neighbours are told of the address as the interface goes up."
        }
        ("addr_gen_mode", "1") => "A bridge's port needs no IPv6 address of its own.",
        ("disable_ipv6", "0") => "IPv6 is on.",
        ("disable_ipv6", "1") => "IPv6 is off.",
        ("keep_addr_on_down", "1") => "IPv6 addresses stay when the interface goes down.",
        _ => return None,
    })
}
