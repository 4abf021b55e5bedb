//! What packets experience.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::*;

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let lab = Lab::new();
    let config = publish(&[
        json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}),
        json!({"HostPort": 5353, "ContainerPort": 53, "Protocol": "UDP", "HostIP": ""}),
    ]);
    let result = lab.add(1, "pod", &config).unwrap();
    let nothing = publish(&[]);
    lab.add(1, "friend", &nothing).unwrap();
    serve(&lab, "pod", 80);
    serve_datagrams(&lab, "pod", 53);
    for (from, to, seen) in [
        (WORLD, "192.0.2.1:8080", "192.0.2.2"),
        (WORLD, "[2001:db8::1]:8080", "2001:db8::2"),
        ("", "192.0.2.1:8080", "192.0.2.1"),
        ("", "127.0.0.1:8080", "10.1.0.1"),
        ("", "10.1.0.1:8080", "10.1.0.1"),
        ("", "[2001:db8::1]:8080", "2001:db8::1"),
        ("friend", "192.0.2.1:8080", "10.1.0.1"),
        ("friend", "10.1.0.1:8080", "10.1.0.1"),
        ("friend", "[2001:db8::1]:8080", "fd00:1::1"),
        ("pod", "192.0.2.1:8080", "10.1.0.1"),
        ("pod", "[2001:db8::1]:8080", "fd00:1::1"),
    ] {
        assert_eq!(ask(&lab, from, to, SOON).unwrap(), format!("pod {seen}"), "{from} to {to}");
        let datagrams = client(&lab, from, &to.replace("8080", "5353"));
        assert_eq!(answer(&datagrams, SOON).unwrap(), format!("pod {seen}"), "{from} to {to}, UDP");
    }
    lab.check(1, "pod", &config, &result).unwrap();
    lab.del(1, "pod", &config, Some(&result));
    assert!(ask(&lab, WORLD, "192.0.2.1:8080", NEVER).is_err());
}

/// How the pod sees who asks, of a few.
fn seen(lab: &Lab, froms: &[(&str, &str)]) -> Vec<String> {
    froms
        .iter()
        .map(|(from, to)| match ask(lab, from, to, SOON) {
            Ok(said) => said.split(' ').nth(1).unwrap_or_default().to_owned(),
            Err(error) => panic!("{from} to {to}: {error}"),
        })
        .collect()
}

#[test]
fn everybody_is_masqueraded_or_nobody_if_so_configured() {
    let askers = [(WORLD, "192.0.2.1:8080"), (WORLD, "[2001:db8::1]:8080"), ("", "192.0.2.1:8080")];
    for (keys, expected) in [
        (json!({"masqAll": true}), ["10.1.0.1", "fd00:1::1", "10.1.0.1"]),
        (json!({"masqAll": true, "markMasqBit": 31}), ["10.1.0.1", "fd00:1::1", "10.1.0.1"]),
        (json!({"snat": false}), ["192.0.2.2", "2001:db8::2", "192.0.2.1"]),
        (json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}), ["192.0.2.2", "2001:db8::2", "192.0.2.1"]),
    ] {
        let lab = Lab::new();
        let mut config = publish(&[json!({"hostPort": 8080, "containerPort": 80})]);
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        lab.add(1, "pod", &config).unwrap();
        serve(&lab, "pod", 80);
        assert_eq!(seen(&lab, &askers), expected, "{keys}");
        let loopback = ask(&lab, "", "127.0.0.1:8080", NEVER);
        assert_eq!(loopback.is_ok(), keys["snat"] != false, "{keys}: {loopback:?}");
    }
}

