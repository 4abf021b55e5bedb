//! What is meant to be different from the reference, each with its reason. `ARCHITECTURE.md` says the same to people.

use serde_json::{Map, Value};

use crate::scene::Scene;

/// One deliberate difference.
#[derive(Debug, Clone, Copy)]
pub struct Deliberate {
    /// What differs.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    /// Takes it out of a scene.
    erase: fn(&mut Value),
}

/// All of them.
pub const ALL: &[Deliberate] = &[
    Deliberate {
        what: "a cable has one queue in each direction",
        why: "making one queue per processor and giving up all but one, as the kernel does by itself, waits for RCU while \
              everybody waits for the RTNL lock",
        erase: |scene| each_link(scene, |link| remove(link, &["num_tx_queues", "num_rx_queues"])),
    },
    Deliberate {
        what: "a cable's ends have the kernel's transmit queue length",
        why: "Debian's reference sets none, so that a queueing discipline put there later drops everything; newer ones do \
              as we do",
        erase: |scene| each_link(scene, |link| remove(link, &["txqlen"])),
    },
    Deliberate {
        what: "the host's end of a cable has an alias, and so has an interface that is in the container only",
        why: "it says whose it is: garbage is found by it, and a DEL knows its own interface",
        erase: |scene| each_link(scene, |link| remove(link, &["ifalias"])),
    },
    Deliberate {
        what: "a result says the MTU of the container's interface",
        why: "the specification has a key for it since 1.1.0; readers of earlier ones ignore it",
        erase: |scene| each_interface(scene, |interface| remove(interface, &["mtu"])),
    },
    Deliberate {
        what: "host-device without addresses says which DNS settings its configuration has",
        why: "every other plugin does, the reference's too",
        erase: |scene| {
            let has_bridge = scene["host"]["links"].to_string().contains("\"info_kind\":\"bridge\"");
            let has_addresses = scene["said"].to_string().contains("\"ip");
            if let (false, false, Value::Object(said)) = (has_bridge, has_addresses, &mut scene["said"]) {
                remove(said, &["dns"]);
            }
        },
    },
    Deliberate {
        what: "the directory of leases holds another, whose name begins with .cnikit",
        why: "an index of leases by container, so that a DEL need not read every lease",
        erase: |scene| without_index(&mut scene["files"]),
    },
    Deliberate {
        what: "a DEL or CHECK of host-local makes no directory where nothing was, and no lock in it",
        why: "there is nothing to release, and nobody to be kept out",
        erase: |scene| without_locks(&mut scene["files"]),
    },
    Deliberate {
        what: "addresses are put without duplicate address detection",
        why: "the allocator hands out each address once; the reference switches detection off for the pod's interface, and \
              waits for it on the bridge's",
        erase: |scene| {
            each_link(scene, |link| {
                each(link.entry("addr_info").or_insert(Value::Null), &|a| remove(a, &["nodad"]))
            })
        },
    },
    Deliberate {
        what: "a bridge that is an IPv6 gateway does not look for duplicates of its link-local address either (accept_dad)",
        why: "the node asks for pods with that address: the first pod's packets from elsewhere would wait two seconds for it",
        erase: |scene| {
            if let Some(Value::Object(settings)) = scene["host"].get_mut("sysctls") {
                settings.retain(|key, _| !key.ends_with("/accept_dad"));
            }
        },
    },
    Deliberate {
        what: "bridge leaves accept_dad of a pod's interface as it is where the pod has no IPv6 address and the bridge sends \
               nothing back",
        why: "there is no address to be looked for; each file below /proc/sys costs an ADD the more the more pods there are",
        erase: |scene| {
            each_place(scene, |place| {
                let addresses = place["links"]["eth0"]["addr_info"].as_array().into_iter().flatten();
                let mut addresses = addresses.filter(|address| address["scope"] == "global");
                let has_ipv6 = addresses.any(|address| address["family"] == "inet6");
                if let (false, Some(Value::Object(settings))) = (has_ipv6, place.get_mut("sysctls")) {
                    settings.retain(|key, _| !key.ends_with("eth0/accept_dad"));
                }
            });
        },
    },
    Deliberate {
        what: "accept_ra of a bridge's port stays as it is",
        why: "what a port receives is the bridge's: it would not see an advertisement",
        erase: |scene| {
            let links = scene["host"]["links"].as_object().cloned().unwrap_or_default();
            let is_port = |name: &str| links.get(name).is_some_and(|link| link.get("master").is_some());
            let is_ports = |key: &str| {
                key.strip_suffix("/accept_ra").and_then(|key| key.rsplit('/').next()).is_some_and(is_port)
            };
            if let Some(Value::Object(settings)) = scene["host"].get_mut("sysctls") {
                settings.retain(|key, _| !is_ports(key));
            }
        },
    },
    Deliberate {
        what: "keep_addr_on_down is set for a pod's interface with IPv6 addresses",
        why: "newer references do so: the addresses survive when the interface goes down for a moment",
        erase: |scene| each_settings(scene, |key| key.ends_with("/keep_addr_on_down")),
    },
    Deliberate {
        what: "an address of ptp has no route to its prefix, instead of one that is removed again",
        why: "there is no moment in which the pod's neighbours are thought to be on the link",
        erase: |scene| {
            each_link(scene, |link| {
                each(link.entry("addr_info").or_insert(Value::Null), &|a| remove(a, &["noprefixroute"]))
            });
        },
    },
    Deliberate {
        what: "ptp sets arp_notify and accept_dad for the pod's interface, as bridge does; so do vlan and host-device arp_notify",
        why: "a pod that gets the address of an earlier one is known to its node at once; the reference's ptp executes no \
              such thing, and waits for detection",
        erase: |scene| {
            let has_bridge = scene["host"]["links"].to_string().contains("\"info_kind\":\"bridge\"");
            each_settings(scene, |key| {
                !has_bridge && (key.ends_with("eth0/arp_notify") || key.ends_with("eth0/accept_dad"))
            });
        },
    },
    Deliberate {
        what: "ndisc_notify is set for the interface of macvlan and ipvlan",
        why: "newer references do so: neighbours are told of an IPv6 address as they are of an IPv4 address",
        erase: |scene| each_settings(scene, |key| key.ends_with("/ndisc_notify")),
    },
    Deliberate {
        what: "a configured route without a gateway has the scope link",
        why: "what it leads to is on the link, so that another route may go by way of it; ip(8) does the same",
        erase: |scene| {
            each_route(scene, |route| {
                if route.get("gateway").is_none() && route["protocol"] == "boot" {
                    remove(route, &["scope"]);
                }
            })
        },
    },
    Deliberate {
        what: "the host's end of a cable to a bridge has no IPv6 link-local address (addr_gen_mode)",
        why: "nobody speaks to a bridge's port; each such address is three more routes that the kernel goes through whenever an \
              interface comes or goes",
        erase: |scene| without_ports_addresses(&mut scene["host"]),
    },
    Deliberate {
        what: "sbr leaves IPv6's link-local routes where everybody finds them, and copies routes only to tables of their family",
        why: "link-local addresses are none of an attachment's: there is no rule for them, so that they would reach nobody",
        erase: |scene| each_place(scene, without_strangers),
    },
    Deliberate {
        what: "masquerading, the check of MAC addresses, and what firewall accepts and isolates, are nf_tables entries of our \
               own tables",
        why: "one transaction in process, no helper program, and a cost that does not grow with the number of pods; what \
              packets experience is the same, and is compared instead",
        erase: |scene| scene["nftables"] = Value::Null,
    },
    Deliberate {
        what: "bandwidth redirects with one action, and names no class",
        why: "a second action of the same kind is done to nothing: the first has taken the packet away; a class means \
              nothing to what comes in",
        erase: |scene| {
            each_filter(scene, |options| {
                remove(options, &["flowid", "terminal"]);
                if let Some(Value::Array(actions)) = options.get_mut("actions") {
                    actions.truncate(1);
                }
            });
        },
    },
    Deliberate {
        what: "bandwidth's ifb has the kernel's transmit queue length",
        why: "as a cable's ends have it; its own discipline decides how many packets wait",
        erase: |scene| each_link(scene, |link| remove(link, &["txqlen"])),
    },
    Deliberate {
        what: "published ports are nf_tables entries of our own tables, and one port leads to one container",
        why: "as with masquerading; of two containers with one port the reference lets one win, silently",
        erase: |scene| scene["nftables"] = Value::Null,
    },
    Deliberate {
        what: "what tuning remembers of an interface says whose it is",
        why: "garbage is found by it; the reference passes it over. (The MAC address of before is random there, and derived \
              here.)",
        erase: |scene| {
            for (_, file) in scene["tuning"].as_object_mut().into_iter().flatten() {
                let Some(Ok(Value::Object(mut content))) = file.as_str().map(serde_json::from_str) else {
                    continue;
                };
                remove(&mut content, &["owner"]);
                content.entry("mac").and_modify(|mac| *mac = "<MAC of before>".into());
                *file = Value::Object(content);
            }
        },
    },
];

