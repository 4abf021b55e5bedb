//! Which addresses pods get, and when they get none.

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, Error, ErrorCode};
use plugin_kit::testing::MemoryNode;
use plugin_kit::{Kit, error};
use plugin_overlay::{Duplicate, NodeFile, Overlay};
use serde_json::json;

use crate::network::{Network, assigned, dual_stack, node};

fn add(node: &MemoryNode, network: &Network, container: &str) -> Result<AddResult, Error> {
    Kit::with_kernels(Overlay, node).add(&network.call(container).request())
}

fn first_address(node: &MemoryNode, network: &Network, container: &str) -> String {
    add(node, network, container).unwrap().ips[0].address.to_string()
}

#[test]
fn allocation_begins_where_the_agent_says_and_goes_round_the_whole_subnet() {
    let (memory, network) = (MemoryNode::new(), Network::new(json!({})));
    network.write(&NodeFile { subnets: vec![assigned("10.244.3.0/29", 2, 5)], ..node() });
    let got: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|pod| first_address(&memory, &network, pod)).into_iter().collect();
    // Neither the network's own address (.0), nor the gateway (.2), nor the broadcast address (.7).
    assert_eq!(got, ["5", "6", "1", "3", "4"].map(|end| format!("10.244.3.{end}/29")));
    let full = add(&memory, &network, "f").unwrap_err();
    assert_eq!(full.code(), ErrorCode::TRY_AGAIN_LATER, "{full}");
}

#[test]
fn a_pod_has_an_address_of_each_family() {
    let (memory, network) = (MemoryNode::new(), Network::new(json!({})));
    network.write(&dual_stack());
    let result = add(&memory, &network, "a").unwrap();
    let ips: Vec<_> =
        result.ips.iter().map(|ip| (ip.address.to_string(), ip.gateway.unwrap().to_string())).collect();
    let expected = [("10.244.3.77/24", "10.244.3.1"), ("fd00:10:0:3::4d/64", "fd00:10:0:3::1")];
    assert_eq!(ips, expected.map(|(ip, gateway)| (ip.to_owned(), gateway.to_owned())));
}

#[test]
fn when_the_first_subnet_is_full_the_second_is_used() {
    let (memory, network) = (MemoryNode::new(), Network::new(json!({})));
    let subnets = vec![assigned("10.244.3.0/30", 1, 2), assigned("10.244.9.0/24", 1, 50)];
    network.write(&NodeFile { subnets, ..node() });
    assert_eq!(first_address(&memory, &network, "a"), "10.244.3.2/30");
    let second = add(&memory, &network, "b").unwrap();
    assert_eq!(second.ips[0].address.to_string(), "10.244.9.50/24");
    assert_eq!(second.ips[0].gateway, Some("10.244.9.1".parse().unwrap()));
}

#[test]
fn a_pod_may_ask_for_an_address() {
    let (memory, mut network) =
        (MemoryNode::new(), Network::new(json!({"runtimeConfig": {"ips": ["10.244.3.200"]}})));
    network.write(&node());
    assert_eq!(first_address(&memory, &network, "a"), "10.244.3.200/24");
    network = Network::served(json!({"runtimeConfig": {"ips": ["10.244.9.1"]}}));
    assert_eq!(add(&memory, &network, "b").unwrap_err().code(), ErrorCode::INVALID_CONFIG);
}

#[test]
fn without_a_subnet_a_runtime_is_told_to_wait_and_status_says_why() {
    let memory = MemoryNode::new();
    let plugin = Kit::with_kernels(Overlay, &memory);
    let network = Network::new(json!({}));
    let refused = |word: &str| {
        let error = plugin.add(&network.call("a").request()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TRY_AGAIN_LATER, "{error}");
        assert!(error.to_string().contains("waiting") && error.to_string().contains(word), "{error}");
        let status = plugin.status(&network.call("a").status_request()).unwrap_err();
        assert_eq!(status.code(), ErrorCode::PLUGIN_NOT_AVAILABLE, "{status}");
        assert!(status.to_string().contains(word), "{status}");
        assert_eq!(network.leases(), [""; 0]);
    };
    refused("is the agent running");
    network.write(&NodeFile { subnets: Vec::new(), waiting: Some("no seed answers".to_owned()), ..node() });
    refused("no seed answers");
    // One family is not enough where the network has two: the pod would never get the other.
    network.write(&NodeFile { subnets: node().subnets, ..dual_stack() });
    refused("has no IPv6 subnet of fd00:10::/48 yet");
    let only = |ipv6: bool| {
        let mut file = NodeFile { waiting: Some("the pool is used up".to_owned()), ..dual_stack() };
        file.subnets.retain(|assigned| assigned.subnet.addr().is_ipv6() == ipv6);
        file
    };
    network.write(&only(true));
    refused("has no IPv4 subnet of 10.244.0.0/16 yet");
    refused("the pool is used up");
    network.write(&NodeFile { subnets: Vec::new(), ..dual_stack() });
    refused("no IPv4 subnet of 10.244.0.0/16, and no IPv6 subnet of fd00:10::/48 yet");
    network.write(&dual_stack());
    plugin.status(&network.call("a").status_request()).unwrap();
    plugin.add(&network.call("a").request()).unwrap();
}

