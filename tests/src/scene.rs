//! States that can be compared: without what is random, and without what the kernel counts.

use serde_json::{Map, Value};

use crate::state::State;

/// A [`State`], and perhaps a result beside it, in which everything random has a name that says what it is, as
/// `<MAC of host cni0>` or `<cable of blue eth0>`. A result that speaks of another MAC address than the kernel has is
/// told by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene(pub(crate) Value);

/// What the kernel numbers and counts.
const COUNTED: &[&str] = &[
    "ifindex",
    "link_index",
    "link_netnsid",
    "link",
    "link_netns",
    "hello_timer",
    "tcn_timer",
    "gc_timer",
    "topology_change_timer",
    "forward_delay_timer",
    "hold_timer",
    "message_age_timer",
    "bridge_id",
    "designated_bridge",
    "designated_root",
    "root_id",
    "expires",
    "handle",
    "installed",
    "last_used",
    "index",
    "ref",
    "bind",
];

impl Scene {
    /// A scene of a state, and of anything that was said about it. MAC addresses that somebody asked for, in whatever
    /// text, stay as they are.
    pub fn new(state: &State, said: Value, asked: &str) -> Self {
        let names = names(state, &asked.to_lowercase());
        let mut scene = state.0.clone();
        scene["said"] = said;
        Self(settled(rename(scene, &names, None)))
    }

    /// What a call that fails, or a DEL, must leave as it found it: everything but what an allocator remembers, and
    /// tables with nothing in them.
    pub fn owned(state: &State) -> Self {
        Self::owned_of(state.0.clone())
    }

    /// The same with names for what is random, so that it can be compared with another node's.
    pub fn owned_by_name(state: &State) -> Self {
        Self::owned_of(rename(state.0.clone(), &names(state, ""), None))
    }

    fn owned_of(scene: Value) -> Self {
        let mut scene = without_carrier(settled(scene));
        forget(&mut scene["files"]);
        let ruleset = scene["nftables"]["ruleset"].as_str().unwrap_or_default();
        let elements = ruleset.lines().filter(|line| line.contains("elements") || line.contains("comment"));
        scene["nftables"]["ruleset"] = elements.collect();
        Self(scene)
    }

    /// The same without some places.
    #[must_use]
    pub fn without(mut self, places: &[&str]) -> Self {
        if let Some(all) = self.0.as_object_mut() {
            all.retain(|place, _| !places.contains(&place.as_str()));
        }
        self
    }

    /// The same with other names for things: what each is called, and what it is to be called.
    ///
    /// # Panics
    /// If a name means something in JSON.
    #[must_use]
    pub fn called(self, names: &[(&str, &str)]) -> Self {
        let rename = |scene: String, (from, to): &(&str, &str)| scene.replace(from, to);
        let scene = names.iter().fold(self.0.to_string(), rename);
        Self(serde_json::from_str(&scene).expect("names in place of names"))
    }

    /// The scene as JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }
}

/// Without what the kernel notices some time after a cable was plugged in or pulled out.
fn without_carrier(value: Value) -> Value {
    const NOTICED: [&str; 3] = ["NO-CARRIER", "LOWER_UP", "linkdown"];
    match value {
        Value::Array(list) => {
            let kept =
                list.into_iter().filter(|value| !value.as_str().is_some_and(|text| NOTICED.contains(&text)));
            kept.map(without_carrier).collect()
        }
        Value::Object(object) => {
            let kept = object.into_iter().filter(|(key, _)| key != "operstate");
            Value::Object(kept.map(|(key, value)| (key, without_carrier(value))).collect())
        }
        other => other,
    }
}

/// Takes out of a directory the files that are not leases, and then itself if nothing is left.
fn forget(directory: &mut Value) {
    if let Value::Object(entries) = directory {
        entries.retain(|name, _| name != "lock" && !name.starts_with("last_reserved_ip.") && name != "swept");
        entries.values_mut().for_each(forget);
        entries.retain(|_, entry| *entry != Value::Object(Map::new()));
    }
}

