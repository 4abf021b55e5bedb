use super::*;

fn read(json: &str) -> AddResult {
    AddResult::from_json(json.as_bytes(), SpecVersion::LATEST).unwrap()
}

fn full() -> AddResult {
    read(
        r#"{
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "82:2f:5d:84:55:4a", "mtu": 1450},
                {"name": "eth0", "mac": "0a:58:0a:01:00:05", "mtu": 1450, "sandbox": "/run/netns/blue",
                 "socketPath": "/run/vhost.sock", "pciID": "0000:00:1f.6"}
            ],
            "ips": [
                {"interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
                {"interface": 1, "address": "10.2.0.5/16"},
                {"interface": 1, "address": "2001:db8::5/64", "gateway": "2001:db8::1"}
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 100, "scope": 0},
                {"dst": "1100:200::1/24"}
            ],
            "dns": {"nameservers": ["10.1.0.1"], "domain": "example.com", "search": ["example.com"], "options": ["ndots:5"]}
        }"#,
    )
}

/// What is left of a result in a version, written down independently of the conversion.
fn survivor(result: &AddResult, version: SpecVersion) -> AddResult {
    let mut left = result.clone();
    if version < SpecVersion::V1_0_0 {
        for interface in &mut left.interfaces {
            (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
        }
    }
    if version < SpecVersion::V0_3_0 {
        left.interfaces.clear();
        let first = |v4: bool| result.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4).cloned();
        let firsts = [first(true), first(false)];
        let routes =
            [true, false].into_iter().zip(&firsts).filter(|(_, ip)| ip.is_some()).flat_map(|(v4, _)| {
                result.routes.iter().filter(move |route| route.dst.addr().is_ipv4() == v4)
            });
        left.routes = routes.map(|route| Route { gw: route.gw, ..Route::new(route.dst) }).collect();
        left.ips = firsts.into_iter().flatten().map(|ip| IpConfig { interface: None, ..ip }).collect();
    }
    left
}

#[test]
fn every_version_keeps_what_it_can_say() {
    for version in SpecVersion::ALL {
        let json = full().to_json(*version);
        assert_eq!(
            AddResult::from_json(json.as_bytes(), SpecVersion::V0_1_0).unwrap(),
            survivor(&full(), *version)
        );
        assert_eq!(
            AddResult::from_value(&full().to_value(*version), *version).unwrap(),
            survivor(&full(), *version)
        );
    }
}

#[test]
fn the_list_form_is_printed_as_the_reference_prints_it() {
    let expected = r#"{
    "cniVersion": "0.4.0",
    "interfaces": [
        {
            "name": "eth0",
            "mac": "0a:58:0a:01:00:05",
            "sandbox": "/run/netns/blue"
        }
    ],
    "ips": [
        {
            "version": "4",
            "interface": 0,
            "address": "10.9.0.5/24",
            "gateway": "10.9.0.1"
        }
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0"
        },
        {
            "dst": "10.1.0.0/16",
            "gw": "10.9.0.1"
        }
    ],
    "dns": {}
}"#;
    assert_eq!(read(expected).to_json(SpecVersion::V0_4_0), expected);
    let newer = expected.replace("0.4.0", "1.0.0").replace("            \"version\": \"4\",\n", "");
    assert_eq!(read(expected).to_json(SpecVersion::V1_0_0), newer);
}

#[test]
fn the_family_form_is_printed_as_the_reference_prints_it() {
    let expected = r#"{
    "cniVersion": "0.2.0",
    "ip4": {
        "ip": "10.9.0.3/24",
        "gateway": "10.9.0.1",
        "routes": [
            {
                "dst": "0.0.0.0/0"
            },
            {
                "dst": "10.1.0.0/16",
                "gw": "10.9.0.1"
            }
        ]
    },
    "dns": {}
}"#;
    assert_eq!(read(expected).to_json(SpecVersion::V0_2_0), expected);
}

