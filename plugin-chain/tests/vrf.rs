//! `vrf` on a node in memory: not every kernel has VRFs.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use cni_spec::AddResult;
use cni_spec::plugin::Plugin;
use netops::{
    Answer, Feature, LinkName, LinkState, MemoryKernel, Place, Query, Resource, Route, Rule, read_links,
};
use plugin_bridge::Bridge;
use plugin_chain::Vrf;
use plugin_kit::testing::{MemoryNode, TestCall, Trial};
use plugin_kit::{Kernels, Kit, Purpose};
use serde_json::{Value, json};

fn config(keys: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "vrf"});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn bridge(n: u8) -> TestCall {
    TestCall::new(json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": {
        "type": "static",
        "addresses": [
            {"address": format!("10.{n}.0.5/24"), "gateway": format!("10.{n}.0.1")},
            {"address": format!("fd00:{n}::5/64"), "gateway": format!("fd00:{n}::1")}
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.9.0.0/16", "gw": format!("10.{n}.0.9")}],
    }}))
}

/// An interface of `bridge`'s, and the call of `vrf` that follows.
fn interface(node: &MemoryNode, n: u8, keys: &Value) -> TestCall {
    let name = format!("net{n}");
    let made: AddResult = Kit::with_kernels(Bridge, node).add(&bridge(n).interface(&name).request()).unwrap();
    TestCall::new(config(keys)).interface(&name).previous(&made)
}

fn links(node: &MemoryNode) -> Vec<LinkState> {
    let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
    read_links(&mut *kernel, Place::Container).unwrap()
}

fn link(node: &MemoryNode, name: &str) -> Option<LinkState> {
    links(node).into_iter().find(|link| link.name.as_str() == name)
}

/// An interface's addresses and routes, but for link-local ones.
fn of_interface(node: &MemoryNode, name: &str) -> (Vec<String>, Vec<String>) {
    let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
    let name: LinkName = name.parse().unwrap();
    let answers =
        kernel.read(Place::Container, &[Query::Addresses(name.clone()), Query::Routes(name)]).unwrap();
    let [Answer::Addresses(addresses), Answer::Routes(routes)] = answers.as_slice() else { panic!() };
    let sorted = |lines: Vec<String>| {
        let mut lines: Vec<_> = lines.into_iter().filter(|line| !line.contains("fe80")).collect();
        lines.sort();
        lines
    };
    (
        sorted(addresses.iter().map(|address| address.net.to_string()).collect()),
        sorted(routes.iter().map(ToString::to_string).collect()),
    )
}

#[test]
fn an_interface_keeps_its_addresses_and_routes_in_the_vrf() {
    let node = &MemoryNode::new();
    let plugin = Kit::with_kernels(Vrf, node);
    let call = interface(node, 1, &json!({"vrfname": "red"}));
    plugin.add(&call.request()).unwrap();
    let vrf = link(node, "red").unwrap();
    assert_eq!((vrf.kind.as_str(), vrf.table(), vrf.up), ("vrf", Some(1), true));
    assert_eq!(link(node, "net1").unwrap().master, Some(vrf.index));
    let (addresses, routes) = of_interface(node, "net1");
    assert_eq!(addresses, ["10.1.0.5/24", "fd00:1::5/64"]);
    assert_eq!(
        routes,
        [
            "route 0.0.0.0/0 via 10.1.0.1 dev \"net1\" table 1",
            "route 10.1.0.0/24 dev \"net1\" table 1",
            "route 10.9.0.0/16 via 10.1.0.9 dev \"net1\" table 1",
            "route ::/0 via fd00:1::1 dev \"net1\" table 1",
            "route fd00:1::/64 dev \"net1\" table 1",
        ]
    );
    plugin.check(&call.request()).unwrap();
}

#[test]
fn interfaces_share_a_vrf_that_goes_with_the_last() {
    let node = &MemoryNode::new();
    let plugin = Kit::with_kernels(Vrf, node);
    let red = [1, 2].map(|n| interface(node, n, &json!({"vrfname": "red"})));
    let blue = interface(node, 3, &json!({"vrfname": "blue"}));
    for call in red.iter().chain([&blue]) {
        plugin.add(&call.request()).unwrap();
    }
    assert_eq!(link(node, "red").unwrap().table(), Some(1));
    assert_eq!(link(node, "blue").unwrap().table(), Some(2));
    plugin.del(&red[0].del_request()).unwrap();
    assert!(link(node, "red").is_some());
    assert_eq!(link(node, "net1").unwrap().master, None);
    plugin.check(&red[1].request()).unwrap();
    for _ in 0..2 {
        plugin.del(&red[1].del_request()).unwrap();
        assert!(link(node, "red").is_none() && link(node, "blue").is_some());
    }
}