#[test]
fn a_node_that_is_cut_off_says_so_and_attaches_all_the_same() {
    let (memory, network) = (MemoryNode::new(), Network::new(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    network.write(&NodeFile { cut_off: Some("no peer has answered for 40 s".to_owned()), ..node() });
    let status = plugin.status(&network.call("a").status_request()).unwrap_err();
    assert_eq!(status.code(), ErrorCode::LIMITED_CONNECTIVITY, "{status}");
    assert!(status.to_string().contains("40 s"), "{status}");
    plugin.add(&network.call("a").request()).unwrap();
}

#[test]
fn a_full_node_is_not_available() {
    let (memory, network) = (MemoryNode::new(), Network::new(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    // That it is cut off is the lesser evil, and not what is said.
    let subnets = vec![assigned("10.244.3.0/30", 1, 2)];
    network.write(&NodeFile { subnets, cut_off: Some("alone".to_owned()), ..node() });
    plugin.add(&network.call("a").request()).unwrap();
    let status = plugin.status(&network.call("a").status_request()).unwrap_err();
    assert_eq!(status.code(), ErrorCode::PLUGIN_NOT_AVAILABLE, "{status}");
}

#[test]
fn del_and_gc_and_check_need_no_agent() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    let results = ["a", "b", "c"].map(|pod| plugin.add(&network.call(pod).request()).unwrap());
    assert_eq!(network.leases().len(), 3);
    network.forget();
    plugin.check(&network.call("a").previous(&results[0]).request()).unwrap();
    // With a previous result, without one, and by nobody's knowing it any more.
    plugin.del(&network.call("a").previous(&results[0]).del_request()).unwrap();
    plugin.del(&network.call("b").without_netns().del_request()).unwrap();
    assert_eq!(network.leases().len(), 1);
    plugin.gc(&network.call("x").gc_request(&[])).unwrap();
    assert_eq!(network.leases(), [""; 0]);
}

#[test]
fn leases_of_a_subnet_that_the_node_has_lost_are_released_too() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    plugin.add(&network.call("old").request()).unwrap();
    network.write(&NodeFile { subnets: vec![assigned("10.244.9.0/24", 1, 9)], ..node() });
    assert_eq!(first_address(&memory, &network, "new"), "10.244.9.9/24");
    assert_eq!(network.leases(), ["10.244.3.77", "10.244.9.9"]);
    plugin.del(&network.call("old").del_request()).unwrap();
    assert_eq!(network.leases(), ["10.244.9.9"]);
}

#[test]
fn check_names_the_other_pod_of_an_address() {
    let (memory, network) = (MemoryNode::new(), Network::served(json!({})));
    let plugin = Kit::with_kernels(Overlay, &memory);
    let [first, second] = ["a", "b"].map(|pod| plugin.add(&network.call(pod).request()).unwrap());
    let address = first.ips[0].address.addr();
    let duplicate = Duplicate { address, other: "pod default/web-1 on node n3".to_owned() };
    network.write(&NodeFile { duplicates: vec![duplicate], ..node() });
    let error = plugin.check(&network.call("a").previous(&first).request()).unwrap_err();
    assert_eq!(error.code(), error::DIFFERS);
    assert!(error.msg().contains("10.244.3.77 is also pod default/web-1 on node n3"), "{error}");
    plugin.check(&network.call("b").previous(&second).request()).unwrap();
}