/// What is called otherwise in a scene.
struct Name {
    /// The link that it is about.
    link: String,
    text: String,
    name: String,
}

fn names(state: &State, asked: &str) -> Vec<Name> {
    let mut names = Vec::new();
    for (place, content) in state.0.as_object().unwrap() {
        for (link, facts) in content["links"].as_object().into_iter().flatten() {
            let cable = peer(state, facts).filter(|_| place == "host");
            let whose =
                cable.as_ref().map_or_else(|| format!("{place} {link}"), |peer| format!("cable of {peer}"));
            let mut add = |text: &str, name: String| {
                names.push(Name { link: link.clone(), text: text.to_owned(), name });
            };
            let mac = facts["address"].as_str().unwrap_or_default();
            if mac.len() == 17 && mac != "00:00:00:00:00:00" {
                if !asked.contains(mac) {
                    add(mac, format!("<MAC of {whose}>"));
                }
                // Follows from the address that the link had first, which need not be the one that was asked for.
                for address in facts["addr_info"].as_array().into_iter().flatten() {
                    let address = address["local"].as_str().unwrap_or_default();
                    if address.starts_with("fe80::") && !asked.contains(address) {
                        add(address, format!("<fe80 of {whose}>"));
                    }
                }
            }
            if cable.is_some() {
                add(link, format!("<{whose}>"));
            }
        }
    }
    names
}

/// The container's end of a cable.
fn peer(state: &State, link: &Value) -> Option<String> {
    let index = link["link_index"].as_u64()?;
    let pods = state.0.as_object()?.iter().filter(|(place, _)| *place != "host");
    let links = pods.flat_map(|(pod, content)| {
        let links = content["links"].as_object().into_iter().flatten();
        links.map(move |(name, facts)| (pod, name, facts))
    });
    let mut peers = links.filter(|(pod, _, facts)| {
        facts["ifindex"] == index
            && facts["link_index"] == link["ifindex"]
            && link["link_netns"].as_str().is_none_or(|netns| netns == pod.as_str())
    });
    peers.next().map(|(pod, name, _)| format!("{pod} {name}"))
}

/// A value with names in place of texts. A bridge may have its port's MAC address, so what is said of a link is first
/// taken to be that link's.
fn rename(value: Value, names: &[Name], about: Option<&str>) -> Value {
    let text = |text: String, about: Option<&str>| {
        let (first, then): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| Some(name.link.as_str()) == about);
        first.into_iter().chain(then).fold(text, |text, name| text.replace(&name.text, &name.name))
    };
    match value {
        Value::String(old) => Value::String(text(old, about)),
        Value::Array(list) => list.into_iter().map(|value| rename(value, names, about)).collect(),
        Value::Object(object) => {
            let link = ["ifname", "dev", "name"]
                .iter()
                .find_map(|key| object.get(*key)?.as_str().map(str::to_owned));
            let about = link.as_deref().or(about);
            let renamed =
                object.into_iter().map(|(key, value)| (text(key, about), rename(value, names, about)));
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Without numbers, and with unordered lists in order.
fn settled(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(settled).collect(),
        Value::Object(object) => {
            let kept = object.into_iter().filter(|(key, _)| !COUNTED.contains(&key.as_str()));
            let settled = kept.map(|(key, value)| {
                let value = settled(value);
                (key.clone(), if key == "routes" { families_sorted(value) } else { value })
            });
            Value::Object(settled.collect())
        }
        other => other,
    }
}

/// Routes have no order of their own.
fn families_sorted(families: Value) -> Value {
    let Value::Array(families) = families else { return families };
    let sorted = |family: Value| match family {
        Value::Array(mut routes) => {
            routes.sort_by_key(Value::to_string);
            Value::Array(routes)
        }
        other => other,
    };
    families.into_iter().map(sorted).collect()
}
