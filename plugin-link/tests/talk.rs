//! The real kernel: packets from and to interfaces that are on a parent, and frames in and out of a tap.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use std::io::Read;
use std::time::{Duration, Instant};

use cni_spec::AddResult;
use netops::{
    Address, Kernel, Link, LinkKind, LinkName, LinuxKernel, Place, Resource, SysctlKey, VethPeer, read_links,
};
use plugin_kit::Kit;
use plugin_kit::testing::{Node, TestCall};
use plugin_link::{Ipvlan, Macvlan, Tap, Vlan};
use serde_json::{Value, json};

static MACVLAN: Kit<Macvlan> = Kit::new(Macvlan);
static IPVLAN: Kit<Ipvlan> = Kit::new(Ipvlan);
static VLAN: Kit<Vlan> = Kit::new(Vlan);
static TAP: Kit<Tap> = Kit::new(Tap);

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

/// Tests as an ordinary user have no way to make namespaces, and say so.
fn can_make_namespaces() -> bool {
    let can = netops::Namespace::create().is_ok();
    if !can {
        eprintln!("SKIPPED: no network namespaces can be made here (run as root)");
    }
    can
}

/// A node whose uplink leads to 10.22.0.1 and fd00:22::1.
fn node() -> Node {
    let node = Node::new();
    make(
        &node,
        &[Resource::Link(Link {
            up: true,
            ..Link::new(
                name("up0"),
                LinkKind::Veth {
                    peer: VethPeer { place: Place::Host, name: name("up1"), mtu: None, mac: None },
                },
            )
        })],
    );
    // The other end stays on the node: a macvlan does not reach its own master, but what is beyond.
    make(
        &node,
        &[
            Resource::Sysctl(netops::Sysctl::optional(SysctlKey::ipv6(&name("up1"), "accept_dad"), 0)),
            Resource::Address(Address::new(name("up1"), "10.22.0.1/16".parse().unwrap())),
            Resource::Address(Address::new(name("up1"), "fd00:22::1/64".parse().unwrap())),
            Resource::LinkUp(name("up1")),
        ],
    );
    node
}

fn make(node: &Node, resources: &[Resource]) {
    node.on_host(|| {
        let mut kernel = LinuxKernel::new(None);
        for result in kernel.create(Place::Host, &resources.iter().collect::<Vec<_>>()) {
            result.unwrap();
        }
    });
}

fn call(kind: &str, container: &str, address: u8, keys: Value) -> TestCall {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": kind, "master": "up0",
        "ipam": {"type": "static", "addresses": [
            {"address": format!("10.22.0.{address}/16"), "gateway": "10.22.0.1"},
            {"address": format!("fd00:22::{address}/64"), "gateway": "fd00:22::1"},
        ], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
    });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    TestCall::new(config).container(container)
}

fn links(node: &Node, container: &str) -> Vec<String> {
    node.inside(container, || {
        let links = read_links(&mut LinuxKernel::new(None), Place::Host).unwrap();
        links.iter().map(|link| link.name.to_string()).collect()
    })
}

fn ping(node: &Node, container: &str, address: &str) -> bool {
    node.ping(container, address.parse().unwrap()).is_ok()
}

#[test]
fn macvlans_on_one_master_talk_to_each_other_and_to_the_segment() {
    if !can_make_namespaces() {
        return;
    }
    let node = node();
    let calls: Vec<_> = [("a", 2), ("b", 3)]
        .map(|(container, address)| {
            let call = call("macvlan", container, address, json!({}));
            let result: AddResult = node.add(&MACVLAN, &call).unwrap();
            let call = call.previous(&result);
            node.check(&MACVLAN, &call).unwrap();
            call
        })
        .into();
    for address in ["10.22.0.3", "10.22.0.1", "fd00:22::3", "fd00:22::1"] {
        assert!(ping(&node, "a", address), "{address}");
    }
    for call in &calls {
        node.del(&MACVLAN, call).unwrap();
        node.del(&MACVLAN, call).unwrap();
    }
    assert_eq!(links(&node, "a"), ["lo"]);
}