/// A scene without what is meant to be different.
pub fn erase(mut scene: Scene) -> Scene {
    for deliberate in ALL {
        (deliberate.erase)(&mut scene.0);
    }
    scene
}

type Object = Map<String, Value>;

fn remove(object: &mut Object, keys: &[&str]) {
    object.retain(|key, _| !keys.contains(&key.as_str()));
}

/// Does something with each place.
fn each_place(scene: &mut Value, edit: impl Fn(&mut Value)) {
    scene.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(edit);
}

/// Takes out of a place where rules lead to tables the link-local routes, and those in other families' tables.
fn without_strangers(place: &mut Value) {
    for family in 0..2 {
        let rules = place["rules"][family].as_array().cloned().unwrap_or_default();
        let all_rules = place["rules"].to_string();
        let leads_to = |table: &Value| rules.iter().any(|rule| rule["table"] == *table);
        let is_anybodys = |table: &Value| all_rules.contains(&format!("\"table\":{table}"));
        let has_sources =
            all_rules.matches("\"src\":").count() > all_rules.matches("\"src\":\"all\"").count();
        let routes = place.get_mut("routes").and_then(|routes| routes.get_mut(family)?.as_array_mut());
        if let Some(routes) = routes {
            routes.retain(|route| {
                let link_local = route["dst"] == "fe80::/64" && has_sources;
                !link_local && (leads_to(&route["table"]) || !is_anybodys(&route["table"]))
            });
        }
    }
}

