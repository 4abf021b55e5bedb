//! Configurations that mean nothing, or harm.

use cnikit_tests::isolated;
use serde_json::{Value, json};

use crate::attack::{CONFIG, CONFLICT, DECODING, KERNEL, TRY_AGAIN, VERSION, Victim, ipam};

fn refused(code: u64, cases: Vec<Value>) {
    isolated(|| {
        let victim = Victim::new();
        for keys in cases {
            victim.refuses(&keys.to_string(), code, &victim.with("ADD", keys));
        }
    });
}

#[test]
fn names_of_networks_that_are_none() {
    let names = [
        json!(""),
        json!("../x"),
        json!("a/b"),
        json!("."),
        json!(".."),
        json!(".hidden"),
        json!("a b"),
        json!("a\u{0}b"),
    ];
    refused(CONFIG, names.into_iter().map(|name| json!({"name": name})).collect());
}

#[test]
fn keys_that_hold_something_else() {
    refused(
        CONFIG,
        vec![
            json!({"bridge": 7}),
            json!({"isGateway": "true"}),
            json!({"ipMasq": 1}),
            json!({"mtu": "1500"}),
            json!({"mtu": 1.5}),
            json!({"ipam": "host-local"}),
            json!({"ipam": {"type": ["host-local"]}}),
            json!({"dns": "1.1.1.1"}),
            json!({"dns": {"nameservers": "1.1.1.1"}}),
            json!({"runtimeConfig": "x"}),
            json!({"runtimeConfig": {"ips": "x"}}),
            json!({"runtimeConfig": {"mac": 7}}),
            json!({"args": []}),
            ipam(json!({"ranges": {}})),
            ipam(json!({"ranges": [{"subnet": "10.1.0.0/24"}]})),
            ipam(json!({"routes": "x"})),
        ],
    );
}

#[test]
fn values_that_cannot_be() {
    refused(
        CONFIG,
        vec![
            json!({"bridge": "a/b"}),
            json!({"bridge": "0123456789abcdef"}),
            json!({"bridge": ".."}),
            json!({"bridge": "br%d"}),
            json!({"bridge": "a b"}),
            json!({"mtu": -1}),
            json!({"mtu": 1}),
            json!({"mtu": 70_000}),
            json!({"mtu": 1_000_000_000_000_u64}),
            json!({"vlan": 5000}),
            json!({"vlan": -1}),
            json!({"hairpinMode": true, "promiscMode": true}),
            json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}),
            json!({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}),
            json!({"runtimeConfig": {"mac": "02:00:00:00:00:00:00:01"}}),
            json!({"runtimeConfig": {"mac": "zz"}}),
            json!({"args": {"cni": {"mac": "ff:ff:ff:ff:ff:ff"}}}),
            json!({"ipam": {"type": "../../bin/sh"}}),
            json!({"ipam": {"type": "a/b"}}),
            ipam(json!({"subnet": "garbage"})),
            ipam(json!({"subnet": "10.1.0.0/33"})),
            ipam(json!({"subnet": "10.1.0.0"})),
            ipam(json!({"subnet": "10.1.0.5/29"})),
            ipam(json!({"rangeStart": "10.9.0.1"})),
            ipam(json!({"rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.2"})),
            ipam(json!({"rangeEnd": "fd00::1"})),
            ipam(json!({"gateway": "10.9.0.1"})),
            ipam(json!({"gateway": "garbage"})),
            ipam(json!({"ranges": [[{"subnet": "10.1.0.0/16"}]]})),
            ipam(json!({"ranges": [[{"subnet": "10.2.0.0/16"}, {"subnet": "fd00::/64"}]]})),
            ipam(json!({"ranges": [[]]})),
            json!({"ipam": {"type": "host-local"}}),
            ipam(json!({"routes": [{"dst": "garbage"}]})),
            json!({"ipam": {"type": "static"}}),
            json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.0.5"}]}}),
            json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "fd00::1"}]}}),
            json!({"runtimeConfig": {"ips": ["10.99.0.1"]}}),
            json!({"runtimeConfig": {"ips": ["10.1.0.1"]}}),
            json!({"runtimeConfig": {"ips": ["garbage"]}}),
            json!({"runtimeConfig": {"ipRanges": [[{"subnet": "garbage"}]]}}),
        ],
    );
}

#[test]
fn previous_results_that_are_none() {
    refused(
        DECODING,
        vec![
            json!({"prevResult": "x"}),
            json!({"prevResult": []}),
            json!({"prevResult": {"ips": [{"address": 5}]}}),
            json!({"prevResult": {"ips": "x"}}),
        ],
    );
    refused(VERSION, vec![json!({"prevResult": {"cniVersion": "7.7.7"}})]);
}

#[test]
fn names_that_something_else_has() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell("ip link add cable type veth peer name cable2");
        for name in ["lo", "cable"] {
            victim.refuses(name, CONFLICT, &victim.with("ADD", json!({"bridge": name})));
        }
        victim.refuses("all", KERNEL, &victim.with("ADD", json!({"bridge": "all"})));
    });
}

#[test]
fn routes_that_the_kernel_refuses() {
    isolated(|| {
        let victim = Victim::new();
        for route in [
            json!({"dst": "10.7.0.0/16", "gw": "192.0.2.9"}),
            json!({"dst": "0.0.0.0/0", "gw": "fd00::1"}),
            json!({"dst": "10.7.0.0/16", "gw": "224.0.0.1"}),
            json!({"dst": "10.7.0.0/16", "gw": "10.1.0.1", "scope": 254}),
        ] {
            victim.refuses(&route.to_string(), KERNEL, &victim.with("ADD", ipam(json!({"routes": [route]}))));
        }
    });
}

#[test]
fn more_than_there_is_to_give() {
    isolated(|| {
        let victim = Victim::new();
        let host_local = |id: &str| victim.plugin("ADD", "host-local", json!({})).container(id);
        for id in ["a", "b", "c", "d", "e"] {
            host_local(id).run().result();
        }
        victim.refuses("exhausted", TRY_AGAIN, &victim.call("ADD"));
        victim.refuses("exhausted, host-local", TRY_AGAIN, &host_local("f"));
        victim.refuses(
            "taken",
            CONFLICT,
            &victim.with("ADD", json!({"runtimeConfig": {"ips": ["10.1.0.3"]}})),
        );
        victim.refuses("status", 50, &victim.with("STATUS", json!({"cniVersion": "1.1.0"})));
    });
}

#[test]
fn the_same_attachment_twice() {
    isolated(|| {
        let victim = Victim::new();
        victim.call("ADD").run().result();
        victim.refuses("again", CONFLICT, &victim.call("ADD"));
    });
}
