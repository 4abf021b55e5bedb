//! On the real kernel: pods talk.

#![allow(clippy::unwrap_used)] // tests

use std::process::Command;
use std::time::Duration;

use netops::{
    EntryKind, Link, LinkKind, LinkName, LinuxKernel, Place, Plan, Resource, read_entries, read_link,
    read_links,
};
use plugin_bridge::Bridge;
use plugin_kit::Kit;
use plugin_kit::testing::{Node, TestCall};
use serde_json::json;

#[test]
fn pods_reach_one_another_and_their_gateway_over_ipv4_and_ipv6_at_once() {
    let (node, plugin, leases) = (Node::new(), Kit::new(Bridge), tempfile::tempdir().unwrap());
    let call = |container: &str| {
        TestCall::new(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
            "hairpinMode": true, "macspoofchk": true,
            "ipam": {
                "type": "host-local", "dataDir": leases.path(),
                "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]],
            },
        }))
        .container(container)
    };
    let a = node.add(&plugin, &call("a")).unwrap();
    let b = node.add(&plugin, &call("b")).unwrap();
    for ip in &b.ips {
        // At once: no duplicate address detection is waited for.
        node.ping("a", ip.address.addr()).unwrap();
        node.ping("a", ip.gateway.unwrap()).unwrap();
    }
    for ip in &a.ips {
        node.ping("b", ip.address.addr()).unwrap();
    }
    node.check(&plugin, &call("a").previous(&a)).unwrap();

    node.del(&plugin, &call("a").previous(&a)).unwrap();
    assert!(node.ping("b", a.ips[0].address.addr()).is_err());
    node.end_container("b");
    node.del(&plugin, &call("b").without_netns()).unwrap();

    let names: Vec<_> = node.on_host(|| {
        let mut kernel = LinuxKernel::new(None);
        assert_eq!(read_entries(&mut kernel, EntryKind::ALL).unwrap(), []);
        read_links(&mut kernel, Place::Host).unwrap().into_iter().map(|link| link.name.to_string()).collect()
    });
    assert_eq!(names, ["lo", "cni0"]);
}

#[test]
fn who_remembers_an_earlier_owner_of_an_address_learns_the_new_one_at_once() {
    let (node, plugin, leases) = (Node::new(), Kit::new(Bridge), tempfile::tempdir().unwrap());
    let add = |container: &str| {
        let call = TestCall::new(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/16"},
        }));
        node.add(&plugin, &call.container(container)).unwrap()
    };
    let neighbour = |arguments: &str| {
        node.on_host(|| {
            let words = format!("neighbour {arguments}");
            let output = Command::new("ip").args(words.split(' ')).output().unwrap();
            assert!(output.status.success(), "{arguments}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        })
    };
    add("a");
    neighbour("add 10.22.0.3 dev cni0 lladdr 02:00:00:00:00:99 nud reachable");
    let b = add("b");
    let said = neighbour("show 10.22.0.3 dev cni0");
    assert!(said.contains(b.interfaces[2].mac.as_deref().unwrap()), "{said}");
}

#[test]
fn an_address_has_the_same_mac_address_whoever_gets_it() {
    let (node, plugin, leases) = (Node::new(), Kit::new(Bridge), tempfile::tempdir().unwrap());
    let call = |container: &str| {
        TestCall::new(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/29",
                "rangeStart": "10.22.0.2", "rangeEnd": "10.22.0.3",
            },
        }))
        .container(container)
    };
    let mac = |container: &str| {
        let result = node.add(&plugin, &call(container)).unwrap();
        (result.ips[0].address, result.interfaces[2].mac.clone().unwrap())
    };
    let (a, b) = (mac("a"), mac("b"));
    assert_ne!(a.1, b.1);
    node.del(&plugin, &call("a")).unwrap();
    assert_eq!(mac("c"), a);
}

#[test]
fn the_first_pod_of_a_node_is_reached_over_ipv6_from_elsewhere_at_once() {
    let (node, plugin, leases) = (Node::new(), Kit::new(Bridge), tempfile::tempdir().unwrap());
    let add = |container: &str, bridge: &str, subnet: &str| {
        let call = TestCall::new(json!({
            "cniVersion": "1.1.0", "name": bridge, "type": "bridge", "bridge": bridge, "isDefaultGateway": true,
            "ipam": {"type": "host-local", "dataDir": leases.path(), "subnet": subnet},
        }));
        node.add(&plugin, &call.container(container)).unwrap()
    };
    add("elsewhere", "cni1", "fd00:23::/64");
    let first = add("first", "cni0", "fd00:22::/64");
    let took = node.ping("elsewhere", first.ips[0].address.addr()).unwrap();
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_bridge_that_was_there_keeps_the_address_that_it_had() {
    let (node, plugin, leases) = (Node::new(), Kit::new(Bridge), tempfile::tempdir().unwrap());
    let name = LinkName::new("cni0").unwrap();
    let bridge = || {
        let kind = LinkKind::Bridge { vlan_filtering: false };
        let mut plan = Plan::new();
        plan.own(Place::Host, Resource::Link(Link { up: true, ..Link::new(name.clone(), kind) }));
        plan.apply(&mut LinuxKernel::new(None)).unwrap();
    };
    let mac =
        || node.on_host(|| read_link(&mut LinuxKernel::new(None), Place::Host, &name).unwrap().unwrap().mac);
    let call = |container: &str| {
        TestCall::new(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/16"},
        }))
        .container(container)
    };
    node.on_host(bridge);
    let before = mac();
    let result = node.add(&plugin, &call("a")).unwrap();
    assert_eq!(mac(), before);
    node.add(&plugin, &call("b")).unwrap();
    node.del(&plugin, &call("a").previous(&result)).unwrap();
    assert_eq!(mac(), before);
    assert_eq!(result.interfaces[0].mac, before.map(|mac| mac.to_string()));
}
