//! `ip link` and `bridge`.

use crate::error::Error;
use crate::name::MacAddr;
use crate::name::{LinkName, SysctlKey};
use crate::place::Place;
use crate::resource::{Link, LinkKind, LinkSettings, MovedLink, Port, Sysctl, Tap};

use super::Step;

impl Step<'_> {
    pub(super) fn add_link(&mut self, link: &Link) -> Result<(), Error> {
        if let LinkKind::Tap(tap) = &link.kind {
            self.add_tap(link, tap);
            return Ok(());
        }
        // Where what it is tied to is.
        let peer_namespace = match (&link.kind, link.kind.parent()) {
            (LinkKind::Veth { peer }, _) => self.namespace_of(peer.place)?,
            (_, Some(parent)) => self.namespace_of(parent.place)?,
            _ => self.namespace.clone(),
        };
        let mut add = words(["link", "add"]);
        if let Some(parent) = link.kind.parent() {
            add.extend(words(["link", parent.name.as_str()]));
        }
        add.extend(words(["name", link.name.as_str()]));
        let here = self.namespace.clone();
        // A pair that spans two namespaces is made from the host's, which has no name to be told to `ip`.
        let spanning = here != peer_namespace;
        if spanning && let Some(container) = &here {
            add.extend(words(["netns", container]));
        }
        add.extend(numbers(link.mtu, link.mac));
        add.extend(words(["type", link.kind.name()]));
        match &link.kind {
            LinkKind::Bridge { vlan_filtering: true } => add.extend(words(["vlan_filtering", "1"])),
            LinkKind::Bridge { vlan_filtering: false }
            | LinkKind::Dummy
            | LinkKind::Ifb
            | LinkKind::Tap(_)
            | LinkKind::Any => {}
            LinkKind::Macvlan { mode, broadcast_queue, .. } => {
                add.extend(["mode".to_owned(), mode.to_string()]);
                add.extend(option("bcqueuelen", *broadcast_queue));
            }
            LinkKind::Ipvlan { mode, .. } => add.extend(["mode".to_owned(), mode.to_string()]),
            LinkKind::Vlan { id, .. } => add.extend(option("id", Some(u32::from(*id)))),
            LinkKind::Vxlan(vxlan) => add.extend(super::overlay::vxlan(vxlan)),
            LinkKind::Vrf { table } => add.extend(words(["table", &table.to_string()])),
            LinkKind::Veth { peer } => {
                add.extend(words(["peer", "name", peer.name.as_str()]));
                add.extend(numbers(peer.mtu, peer.mac));
                if spanning && let Some(container) = &peer_namespace {
                    add.extend(words(["netns", container]));
                }
            }
        }
        if spanning {
            self.push("ip", add);
        } else {
            self.ip(add);
        }
        self.finish_link(link);
        Ok(())
    }

    fn add_tap(&mut self, link: &Link, tap: &Tap) {
        let name = link.name.as_str();
        let mut add = words(["tuntap", "add", "dev", name, "mode", "tap"]);
        if tap.multi_queue {
            add.push("multi_queue".to_owned());
        }
        add.extend(option("user", tap.owner).chain(option("group", tap.group)));
        self.ip(add);
        let mut numbers = numbers(link.mtu, link.mac).peekable();
        if numbers.peek().is_some() {
            self.ip(words(["link", "set", "dev", name]).into_iter().chain(numbers).collect::<Vec<_>>());
        }
        self.finish_link(link);
    }

    /// From the host into the container; there is no other way that somebody could wish for.
    pub(super) fn bring(&mut self, moved: &MovedLink) {
        let container = self.namespace.clone().unwrap_or_default();
        let (from, to) = (moved.original.as_str(), moved.name.as_str());
        self.push("ip", ["link", "set", "dev", from, "netns", &container, "name", to]);
        self.ip(["link", "set", "dev", to, "alias", from]);
    }

    /// Back to the host, which is the namespace of the first of all processes.
    pub(super) fn take_back(&mut self, moved: &MovedLink) {
        let (from, to) = (moved.original.as_str(), moved.name.as_str());
        self.ip(["link", "set", "dev", to, "alias", ""]);
        self.ip(["link", "set", "dev", to, "netns", "1", "name", from]);
    }

    /// What the kernel takes in the same message, and `ip` does not, or not readably.
    fn finish_link(&mut self, link: &Link) {
        let name = link.name.as_str();
        if let Some(mark) = &link.mark {
            self.ip(["link", "set", "dev", name, "alias", mark.as_str()]);
        }
        if link.ignore_router_advertisements {
            self.set_sysctl(&Sysctl::optional(SysctlKey::ipv6(&link.name, "accept_ra"), 0));
        }
        if let Some(master) = &link.master {
            self.ip(["link", "set", "dev", name, "master", master.as_str()]);
        }
        if link.up {
            self.ip(["link", "set", "dev", name, "up"]);
        }
    }

    pub(super) fn set_link(&mut self, settings: &LinkSettings) {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut set = words(["link", "set", "dev", settings.link.as_str()]);
        set.extend(numbers(settings.mtu, settings.mac));
        let mut option = |name: &str, value: Option<String>| {
            set.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
        };
        option("promisc", settings.promiscuous.map(on_off));
        option("allmulticast", settings.all_multicast.map(on_off));
        option("txqueuelen", settings.transmit_queue.map(|length| length.to_string()));
        if !settings.is_none() {
            self.ip(set);
        }
    }

    pub(super) fn set_port(&mut self, port: &Port) {
        let link: &LinkName = &port.link;
        let on_off = |on: bool| if on { "on" } else { "off" };
        let (hairpin, isolated) = (on_off(port.hairpin), on_off(port.isolated));
        let bridge = "bridge";
        self.in_namespace(
            bridge,
            ["link", "set", "dev", link.as_str(), "hairpin", hairpin, "isolated", isolated],
        );
        if port.drop_default_vlan {
            self.in_namespace(bridge, ["vlan", "delete", "dev", link.as_str(), "vid", "1"]);
        }
        for vlan in &port.vlans {
            let range = if vlan.first == vlan.last {
                vlan.first.to_string()
            } else {
                format!("{}-{}", vlan.first, vlan.last)
            };
            let mut add = words(["vlan", "add", "dev", link.as_str(), "vid", &range]);
            if vlan.access {
                add.extend(words(["pvid", "untagged"]));
            }
            self.in_namespace(bridge, add);
        }
    }

    fn namespace_of(&self, place: Place) -> Result<Option<String>, Error> {
        match place {
            Place::Host => Ok(None),
            Place::Container => self.script.container.clone().map(Some).ok_or(Error::NoContainer),
        }
    }
}

fn numbers(mtu: Option<u32>, mac: Option<MacAddr>) -> impl Iterator<Item = String> {
    let mtu = mtu.into_iter().flat_map(|mtu| ["mtu".to_owned(), mtu.to_string()]);
    mtu.chain(mac.into_iter().flat_map(|mac| ["address".to_owned(), mac.to_string()]))
}

fn option(name: &str, value: Option<u32>) -> impl Iterator<Item = String> {
    value.into_iter().flat_map(move |value| [name.to_owned(), value.to_string()])
}

pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}