#[test]
fn a_port_of_one_address_of_the_node_is_not_another_s() {
    let lab = Lab::new();
    lab.run("ip address add 192.0.2.11/24 dev uplink");
    let mapping = |ip: &str, port: u16| json!({"hostPort": 8080, "containerPort": port, "hostIP": ip});
    let config = publish(&[
        mapping("192.0.2.11", 81),
        mapping("0.0.0.0", 80),
        mapping("127.0.0.1", 82),
        mapping("2001:db8::1", 81),
        mapping("::", 80),
    ]);
    let result = lab.add(1, "pod", &config).unwrap();
    for (pod, port) in [("pod", 80), ("pod", 81), ("pod", 82)] {
        serve(&lab, pod, port);
    }
    let which = |to: &str, from: &str| ask(&lab, from, to, SOON).is_ok();
    for to in ["192.0.2.1:8080", "192.0.2.11:8080", "[2001:db8::1]:8080"] {
        assert!(which(to, WORLD), "{to}");
    }
    assert!(which("127.0.0.1:8080", "") && which("10.1.0.1:8080", ""));
    let listing = lab.run("nft list map inet cnikit backends_at4");
    assert!(listing.contains("192.0.2.11 . tcp . 8080 : 10.1.0.2 . 81"), "{listing}");
    lab.check(1, "pod", &config, &result).unwrap();
    // Another pod may have a port of an address that is nobody's.
    let other = publish(&[json!({"hostPort": 8080, "containerPort": 80, "hostIP": "192.0.2.12"})]);
    let result = lab.add(1, "other", &other).unwrap();
    lab.del(1, "other", &other, Some(&result));
}

#[test]
fn conditions_are_met_or_the_port_is_not_there() {
    let lab = Lab::new();
    let mut config = publish(&[json!({"hostPort": 8080, "containerPort": 80})]);
    config["conditionsV4"] = json!(["!", "-s", "192.0.2.0/24"]);
    config["conditionsV6"] = json!(["iifname != uplink"]);
    let result = lab.add(1, "pod", &config).unwrap();
    serve(&lab, "pod", 80);
    lab.check(1, "pod", &config, &result).unwrap();
    for (from, to, there) in [
        (WORLD, "192.0.2.1:8080", false),
        (WORLD, "[2001:db8::1]:8080", false),
        ("pod", "192.0.2.1:8080", true),
        ("pod", "[2001:db8::1]:8080", true),
        ("", "[2001:db8::1]:8080", true),
        ("", "127.0.0.1:8080", true),
    ] {
        let outcome = ask(&lab, from, to, if there { SOON } else { NEVER });
        assert_eq!(outcome.is_ok(), there, "{from} to {to}: {outcome:?}");
    }
    let mut changed = config.clone();
    changed["conditionsV4"] = json!(["-s", "192.0.2.0/24"]);
    let error = lab.check(1, "pod", &changed, &result).unwrap_err();
    assert!(error.to_string().contains("conditions"), "{error}");
}

#[test]
fn a_port_that_another_container_has_is_refused_and_stays_where_it_is() {
    let lab = Lab::new();
    let config = publish(&[
        json!({"hostPort": 8079, "containerPort": 79}),
        json!({"hostPort": 8080, "containerPort": 80}),
    ]);
    let first = lab.add(1, "first", &publish(&[json!({"hostPort": 8080, "containerPort": 80})])).unwrap();
    serve(&lab, "first", 80);
    let before = lab.run("nft list ruleset");
    let error = lab.add(1, "second", &config).unwrap_err();
    assert_eq!(error.code(), plugin_kit::error::CONFLICT);
    let text = error.to_string();
    assert!(text.contains("0.0.0.0:8080/tcp") && text.contains("cnikit net1 first eth1"), "{text}");
    let after = lab.run("nft list ruleset");
    assert!(!after.contains("8079"), "{after}");
    assert!(before.contains("8080"));
    assert!(ask(&lab, WORLD, "192.0.2.1:8080", SOON).unwrap().starts_with("first"));
    lab.del(1, "second", &config, None);
    assert!(ask(&lab, WORLD, "192.0.2.1:8080", SOON).unwrap().starts_with("first"));
    // With another network of its own no more than with the same.
    let error = lab.add(2, "third", &config).unwrap_err();
    assert_eq!(error.code(), plugin_kit::error::CONFLICT);
    lab.del(1, "first", &config, Some(&first));
    lab.del(2, "third", &config, None);
    lab.add(2, "third", &config).unwrap();
    serve(&lab, "third", 80);
    assert!(ask(&lab, WORLD, "192.0.2.1:8080", SOON).unwrap().starts_with("third"));
}

