//! The commands in a kernel in memory: what CHECK finds, what DEL leaves, what STATUS and errors say.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, ErrorCode};
use netops::{
    Address, Feature, Kernel, Link, LinkKind, LinkName, LinkSettings, MacAddr, MemoryKernel, Place, Resource,
    Route,
};
use plugin_kit::testing::{MemoryNode, TestCall};
use plugin_kit::{Attach, Kit};
use plugin_link::{Dummy, Ipvlan, Macvlan, Tap, Vlan};
use serde_json::{Value, json};

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn bridge(called: &str) -> Resource {
    let kind = LinkKind::Bridge { vlan_filtering: false };
    Resource::Link(Link { up: true, mac: Some(UPLINK_MAC), ..Link::new(name(called), kind) })
}

const UPLINK_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);

/// A kernel with an uplink that the default route leads through.
fn uplinked() -> MemoryKernel {
    let mut kernel = MemoryKernel::new();
    let route = Route::new("0.0.0.0/0".parse().unwrap(), "192.0.2.1".parse().ok(), name("up0"));
    make(
        &mut kernel,
        Place::Host,
        &[
            bridge("up0"),
            bridge("up1"),
            Resource::Address(Address::new(name("up0"), "192.0.2.2/24".parse().unwrap())),
            Resource::Route(route),
        ],
    );
    kernel
}

fn make(kernel: &mut MemoryKernel, place: Place, resources: &[Resource]) {
    for result in kernel.create(place, &resources.iter().collect::<Vec<_>>()) {
        result.unwrap();
    }
}

fn call(kind: &str, keys: Value) -> TestCall {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": kind,
        "ipam": {"type": "static", "addresses": [{"address": "10.22.0.5/16"}]},
    });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    TestCall::new(config)
}

fn interface(result: &AddResult) -> (&str, u32) {
    assert_eq!(result.interfaces.len(), 1);
    let interface = &result.interfaces[0];
    assert_eq!((interface.name.as_str(), interface.sandbox.is_some()), ("eth0", true));
    assert!(result.ips.iter().all(|ip| ip.interface == Some(0)));
    (interface.mac.as_deref().unwrap_or_default(), interface.mtu.unwrap_or_default())
}

#[test]
fn the_master_is_the_default_routes_unless_it_is_said() {
    let node = MemoryNode::with_kernel(uplinked());
    let on = |keys: Value| {
        let plugin = Kit::with_kernels(Macvlan, &node);
        let call = call("macvlan", keys);
        let result = plugin.add(&call.request()).unwrap();
        plugin.check(&call.clone().previous(&result).request()).unwrap();
        let text = node.snapshot().to_string();
        plugin.del(&call.del_request()).unwrap();
        text.lines().find(|line| line.contains("macvlan")).unwrap().to_owned()
    };
    assert!(on(json!({})).contains("on host \"up0\""));
    assert!(on(json!({"master": ""})).contains("mode bridge"));
    assert!(on(json!({"master": "up1", "mode": "vepa"})).contains("on host \"up1\" mode vepa"));
}

#[test]
fn an_attachment_stays_valid_when_the_default_route_moves() {
    let node = MemoryNode::with_kernel(uplinked());
    let plugin = Kit::with_kernels(Macvlan, &node);
    let call = call("macvlan", json!({}));
    let result = plugin.add(&call.request()).unwrap();
    let mut process = node.process();
    let address = Address::new(name("up1"), "198.51.100.2/24".parse().unwrap());
    let route = Route::new("0.0.0.0/0".parse().unwrap(), "198.51.100.1".parse().ok(), name("up1"));
    make(&mut process, Place::Host, &[Resource::Address(address), Resource::Route(route)]);
    plugin.check(&call.previous(&result).request()).unwrap();
}

#[test]
fn a_result_has_the_mac_address_and_mtu_that_the_kernel_gives() {
    let node = MemoryNode::with_kernel(uplinked());
    fn added<P: Attach>(node: &MemoryNode, plugin: P, keys: Value) -> (String, u32) {
        let plugin = Kit::with_kernels(plugin, node);
        let call = call(P::TYPE, keys);
        let result = plugin.add(&call.request()).unwrap();
        plugin.del(&call.del_request()).unwrap();
        let (mac, mtu) = interface(&result);
        (mac.to_owned(), mtu)
    }
    let uplinks = UPLINK_MAC.to_string();
    assert_eq!(added(&node, Ipvlan, json!({})), (uplinks.clone(), 1500));
    assert_eq!(
        added(&node, Vlan, json!({"master": "up0", "vlanId": 5, "mtu": 1400})),
        (uplinks.clone(), 1400)
    );
    assert_eq!(added(&node, Macvlan, json!({"mode": "passthru"})), (uplinks, 1500));
    let mac = "02:11:22:33:44:55";
    assert_eq!(added(&node, Macvlan, json!({"mac": mac})).0, mac);
    assert_eq!(added(&node, Tap, json!({"mac": mac, "mtu": 9000})), (mac.to_owned(), 9000));
    let asked = json!({"mac": mac, "runtimeConfig": {"mac": "02:11:22:33:44:66"}});
    assert_eq!(added(&node, Macvlan, asked).0, "02:11:22:33:44:66");
}

