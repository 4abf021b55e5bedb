//! Each key of each plugin that stands behind another in a list.

use cnikit_tests::{State, isolated};
use serde_json::{Value, json};

use crate::keys::{UPLINK, all_same};
use crate::pair::{Case, Pair};

fn chained(plugin: &'static str, keys: Value) -> Case {
    Case::new(plugin, keys).behind_a_bridge()
}

#[test]
fn bandwidth_with_each_key_and_each_way_to_give_it() {
    isolated(|| {
        let into = |rate: u64, burst: u64| json!({"ingressRate": rate, "ingressBurst": burst});
        let out = |rate: u64, burst: u64| json!({"egressRate": rate, "egressBurst": burst});
        let both = json!({
            "ingressRate": 10_000_000, "ingressBurst": 80_000, "egressRate": 33_333_333, "egressBurst": 1_234_567,
        });
        all_same(
            [
                json!({}),
                into(10_000_000, 80_000),
                out(10_000_000, 80_000),
                both.clone(),
                // Numbers that do not come out even in the kernel's units, and large ones.
                into(123_457, 76_543),
                into(40_000_000_000, 4_000_000_000),
                into(100_000_000_000, 30_000_000_000),
                out(8, 800),
                json!({"ingressRate": 0, "ingressBurst": 0}),
                json!({"runtimeConfig": {"bandwidth": both}}),
                json!({"runtimeConfig": {"bandwidth": {
                    "IngressRate": 100_000_000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 0, "EgressBurst": 0,
                }}}),
                json!({"ingressRate": 8_000, "ingressBurst": 80_000, "runtimeConfig": {"bandwidth": both}}),
                json!({"ingressRate": 8_000}),
                json!({"egressBurst": 8_000}),
                json!({"ingressRate": 8, "ingressBurst": 34_359_738_360_u64}),
                json!({"ingressRate": -8, "ingressBurst": 8}),
                json!({"runtimeConfig": {"bandwidth": {"egressBurst": 8_000}}}),
            ]
            .map(|keys| chained("bandwidth", keys)),
        );
    });
}

#[test]
fn bandwidth_in_each_version_of_the_specification() {
    isolated(|| {
        all_same(["0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].map(|version| {
            chained(
                "bandwidth",
                json!({"cniVersion": version, "egressRate": 10_000_000, "egressBurst": 80_000}),
            )
        }));
    });
}

#[test]
fn tuning_with_each_key_and_each_way_to_give_it() {
    isolated(|| {
        let mac = "c2:b0:57:49:47:f1";
        let sysctl =
            |value: &str| json!({"net.ipv4.conf.eth0.arp_filter": value, "net.core.somaxconn": "500"});
        let cases = [
            json!({}),
            json!({"sysctl": sysctl("1")}),
            json!({"mac": mac}),
            json!({"promisc": true}),
            json!({"promisc": false}),
            json!({"mtu": 1400}),
            json!({"mtu": 0}),
            json!({"allmulti": true}),
            json!({"allmulti": false}),
            json!({"sysctl": sysctl("1"), "mac": mac, "promisc": true, "mtu": 1300, "allmulti": true}),
            json!({"mac": "02:00:00:00:00:01", "runtimeConfig": {"mac": mac}}),
            json!({"mtu": 1300, "promisc": true, "sysctl": sysctl("1"), "args": {"cni": {
                "sysctl": sysctl("0"), "mac": mac, "mtu": 1200, "promisc": false, "allmulti": true}}}),
            json!({"args": {"cni": {"mac": mac}}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}}),
            // What neither does.
            json!({"sysctl": {"kernel.msgmax": "1"}}),
            json!({"sysctl": {"net/../kernel/msgmax": "1"}}),
            json!({"sysctl": {"net.ipv4.no_such_setting": "1"}}),
            json!({"sysctl": {"net.ipv4.conf.eth0.arp_filter": 1}}),
            json!({"sysctl": {"net.ipv4.conf.eth0.arp_filter": "nonsense"}}),
            json!({"mtu": 60}),
            json!({"mac": "nonsense"}),
        ];
        let named = [
            Case::new("tuning", json!({})).args("IgnoreUnknown=1;MAC=c2:b0:57:49:47:f1").behind_a_bridge(),
            chained("tuning", json!({"mac": "02:00:00:00:00:01"}))
                .args("MAC=c2:b0:57:49:47:f1;IgnoreUnknown=true"),
        ];
        all_same(cases.map(|keys| chained("tuning", keys)).into_iter().chain(named));
    });
}

#[test]
fn an_interface_with_an_mtu_gets_another_from_tuning_behind_it() {
    isolated(|| {
        let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
        let tuned = |mut first: Value| {
            first["ipam"] = ipam.clone();
            Case::list(vec![first, json!({"type": "tuning", "mtu": 1400})]).after(UPLINK)
        };
        let makers = [
            json!({"type": "bridge", "mtu": 1450}),
            json!({"type": "ptp", "mtu": 1450}),
            json!({"type": "macvlan", "master": "up0", "mtu": 1450}),
        ];
        all_same(makers.map(tuned));
    });
}

#[test]
fn tuning_in_each_version_of_the_specification() {
    isolated(|| {
        all_same(
            ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"]
                .map(|version| chained("tuning", json!({"cniVersion": version, "mtu": 1400}))),
        );
    });
}

#[test]
fn what_either_tuning_has_changed_the_other_gives_back() {
    isolated(|| {
        let Some(Pair { theirs, ours }) = Pair::new() else { return };
        for side in [&theirs, &ours] {
            // An interface that stays.
            side.node.pod_shell(&side.pod, "ip link add eth0 type veth peer name eth1; ip link set eth0 up");
            let link = |state: State| {
                let link = &state.json()["blue"]["links"]["eth0"];
                ["address", "mtu", "flags", "txqlen"].map(|key| link[key].clone())
            };
            let before = link(State::of(&side.node));
            let mut config = json!({
                "cniVersion": "1.0.0", "name": "blue", "type": "tuning",
                "mac": "c2:b0:57:49:47:f1", "promisc": true, "mtu": 1400, "allmulti": true,
                "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": side.pod.path()}]},
            });
            let call = |plugins, command, config: &Value| {
                side.node.call(plugins, command, "tuning", config).on(&side.pod).run()
            };
            config["prevResult"] = call(&side.own, "ADD", &config).result();
            assert_ne!(link(State::of(&side.node)), before);
            for plugins in [&side.own, &side.other] {
                call(plugins, "CHECK", &config).done();
            }
            call(&side.other, "DEL", &config).done();
            assert_eq!(link(State::of(&side.node)), before, "what {:?} changed", side.own);
            assert_eq!(State::of(&side.node).json()["tuning"], json!({}));
        }
    });
}
