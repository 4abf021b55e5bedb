//! `firewall`, in memory: all that it says and leaves, and every operation failing in turn.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, ErrorCode, SpecVersion};
use netops::{
    Answer, ChainName, Errno, ForwardJump, IpVersion, Isolation, Kernel, LinkName, MemoryKernel, Neighbours,
    Place, Query,
};
use plugin_chain::Firewall;
use plugin_kit::Kit;
use plugin_kit::testing::{Busy, Fault, MemoryNode, TestCall, Trial};
use serde_json::{Value, json};

fn previous(addresses: &[&str]) -> Value {
    let ips: Vec<_> = addresses.iter().map(|address| json!({"address": address, "interface": 1})).collect();
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "cni0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:03", "sandbox": "/run/netns/c1"},
        ],
        "ips": ips,
        "dns": {"nameservers": ["192.0.2.53"]},
        "routes": [{"dst": "0.0.0.0/0"}],
    })
}

fn config(keys: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "firewall",
        "prevResult": previous(&["10.22.0.5/16", "fd00:22::5/64"]),
    });
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn lines(node: &MemoryNode) -> Vec<String> {
    let snapshot = node.snapshot();
    let own = |line: &&String| line.contains("forwarding of") || line.contains("isolation");
    snapshot.lines().iter().filter(own).cloned().collect()
}

fn is_there(node: &MemoryNode, query: Query) -> bool {
    node.process().read(Place::Host, &[query]).unwrap() == [Answer::Present(true)]
}

fn jump(version: IpVersion, admin: &str) -> Query {
    Query::ForwardJump(ForwardJump { version, admin_chain: ChainName::new(admin).unwrap() })
}

#[test]
fn whatever_fails_nothing_is_left() {
    for keys in [json!({}), json!({"ingressPolicy": "same-bridge"}), json!({"ingressPolicy": "isolated"})] {
        let with = |addresses: &[&str], keys: &Value| {
            let mut keys = keys.clone();
            keys["prevResult"] = previous(addresses);
            config(keys)
        };
        let plugin = Firewall::without_firewalld();
        assert!(Trial::new(plugin, &config(keys.clone())).assert_add_is_all_or_nothing() > 10);
        for addresses in [&["10.22.0.5/16", "fd00:22::5/64"][..], &["10.22.0.5/16"]] {
            let bystanders = with(&["10.22.0.9/16", "fd00:22::9/64"], &keys);
            let trial = Trial::new(plugin, &with(addresses, &keys)).beside(&bystanders);
            assert!(trial.assert_del_is_completed_by_the_next() > 5);
            assert!(trial.assert_gc_is_completed_by_the_next() > 3);
        }
    }
}

#[test]
fn what_the_plugins_before_have_made_is_passed_on() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    // DNS settings are the business of the plugin that makes the interface.
    let call = TestCall::new(config(json!({"dns": {"nameservers": ["198.51.100.53"]}})));
    let result = plugin.add(&call.request()).unwrap();
    let expected = AddResult::from_value(&previous(&["10.22.0.5/16", "fd00:22::5/64"]), SpecVersion::V1_1_0);
    assert_eq!(result, expected.unwrap());
}

#[test]
fn each_address_is_forwarded_and_each_family_has_its_way() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    let call = TestCall::new(config(json!({"iptablesAdminChainName": "MINE"})));
    plugin.add(&call.request()).unwrap();
    assert_eq!(
        lines(&node),
        [
            "host: forwarding of 10.22.0.5 # cnikit net c1 eth0",
            "host: forwarding of fd00:22::5 # cnikit net c1 eth0"
        ]
    );
    for version in [IpVersion::V4, IpVersion::V6] {
        assert!(is_there(&node, jump(version, "MINE")));
        assert!(!is_there(&node, jump(version, "CNI-ADMIN")));
    }
    plugin.check(&call.request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert_eq!(lines(&node), Vec::<String>::new());
    assert!(is_there(&node, jump(IpVersion::V4, "MINE")), "others rely on it");
}

#[test]
fn addresses_of_all_the_containers_interfaces_are_forwarded_and_none_of_the_nodes() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    let mut result = previous(&["10.22.0.5/16", "10.23.0.5/16", "10.22.0.1/16", "10.24.0.5/16"]);
    let another = json!({"name": "net1", "sandbox": "/run/netns/c1"});
    result["interfaces"].as_array_mut().unwrap().push(another);
    for (number, interface) in [(1, json!(2)), (2, json!(0)), (3, json!(null))] {
        result["ips"][number]["interface"] = interface;
    }
    let call = TestCall::new(config(json!({"prevResult": result})));
    plugin.add(&call.request()).unwrap();
    let forwarded = ["10.22.0.5", "10.23.0.5", "10.24.0.5"];
    assert_eq!(lines(&node), forwarded.map(|it| format!("host: forwarding of {it} # cnikit net c1 eth0")));
    plugin.check(&call.request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert_eq!(lines(&node), Vec::<String>::new());
}