/// Takes out of a place the link-local addresses of bridges' ports, and what comes with them.
fn without_ports_addresses(place: &mut Value) {
    let links = place["links"].as_object_mut().into_iter().flatten();
    let mut ports = Vec::new();
    for (name, port) in links.filter(|(_, link)| link["master"].is_string()) {
        ports.push(name.clone());
        port.as_object_mut().into_iter().for_each(|port| remove(port, &["inet6_addr_gen_mode"]));
        let addresses = port.get_mut("addr_info").and_then(Value::as_array_mut);
        addresses
            .into_iter()
            .for_each(|those| those.retain(|one| !one["local"].to_string().contains("fe80")));
    }
    let is_ports = |name: &str| ports.iter().any(|port| port == name);
    for routes in place["routes"].as_array_mut().into_iter().flatten().filter_map(Value::as_array_mut) {
        routes.retain(|route| {
            !(route["dst"].to_string().contains("fe80") && route["dev"].as_str().is_some_and(is_ports))
        });
    }
    if let Some(settings) = place["sysctls"].as_object_mut() {
        let link =
            |key: &str| key.strip_prefix("ipv6/conf/")?.strip_suffix("/addr_gen_mode").map(str::to_owned);
        settings.retain(|key, _| !link(key).is_some_and(|link| is_ports(&link)));
    }
}

/// Does something with each link of each place.
fn each_link(scene: &mut Value, edit: impl Fn(&mut Object)) {
    for place in scene.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(links) = place.get_mut("links") {
            each(links, &edit);
        }
    }
}

/// Does something with the options of each filter of each place.
fn each_filter(scene: &mut Value, edit: impl Fn(&mut Object)) {
    for place in scene.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let filters = place.pointer_mut("/shaping/filters").and_then(Value::as_object_mut);
        for filter in filters.into_iter().flat_map(Map::values_mut).filter_map(Value::as_array_mut).flatten()
        {
            filter.get_mut("options").and_then(Value::as_object_mut).into_iter().for_each(&edit);
        }
    }
}

/// Does something with each route of each place.
fn each_route(scene: &mut Value, edit: impl Fn(&mut Object)) {
    for place in scene.as_object_mut().into_iter().flat_map(Map::values_mut) {
        for family in place.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
            each(family, &edit);
        }
    }
}

