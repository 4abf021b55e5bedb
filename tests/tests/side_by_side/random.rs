//! Random configurations.

use cnikit_tests::{isolated, runner};
use proptest::option::of;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

use crate::pair::{Case, same};

/// A key with one of some values, or without.
fn key(name: &'static str, values: Vec<Value>) -> impl Strategy<Value = Option<(&'static str, Value)>> {
    of(select(values).prop_map(move |value| (name, value)))
}

fn object(entries: impl IntoIterator<Item = Option<(&'static str, Value)>>) -> Map<String, Value> {
    entries.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Which families a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Families {
    V4,
    V6,
    Both,
}

fn families() -> impl Strategy<Value = Families> {
    select(vec![Families::V4, Families::V4, Families::V6, Families::Both])
}

fn range(v6: bool) -> impl Strategy<Value = Value> {
    let subnets = if v6 {
        vec![("fd00:5::", 64), ("fd00:6::", 120), ("2001:db8:7::", 48)]
    } else {
        vec![("10.5.0.", 24), ("10.6.0.", 28), ("172.20.0.", 16)]
    };
    let host = |subnet: &'static str| move |number: u8| json!(format!("{subnet}{number}"));
    (select(subnets), of(2..5_u8), of(8..12_u8), of(1..14_u8)).prop_map(
        move |((subnet, bits), start, end, gateway)| {
            let network = if v6 { subnet.to_owned() } else { format!("{subnet}0") };
            let mut range = Map::from_iter([("subnet".to_owned(), json!(format!("{network}/{bits}")))]);
            // Addresses of hexadecimal and of decimal digits are the same up to nine.
            let digits = |number: u8| if v6 { number.min(9) } else { number };
            for (key, number) in [("rangeStart", start), ("rangeEnd", end), ("gateway", gateway)] {
                if let Some(number) = number {
                    range.insert(key.to_owned(), host(subnet)(digits(number)));
                }
            }
            Value::Object(range)
        },
    )
}

fn routes(families: Families) -> impl Strategy<Value = Value> {
    let v4 = [
        json!({"dst": "0.0.0.0/0"}),
        json!({"dst": "10.99.0.0/16"}),
        json!({"dst": "192.168.7.0/24"}),
        json!({"dst": "10.98.1.1/32"}),
    ];
    let v6 = [json!({"dst": "::/0"}), json!({"dst": "fd00:99::/48"}), json!({"dst": "2001:db8:98::1/128"})];
    let all: Vec<Value> = match families {
        Families::V4 => v4.to_vec(),
        Families::V6 => v6.to_vec(),
        Families::Both => v4.into_iter().chain(v6).collect(),
    };
    let count = all.len();
    subsequence(all, 0..=count).prop_map(Value::Array)
}

fn host_local(families: Families) -> impl Strategy<Value = Value> {
    let sets = match families {
        Families::V4 => vec![range(false).boxed()],
        Families::V6 => vec![range(true).boxed()],
        Families::Both => vec![range(false).boxed(), range(true).boxed()],
    };
    (sets, routes(families), any::<bool>()).prop_map(|(ranges, routes, old_form)| {
        let mut ipam = json!({"type": "host-local", "routes": routes});
        match &ranges[..] {
            [range] if old_form => {
                for (key, value) in range.as_object().unwrap() {
                    ipam[key] = value.clone();
                }
            }
            _ => ipam["ranges"] = ranges.into_iter().map(|range| json!([range])).collect(),
        }
        ipam
    })
}

fn static_addresses(families: Families) -> impl Strategy<Value = Value> {
    let v4 = select(vec![
        json!({"address": "10.5.0.7/24", "gateway": "10.5.0.1"}),
        json!({"address": "10.5.0.7/24"}),
        json!({"address": "172.20.3.4/16", "gateway": "172.20.0.1"}),
    ]);
    let v6 = select(vec![
        json!({"address": "fd00:5::7/64", "gateway": "fd00:5::1"}),
        json!({"address": "fd00:5::7/64"}),
    ]);
    (v4, v6, routes(families)).prop_map(move |(v4, v6, routes)| {
        let addresses = match families {
            Families::V4 => json!([v4]),
            Families::V6 => json!([v6]),
            Families::Both => json!([v4, v6]),
        };
        json!({"type": "static", "addresses": addresses, "routes": routes})
    })
}

fn ipam() -> impl Strategy<Value = (Families, Value)> {
    families().prop_flat_map(|families| {
        let section = proptest::prop_oneof![3 => host_local(families), 1 => static_addresses(families)];
        (Just(families), section)
    })
}

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

fn version(families: Families) -> impl Strategy<Value = &'static str> {
    let all = vec!["1.0.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0"];
    // Two addresses need 0.3.0, to the reference.
    select(if families == Families::Both { all[..5].to_vec() } else { all })
}

fn dns() -> impl Strategy<Value = Option<(&'static str, Value)>> {
    key(
        "dns",
        vec![
            json!({"nameservers": ["10.5.0.53"]}),
            json!({"domain": "a.b", "search": ["a.b", "b"], "options": ["ndots:2"]}),
        ],
    )
}

fn bridge() -> impl Strategy<Value = Case> {
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
    let section = ipam().prop_flat_map(|(families, ipam)| (version(families), Just(ipam)));
    (keys, section, asked()).prop_map(|(keys, (version, ipam), asked)| {
        let mut config = object(<[_; 10]>::from(keys));
        config.insert("cniVersion".to_owned(), json!(version));
        config.insert("ipam".to_owned(), ipam);
        config.extend(asked.args_cni.map(|args| ("args".to_owned(), json!({"cni": args}))));
        config.extend(asked.runtime_config.map(|keys| ("runtimeConfig".to_owned(), keys)));
        Case::new("bridge", Value::Object(config)).args(&asked.args)
    })
}

fn ptp() -> impl Strategy<Value = Case> {
    let keys = (key("ipMasq", vec![json!(true)]), key("mtu", vec![json!(1300), json!(9000)]), dns());
    let section = ipam().prop_flat_map(|(families, ipam)| (version(families), Just(ipam)));
    (keys, section).prop_map(|(keys, (version, ipam))| {
        let mut config = object(<[_; 3]>::from(keys));
        config.insert("cniVersion".to_owned(), json!(version));
        config.insert("ipam".to_owned(), ipam);
        Case::new("ptp", Value::Object(config))
    })
}

fn all_same(usual: u32, cases: &impl Strategy<Value = Case>) {
    let outcome = runner(usual).run(cases, |case| same(&case).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn bridge_with_random_keys() {
    isolated(|| all_same(45, &bridge()));
}

#[test]
fn ptp_with_random_keys() {
    isolated(|| all_same(20, &ptp()));
}
