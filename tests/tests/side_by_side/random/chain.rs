//! Plugins that stand behind another in a list, each with random keys, and lists of them.

use cnikit_tests::isolated;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::interface::{bridge, macvlan, ptp, with_names};
use super::{all_same, key, object};
use crate::pair::Case;

const MACS: [&str; 3] = ["02:11:22:33:44:11", "02:11:22:33:44:12", "02:11:22:33:44:13"];

fn sysctls() -> impl Strategy<Value = Value> {
    let all = vec![
        ("net.ipv4.conf.eth0.arp_filter", "1"),
        ("net.ipv4.conf.IFNAME.rp_filter", "2"),
        ("net/ipv4/conf/IFNAME/log_martians", "1"),
        ("net.ipv4.ip_local_port_range", "20000 30000"),
        ("net.core.somaxconn", "500"),
    ];
    subsequence(all, 0..=5)
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

fn tuning() -> impl Strategy<Value = Value> {
    let args = (
        key("mac", vec![json!(MACS[0])]),
        key("mtu", vec![json!(1290)]),
        key("promisc", vec![json!(true), json!(false)]),
        key("allmulti", vec![json!(true), json!(false)]),
        key("sysctl", vec![json!({"net.ipv4.conf.eth0.arp_filter": "0", "net.core.somaxconn": "600"})]),
    );
    let args = args.prop_map(|keys| json!({"cni": object(<[_; 5]>::from(keys))}));
    let keys = (
        sysctls(),
        key("mac", vec![json!(MACS[1])]),
        key("promisc", vec![json!(true), json!(false)]),
        key("mtu", vec![json!(1280), json!(1400), json!(0)]),
        key("allmulti", vec![json!(true), json!(false)]),
        key("runtimeConfig", vec![json!({"mac": MACS[2]})]),
        proptest::option::weighted(0.3, args),
    );
    keys.prop_map(|(sysctls, mac, promisc, mtu, allmulti, runtime, args)| {
        let mut config = object([mac, promisc, mtu, allmulti, runtime, args.map(|args| ("args", args))]);
        config.insert("type".to_owned(), json!("tuning"));
        config.insert("sysctl".to_owned(), sysctls);
        Value::Object(config)
    })
}

/// A rate in bits per second and a burst in bits, or neither.
fn rate(rate: &'static str, burst: &'static str) -> impl Strategy<Value = Vec<(String, Value)>> {
    // A burst that takes longer than 274 s at its rate is cut by the reference, and kept by ours; so is what has room in the queue,
    // the burst and 25 ms of the rate, at 4 GiB.
    let some = (800..50_000_000_000_u64, 8..34_359_738_000_u64)
        .prop_map(|(bits, size)| (bits, size.min(bits * 270).min(34_359_738_000 - bits / 40)));
    proptest::option::of(some).prop_map(move |some| match some {
        Some((bits, size)) => vec![(rate.to_owned(), json!(bits)), (burst.to_owned(), json!(size))],
        None => Vec::new(),
    })
}

fn bandwidth() -> impl Strategy<Value = Value> {
    let rates = (rate("ingressRate", "ingressBurst"), rate("egressRate", "egressBurst"), any::<bool>());
    rates.prop_map(|(into, out, by_runtime)| {
        let rates: Value = into.into_iter().chain(out).collect::<serde_json::Map<_, _>>().into();
        let mut config = if by_runtime { json!({"runtimeConfig": {"bandwidth": rates}}) } else { rates };
        config["type"] = json!("bandwidth");
        config
    })
}

fn mapping() -> impl Strategy<Value = Value> {
    let host = key("hostIP", ["", "0.0.0.0", "::", "127.0.0.1", "192.0.2.1"].map(Value::from).to_vec());
    (1..=65_535_u16, 1..=65_535_u16, select(vec!["tcp", "udp", "sctp", "TCP"]), host).prop_map(
        |(port, inner, protocol, host)| {
            let mut mapping = object([host]);
            mapping.insert("hostPort".to_owned(), port.into());
            mapping.insert("containerPort".to_owned(), inner.into());
            mapping.insert("protocol".to_owned(), protocol.into());
            Value::Object(mapping)
        },
    )
}

fn portmap() -> impl Strategy<Value = Value> {
    let keys = (
        key("snat", vec![json!(true), json!(false)]),
        key("markMasqBit", vec![json!(0), json!(7), json!(31)]),
        key("conditionsV4", vec![json!(["-s", "10.0.0.0/8"]), json!(["!", "-d", "192.0.2.11"])]),
        key("conditionsV6", vec![json!(["!", "-s", "fd00::/8"])]),
    );
    let keys = keys.prop_map(|keys| object(<[_; 4]>::from(keys)));
    (keys, proptest::collection::vec(mapping(), 0..20)).prop_map(|(mut config, mappings)| {
        config.insert("type".to_owned(), json!("portmap"));
        config.insert("runtimeConfig".to_owned(), json!({"portMappings": mappings}));
        Value::Object(config)
    })
}

fn firewall() -> impl Strategy<Value = Value> {
    let keys = (
        key("backend", vec![json!("iptables"), json!("")]),
        key("iptablesAdminChainName", vec![json!("MINE"), json!("CNI-ADMIN")]),
        key("ingressPolicy", vec![json!("open"), json!("same-bridge"), json!("")]),
    );
    keys.prop_map(|keys| {
        let mut config = object(<[_; 3]>::from(keys));
        config.insert("type".to_owned(), json!("firewall"));
        Value::Object(config)
    })
}

/// One plugin behind one that makes an interface.
fn behind(
    first: impl Strategy<Value = Case>,
    then: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Case> {
    (first, then).prop_map(|(case, then)| in_a_list(case, vec![then]))
}

/// A list. Its version is one that all the plugins in it have.
fn in_a_list(mut case: Case, then: Vec<Value>) -> Case {
    let has = |plugin: &str| then.iter().any(|config| config["type"] == plugin);
    let version = case.list[0]["cniVersion"].as_str().unwrap();
    if has("firewall") && version < "0.4.0" || has("bandwidth") && version < "0.3.0" {
        case.list[0]["cniVersion"] = json!("1.0.0");
    }
    case.list.extend(then);
    case
}

fn any_list() -> impl Strategy<Value = Case> {
    let first = proptest::prop_oneof![3 => bridge().boxed(), 1 => ptp().boxed()];
    let all = (
        tuning().prop_map(Some),
        bandwidth().prop_map(Some),
        Just(json!({"type": "sbr"})).prop_map(Some),
        portmap().prop_map(Some),
        firewall().prop_map(Some),
    );
    let then = all.prop_flat_map(|all| subsequence(Vec::from(<[_; 5]>::from(all)), 1..=5).prop_shuffle());
    (first, then).prop_map(|(case, then)| in_a_list(case, then.into_iter().flatten().collect()))
}

#[test]
fn tuning_with_random_keys() {
    isolated(|| {
        let first = proptest::prop_oneof![2 => bridge().boxed(), 1 => macvlan().boxed()];
        all_same(8, &behind(first, tuning()));
    });
}

#[test]
fn bandwidth_with_random_rates() {
    isolated(|| {
        all_same(6, &with_names(behind(proptest::prop_oneof![bridge().boxed(), ptp().boxed()], bandwidth())))
    });
}

#[test]
fn sbr_behind_random_bridges() {
    isolated(|| all_same(6, &with_names(behind(bridge(), Just(json!({"type": "sbr"}))))));
}

#[test]
fn portmap_with_random_keys() {
    isolated(|| {
        all_same(6, &with_names(behind(proptest::prop_oneof![bridge().boxed(), ptp().boxed()], portmap())))
    });
}

#[test]
fn firewall_with_random_keys() {
    isolated(|| {
        all_same(5, &with_names(behind(proptest::prop_oneof![bridge().boxed(), ptp().boxed()], firewall())))
    });
}

#[test]
fn random_lists() {
    isolated(|| all_same(10, &any_list()));
}
