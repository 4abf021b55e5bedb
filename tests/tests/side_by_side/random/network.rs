//! Addresses and routes of random networks.

use proptest::option::of;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::key;

/// Which families a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Families {
    V4,
    V6,
    Both,
}

pub(super) fn families() -> impl Strategy<Value = Families> {
    select(vec![Families::V4, Families::V4, Families::V6, Families::Both])
}

pub(super) fn range(v6: bool) -> impl Strategy<Value = Value> {
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

pub(super) fn routes(families: Families) -> impl Strategy<Value = Value> {
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

pub(super) fn host_local(families: Families) -> impl Strategy<Value = Value> {
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

/// What `ips` of a result says of one address or two, of either family.
pub(super) fn addresses() -> impl Strategy<Value = Value> {
    (families(), static_addresses(Families::Both)).prop_map(|(families, ipam)| {
        let mut ips = ipam["addresses"].clone();
        ips.as_array_mut().unwrap().iter_mut().for_each(|ip| ip["interface"] = json!(0));
        match families {
            Families::V4 => json!([ips[0]]),
            Families::V6 => json!([ips[1]]),
            Families::Both => ips,
        }
    })
}

pub(super) fn static_addresses(families: Families) -> impl Strategy<Value = Value> {
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

pub(super) fn ipam() -> impl Strategy<Value = (Families, Value)> {
    families().prop_flat_map(|families| {
        let section = proptest::prop_oneof![3 => host_local(families), 1 => static_addresses(families)];
        (Just(families), section)
    })
}

pub(super) fn version(families: Families) -> impl Strategy<Value = &'static str> {
    let all = vec!["1.0.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0"];
    // Two addresses need 0.3.0, to the reference.
    select(if families == Families::Both { all[..5].to_vec() } else { all })
}

pub(super) fn dns() -> impl Strategy<Value = Option<(&'static str, Value)>> {
    key(
        "dns",
        vec![
            json!({"nameservers": ["10.5.0.53"]}),
            json!({"domain": "a.b", "search": ["a.b", "b"], "options": ["ndots:2"]}),
        ],
    )
}
