//! What is made for a pod, on a node in memory.

use cni_spec::plugin::Plugin;
use netops::{Address, Answer, Kernel, Link, LinkKind, LinkName, Place, Query, Resource, Script, read_link};
use plugin_kit::testing::MemoryNode;
use plugin_kit::{Explain, Kit};
use plugin_overlay::{NodeFile, Overlay, bridge_mac};
use serde_json::json;

use crate::network::{Network, assigned, dual_stack, node};

fn bridge() -> LinkName {
    LinkName::new("cnikit0").unwrap()
}

fn routes(result: &cni_spec::AddResult) -> Vec<String> {
    result.routes.iter().map(|route| route.dst.to_string()).collect()
}

fn bridge_addresses(memory: &MemoryNode) -> Vec<String> {
    let query = Query::Addresses(bridge());
    let Answer::Addresses(addresses) = memory.process().read(Place::Host, &[query]).unwrap().remove(0) else {
        panic!()
    };
    let mut addresses: Vec<_> =
        addresses.iter().map(|address| address.net).filter(|net| net.addr().is_ipv4()).collect();
    addresses.sort_unstable();
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn the_bridge_is_the_one_that_the_agent_makes() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let result = Kit::with_kernels(Overlay, &memory).add(&network.call("a").request()).unwrap();
    let made = read_link(&mut memory.process(), Place::Host, &bridge()).unwrap().unwrap();
    assert_eq!(made.mac, Some(bridge_mac(&node().node, &bridge())));
    assert_eq!(made.mtu, 1450);
    assert_eq!(result.interfaces[0].name, "cnikit0");
    assert_eq!(result.interfaces[2].mtu, Some(1450));
    assert_eq!(routes(&result), ["0.0.0.0/0"]);
}

#[test]
fn a_bridge_that_is_there_is_taken_as_it_is() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let mac = "02:00:00:00:00:77".parse().unwrap();
    let made = Resource::Link(Link {
        mac: Some(mac),
        up: true,
        ..Link::new(bridge(), LinkKind::Bridge { vlan_filtering: false })
    });
    memory.process().create(Place::Host, &[&made]).remove(0).unwrap();
    let plugin = Kit::with_kernels(Overlay, &memory);
    let result = plugin.add(&network.call("a").request()).unwrap();
    assert_eq!(result.interfaces[0].mac.as_deref(), Some("02:00:00:00:00:77"));
    plugin.check(&network.call("a").previous(&result).request()).unwrap();
}

#[test]
fn another_subnet_under_a_living_bridge_fails_nothing_and_takes_nothing_away() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    let old = plugin.add(&network.call("old").request()).unwrap();
    network.write(&NodeFile { subnets: vec![assigned("10.244.9.0/24", 1, 9)], mtu: 1400, ..node() });
    let new = plugin.add(&network.call("new").request()).unwrap();
    assert_eq!(bridge_addresses(&memory), ["10.244.3.1/24", "10.244.9.1/24"]);
    // Each is as good as it was when it was made, whatever the node has become since.
    plugin.check(&network.call("old").previous(&old).request()).unwrap();
    plugin.check(&network.call("new").previous(&new).request()).unwrap();
}

#[test]
fn check_names_what_is_missing() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    let result = plugin.add(&network.call("a").request()).unwrap();
    let gateway = Resource::Address(Address::new(bridge(), "10.244.3.1/24".parse().unwrap()));
    memory.process().remove(Place::Host, &[&gateway]).remove(0).unwrap();
    let error = plugin.check(&network.call("a").previous(&result).request()).unwrap_err();
    assert!(error.to_string().contains("10.244.3.1/24"), "{error}");
}

#[test]
fn beside_other_networks_only_the_clusters_ranges_lead_to_it() {
    let memory = MemoryNode::new();
    let network = Network::new(json!({"isDefaultGateway": false}));
    network.write(&dual_stack());
    let plugin = Kit::with_kernels(Overlay, &memory);
    let result = plugin.add(&network.call("a").request()).unwrap();
    assert_eq!(routes(&result), ["10.244.0.0/16", "fd00:10::/48"]);
    plugin.check(&network.call("a").previous(&result).request()).unwrap();

    // A cluster of one node is on the pod's link: no second route to it.
    let alone = Network::new(json!({"isDefaultGateway": false, "name": "alone"}));
    let only = NodeFile { cluster: vec!["10.244.3.0/24".parse().unwrap()], ..node() };
    std::fs::write(alone.file().with_file_name("alone.json"), serde_json::to_vec(&only).unwrap()).unwrap();
    let memory = MemoryNode::new();
    let result = Kit::with_kernels(Overlay, &memory).add(&alone.call("b").request()).unwrap();
    assert_eq!(routes(&result), [""; 0]);
}

#[test]
fn what_a_configuration_asks_of_the_port_is_done() {
    let memory = MemoryNode::new();
    let network = Network::served(
        json!({"hairpinMode": false, "mtu": 1300, "macspoofchk": true, "portIsolation": true}),
    );
    let plugin = Kit::with_kernels(Overlay, &memory);
    let result = plugin.add(&network.call("a").request()).unwrap();
    assert_eq!(result.interfaces[2].mtu, Some(1300));
    let mut script = Script::new("a");
    let explained = plugin.explain(&network.call("b").request(), &mut memory.process()).unwrap();
    explained.plan.apply(&mut script).unwrap();
    let text = script.to_string();
    for word in ["isolated on", "mtu 1300", "allowed", "cnikit0"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("hairpin on") && !text.contains("masquerade"), "{text}");
}

#[test]
fn explaining_takes_no_address() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    let explained = plugin.explain(&network.call("a").request(), &mut memory.process()).unwrap();
    assert_eq!(explained.result.ips[0].address.to_string(), "10.244.3.77/24");
    assert_eq!(network.leases(), [""; 0]);
}