#[test]
fn ipvlan_takes_from_what_was_before_it_in_the_list() {
    let node = MemoryNode::with_kernel(uplinked());
    let plugin = Kit::with_kernels(Ipvlan, &node);
    let chained = |interfaces: Value| {
        call(
            "ipvlan",
            json!({"ipam": {}, "prevResult": {
                "cniVersion": "1.1.0", "interfaces": interfaces, "ips": [{"address": "10.1.0.9/24"}],
            }}),
        )
    };
    let call = chained(json!([{"name": "up1"}]));
    let result = plugin.add(&call.request()).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.0.9/24");
    assert_eq!(interface(&result).1, 1500);
    assert!(node.snapshot().to_string().contains("on host \"up1\" mode l2"));
    plugin.check(&call.clone().previous(&result).request()).unwrap();
    plugin.del(&call.previous(&result).del_request()).unwrap();
    assert!(!node.snapshot().to_string().contains("ipvlan"));

    let error = plugin.add(&chained(json!([{"name": "up0"}, {"name": "up1"}])).request()).unwrap_err();
    assert!(error.msg().contains("not just one interface"), "{error}");
    let error = plugin.add(&self::call("ipvlan", json!({"ipam": {}})).request()).unwrap_err();
    assert!(error.msg().contains("ipvlan needs addresses"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let node = MemoryNode::with_kernel(uplinked());
    let before = node.snapshot();
    fn refused<P: Attach>(node: &MemoryNode, plugin: P, keys: Value) -> String {
        let error = Kit::with_kernels(plugin, node).add(&call(P::TYPE, keys).request()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::INVALID_CONFIG, "{error}");
        error.to_string()
    }
    for (said, expected) in [
        (refused(&node, Macvlan, json!({"mtu": 1501})), "\"up0\" has 1500"),
        (refused(&node, Macvlan, json!({"mtu": -1})), "mtu is -1"),
        (refused(&node, Macvlan, json!({"mode": "l2"})), "mode is \"l2\""),
        (refused(&node, Macvlan, json!({"mac": "ff:ff:ff:ff:ff:ff"})), "mac: ff:ff"),
        (refused(&node, Ipvlan, json!({"mode": "bridge"})), "mode is \"bridge\""),
        (refused(&node, Vlan, json!({"vlanId": 5})), "master: missing"),
        (refused(&node, Vlan, json!({"master": "up0", "vlanId": 4095})), "vlanId is 4095"),
        (refused(&node, Vlan, json!({"master": "up0", "vlanId": -1})), "vlanId is -1"),
        (refused(&node, Vlan, json!({"master": "up0", "vlanId": 1, "mtu": 9000})), "\"up0\" has 1500"),
        (refused(&node, Macvlan, json!({"linkInContainer": true})), "no default route"),
        (refused(&node, Tap, json!({"owner": -1})), "owner"),
        (refused(&node, Tap, json!({"bridge": "a b"})), "bridge: "),
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(node.snapshot(), before);
}

#[test]
fn check_names_each_difference() {
    fn differs<P: Attach>(plugin: P, keys: Value, change: impl Fn(&mut MemoryKernel), expected: &str) {
        let node = MemoryNode::with_kernel(uplinked());
        let plugin = Kit::with_kernels(plugin, &node);
        let call = call(P::TYPE, keys);
        let result = plugin.add(&call.request()).unwrap();
        let call = call.previous(&result);
        plugin.check(&call.request()).unwrap();
        change(&mut node.process());
        let error = plugin.check(&call.request()).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let eth0 = || Resource::Link(Link::new(name("eth0"), LinkKind::Any));
    let remove = |kernel: &mut MemoryKernel, resource: Resource| {
        kernel.remove(Place::Container, &[&resource]).remove(0).unwrap();
    };
    differs(Macvlan, json!({}), |k| remove(k, eth0()), "macvlan \"eth0\" is missing");
    differs(Macvlan, json!({}), |k| remove(k, Resource::LinkUp(name("eth0"))), "state is down, not up");
    let address = || Address::new(name("eth0"), "10.22.0.5/16".parse().unwrap());
    differs(
        Vlan,
        json!({"master": "up0"}),
        |k| remove(k, Resource::Address(address())),
        "address 10.22.0.5/16",
    );
    // Somebody puts another in its place.
    let replace = |kind: LinkKind| {
        move |kernel: &mut MemoryKernel| {
            remove(kernel, eth0());
            make(
                kernel,
                Place::Container,
                &[
                    Resource::Link(Link { up: true, ..Link::new(name("eth0"), kind.clone()) }),
                    Resource::Address(address()),
                ],
            );
        }
    };
    let parent = |called| netops::Parent { place: Place::Host, name: name(called) };
    let vlan = |id, on| LinkKind::Vlan { parent: parent(on), id };
    let on_up0 = || json!({"master": "up0", "vlanId": 5});
    differs(Vlan, on_up0(), replace(vlan(6, "up0")), "VLAN is 6, not 5");
    differs(Vlan, on_up0(), replace(vlan(5, "up1")), "parent is interface");
    differs(Vlan, on_up0(), replace(LinkKind::Dummy), "kind is dummy, not vlan");
    let l3 = LinkKind::Ipvlan { parent: parent("up0"), mode: netops::IpvlanMode::L3 };
    differs(Ipvlan, json!({}), replace(l3), "mode is l3, not l2");
    let owned = LinkKind::Tap(netops::Tap { owner: Some(7), ..netops::Tap::default() });
    differs(Tap, json!({"owner": 1000}), replace(owned), "owner is 7, not 1000");
    differs(Macvlan, json!({}), replace(LinkKind::Dummy), "MAC address");
}

#[test]
fn an_interface_may_have_been_given_another_mtu_by_a_plugin_behind() {
    let node = MemoryNode::with_kernel(uplinked());
    let plugin = Kit::with_kernels(Vlan, &node);
    let call = call("vlan", json!({"master": "up0", "vlanId": 5, "mtu": 1400}));
    let result = plugin.add(&call.request()).unwrap();
    let checked = |mtu: Option<u32>| {
        let mut result = result.clone();
        result.interfaces[0].mtu = mtu;
        plugin.check(&call.clone().previous(&result).request())
    };
    checked(Some(1400)).unwrap();
    let other = LinkSettings { mtu: Some(1300), ..LinkSettings::none(name("eth0")) };
    make(&mut node.process(), Place::Container, &[Resource::Settings(other)]);
    checked(Some(1300)).unwrap();
    // Before 1.1.0 results do not say it.
    checked(None).unwrap();
    let error = checked(Some(1400)).unwrap_err();
    assert!(error.to_string().contains("MTU is 1300, not 1400"), "{error}");
}

#[test]
fn del_leaves_another_networks_interface_of_the_same_name() {
    fn spares<P: Attach>(plugin: P, keys: Value) {
        let node = MemoryNode::with_kernel(uplinked());
        let plugin = Kit::with_kernels(plugin, &node);
        let theirs = call(P::TYPE, keys.clone());
        plugin.add(&theirs.request()).unwrap();
        let before = node.snapshot();
        let mut keys = keys;
        keys["name"] = json!("other");
        let ours = call(P::TYPE, keys);
        assert!(plugin.add(&ours.request()).is_err());
        plugin.del(&ours.del_request()).unwrap();
        assert_eq!(node.snapshot(), before);
        plugin.del(&theirs.del_request()).unwrap();
        assert!(!node.snapshot().to_string().contains("eth0"));
    }
    spares(Macvlan, json!({}));
    spares(Ipvlan, json!({}));
    spares(Vlan, json!({"master": "up0", "vlanId": 5}));
    spares(Tap, json!({}));
    spares(Dummy, json!({}));
}

#[test]
fn del_removes_what_the_reference_made_and_nothing_of_another_kind() {
    let node = MemoryNode::with_kernel(uplinked());
    let plugin = Kit::with_kernels(Macvlan, &node);
    let call = call("macvlan", json!({}));
    node.start_container("c1");
    let before = node.snapshot();
    let parent = netops::Parent { place: Place::Host, name: name("up0") };
    let kind = LinkKind::Macvlan { parent, mode: netops::MacvlanMode::Bridge, broadcast_queue: None };
    make(&mut node.process(), Place::Container, &[Resource::Link(Link::new(name("eth0"), kind))]);
    plugin.del(&call.del_request()).unwrap();
    assert_eq!(node.snapshot(), before);

    make(&mut node.process(), Place::Container, &[bridge("eth0")]);
    let before = node.snapshot();
    plugin.del(&call.del_request()).unwrap();
    assert_eq!(node.snapshot(), before);
}

#[test]
fn del_needs_neither_master_nor_namespace_nor_a_configuration_that_makes_sense() {
    let leases = tempfile::tempdir().unwrap();
    let ipam = json!({"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/16"});
    let node = MemoryNode::with_kernel(uplinked());
    let plugin = Kit::with_kernels(Vlan, &node);
    let call = call("vlan", json!({"master": "up0", "vlanId": 5, "ipam": ipam}));
    let leased = || {
        let files = std::fs::read_dir(leases.path().join("net")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("10.")).count()
            == 1
    };
    for gone in [false, true] {
        plugin.add(&call.request()).unwrap();
        assert!(leased());
        let mut process = node.process();
        // The master goes, and takes along what is on it.
        process.remove(Place::Host, &[&bridge("up0")]).remove(0).unwrap();
        let del = if gone { call.clone().without_netns() } else { call.clone() };
        plugin.del(&del.del_request()).unwrap();
        plugin.del(&del.del_request()).unwrap();
        assert!(!leased());
        make(&mut process, Place::Host, &[bridge("up0")]);
    }
    let nonsense = self::call("vlan", json!({"master": 7, "vlanId": "x"}));
    plugin.del(&nonsense.del_request()).unwrap();
}

#[test]
fn a_kernel_without_it_is_told_by_the_modules_name() {
    fn said<P: Attach>(plugin: P, lacking: Feature, keys: Value) -> String {
        let node = MemoryNode::with_kernel(uplinked().lacking(lacking));
        node.start_container("c1");
        let before = node.snapshot();
        let error = Kit::with_kernels(plugin, &node).add(&call(P::TYPE, keys).request()).unwrap_err();
        assert_eq!(node.snapshot(), before);
        error.to_string()
    }
    for (said, module) in [
        (said(Macvlan, Feature::Macvlan, json!({})), "CONFIG_MACVLAN (module macvlan)"),
        (said(Ipvlan, Feature::Ipvlan, json!({})), "CONFIG_IPVLAN (module ipvlan)"),
        (said(Vlan, Feature::Vlan, json!({"master": "up0"})), "CONFIG_VLAN_8021Q (module 8021q)"),
        (said(Tap, Feature::Tun, json!({})), "CONFIG_TUN (module tun)"),
        (said(Dummy, Feature::Dummy, json!({})), "CONFIG_DUMMY (module dummy)"),
    ] {
        assert!(said.contains(module) && said.contains("load or build its module"), "{said}");
    }
}

#[test]
fn status_wants_the_master() {
    let node = MemoryNode::with_kernel(uplinked());
    let plugin = Kit::with_kernels(Macvlan, &node);
    let status = |keys: Value| plugin.status(&call("macvlan", keys).status_request());
    for fine in [json!({}), json!({"master": "up1"}), json!({"master": "no", "linkInContainer": true})] {
        status(fine).unwrap();
    }
    let error = status(json!({"master": "no"})).unwrap_err();
    assert_eq!(error.code(), ErrorCode::PLUGIN_NOT_AVAILABLE);
    let bare = MemoryNode::new();
    let plugin = Kit::with_kernels(Macvlan, &bare);
    let error = plugin.status(&call("macvlan", json!({})).status_request()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::PLUGIN_NOT_AVAILABLE);
}

#[test]
fn neighbours_are_told() {
    let node = MemoryNode::with_kernel(uplinked());
    Kit::with_kernels(Macvlan, &node).add(&call("macvlan", json!({})).request()).unwrap();
    let text = node.snapshot().to_string();
    for setting in ["ipv4/conf/eth0/arp_notify = 1", "ipv6/conf/eth0/ndisc_notify = 1"] {
        assert!(text.contains(setting), "{text}");
    }
}

#[test]
fn a_tap_may_be_a_port_of_a_bridge_in_the_container() {
    let node = MemoryNode::new();
    node.start_container("c1");
    let plugin = Kit::with_kernels(Tap, &node);
    let call = call("tap", json!({"bridge": "br1", "ipam": {}}));
    let error = plugin.add(&call.request()).unwrap_err();
    assert!(error.to_string().contains("ENODEV"), "{error}");
    make(&mut node.process(), Place::Container, &[bridge("br1")]);
    let result = plugin.add(&call.request()).unwrap();
    assert!(node.snapshot().to_string().contains("master \"br1\""));
    assert!(result.ips.is_empty());
    plugin.check(&call.previous(&result).request()).unwrap();
}