#[test]
fn private_macvlans_do_not_talk_to_each_other() {
    if !can_make_namespaces() {
        return;
    }
    let node = node();
    for (container, address) in [("a", 2), ("b", 3)] {
        node.add(&MACVLAN, &call("macvlan", container, address, json!({"mode": "private"}))).unwrap();
    }
    assert!(ping(&node, "a", "10.22.0.1"), "the segment is there");
    assert!(!ping(&node, "a", "10.22.0.3"), "and the neighbour is not");
}

#[test]
fn a_macvlan_may_be_on_an_interface_of_its_container() {
    if !can_make_namespaces() {
        return;
    }
    let node = node();
    node.add(&MACVLAN, &call("macvlan", "a", 2, json!({})).interface("eth0")).unwrap();
    let inner = call("macvlan", "a", 4, json!({"master": "eth0", "linkInContainer": true, "name": "inner"}));
    let inner = inner.interface("net1");
    let result = node.add(&MACVLAN, &inner).unwrap();
    node.check(&MACVLAN, &inner.clone().previous(&result)).unwrap();
    assert_eq!(links(&node, "a"), ["lo", "eth0", "net1"]);
    node.del(&MACVLAN, &inner).unwrap();
    assert_eq!(links(&node, "a"), ["lo", "eth0"]);
}

#[test]
fn a_name_that_is_taken_in_the_container_is_a_conflict_and_changes_nothing() {
    if !can_make_namespaces() {
        return;
    }
    let node = node();
    node.add(&MACVLAN, &call("macvlan", "a", 2, json!({}))).unwrap();
    let other = call("macvlan", "a", 3, json!({"name": "other"}));
    let error = node.add(&MACVLAN, &other).unwrap_err();
    assert!(error.to_string().contains("EEXIST"), "{error}");
    node.del(&MACVLAN, &other).unwrap();
    assert_eq!(links(&node, "a"), ["lo", "eth0"]);
    assert!(ping(&node, "a", "10.22.0.1"));
}

#[test]
fn what_this_kernel_lacks_is_named_or_works() {
    if !can_make_namespaces() {
        return;
    }
    let node = node();
    let attempts: [(&dyn cni_spec::plugin::Plugin, _, _); 2] = [
        (&IPVLAN, call("ipvlan", "a", 2, json!({})), "CONFIG_IPVLAN (module ipvlan)"),
        (&VLAN, call("vlan", "b", 2, json!({"vlanId": 5})), "CONFIG_VLAN_8021Q (module 8021q)"),
    ];
    for (plugin, call, module) in attempts {
        match node.add(plugin, &call) {
            Ok(result) => node.check(plugin, &call.clone().previous(&result)).unwrap(),
            Err(error) => {
                assert!(error.to_string().contains(module), "{error}");
                eprintln!("NOT TRIED: this kernel lacks {module}");
            }
        }
        node.del(plugin, &call).unwrap();
    }
    assert_eq!((links(&node, "a"), links(&node, "b")), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
}

#[test]
fn a_program_reads_what_a_tap_sends() {
    if !can_make_namespaces() {
        return;
    }
    let node = node();
    let call = call("tap", "a", 2, json!({"owner": 0, "group": 0, "selinuxContext": "a:b:c:d"}));
    let result = node.add(&TAP, &call).unwrap();
    let call = call.previous(&result);
    node.check(&TAP, &call).unwrap();
    let mut device = node.inside("a", || netops::open_tap(&name("eth0"))).unwrap();
    // Somebody is asked for; the question comes out.
    let reader = std::thread::spawn(move || {
        let (mut frame, began) = ([0; 2048], Instant::now());
        while began.elapsed() < Duration::from_secs(5) {
            let length = device.read(&mut frame).unwrap();
            if length >= 42 && frame[12..14] == [8, 6] && frame[38..42] == [10, 22, 0, 9] {
                return true;
            }
        }
        false
    });
    assert!(!ping(&node, "a", "10.22.0.9"));
    assert!(reader.join().unwrap());
    node.del(&TAP, &call).unwrap();
    assert_eq!(links(&node, "a"), ["lo"]);
}
