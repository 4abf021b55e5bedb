//! Plugins that make an interface, each with random keys.

use cnikit_tests::isolated;
use proptest::option::{of, weighted};
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::network::{addresses, dns, ipam, version};
use super::{all_same, key, object};
use crate::keys::{CARD, UPLINK};
use crate::pair::{Case, same};

/// How a container's MAC address is asked for, each way by another.
#[derive(Debug, Clone)]
struct Asked {
    args: String,
    args_cni: Option<&'static str>,
    runtime_config: Option<&'static str>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let args = select(vec![
        "",
        "",
        "IgnoreUnknown=1;K8S_POD_NAME=a",
        "IgnoreUnknown=true;MAC=02:11:22:33:44:01;K=V",
    ]);
    let args_cni = of(Just("02:11:22:33:44:02"));
    let runtime_config = of(Just("02:11:22:33:44:03"));
    (args, args_cni, runtime_config).prop_map(|(args, args_cni, runtime_config)| Asked {
        args: args.to_owned(),
        args_cni,
        runtime_config,
    })
}

/// A plugin on a network, with some keys.
fn on_a_network(
    plugin: &'static str,
    keys: impl Strategy<Value = Map<String, Value>>,
) -> impl Strategy<Value = Case> {
    let section = ipam().prop_flat_map(|(families, ipam)| (version(families), Just(ipam)));
    (keys, section, weighted(0.2, requests())).prop_map(move |(mut config, (version, ipam), requested)| {
        config.insert("cniVersion".to_owned(), json!(version));
        config.insert("ipam".to_owned(), ipam);
        if let Some((key, ips)) = requested {
            let ips = json!({"ips": ips});
            config.insert(key.to_owned(), if key == "args" { json!({"cni": ips}) } else { ips });
        }
        Case::new(plugin, Value::Object(config))
    })
}

/// What a container and its interface may be called.
pub(super) fn with_names(cases: impl Strategy<Value = Case>) -> impl Strategy<Value = Case> {
    const LONG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let containers = select(vec!["c1", "c1", LONG, "A_b.c-d"]);
    let interfaces = select(vec!["eth0", "eth0", "abcdefghijklmno", "e.th-0_@1"]);
    (cases, containers, interfaces)
        .prop_map(|(case, container, interface)| case.called((container, interface)))
}

/// Addresses that somebody wants, which the network may have, and where they are asked for.
fn requests() -> impl Strategy<Value = (&'static str, Value)> {
    let all = vec!["10.5.0.7", "10.5.0.7/24", "172.20.0.5", "10.6.0.3/28", "fd00:5::7", "fd00:5::7/64"];
    let ips = subsequence(all, 1..=2).prop_map(|ips| json!(ips));
    (select(vec!["args", "runtimeConfig"]), ips)
}

/// The same, and a MAC address may be asked for.
fn with_a_mac(cases: impl Strategy<Value = Case>) -> impl Strategy<Value = Case> {
    (cases, asked()).prop_map(|(mut case, asked)| {
        let config = &mut case.list[0];
        if let Some(mac) = asked.args_cni {
            config["args"]["cni"]["mac"] = json!(mac);
        }
        if let Some(mac) = asked.runtime_config {
            config["runtimeConfig"]["mac"] = json!(mac);
        }
        case.args(&asked.args)
    })
}

pub(super) fn bridge() -> impl Strategy<Value = Case> {
    let yes = || vec![json!(true), json!(false)];
    let keys = (
        key("bridge", vec![json!("cni0"), json!("br-test.1")]),
        key("isGateway", yes()),
        key("isDefaultGateway", yes()),
        key("forceAddress", yes()),
        key("ipMasq", yes()),
        key("mtu", [0, 68, 1279, 1280, 1400, 9000, 65_535, 65_536].map(Value::from).to_vec()),
        select(vec![None, Some(("hairpinMode", json!(true))), Some(("promiscMode", json!(true)))]),
        key("enabledad", yes()),
        key("macspoofchk", vec![json!(true)]),
        dns(),
    );
    with_a_mac(on_a_network("bridge", keys.prop_map(|keys| object(<[_; 10]>::from(keys)))))
}

