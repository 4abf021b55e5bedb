//! Each key of each plugin in turn.

use cnikit_tests::isolated;
use serde_json::{Value, json};

use crate::pair::{Case, same};

const V4: &str =
    r#"{"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}"#;
const V6: &str =
    r#"{"type": "host-local", "ranges": [[{"subnet": "fd00:1::/64"}]], "routes": [{"dst": "::/0"}]}"#;
const DUAL: &str = r#"{"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}"#;

fn with(plugin: &'static str, ipam: &str, keys: Value) -> Case {
    let mut config = json!({"ipam": serde_json::from_str::<Value>(ipam).unwrap()});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    Case::new(plugin, config)
}

fn bridge(keys: Value) -> Case {
    with("bridge", V4, keys)
}

pub(crate) fn all_same(cases: impl IntoIterator<Item = Case>) {
    let failures: Vec<_> = cases.into_iter().filter_map(|case| same(&case).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn bridge_with_one_key_each() {
    isolated(|| {
        all_same([
            bridge(json!({})),
            bridge(json!({"bridge": "br-x"})),
            bridge(json!({"isGateway": true})),
            bridge(json!({"isDefaultGateway": true})),
            bridge(json!({"forceAddress": true})),
            bridge(json!({"mtu": 1400})),
            bridge(json!({"mtu": 9000})),
            bridge(json!({"hairpinMode": true})),
            bridge(json!({"promiscMode": true})),
            bridge(json!({"enabledad": true})),
            bridge(json!({"ipam": {}})),
            bridge(
                json!({"dns": {"nameservers": ["1.1.1.1"], "domain": "a.b", "search": ["a.b"], "options": ["x"]}}),
            ),
        ]);
    });
}

#[test]
fn bridge_in_both_families() {
    isolated(|| {
        all_same([V6, DUAL].into_iter().flat_map(|ipam| {
            [
                with("bridge", ipam, json!({})),
                with("bridge", ipam, json!({"isGateway": true})),
                with("bridge", ipam, json!({"isDefaultGateway": true})),
                with("bridge", ipam, json!({"isGateway": true, "enabledad": true})),
            ]
        }));
    });
}

#[test]
fn bridge_that_masquerades_and_guards() {
    isolated(|| {
        all_same([
            bridge(json!({"isGateway": true, "ipMasq": true})),
            with("bridge", DUAL, json!({"isGateway": true, "ipMasq": true})),
            with("ptp", DUAL, json!({"ipMasq": true})),
            bridge(json!({"macspoofchk": true})),
        ]);
    });
}

#[test]
fn bridge_in_every_version_of_the_specification() {
    isolated(|| {
        all_same(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].into_iter().flat_map(|version| {
            let dual = if version < "0.3.0" { V4 } else { DUAL };
            [
                bridge(json!({"cniVersion": version, "isGateway": true})),
                with("bridge", dual, json!({"cniVersion": version, "isDefaultGateway": true, "ipam": {}})),
                with("ptp", dual, json!({"cniVersion": version})),
            ]
        }));
    });
}

#[test]
fn macs_and_addresses_that_are_asked_for() {
    let mac = "02:11:22:33:44:55";
    isolated(|| {
        all_same([
            bridge(json!({})).args("MAC=02:11:22:33:44:55"),
            bridge(json!({})).args("IgnoreUnknown=1;K8S_POD_NAME=a;IP=10.1.0.77;MAC=02:11:22:33:44:55"),
            bridge(json!({"args": {"cni": {"mac": mac}}})),
            bridge(json!({"args": {"cni": {"ips": ["10.1.0.9"]}}})),
            bridge(json!({"runtimeConfig": {"mac": mac}, "capabilities": {"mac": true}})),
            bridge(json!({"runtimeConfig": {"mac": mac}, "args": {"cni": {"mac": "02:11:22:33:44:66"}}}))
                .args("MAC=02:11:22:33:44:77"),
            bridge(json!({"args": {"cni": {"mac": mac}}})).args("MAC=02:11:22:33:44:77"),
            bridge(json!({"runtimeConfig": {"ips": ["10.1.0.5"]}})),
            bridge(json!({"runtimeConfig": {"ips": ["10.1.0.5/24"]}})),
            with("bridge", DUAL, json!({"runtimeConfig": {"ips": ["10.1.0.5", "fd00:1::99"]}})),
            bridge(json!({"runtimeConfig": {"ips": ["10.9.0.5"]}})),
            bridge(json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.7.0.0/24"}]]}})),
            bridge(json!({"ipam": {"type": "host-local"},
                "runtimeConfig": {"ipRanges": [[{"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.9"}]]}})),
            bridge(json!({})).args("IP=10.9.9.9"),
            with("bridge", DUAL, json!({})).args("IP=10.1.0.5,fd00:1::5"),
            bridge(json!({})).args("UNKNOWN=1"),
            bridge(json!({})).args("MAC=zz"),
            with("ptp", V4, json!({})).args("MAC=02:11:22:33:44:55"),
        ]);
    });
}

#[test]
fn ptp_with_one_key_each() {
    isolated(|| {
        all_same([
            with("ptp", V4, json!({})),
            with("ptp", V6, json!({})),
            with("ptp", DUAL, json!({})),
            with("ptp", V4, json!({"mtu": 1300})),
            with("ptp", V4, json!({"dns": {"nameservers": ["9.9.9.9"]}})),
            with("ptp", V4, json!({"ipam": {}})),
        ]);
    });
}

#[test]
fn host_local_with_one_key_each() {
    let host_local = |keys: Value| {
        let mut ipam = json!({"type": "host-local"});
        for (key, value) in keys.as_object().unwrap() {
            ipam[key] = value.clone();
        }
        bridge(json!({"isGateway": true, "ipam": ipam}))
    };
    isolated(|| {
        all_same([
            host_local(json!({"subnet": "10.1.0.0/24"})),
            host_local(json!({"subnet": "10.1.0.0/30"})),
            host_local(json!({"subnet": "10.1.0.0/31"})),
            host_local(json!({"subnet": "fd00::/126"})),
            host_local(json!({"subnet": "fd00::/127"})),
            host_local(json!({"subnet": "10.1.0.5/24"})),
            host_local(json!({"subnet": "10.1.0.0/24", "gateway": "10.1.0.254"})),
            host_local(json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.50", "rangeEnd": "10.1.0.60"})),
            host_local(json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.60", "rangeEnd": "10.1.0.50"})),
            host_local(json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.50"})),
            host_local(json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}]]})),
            host_local(json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]})),
            host_local(json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/16"}]]})),
            host_local(json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]})),
            host_local(json!({"subnet": "10.3.0.0/24", "ranges": [[{"subnet": "10.1.0.0/24"}]]})),
            host_local(json!({"ranges": []})),
            host_local(json!({"ranges": [[]]})),
            host_local(json!({"subnet": "10.1.0.0/24", "dataDir": "/var/lib/cni/elsewhere"})),
            host_local(json!({"subnet": "10.1.0.0/24", "resolvConf": "/nowhere"})),
            host_local(json!({"subnet": "10.1.0.0/24", "routes": [
                {"dst": "0.0.0.0/0"}, {"dst": "10.5.0.0/16", "gw": "10.1.0.9"}, {"dst": "192.168.0.0/16"}]})),
            host_local(json!({"subnet": "fd00:1::/64", "routes": [
                {"dst": "::/0"}, {"dst": "fd00:5::/48", "gw": "fd00:1::9"}, {"dst": "1100:200::1/24"}]})),
        ]);
    });
}