#[test]
fn a_table_that_is_asked_for_is_taken_and_one_in_use_is_not() {
    let node = &MemoryNode::new();
    let plugin = Kit::with_kernels(Vrf, node);
    let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
    let rule = Rule::from("10.7.0.0/16".parse().unwrap(), 1);
    kernel.create(Place::Container, &[&Resource::Rule(rule)]).remove(0).unwrap();
    drop(kernel);
    plugin.add(&interface(node, 1, &json!({"vrfname": "red", "table": 77})).request()).unwrap();
    plugin.add(&interface(node, 2, &json!({"vrfname": "blue"})).request()).unwrap();
    assert_eq!(link(node, "red").unwrap().table(), Some(77));
    assert_eq!(link(node, "blue").unwrap().table(), Some(2));
    for (keys, named) in [
        (json!({"vrfname": "red", "table": 78}), "is there already with table 77, not 78"),
        (json!({"vrfname": "net1"}), "is there already, and no VRF: it is a veth"),
        (json!({"vrfname": "lo"}), "is there already, and no VRF"),
    ] {
        let call = interface(node, 3, &keys);
        let before = node.snapshot();
        let error = plugin.add(&call.request()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        before.assert_same(&node.snapshot());
        Kit::with_kernels(Bridge, node).del(&bridge(3).interface("net3").del_request()).unwrap();
    }
}

#[test]
fn an_interface_of_another_vrf_is_refused() {
    let node = &MemoryNode::new();
    let plugin = Kit::with_kernels(Vrf, node);
    let call = interface(node, 1, &json!({"vrfname": "red"}));
    plugin.add(&call.request()).unwrap();
    let other = interface(node, 2, &json!({"vrfname": "blue"})).interface("net1");
    let error = plugin.add(&other.request()).unwrap_err().to_string();
    assert!(error.contains("\"net1\" belongs to \"red\" already"), "{error}");
}

#[test]
fn whatever_fails_the_interface_is_as_it_was() {
    for keys in [json!({"vrfname": "red"}), json!({"vrfname": "red", "table": 77})] {
        let config = config(&keys);
        let trial = Trial::new(Vrf, &config).behind(|node, call| {
            let bridge = bridge(1).container(call.container_id());
            let made = Kit::with_kernels(Bridge, node).add(&bridge.request()).unwrap();
            call.previous(&made)
        });
        let trial = trial.until_others_del(|node, call| {
            let bridge = bridge(1).container(call.container_id());
            Kit::with_kernels(Bridge, node).del(&bridge.del_request()).unwrap();
        });
        assert!(trial.assert_add_is_all_or_nothing() > 5, "{keys}");
        assert!(trial.assert_del_is_completed_by_the_next() > 5, "{keys}");
        trial.assert_gc_is_completed_by_the_next();
    }
}

#[test]
fn check_names_a_vrf_a_membership_and_a_route_that_are_gone() {
    for (named, damage) in [
        ("vrf \"red\" is missing", 0),
        ("\"net1\"'s being of \"red\"", 1),
        ("route 10.9.0.0/16 via 10.1.0.9 dev \"net1\" table 1 is missing", 2),
    ] {
        let node = &MemoryNode::new();
        let plugin = Kit::with_kernels(Vrf, node);
        let call = interface(node, 1, &json!({"vrfname": "red"}));
        plugin.add(&call.request()).unwrap();
        let (red, net1): (LinkName, LinkName) = ("red".parse().unwrap(), "net1".parse().unwrap());
        let unwanted = match damage {
            0 => Resource::Link(netops::Link::new(red, netops::LinkKind::Vrf { table: 1 })),
            1 => Resource::Master(netops::Master { link: net1, master: red }),
            _ => Resource::Route(Route {
                table: Some(1),
                ..Route::new("10.9.0.0/16".parse().unwrap(), "10.1.0.9".parse().ok(), net1)
            }),
        };
        let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
        kernel.remove(Place::Container, &[&unwanted]).remove(0).unwrap();
        drop(kernel);
        let error = format!("{:?}", plugin.check(&call.request()).unwrap_err());
        assert!(error.replace("\\\"", "\"").contains(named), "{error}");
    }
}

#[test]
fn del_needs_no_namespace_no_valid_configuration_and_no_interface() {
    let node = &MemoryNode::new();
    let plugin = Kit::with_kernels(Vrf, node);
    let call = interface(node, 1, &json!({"vrfname": "red"}));
    plugin.add(&call.request()).unwrap();
    plugin.del(&TestCall::new(config(&json!({"vrfname": 7}))).interface("net1").del_request()).unwrap();
    assert!(link(node, "red").is_none());

    plugin.add(&call.request()).unwrap();
    Kit::with_kernels(Bridge, node).del(&bridge(1).interface("net1").del_request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert!(link(node, "red").is_none());
    plugin.del(&call.clone().without_netns().del_request()).unwrap();
    node.end_container("c1");
    plugin.del(&call.del_request()).unwrap();
}

#[test]
fn a_kernel_without_vrfs_says_what_it_needs() {
    let node = &MemoryNode::with_kernel(MemoryKernel::new().lacking(Feature::Vrf));
    let plugin = Kit::with_kernels(Vrf, node);
    let call = interface(node, 1, &json!({"vrfname": "red"}));
    let before = node.snapshot();
    let error = plugin.add(&call.request()).unwrap_err().to_string();
    assert!(error.contains("CONFIG_NET_VRF (module vrf)"), "{error}");
    before.assert_same(&node.snapshot());
}

#[test]
fn a_vrf_must_have_a_name() {
    let node = &MemoryNode::new();
    let plugin = Kit::with_kernels(Vrf, node);
    let error = plugin.add(&interface(node, 1, &json!({})).request()).unwrap_err().to_string();
    assert!(error.contains("vrfname"), "{error}");
}
