//! What each command does, on a node in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

mod adoption;

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, Error, ErrorCode};
use netops::{
    Address, Answer, EntryKind, Kernel, Link, LinkKind, LinkName, Masquerade, MemoryKernel, Place, Query,
    Resource, Route, Rule, Sysctl, SysctlKey, VethPeer, read_link, read_links,
};
use plugin_bridge::Bridge;
use plugin_kit::testing::{MemoryNode, TestCall};
use plugin_kit::{Kit, error};
use serde_json::{Value, json};

struct Network {
    node: MemoryNode,
    leases: tempfile::TempDir,
    config: Value,
}

impl Network {
    fn new(keys: Value) -> Self {
        let leases = tempfile::tempdir().unwrap();
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge",
            "ipam": {"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/29"},
        });
        for (key, value) in keys.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        Self { node: MemoryNode::new(), leases, config }
    }

    fn plugin(&self) -> Kit<Bridge, &MemoryNode> {
        Kit::with_kernels(Bridge, &self.node)
    }

    fn call(&self, container: &str) -> TestCall {
        TestCall::new(self.config.clone()).container(container)
    }

    fn add(&self, container: &str) -> Result<AddResult, Error> {
        self.plugin().add(&self.call(container).request())
    }

    fn read(&self, place: Place, query: Query) -> Answer {
        self.node.process().read(place, &[query]).unwrap().remove(0)
    }

    fn create(&self, place: Place, resource: Resource) {
        self.node.process().create(place, &[&resource]).remove(0).unwrap();
    }

    fn remove(&self, place: Place, resource: Resource) {
        self.node.process().remove(place, &[&resource]).remove(0).unwrap();
    }

    fn lease_count(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.leases.path().join("net")) else { return 0 };
        entries.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("10.")).count()
    }
}

fn veth(name: &str, peer: &str) -> Resource {
    let peer = VethPeer { place: Place::Container, name: LinkName::new(peer).unwrap(), mtu: None, mac: None };
    Resource::Link(Link::new(LinkName::new(name).unwrap(), LinkKind::Veth { peer }))
}

#[test]
fn the_result_tells_the_bridges_own_mac_address_whether_it_was_made_or_found() {
    let net = Network::new(json!({}));
    let (first, second) = (net.add("a").unwrap(), net.add("b").unwrap());
    let bridge =
        read_link(&mut net.node.process(), Place::Host, &LinkName::new("cni0").unwrap()).unwrap().unwrap();
    let mac = Some(bridge.mac.unwrap().to_string());
    assert_eq!(first.interfaces[0].mac, mac);
    assert_eq!(second.interfaces[0].mac, mac);
}

#[test]
fn a_default_gateway_adds_the_default_route_unless_ipam_has_one_with_a_gateway() {
    let net = Network::new(json!({"isDefaultGateway": true}));
    let result = net.add("a").unwrap();
    assert_eq!(result.routes.len(), 1);
    assert_eq!(result.routes[0].dst.to_string(), "0.0.0.0/0");
    assert_eq!(result.routes[0].gw.unwrap().to_string(), "10.22.0.1");

    let mut net = Network::new(json!({"isDefaultGateway": true}));
    net.config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0", "gw": "10.22.0.6"}]);
    let result = net.add("a").unwrap();
    assert_eq!(result.routes.len(), 1);
    assert_eq!(result.routes[0].gw.unwrap().to_string(), "10.22.0.6");
}