#[test]
fn a_container_in_several_networks_keeps_its_ports_until_it_leaves_the_last() {
    let lab = Lab::new();
    let config = publish(&[json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"})]);
    let one = lab.add(1, "pod", &config).unwrap();
    let two = lab.add(2, "pod", &config).unwrap();
    let three = lab.add(3, "pod", &config).unwrap();
    serve(&lab, "pod", 80);
    for (network, result) in [(1, &one), (2, &two), (3, &three)] {
        lab.check(network, "pod", &config, result).unwrap();
    }
    let from = |node: &str| ask(&lab, WORLD, &format!("{node}:8080"), SOON);
    from("192.0.2.1").unwrap();
    lab.del(1, "pod", &config, Some(&one));
    assert!(from("192.0.2.1").unwrap().starts_with("pod"));
    lab.check(2, "pod", &config, &two).unwrap();
    // Somebody else cannot have what is held by the second network alone.
    let error = lab.add(1, "thief", &config).unwrap_err();
    assert_eq!(error.code(), plugin_kit::error::CONFLICT);
    lab.del(1, "thief", &config, None);
    // Back in the first network.
    let one = lab.add(1, "pod", &config).unwrap();
    lab.del(2, "pod", &config, Some(&two));
    assert!(from("192.0.2.1").unwrap().starts_with("pod"));
    lab.del(1, "pod", &config, Some(&one));
    assert!(ask(&lab, WORLD, "192.0.2.1:8080", NEVER).is_err());
    lab.del(3, "pod", &config, Some(&three));
    let left = lab.run("nft list ruleset");
    assert!(!left.contains("8080"), "{left}");
}

#[test]
fn what_a_person_flushed_comes_back_with_the_next_pod() {
    let lab = Lab::new();
    let config = |port: u16| publish(&[json!({"hostPort": port, "containerPort": 80})]);
    let first = lab.add(1, "first", &config(8080)).unwrap();
    lab.run("nft flush ruleset");
    let error = lab.check(1, "first", &config(8080), &first).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    lab.add(1, "second", &config(8081)).unwrap();
    serve(&lab, "second", 80);
    assert!(ask(&lab, WORLD, "192.0.2.1:8081", SOON).unwrap().starts_with("second"));
    lab.publish(1, "first", &config(8080), &first).unwrap();
    lab.check(1, "first", &config(8080), &first).unwrap();
}

/// The least of several times that something takes: others work on the same machine.
fn least(mut measure: impl FnMut() -> Duration) -> Duration {
    (0..50).map(|_| measure()).min().unwrap()
}

#[test]
fn with_a_thousand_ports_a_connection_and_a_port_more_cost_what_they_cost_with_one() {
    let lab = Lab::new();
    let port = |port: u16| json!({"hostPort": port, "containerPort": 80});
    let pod = lab.add(1, "pod", &publish(&[port(8080)])).unwrap();
    serve(&lab, "pod", 80);
    let friend = lab.add(1, "friend", &publish(&[])).unwrap();
    let connect = || {
        least(|| {
            let started = Instant::now();
            ask(&lab, WORLD, "192.0.2.1:8080", SOON).unwrap();
            started.elapsed()
        })
    };
    let publish_one = || {
        let config = publish(&[port(8081)]);
        least(|| {
            let started = Instant::now();
            lab.publish(1, "friend", &config, &friend).unwrap();
            let elapsed = started.elapsed();
            lab.unpublish(1, "friend", &config, &friend);
            elapsed
        })
    };
    let (connect_few, publish_few) = (connect(), publish_one());
    let thousand: Vec<_> = (10_000..11_000).map(port).collect();
    let many = lab.add(1, "many", &publish(&thousand)).unwrap();
    lab.check(1, "many", &publish(&thousand), &many).unwrap();
    let (connect_many, publish_many) = (connect(), publish_one());
    eprintln!(
        "connecting {connect_few:?} with one, {connect_many:?} with 1001; an ADD {publish_few:?}, {publish_many:?}"
    );
    // An order of magnitude tells constant cost from that of a walk; anything closer would measure the machine.
    let same = |few: Duration, many: Duration| many < few * 5 + Duration::from_micros(100);
    assert!(same(connect_few, connect_many), "connecting: {connect_few:?}, {connect_many:?}");
    assert!(same(publish_few, publish_many), "an ADD: {publish_few:?}, {publish_many:?}");
    lab.del(1, "many", &publish(&thousand), Some(&many));
    lab.del(1, "pod", &publish(&[port(8080)]), Some(&pod));
    let left = lab.run("nft list ruleset");
    assert!(!left.contains("elements = { tcp") && !left.contains("10000"), "{left}");
}
