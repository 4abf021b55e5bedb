//! Plugins that make an interface, each with random keys.

use cnikit_tests::isolated;
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::network::{addresses, dns, ipam, version};
use super::{all_same, key, object};
use crate::keys::{CARD, UPLINK};
use crate::pair::Case;

/// How a container's MAC address is asked for, each way by another.
#[derive(Debug, Clone)]
struct Asked {
    args: String,
    args_cni: Option<Value>,
    runtime_config: Option<Value>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let args = select(vec![
        "",
        "",
        "IgnoreUnknown=1;K8S_POD_NAME=a",
        "IgnoreUnknown=true;MAC=02:11:22:33:44:01;K=V",
    ]);
    let args_cni = of(Just(json!({"mac": "02:11:22:33:44:02"})));
    let runtime_config = of(Just(json!({"mac": "02:11:22:33:44:03"})));
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
    (keys, section).prop_map(move |(mut config, (version, ipam))| {
        config.insert("cniVersion".to_owned(), json!(version));
        config.insert("ipam".to_owned(), ipam);
        Case::new(plugin, Value::Object(config))
    })
}

/// The same, and a MAC address may be asked for.
fn with_a_mac(cases: impl Strategy<Value = Case>) -> impl Strategy<Value = Case> {
    (cases, asked()).prop_map(|(mut case, asked)| {
        let config = case.list[0].as_object_mut().unwrap();
        config.extend(asked.args_cni.map(|args| ("args".to_owned(), json!({"cni": args}))));
        config.extend(asked.runtime_config.map(|keys| ("runtimeConfig".to_owned(), keys)));
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
        key("mtu", vec![json!(0), json!(1280), json!(1400), json!(9000)]),
        select(vec![None, Some(("hairpinMode", json!(true))), Some(("promiscMode", json!(true)))]),
        key("enabledad", yes()),
        key("macspoofchk", vec![json!(true)]),
        dns(),
    );
    with_a_mac(on_a_network("bridge", keys.prop_map(|keys| object(<[_; 10]>::from(keys)))))
}

pub(super) fn ptp() -> impl Strategy<Value = Case> {
    let keys = (key("ipMasq", vec![json!(true)]), key("mtu", vec![json!(1300), json!(9000)]), dns());
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
    isolated(|| all_same(20, &bridge()));
}

#[test]
fn ptp_with_random_keys() {
    isolated(|| all_same(10, &ptp()));
}

#[test]
fn macvlan_with_random_keys() {
    isolated(|| all_same(8, &macvlan()));
}

#[test]
fn host_device_with_random_keys() {
    isolated(|| all_same(6, &host_device()));
}

#[test]
fn loopback_with_random_results_before_it() {
    isolated(|| all_same(3, &loopback()));
}