#[test]
fn a_bridge_with_another_address_is_refused_unless_forced_and_then_it_is_replaced() {
    let bridge = || {
        let name = LinkName::new("cni0").unwrap();
        Resource::Link(Link { up: true, ..Link::new(name, LinkKind::Bridge { vlan_filtering: false }) })
    };
    let stale =
        || Resource::Address(Address::new(LinkName::new("cni0").unwrap(), "192.0.2.1/24".parse().unwrap()));
    let addresses = |net: &Network| match net
        .read(Place::Host, Query::Addresses(LinkName::new("cni0").unwrap()))
    {
        Answer::Addresses(list) => {
            list.into_iter().filter(|a| a.net.addr().is_ipv4()).map(|a| a.net.to_string()).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };

    let net = Network::new(json!({"isGateway": true}));
    net.create(Place::Host, bridge());
    net.create(Place::Host, stale());
    let refused = net.add("a").unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    assert!(refused.msg().contains("192.0.2.1/24"), "{refused}");
    assert_eq!(net.lease_count(), 0);

    let net = Network::new(json!({"isGateway": true, "forceAddress": true}));
    net.create(Place::Host, bridge());
    net.create(Place::Host, stale());
    net.add("a").unwrap();
    assert_eq!(addresses(&net), ["10.22.0.1/29"]);
}

#[test]
fn two_ranges_of_one_family_have_two_gateways_for_every_pod() {
    for force in [false, true] {
        let net = Network::new(json!({"isGateway": true, "forceAddress": force}));
        let ranges = json!([[{"subnet": "10.22.0.0/29"}], [{"subnet": "10.23.0.0/29"}]]);
        let leases = net.leases.path();
        let call = |container| {
            let mut config = net.config.clone();
            config["ipam"] = json!({"type": "host-local", "dataDir": leases, "ranges": ranges});
            TestCall::new(config).container(container).request()
        };
        for container in ["a", "b"] {
            net.plugin().add(&call(container)).unwrap();
            let bridge = Query::Addresses(LinkName::new("cni0").unwrap());
            let Answer::Addresses(addresses) = net.read(Place::Host, bridge) else { panic!() };
            let addresses: Vec<_> = addresses.iter().map(|address| address.net.to_string()).collect();
            assert_eq!(addresses[..2], ["10.22.0.1/29", "10.23.0.1/29"], "forceAddress {force}");
        }
    }
}

#[test]
fn something_else_under_the_bridges_name_is_refused_by_its_kind() {
    let net = Network::new(json!({"bridge": "uplink0"}));
    net.create(Place::Host, veth("uplink0", "eth9"));
    let refused = net.add("a").unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    assert!(refused.msg().contains("uplink0") && refused.msg().contains("veth"), "{refused}");
}

#[test]
fn a_taken_interface_name_is_refused_and_the_address_given_back() {
    let net = Network::new(json!({}));
    net.node.start_container("a");
    net.create(Place::Host, veth("other0", "eth0"));
    let refused = net.add("a").unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    assert_eq!(net.lease_count(), 0);
}

#[test]
fn a_requested_mac_address_is_the_last_one_named() {
    let mut net = Network::new(json!({}));
    let mac = |net: &Network, args: &str| {
        let call = net.call("a").args(args);
        let result = net.plugin().add(&call.request());
        net.plugin().del(&call.del_request()).unwrap();
        result.map(|result| result.interfaces[2].mac.clone().unwrap())
    };
    assert_eq!(mac(&net, "MAC=02:00:00:00:00:01").unwrap(), "02:00:00:00:00:01");
    net.config["args"] = json!({"cni": {"mac": "02:00:00:00:00:02"}});
    assert_eq!(mac(&net, "MAC=02:00:00:00:00:01").unwrap(), "02:00:00:00:00:02");
    net.config["runtimeConfig"] = json!({"mac": "02:00:00:00:00:03"});
    assert_eq!(mac(&net, "MAC=02:00:00:00:00:01").unwrap(), "02:00:00:00:00:03");
    net.config["runtimeConfig"] = json!({"mac": "01:00:5e:00:00:01"});
    assert_eq!(mac(&net, "").unwrap_err().code(), ErrorCode::INVALID_CONFIG);
}

#[test]
fn check_names_each_difference() {
    let net = Network::new(json!({"isGateway": true, "ipMasq": true}));
    let result = net.add("a").unwrap();
    let check = || net.plugin().check(&net.call("a").previous(&result).request());
    check().unwrap();

    let eth0 = LinkName::new("eth0").unwrap();
    net.remove(Place::Container, Resource::Address(Address::new(eth0.clone(), result.ips[0].address)));
    net.remove(Place::Host, Resource::LinkUp(LinkName::new(&result.interfaces[1].name).unwrap()));
    let error = check().unwrap_err();
    assert_eq!(error.code(), error::DIFFERS);
    let text = error.to_string();
    assert!(text.contains("10.22.0.2/29"), "{text}");
    assert!(text.contains("state is down"), "{text}");
}

#[test]
fn check_finds_a_route_where_sbr_has_moved_it() {
    let mut net = Network::new(json!({"isGateway": true}));
    net.config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16"}]);
    let result = net.add("a").unwrap();
    let check = || net.plugin().check(&net.call("a").previous(&result).request());
    let eth0 = LinkName::new("eth0").unwrap();
    let Answer::Routes(routes) = net.read(Place::Container, Query::Routes(eth0)) else { panic!() };
    let routes = routes.into_iter().filter(|route| route.gateway().is_some());
    for route in routes {
        net.remove(Place::Container, Resource::Route(route.clone()));
        net.create(Place::Container, Resource::Route(Route { table: Some(100), ..route }));
    }
    // Nothing leads there yet, and then only what others send.
    let missing = || check().unwrap_err().to_string();
    assert!(missing().contains("0.0.0.0/0") && missing().contains("10.9.0.0/16"), "{}", missing());
    let rule = |from: &str| Resource::Rule(Rule::from(from.parse().unwrap(), 100));
    net.create(Place::Container, rule("10.22.0.3/32"));
    assert!(missing().contains("0.0.0.0/0"));
    net.create(Place::Container, rule("10.22.0.2/32"));
    check().unwrap();
}

#[test]
fn check_accepts_an_attachment_of_the_references_which_set_fewer_settings() {
    let net = Network::new(json!({}));
    let result = net.add("a").unwrap();
    let set = |value: u8| {
        let key = SysctlKey::ipv4(&LinkName::new("eth0").unwrap(), "arp_notify");
        net.create(Place::Container, Resource::Sysctl(Sysctl::new(key, value)));
    };
    set(0);
    net.plugin().check(&net.call("a").previous(&result).request()).unwrap();
}

#[test]
fn an_ipam_section_that_gives_no_address_is_a_mistake() {
    let net = Network::new(json!({"ipam": {"type": "static"}}));
    assert_eq!(net.add("a").unwrap_err().code(), ErrorCode::INVALID_CONFIG);
    assert_eq!(read_links(&mut net.node.process(), Place::Host).unwrap().len(), 1, "only lo");
}

#[test]
fn check_without_a_previous_result_is_a_configuration_error() {
    let net = Network::new(json!({}));
    net.add("a").unwrap();
    let error = net.plugin().check(&net.call("a").request()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::INVALID_CONFIG);
}

#[test]
fn del_needs_neither_namespace_nor_configuration_nor_previous_result() {
    let mut net = Network::new(json!({"ipMasq": true, "macspoofchk": true}));
    net.node.start_container("a");
    net.add("other").unwrap();
    let before = net.node.snapshot();
    net.add("a").unwrap();
    net.config["mtu"] = json!("nonsense");
    net.config["vlan"] = json!(70000);
    assert!(net.add("b").is_err());
    net.plugin().del(&net.call("a").without_netns().del_request()).unwrap();
    assert_eq!(net.node.snapshot(), before);
    assert_eq!(net.lease_count(), 1);
    net.plugin().del(&net.call("a").without_netns().del_request()).unwrap();
}

#[test]
fn del_removes_a_cable_of_the_references() {
    let net = Network::new(json!({}));
    net.node.start_container("a");
    let before = net.node.snapshot();
    net.create(Place::Host, veth("veth0a1b2c3d", "eth0"));
    net.plugin().del(&net.call("a").del_request()).unwrap();
    assert_eq!(net.node.snapshot(), before);
}

#[test]
fn a_late_del_leaves_what_the_address_has_become() {
    let net = Network::new(json!({"ipMasq": true}));
    let result = net.add("a").unwrap();
    net.plugin().del(&net.call("a").previous(&result).del_request()).unwrap();
    // The address has found a new owner.
    let masquerade = Masquerade {
        source: result.ips[0].address.addr(),
        within: result.ips[0].address,
        mark: netops::Mark::new("cnikit net b eth0").unwrap(),
    };
    net.create(Place::Host, Resource::from(masquerade));
    net.plugin().del(&net.call("a").previous(&result).del_request()).unwrap();
    assert!(
        matches!(net.read(Place::Host, Query::Entries(EntryKind::Masquerade)), Answer::Entries(list) if list.len() == 1)
    );
}

#[test]
fn gc_removes_what_is_not_valid_and_nothing_of_another_network() {
    let net = Network::new(json!({"ipMasq": true, "macspoofchk": true}));
    let mut other = net.config.clone();
    other["name"] = json!("net2");
    other["ipam"]["subnet"] = json!("10.23.0.0/29");
    let other = TestCall::new(other).container("c");
    net.plugin().add(&other.request()).unwrap();
    net.add("keep").unwrap();
    net.node.start_container("a");
    let before = net.node.snapshot();
    net.add("a").unwrap();
    net.plugin().gc(&net.call("x").gc_request(&[("keep", "eth0")])).unwrap();
    assert_eq!(net.node.snapshot(), before);
    assert_eq!(net.lease_count(), 1);
    let veths = read_links(&mut net.node.process(), Place::Host).unwrap();
    assert_eq!(veths.iter().filter(|link| link.kind == "veth").count(), 2);
}

#[test]
fn status_says_that_the_range_is_exhausted_and_add_to_try_again() {
    let net = Network::new(json!({}));
    let status = || net.plugin().status(&net.call("x").status_request());
    status().unwrap();
    for container in ["a", "b", "c", "d", "e"] {
        net.add(container).unwrap();
    }
    assert_eq!(status().unwrap_err().code(), ErrorCode::PLUGIN_NOT_AVAILABLE);
    assert_eq!(net.add("f").unwrap_err().code(), ErrorCode::TRY_AGAIN_LATER);
    net.plugin().del(&net.call("a").del_request()).unwrap();
    status().unwrap();
}

#[test]
fn vlans_need_a_kernel_that_has_them_and_the_error_says_so() {
    let net = Network {
        node: MemoryNode::with_kernel(MemoryKernel::new().lacking(netops::Feature::VlanFiltering)),
        ..Network::new(json!({"vlan": 100}))
    };
    let error = net.add("a").unwrap_err();
    assert!(error.msg().contains("EOPNOTSUPP") && error.msg().contains("kernel lacks"), "{error}");
}

#[test]
fn a_bridge_without_addresses_is_a_switch() {
    let net = Network::new(json!({"ipam": {}}));
    let result = net.add("a").unwrap();
    assert!(result.ips.is_empty() && result.routes.is_empty());
    assert_eq!(result.interfaces.len(), 3);
    let eth0 = LinkName::new("eth0").unwrap();
    assert!(read_link(&mut net.node.process(), Place::Container, &eth0).unwrap().unwrap().up);

    let net = Network::new(json!({"ipam": {}, "disableContainerInterface": true}));
    net.add("a").unwrap();
    assert!(!read_link(&mut net.node.process(), Place::Container, &eth0).unwrap().unwrap().up);
}

#[test]
fn the_configurations_dns_stands_before_ipams() {
    let net = Network::new(json!({"dns": {"nameservers": ["192.0.2.53"]}}));
    assert_eq!(net.add("a").unwrap().dns.nameservers, ["192.0.2.53"]);
}

#[test]
fn an_entry_whose_owner_is_gone_does_not_stand_in_the_way_and_one_of_a_living_is_named() {
    let net = Network::new(json!({"ipMasq": true}));
    let abandoned = Masquerade {
        source: "10.22.0.2".parse().unwrap(),
        within: "10.22.0.0/29".parse().unwrap(),
        mark: netops::Mark::new("cnikit net ghost eth0").unwrap(),
    };
    net.create(Place::Host, Resource::from(abandoned));
    net.add("a").unwrap();

    // Another network with the same subnet, whose leases are its own: the address is the living pod's.
    let mut other = net.config.clone();
    other["name"] = json!("net2");
    net.node.start_container("b");
    let before = net.node.snapshot();
    let refused = net.plugin().add(&TestCall::new(other).container("b").request()).unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    assert!(refused.details().contains("cnikit net a eth0"), "{refused:?}");
    assert_eq!(net.node.snapshot(), before);
}

#[test]
fn an_entry_of_a_living_pod_is_its_own_whatever_became_of_its_interfaces_alias() {
    let net = Network::new(json!({"ipMasq": true}));
    let result = net.add("a").unwrap();
    let host = LinkName::new(&result.interfaces[1].name).unwrap();
    net.remove(Place::Host, veth(host.as_str(), "eth0"));
    net.create(Place::Host, veth(host.as_str(), "eth0"));
    let mut other = net.config.clone();
    other["name"] = json!("net2");
    let refused = net.plugin().add(&TestCall::new(other).container("b").request()).unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    assert!(refused.details().contains("cnikit net a eth0"), "{refused:?}");
}

#[test]
fn the_del_after_an_add_that_found_its_interfaces_name_taken_leaves_the_other_networks_interface() {
    let net = Network::new(json!({}));
    net.add("a").unwrap();
    let mut config = net.config.clone();
    config["name"] = json!("net2");
    let other = TestCall::new(config).container("a");
    let before = net.node.snapshot();
    assert_eq!(net.plugin().add(&other.request()).unwrap_err().code(), error::CONFLICT);
    net.plugin().del(&other.del_request()).unwrap();
    assert_eq!(net.node.snapshot(), before);
}

#[test]
fn a_second_add_is_told_that_there_was_a_first() {
    let net = Network::new(
        json!({"ipMasq": true, "ipam": {"type": "static", "addresses": [{"address": "10.22.0.2/29"}]}}),
    );
    net.add("a").unwrap();
    let before = net.node.snapshot();
    let refused = net.add("a").unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    assert!(refused.msg().contains("DEL"), "{refused}");
    assert_eq!(net.node.snapshot(), before);
}

#[test]
fn del_with_the_previous_result_of_another_attachment_forgets_nothing_and_harms_nobody() {
    let net = Network::new(json!({"ipMasq": true, "macspoofchk": true}));
    net.node.start_container("a");
    let other = net.add("other").unwrap();
    let before = net.node.snapshot();
    net.add("a").unwrap();
    net.plugin().del(&net.call("a").previous(&other).del_request()).unwrap();
    assert_eq!(net.node.snapshot(), before);
    assert_eq!(net.lease_count(), 1);
}

#[test]
fn a_bridge_is_the_gateway_of_every_subnet_of_its_pods() {
    for force in [false, true] {
        let mut net = Network::new(json!({"isGateway": true, "forceAddress": force}));
        net.config["ipam"]["ranges"] = json!([[{"subnet": "10.23.0.0/29"}]]);
        net.add("a").unwrap();
        let second = net.add("b").unwrap();
        assert_eq!(second.ips.len(), 2);
        net.plugin().check(&net.call("b").previous(&second).request()).unwrap();

        // One that was taken away comes back beside the other.
        let bridge = LinkName::new("cni0").unwrap();
        let gateway = Address::new(bridge, "10.23.0.1/29".parse().unwrap());
        net.remove(Place::Host, Resource::Address(gateway));
        net.add("c").unwrap();
        net.plugin().check(&net.call("b").previous(&second).request()).unwrap();
    }
}

#[test]
fn check_takes_a_bridge_that_was_there_with_the_mtu_that_it_has() {
    let net = Network::new(json!({"mtu": 1400}));
    let name = LinkName::new("cni0").unwrap();
    let kind = LinkKind::Bridge { vlan_filtering: false };
    let mac = Some("02:00:00:00:00:09".parse().unwrap());
    net.create(Place::Host, Resource::Link(Link { mtu: Some(9000), mac, up: true, ..Link::new(name, kind) }));
    let result = net.add("a").unwrap();
    net.plugin().check(&net.call("a").previous(&result).request()).unwrap();
}

#[test]
fn a_gateway_of_another_family_or_that_is_the_pods_own_address_is_a_mistake() {
    for (address, gateway) in [
        ("10.22.0.2/29", "fd00::1"),
        ("fd00::2/24", "10.22.0.1"),
        ("10.22.0.2/29", "10.22.0.2"),
        ("10.22.0.1/29", ""),
    ] {
        let mut net = Network::new(json!({"isGateway": true}));
        net.config["ipam"] = json!({"type": "static", "addresses": [{"address": address}]});
        if !gateway.is_empty() {
            net.config["ipam"]["addresses"][0]["gateway"] = json!(gateway);
        }
        net.node.start_container("a");
        let before = net.node.snapshot();
        let refused = net.add("a").unwrap_err();
        assert_eq!(refused.code(), ErrorCode::INVALID_CONFIG, "{address} {gateway}: {refused}");
        assert!(refused.msg().contains(address), "{refused}");
        assert_eq!(net.node.snapshot(), before);
    }
}

#[test]
fn an_empty_text_where_an_address_may_be_is_none_as_to_the_reference() {
    let mut net = Network::new(json!({}));
    for key in ["rangeStart", "rangeEnd", "gateway"] {
        net.config["ipam"][key] = json!("");
    }
    assert_eq!(net.add("a").unwrap().ips[0].gateway, Some("10.22.0.1".parse().unwrap()));
}