#[test]
fn a_result_without_version_has_that_of_its_configuration() {
    let bare = br#"{"ip4": {"ip": "10.0.0.2/8"}}"#;
    assert_eq!(AddResult::from_json(bare, SpecVersion::V0_2_0).unwrap().ips.len(), 1);
    assert_eq!(AddResult::from_json(bare, SpecVersion::V1_0_0).unwrap(), AddResult::default());
    assert_eq!(read(r#"{"cniVersion": "", "ips": [{"address": "::1/128"}]}"#).ips.len(), 1);
}

#[test]
fn empty_texts_zeros_nulls_and_minus_one_mean_absent() {
    let result = read(
        r#"{"cniVersion": "0.3.0", "interfaces": [{"name": "e", "mac": "", "sandbox": null, "mtu": 0}],
            "ips": [{"version": "4", "interface": -1, "address": "10.0.0.2/8", "gateway": ""}],
            "routes": null, "dns": {"domain": ""}}"#,
    );
    assert_eq!(result.interfaces, [Interface::on_host("e")]);
    assert_eq!(result.ips, [IpConfig::new("10.0.0.2/8".parse().unwrap())]);
    assert!(result.dns.is_empty());
}

#[test]
fn an_address_finds_its_interface_only_if_there_is_one() {
    let mut result = full();
    assert_eq!(result.interface_of(&result.ips[0]).unwrap().name, "eth0");
    result.ips[0].interface = Some(7);
    assert_eq!(result.interface_of(&result.ips[0]), None);
}

#[test]
fn what_is_wrong_with_a_result_is_said_with_its_place() {
    let cases = [
        ("", 6, "the result cannot be read: it is empty"),
        ("panic!", 6, "the result cannot be read: expected value at line 1 column 1"),
        (r#"{"cniVersion": "2.0.0"}"#, 1, "the result cannot be read: \"2.0.0\" is not a known CNI version"),
        (r#"{"cniVersion": 1}"#, 6, "the result's cniVersion is not a string"),
        (r#"{"ips": [{}]}"#, 6, "the result is wrong: ips[0]: missing field `address`"),
        (
            r#"{"ips": [{"address": "10.0.0.300/8"}]}"#,
            6,
            "the result is wrong: ips[0].address: invalid IP address syntax",
        ),
        (
            r#"{"routes": [{"dst": "::/0", "scope": 256}]}"#,
            6,
            "the result is wrong: routes[0].scope: invalid value: integer `256`, expected u8",
        ),
    ];
    for (json, code, msg) in cases {
        let error = AddResult::from_json(json.as_bytes(), SpecVersion::LATEST).unwrap_err();
        assert_eq!((error.code().get(), error.msg()), (code, msg), "{json}");
    }
}

mod any {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "[a-z0-9:/.\"\\\\é]{1,12}"
    }

    fn addr() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
        ]
    }

    fn net() -> impl Strategy<Value = IpNet> {
        (addr(), 0..=32_u8).prop_map(|(addr, len)| IpNet::new(addr, len).unwrap())
    }

    fn interface() -> impl Strategy<Value = Interface> {
        (
            text(),
            option::of(text()),
            option::of(1..u32::MAX),
            option::of(text()),
            option::of(text()),
            option::of(text()),
        )
            .prop_map(|(name, mac, mtu, sandbox, socket_path, pci_id)| Interface {
                name,
                mac,
                mtu,
                sandbox,
                socket_path,
                pci_id,
            })
    }

    fn ip() -> impl Strategy<Value = IpConfig> {
        (option::of(0..9_usize), net(), option::of(addr()))
            .prop_map(|(interface, address, gateway)| IpConfig { interface, address, gateway })
    }

    fn route() -> impl Strategy<Value = Route> {
        let positive = || option::of(1..u32::MAX);
        (
            net(),
            option::of(addr()),
            positive(),
            positive(),
            positive(),
            any::<Option<u32>>(),
            any::<Option<u8>>(),
        )
            .prop_map(|(dst, gw, mtu, advmss, priority, table, scope)| Route {
                dst,
                gw,
                mtu,
                advmss,
                priority,
                table,
                scope,
            })
    }

    fn dns() -> impl Strategy<Value = Dns> {
        (vec(text(), 0..3), option::of(text()), vec(text(), 0..3), vec(text(), 0..3))
            .prop_map(|(nameservers, domain, search, options)| Dns { nameservers, domain, search, options })
    }

    prop_compose! {
        fn result()(
            interfaces in vec(interface(), 0..4), ips in vec(ip(), 0..4), routes in vec(route(), 0..4), dns in dns()
        ) -> AddResult {
            AddResult { interfaces, ips, routes, dns }
        }
    }

    fn version() -> impl Strategy<Value = SpecVersion> {
        proptest::sample::select(SpecVersion::ALL)
    }

    proptest! {
        #[test]
        fn through_any_two_versions_survives_what_both_can_say(result in result(), a in version(), b in version()) {
            let once = AddResult::from_json(result.to_json(a).as_bytes(), b).unwrap();
            let twice = AddResult::from_json(once.to_json(b).as_bytes(), a).unwrap();
            prop_assert_eq!(&twice, &survivor(&survivor(&result, a), b));
            prop_assert_eq!(twice.to_json(b), once.to_json(b));
        }

        #[test]
        fn bytes_are_a_result_or_an_error(bytes in vec(any::<u8>(), 0..200), version in version()) {
            let _ = AddResult::from_json(&bytes, version);
        }
    }
}