#[test]
fn only_the_family_that_a_pod_has_is_looked_at() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    let call = TestCall::new(config(json!({"prevResult": previous(&["10.22.0.5/16"])})));
    plugin.add(&call.request()).unwrap();
    assert!(is_there(&node, jump(IpVersion::V4, "CNI-ADMIN")));
    assert!(!is_there(&node, jump(IpVersion::V6, "CNI-ADMIN")));
}

#[test]
fn a_policy_isolates_the_bridge_and_stays() {
    for (policy, neighbours) in [
        ("open", None),
        ("", None),
        ("same-bridge", Some(Neighbours::Reachable)),
        ("isolated", Some(Neighbours::Unreachable)),
    ] {
        let node = MemoryNode::new();
        let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
        let call = TestCall::new(config(json!({"ingressPolicy": policy})));
        plugin.add(&call.request()).unwrap();
        plugin.check(&call.request()).unwrap();
        plugin.del(&call.del_request()).unwrap();
        for other in [Neighbours::Reachable, Neighbours::Unreachable] {
            let isolation = Isolation { bridge: LinkName::new("cni0").unwrap(), neighbours: other };
            assert_eq!(is_there(&node, Query::Isolation(isolation)), neighbours == Some(other), "{policy}");
        }
    }
}

#[test]
fn del_needs_nothing_but_names_and_gc_neither() {
    let bare = json!({"prevResult": null, "iptablesAdminChainName": 7, "ingressPolicy": "nonsense"});
    let mut without = config(bare);
    without.as_object_mut().unwrap().remove("prevResult");
    for end in ["DEL", "DEL with another's result", "GC"] {
        let node = MemoryNode::new();
        let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
        plugin.add(&TestCall::new(config(json!({}))).request()).unwrap();
        let other = config(json!({"prevResult": previous(&["10.22.0.9/16"])}));
        plugin.add(&TestCall::new(other.clone()).container("c2").request()).unwrap();
        match end {
            "GC" => plugin.gc(&TestCall::new(without.clone()).gc_request(&[("c2", "eth0")])),
            "DEL" => plugin.del(&TestCall::new(without.clone()).without_netns().del_request()),
            _ => plugin.del(&TestCall::new(other).del_request()),
        }
        .unwrap();
        assert_eq!(lines(&node), ["host: forwarding of 10.22.0.9 # cnikit net c2 eth0"], "{end}");
    }
}

#[test]
fn check_names_what_is_missing() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    let call = TestCall::new(config(json!({"ingressPolicy": "same-bridge"})));
    let error = plugin.check(&call.request()).unwrap_err().to_string();
    for missing in
        ["forwarding of 10.22.0.5", "way through FORWARD by CNI-ADMIN (IPv6)", "isolation of bridge \"cni0\""]
    {
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn another_attachments_address_is_not_taken_from_it() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    plugin.add(&TestCall::new(config(json!({}))).request()).unwrap();
    // The first one's interface is not there any more, so its DEL was another implementation's.
    plugin.add(&TestCall::new(config(json!({}))).container("c2").request()).unwrap();
    assert!(lines(&node).iter().all(|line| line.ends_with("cnikit net c2 eth0")));
}

#[test]
fn mistakes_are_named() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    let mut inside = previous(&["10.22.0.5/16"]);
    inside["interfaces"] = json!([{"name": "eth0", "sandbox": "/run/netns/c1"}]);
    let mut nowhere = previous(&["10.22.0.5/16"]);
    nowhere["interfaces"][0]["name"] = json!("a/b");
    for (keys, words) in [
        (json!({"ingressPolicy": "closed"}), "ingressPolicy"),
        (json!({"iptablesAdminChainName": "-A"}), "iptablesAdminChainName"),
        (json!({"iptablesAdminChainName": "a b"}), "iptablesAdminChainName"),
        (json!({"prevResult": null}), "prevResult"),
        (json!({"ingressPolicy": "isolated", "prevResult": inside}), "must come after bridge"),
        (json!({"ingressPolicy": "isolated", "prevResult": nowhere}), "prevResult.interfaces[0].name"),
    ] {
        let error = plugin.add(&TestCall::new(config(keys.clone())).request()).unwrap_err();
        assert!(error.to_string().contains(words), "{keys}: {error}");
    }
    assert_eq!(node.snapshot(), MemoryNode::with_kernel(MemoryKernel::new()).snapshot());
}

#[test]
fn status_says_whether_nf_tables_can_be_used() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), &node);
    let call = TestCall::new(config(json!({})));
    plugin.status(&call.status_request()).unwrap();
    node.fail_at(0, Fault::Refused(Errno::EINVAL));
    let error = plugin.status(&call.status_request()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::PLUGIN_NOT_AVAILABLE);
}

#[test]
fn neither_add_nor_del_looks_at_what_other_pods_have() {
    let node = MemoryNode::new();
    let plugin = Kit::with_kernels(Firewall::without_firewalld(), Busy(&node));
    let mut config = config(json!({"ingressPolicy": "same-bridge"}));
    // An address of the bridge's is none of the attachment's.
    let gateway = json!({"address": "10.22.0.1/16", "interface": 0});
    config["prevResult"]["ips"].as_array_mut().unwrap().push(gateway);
    let call = TestCall::new(config);
    plugin.add(&call.request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert!(!lines(&node).iter().any(|line| line.contains("forwarding of")));
}