#[test]
fn static_with_one_key_each() {
    let static_ = |keys: Value| {
        let mut ipam = json!({"type": "static"});
        for (key, value) in keys.as_object().unwrap() {
            ipam[key] = value.clone();
        }
        bridge(json!({"isGateway": true, "ipam": ipam}))
    };
    let one = json!([{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]);
    isolated(|| {
        all_same([
            static_(json!({"addresses": one})),
            static_(json!({"addresses": [{"address": "10.1.0.5/24"}]})),
            static_(json!({"addresses": [{"address": "fd00::5/64", "gateway": "fd00::1"}]})),
            static_(json!({"addresses": [{"address": "10.1.0.5/24"}, {"address": "fd00::5/64"}]})),
            static_(json!({"addresses": [{"address": "10.1.0.5/24"}, {"address": "10.2.0.5/24"}]})),
            static_(json!({"addresses": [{"address": "10.1.0.5"}]})),
            static_(json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "10.2.0.1"}]})),
            static_(json!({"addresses": []})),
            static_(json!({})),
            static_(json!({"addresses": one, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.7"}]})),
            static_(json!({"addresses": one, "dns": {"nameservers": ["8.8.8.8"], "search": ["x"]}})).except(
                "/said/dns",
                "the DNS settings of the IPAM plugin stand where the configuration has none, as with newer references",
            ),
            static_(json!({"addresses": one})).args("IP=10.1.0.6/24"),
            static_(json!({})).args("IP=10.1.0.6/24,fd00::7/64;GATEWAY=10.1.0.1,fd00::1"),
            static_(json!({})).args("IP=10.1.0.6/24;GATEWAY=10.1.0.1"),
            static_(json!({})).args("IP=10.1.0.6"),
            Case::new("bridge", json!({"ipam": {"type": "static", "addresses": one},
                "args": {"cni": {"ips": ["10.1.0.8/24"]}}})),
            Case::new("bridge", json!({"ipam": {"type": "static", "addresses": one},
                "runtimeConfig": {"ips": ["10.1.0.9/24"]}})),
        ]);
    });
}

