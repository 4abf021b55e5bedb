//! `explain`: the script makes what `add` makes.

use serde_json::Value;

use crate::node::Node;
use crate::on_a_node;

/// What can be seen from both namespaces, without what differs from one making to the next: a bridge's MAC address is
/// random, indices and lifetimes are as they come.
fn state(node: &Node) -> Vec<String> {
    let mut seen = Vec::new();
    let bridge = node.sh("ip -j -d link show type bridge");
    let bridge: Value = serde_json::from_str(&bridge).unwrap();
    let mac = bridge[0]["address"].as_str().unwrap_or("none").to_owned();
    let link_local = link_local(&mac);
    for namespace in ["", "-n blue"] {
        for object in ["link", "address", "route show table all", "-6 route show table all"] {
            let text = node.sh(&format!("ip {namespace} -j -d {object}"));
            let mut value: Value = serde_json::from_str(if text.is_empty() { "[]" } else { &text }).unwrap();
            normalise(&mut value);
            let text = serde_json::to_string_pretty(&value).unwrap();
            let text = text.replace(&mac, "BRIDGE").replace(&link_local, "BRIDGE");
            seen.extend(text.lines().map(|line| format!("{namespace} {object}: {line}")));
        }
    }
    let mut rules: Value = serde_json::from_str(&node.sh("nft -j list ruleset")).unwrap();
    normalise(&mut rules);
    seen.extend(serde_json::to_string_pretty(&rules).unwrap().lines().map(|line| format!("nft: {line}")));
    for (enter, links) in [("", "all lo cnikit0"), ("ip netns exec blue", "all lo eth0")] {
        for link in links.split(' ') {
            let keys = [
                "ipv4.conf.LINK.forwarding",
                "ipv4.conf.LINK.arp_notify",
                "ipv6.conf.LINK.accept_ra",
                "ipv6.conf.LINK.accept_dad",
                "ipv6.conf.LINK.forwarding",
                "ipv6.conf.LINK.disable_ipv6",
                "ipv6.conf.LINK.keep_addr_on_down",
            ];
            let keys = keys.map(|key| format!("net.{}", key.replace("LINK", link))).join(" ");
            seen.extend(node.sh(&format!("{enter} sysctl -e {keys}")).lines().map(str::to_owned));
        }
    }
    seen
}

fn link_local(mac: &str) -> String {
    let bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let [a, b, c, d, e, f] = bytes[..] else { return "none".to_owned() };
    let address = [
        0xfe80,
        0,
        0,
        0,
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f]),
    ];
    std::net::Ipv6Addr::from(address).to_string()
}

fn normalise(value: &mut Value) {
    const TRANSIENT: [&str; 9] = [
        "ifindex",
        "link_index",
        "link_netnsid",
        "handle",
        "gc_timer",
        "hello_timer",
        "tcn_timer",
        "topology_change_timer",
        "num_tx_queues",
    ];
    match value {
        Value::Object(object) => {
            for key in TRANSIENT {
                object.remove(key);
            }
            // A bridge's and a port's ID are made of the bridge's MAC address.
            object
                .retain(|key, _| !key.ends_with("_id") && !key.ends_with("_timer") && key != "num_rx_queues");
            object.values_mut().for_each(normalise);
        }
        Value::Array(items) => {
            items.iter_mut().for_each(normalise);
            // Dumps come in the order of hash tables.
            items.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}

/// The same network made by `add` on this node and by the script on another.
fn compare(node: &Node, plugins: Option<&str>) {
    let configure = |node: &Node| {
        // Nobody has to wait for duplicates of link-local addresses here.
        node.sh("sysctl -q -w net.ipv6.conf.default.accept_dad=0");
        if let Some(plugins) = plugins {
            node.configure("default", plugins);
        }
    };
    configure(node);
    node.cnikit("add default blue").ok();
    let made = settled(node);
    let typed = node.another(|node| {
        configure(node);
        let script = node.cnikit("explain default blue").ok();
        std::fs::write(node.path("script"), script).unwrap();
        node.sh(&format!("sh {}", node.path("script").display()));
        settled(node)
    });
    let only =
        |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    assert!(
        made == typed,
        "only made by add: {:#?}\nonly made by the script: {:#?}",
        only(&made, &typed),
        only(&typed, &made)
    );
}

/// The state once the kernel has noticed every carrier (which it does once a second) and link-local addresses have
/// come up.
fn settled(node: &Node) -> Vec<String> {
    node.sh("for n in '' '-n blue'; do
        while ip $n -o link show up | grep -v ' lo:' | grep -qv 'state UP'; do sleep 0.02; done
        while ip $n -6 address | grep -q tentative; do sleep 0.02; done
    done");
    state(node)
}

#[test]
fn the_script_of_the_built_in_network_makes_what_add_makes() {
    on_a_node!(|node| compare(node, None));
}

#[test]
fn the_script_of_a_point_to_point_network_makes_what_add_makes() {
    on_a_node!(|node| {
        let plugins = r#"[{"type":"ptp","ipMasq":true,"mtu":1400,"ipam":{"type":"host-local","subnet":"10.5.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}},
            {"type":"loopback"}]"#;
        compare(node, Some(plugins));
    });
}

#[test]
fn the_script_of_a_guarded_bridge_makes_what_add_makes() {
    on_a_node!(|node| {
        let plugins = r#"[{"type":"bridge","bridge":"cnikit0","isGateway":true,"macspoofchk":true,"portIsolation":true,"mtu":1300,
             "ipam":{"type":"static","addresses":[{"address":"10.4.0.9/24","gateway":"10.4.0.1"}],"routes":[{"dst":"10.99.0.0/16"}]}}]"#;
        compare(node, Some(plugins));
    });
}

#[test]
fn nothing_is_done_and_no_address_is_taken() {
    on_a_node!(|node| {
        let first = node.cnikit("explain default").ok();
        assert!(
            first.starts_with("#!/bin/sh\n") && first.contains("ip -n pod address add 10.203.0.2/16"),
            "{first}"
        );
        assert!(node.cnikit("explain default").ok().contains("10.203.0.2/16"));
        assert_eq!(node.remains(), [""; 0]);
        assert!(!node.sh("ip -o link").contains("cnikit0"));
        node.cnikit("add default blue").ok();
        assert!(
            node.cnikit("explain default").ok().contains("10.203.0.3/16"),
            "the next that add would take"
        );
    });
}

#[test]
fn what_cannot_be_explained_is_said() {
    on_a_node!(|node| {
        node.configure("net", r#"[{"type":"bridge"},{"type":"another"}]"#);
        let text = node.cnikit("explain net").ok();
        assert!(text.contains("# Then plugin another runs, which is not built in"), "{text}");
        let json = node.cnikit("explain net --json").json();
        assert_eq!(json["unexplained"], serde_json::json!(["another"]));
        assert_eq!(json["commands"][0]["program"], "ip");
    });
}