pub(super) fn ptp() -> impl Strategy<Value = Case> {
    let keys = (
        key("ipMasq", vec![json!(true)]),
        key("mtu", [68, 1279, 1300, 65_535].map(Value::from).to_vec()),
        dns(),
    );
    on_a_network("ptp", keys.prop_map(|keys| object(<[_; 3]>::from(keys))))
}

pub(super) fn macvlan() -> impl Strategy<Value = Case> {
    let keys = (
        key("master", vec![json!("up0"), json!("")]),
        key("mode", ["bridge", "private", "vepa", "passthru"].map(Value::from).to_vec()),
        key("mtu", vec![json!(0), json!(1400), json!(1500), json!(1501)]),
        dns(),
    );
    let keys = keys.prop_map(|keys| object(<[_; 4]>::from(keys)));
    with_a_mac(on_a_network("macvlan", keys)).prop_map(|mut case| {
        // The reference's reads it for bridge only.
        case.list[0].as_object_mut().unwrap().remove("args");
        case.after(UPLINK)
    })
}

fn host_device() -> impl Strategy<Value = Case> {
    let keys = (
        select(vec![("device", json!("ens5")), ("hwaddr", json!("02:00:00:00:00:05"))]),
        key("mtu", vec![json!(1400)]),
        dns(),
    );
    let keys = keys.prop_map(|(device, mtu, dns)| object([Some(device), mtu, dns]));
    let with_addresses = on_a_network("host-device", keys);
    (with_addresses, any::<bool>()).prop_map(|(mut case, without)| {
        if without {
            case.list[0]["ipam"] = json!({});
        }
        case.after(CARD)
    })
}

/// `loopback`, first or behind another's result.
fn loopback() -> impl Strategy<Value = Case> {
    let previous = of(addresses().prop_map(|ips| {
        json!({
            "cniVersion": "1.0.0", "ips": ips,
            "interfaces": [{"name": "eth0", "mac": "02:11:22:33:44:55", "sandbox": "/run/netns/blue"}],
            "dns": {"nameservers": ["10.5.0.53"]},
        })
    }));
    (previous, dns()).prop_map(|(previous, dns)| {
        let mut config = object([dns]);
        config.extend(previous.map(|result| ("prevResult".to_owned(), result)));
        Case::new("loopback", Value::Object(config))
    })
}

#[test]
fn bridge_with_random_keys() {
    isolated(|| all_same(20, &with_names(bridge())));
}

#[test]
fn ptp_with_random_keys() {
    isolated(|| all_same(10, &with_names(ptp())));
}

#[test]
fn macvlan_with_random_keys() {
    isolated(|| all_same(8, &with_names(macvlan())));
}

#[test]
fn host_device_with_random_keys() {
    isolated(|| all_same(6, &with_names(host_device())));
}

#[test]
fn loopback_with_random_results_before_it() {
    isolated(|| all_same(3, &loopback()));
}

/// What random configurations found.
#[test]
fn an_old_version_has_no_room_for_a_route_of_a_family_without_an_address() {
    isolated(|| {
        let routes = json!([{"dst": "10.98.1.1/32"}, {"dst": "fd00:99::/48"}]);
        let ipam = json!({"type": "static", "addresses": [{"address": "10.5.0.7/24"}], "routes": routes});
        let host_local = json!({"type": "host-local", "subnet": "10.5.0.0/24", "routes": routes});
        for (version, ipam) in [("0.2.0", &ipam), ("0.1.0", &host_local), ("0.3.0", &host_local)] {
            let runtime = if version == "0.2.0" { json!({"ips": ["fd00:5::7/64"]}) } else { json!({}) };
            let config = json!({"cniVersion": version, "ipam": ipam, "runtimeConfig": runtime});
            same(&Case::new("bridge", config)).unwrap();
        }
    });
}