/// Takes settings out of each place.
fn each_settings(scene: &mut Value, unwanted: impl Fn(&str) -> bool) {
    for place in scene.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(Value::Object(settings)) = place.get_mut("sysctls") {
            settings.retain(|key, _| !unwanted(key));
        }
    }
}

/// Takes the index of leases out of a directory.
fn without_index(directory: &mut Value) {
    if let Value::Object(entries) = directory {
        entries.retain(|name, _| !name.starts_with(".cnikit"));
        entries.values_mut().for_each(without_index);
    }
}

/// Takes locks out of a directory, and then the directories in which nothing else is.
fn without_locks(directory: &mut Value) {
    if let Value::Object(entries) = directory {
        entries.retain(|name, _| name != "lock");
        entries.values_mut().for_each(without_locks);
        entries.retain(|_, entry| entry.as_object().is_none_or(|entries| !entries.is_empty()));
    }
}

/// Does something with each interface of the result.
fn each_interface(scene: &mut Value, edit: impl Fn(&mut Object)) {
    each(&mut scene["said"]["interfaces"], &edit);
}

/// Does something with each object in a list or an object.
fn each(list: &mut Value, edit: &dyn Fn(&mut Object)) {
    let edit = |value: &mut Value| value.as_object_mut().into_iter().for_each(edit);
    match list {
        Value::Array(values) => values.iter_mut().for_each(edit),
        Value::Object(object) => object.values_mut().for_each(edit),
        _ => {}
    }
}

/// What the reference refuses and we do not: a text in its error, and why.
pub const REFUSALS: &[(&str, &str)] = &[
    (
        "failed to add route",
        "a route that is asked for twice, as a default route in ipam.routes beside isDefaultGateway, is made once",
    ),
    (
        "cannot convert: no valid IP addresses",
        "an attachment without addresses has a result in every version of the specification",
    ),
    (
        "too small to allocate from",
        "a /31 has two addresses to give (RFC 3021), and so has a /127 (RFC 6164)",
    ),
    (
        "already has an IP address different from",
        "a network with two ranges of one family has two gateways, and both are the bridge's",
    ),
    (
        "ARGS: unknown args",
        "an argument in CNI_ARGS that is not for this plugin is for another, whether or not IgnoreUnknown says so",
    ),
    (
        "error parsing value of pair \\\"IP=",
        "host-local takes several addresses from CNI_ARGS, as the reference's static does: a network of both families has two",
    ),
    (
        "one of Dst.IP, Src, or Gw must not be nil",
        "sbr moves a default route that has no gateway as any other",
    ),
];

/// What our CHECK says and the reference's does not: a text in the error, and why.
pub const COMPLAINTS: &[(&str, &str)] = &[(
    "spoof check of port",
    "tuning has given the interface another MAC address than the one that bridge lets through: nothing that the pod sends \
     arrives, with either implementation",
)];

/// Why our CHECK misses what the reference's does not look for.
pub fn missed_by_us(error: &str) -> Option<&'static str> {
    COMPLAINTS.iter().find(|(text, _)| error.contains(text)).map(|(_, why)| *why)
}

/// What the reference's DEL refuses and ours does not: a text in its error, and why. A DEL is done when nothing is left; a
/// runtime that is refused tries again for ever.
pub const DEL_REFUSALS: &[(&str, &str)] = &[
    ("\"Failed to get link", "sbr: the interface is gone, and its rules and tables with it"),
    (
        "\"failed to find \\\"",
        "host-device: the interface is not in the container any more: it has been given back",
    ),
];

/// Why we do what the reference refused with an error like this.
pub fn refused_by_the_reference(command: &str, error: &str) -> Option<&'static str> {
    let refusals = if command == "DEL" { DEL_REFUSALS } else { REFUSALS };
    refusals.iter().find(|(text, _)| error.contains(text)).map(|(_, why)| *why)
}

/// The reference's codes for whatever has none of its own.
const UNSPECIFIED: [u64; 2] = [100, 999];

/// Whether two errors have one code, or ours says what the reference's leaves open.
pub fn same_code(theirs: &Value, ours: &Value) -> bool {
    theirs["code"] == ours["code"] || theirs["code"].as_u64().is_some_and(|code| UNSPECIFIED.contains(&code))
}