#[test]
fn loopback() {
    let wrong_form = "the reference's loopback prints a result of another version's form";
    isolated(|| {
        all_same([
            Case::new("loopback", json!({})),
            Case::new("loopback", json!({"dns": {"nameservers": ["1.1.1.1"]}})),
            Case::new("loopback", json!({"cniVersion": "0.4.0"})).except("/said/ips", wrong_form),
            Case::new("loopback", json!({"cniVersion": "0.3.1"})).except("/said/ips", wrong_form),
            Case::new("loopback", json!({"cniVersion": "0.2.0"})).except("/said", wrong_form),
            Case::new(
                "loopback",
                json!({"cniVersion": "0.4.0", "prevResult": {
                    "cniVersion": "0.4.0",
                    "interfaces": [{"name": "eth0", "sandbox": "/run/netns/blue"}],
                    "ips": [{"version": "4", "address": "10.1.0.2/24", "interface": 0}]
                }}),
            ),
        ]);
    });
}

/// Gives a node an uplink that carries packets, and the default route. Who is asked for has its carrier at once.
pub(crate) const UPLINK: &str =
    "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
    ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.9; ip link show up0; ip link show up1";

#[test]
fn macvlan_with_one_key_each() {
    let macvlan = |ipam: &str, keys: Value| with("macvlan", ipam, keys).after(UPLINK);
    isolated(|| {
        all_same([
            macvlan(V4, json!({"master": "up0"})),
            macvlan(V6, json!({"master": "up0"})),
            macvlan(DUAL, json!({"master": "up0", "mode": "bridge"})),
            macvlan(V4, json!({})),
            macvlan(V4, json!({"master": ""})),
            macvlan(V4, json!({"master": "up0", "mode": "private"})),
            macvlan(V4, json!({"master": "up0", "mode": "vepa"})),
            macvlan(V4, json!({"master": "up0", "mode": "passthru"})),
            macvlan(V4, json!({"master": "up0", "mode": "source"})),
            macvlan(V4, json!({"master": "up0", "mtu": 1400})),
            macvlan(V4, json!({"master": "up0", "mtu": 1501})),
            macvlan(V4, json!({"master": "up0", "mtu": -1})),
            macvlan(V4, json!({"master": "up9"})),
            macvlan(V4, json!({"master": "up0", "mac": "02:11:22:33:44:55"})),
            macvlan(V4, json!({"master": "up0", "mac": "02:11:22:33:44:55"})).args("MAC=02:11:22:33:44:66"),
            macvlan(V4, json!({"master": "up0", "runtimeConfig": {"mac": "02:11:22:33:44:77"}})),
            macvlan(V4, json!({"master": "up0", "mac": "zz"})),
            macvlan(V4, json!({"master": "up0", "ipam": {}})),
            macvlan(V4, json!({"master": "up0", "dns": {"nameservers": ["9.9.9.9"]}})),
        ]);
    });
}

#[test]
fn macvlan_in_every_version_of_the_specification() {
    isolated(|| {
        all_same(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].map(|version| {
            with("macvlan", V4, json!({"cniVersion": version, "master": "up0"})).after(UPLINK)
        }));
    });
}

#[test]
fn ipvlan_and_vlan_are_refused_by_a_kernel_that_lacks_them_or_are_the_same() {
    isolated(|| {
        all_same([
            with("ipvlan", V4, json!({"master": "up0"})).after(UPLINK),
            with("ipvlan", V4, json!({"master": "up0", "mode": "l3"})).after(UPLINK),
            with("ipvlan", V4, json!({"master": "up0", "mode": "bridge"})).after(UPLINK),
            with("vlan", V4, json!({"master": "up0", "vlanId": 5})).after(UPLINK),
            with("vlan", V4, json!({"master": "up0", "vlanId": 4095})).after(UPLINK),
            with("vlan", V4, json!({"vlanId": 5})).after(UPLINK),
        ]);
    });
}

/// Gives a node a card, which is down: as it comes back.
pub(crate) const CARD: &str =
    "ip link add ens5 address 02:00:00:00:00:05 type veth peer name far5; ip link set far5 up";

#[test]
fn host_device_with_one_key_each() {
    let host_device = |ipam: &str, keys: Value| with("host-device", ipam, keys).after(CARD);
    isolated(|| {
        all_same([
            host_device(V4, json!({"device": "ens5"})),
            host_device(DUAL, json!({"device": "ens5"})),
            host_device(V4, json!({"device": "ens5", "ipam": {}})),
            host_device(V4, json!({"hwaddr": "02:00:00:00:00:05"})),
            host_device(V4, json!({"device": "ens9"})),
            host_device(V4, json!({"hwaddr": "02:00:00:00:00:99"})),
            host_device(V4, json!({"kernelpath": "/etc"})),
            host_device(V4, json!({"kernelpath": "/sys/devices/nowhere"})),
            host_device(V4, json!({"pciBusID": "0000:ff:ff.7"})),
            host_device(V4, json!({})),
            host_device(V4, json!({"cniVersion": "0.4.0", "device": "ens5"})),
            host_device(V4, json!({"cniVersion": "0.2.0", "device": "ens5"})),
        ]);
    });
}
