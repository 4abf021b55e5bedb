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
        what: "the host's end of a cable has an alias",
        why: "it says whose it is: garbage is found by it",
        erase: |scene| each_link(scene, |link| remove(link, &["ifalias"])),
    },
    Deliberate {
        what: "a result says the MTU of the container's interface",
        why: "the specification has a key for it since 1.1.0; readers of earlier ones ignore it",
        erase: |scene| each_interface(scene, |interface| remove(interface, &["mtu"])),
    },
    Deliberate {
        what: "the directory of leases holds another, whose name begins with .cnikit",
        why: "an index of leases by container, so that a DEL need not read every lease",
        erase: |scene| {
            each(&mut scene["files"]["networks"], &|network| {
                network.retain(|name, _| !name.starts_with(".cnikit"));
            });
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

/// Does something with each link of each place.
fn each_link(scene: &mut Value, edit: impl Fn(&mut Object)) {
    for place in scene.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(links) = place.get_mut("links") {
            each(links, &edit);
        }
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
pub const REFUSALS: &[(&str, &str)] = &[(
    "failed to add route",
    "a route that is asked for twice, as a default route in `ipam.routes` beside `isDefaultGateway`, is made once",
)];

/// Why we do what the reference refused with an error like this.
pub fn refused_by_the_reference(error: &str) -> Option<&'static str> {
    REFUSALS.iter().find(|(text, _)| error.contains(text)).map(|(_, why)| *why)
}
