//! `tap`, of which Debian's reference has none: beside what the reference does, which is to execute `ip` (plugins/main/tap,
//! `createTapWithIptool`).

use cnikit_tests::{Node, Pod, isolated, ours};
use serde_json::{Value, json};

/// A tap, and how `ip` is asked for the same.
struct Case {
    keys: Value,
    tuntap: &'static str,
    set: &'static str,
}

/// What an interface is like, but for what only one of the two can know: its number, its alias, and whose name it was made
/// under.
fn interface(node: &Node, pod: &Pod) -> Value {
    let told: Value = serde_json::from_str(&node.pod_shell(pod, "ip -j -d addr show dev eth0")).unwrap();
    let mut link = told[0].clone();
    for key in ["ifindex", "ifalias", "address"] {
        link.as_object_mut().unwrap().remove(key);
    }
    for address in link["addr_info"].as_array_mut().unwrap() {
        // Ours does not look for duplicates, of which nobody could tell it.
        address
            .as_object_mut()
            .unwrap()
            .retain(|key, _| ["family", "local", "prefixlen", "scope", "broadcast"].contains(&key.as_str()));
    }
    json!({
        "link": link,
        "routes": node.pod_shell(pod, "ip route; ip -6 route | sed 's/ linkdown//' | sort"),
    })
}

fn mac(node: &Node, pod: &Pod) -> Value {
    let told: Value = serde_json::from_str(&node.pod_shell(pod, "ip -j link show dev eth0")).unwrap();
    told[0]["address"].clone()
}

#[test]
fn a_tap_is_what_ip_makes_for_the_reference() {
    isolated(|| {
        let addressed = json!({
            "type": "static", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00:1::1"}],
            "addresses": [{"address": "10.1.0.2/24"}, {"address": "fd00:1::2/64"}],
        });
        for Case { keys, tuntap, set } in [
            Case { keys: json!({}), tuntap: "", set: "" },
            Case { keys: json!({"multiQueue": true}), tuntap: "multi_queue", set: "" },
            Case { keys: json!({"owner": 7}), tuntap: "user 7", set: "" },
            Case { keys: json!({"group": 0, "multiQueue": true}), tuntap: "multi_queue group 0", set: "" },
            Case { keys: json!({"owner": 0, "group": 9}), tuntap: "user 0 group 9", set: "" },
            Case {
                keys: json!({"mtu": 1400, "mac": "02:00:00:00:00:07"}),
                tuntap: "",
                set: "mtu 1400 address 02:00:00:00:00:07",
            },
            Case { keys: json!({"mtu": 65_521}), tuntap: "", set: "mtu 65521" },
            Case { keys: json!({"ipam": addressed}), tuntap: "", set: "" },
        ] {
            let node = Node::new(&ours!());
            let [theirs, our_pod] = ["theirs", "ours"].map(|name| node.pod(name));
            let addresses = match keys.get("ipam") {
                None => "",
                Some(_) => {
                    "ip addr add 10.1.0.2/24 brd + dev eth0; ip addr add fd00:1::2/64 dev eth0 nodad
                     ip route add default via 10.1.0.1; ip route add default via fd00:1::1 dev eth0"
                }
            };
            for pod in [&theirs, &our_pod] {
                node.pod_shell(pod, "echo 1 > /proc/sys/net/ipv6/conf/default/keep_addr_on_down");
            }
            node.pod_shell(
                &theirs,
                &format!(
                    "ip tuntap add mode tap name made0 {tuntap}; [ -z '{set}' ] || ip link set made0 {set}
                     ip link set made0 name eth0; ip link set eth0 up; {addresses}"
                ),
            );
            let mut config = json!({"cniVersion": "1.0.0", "name": "blue", "type": "tap"});
            config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            let said = node.call(&ours!(), "ADD", "tap", &config).on(&our_pod).run().result();
            let (made_by_ip, made_by_us) = (interface(&node, &theirs), interface(&node, &our_pod));
            assert_eq!(made_by_ip, made_by_us, "{keys}: by ip, by us");
            // The reference does so where there is an address to be told of.
            assert_eq!(node.pod_shell(&our_pod, "cat /proc/sys/net/ipv4/conf/eth0/arp_notify"), "1\n");
            assert_eq!(mac(&node, &our_pod), said["interfaces"][0]["mac"], "{said}");
            if let Some(mac) = keys.get("mac") {
                assert_eq!(said["interfaces"][0]["mac"], *mac);
            }
        }
    });
}
