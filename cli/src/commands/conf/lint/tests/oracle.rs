//! Random configurations: what a plugin refuses must be an error here too.

use std::path::Path;

use cni_spec::{Env, ErrorCode, Exec, ProcessExec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::super::finding::{Finding, Severity};
use super::super::programs::Programs;
use super::super::source::{Form, Sources};
use crate::places::BuiltIn;
use plugins::InProcess;

fn lint(text: &[u8]) -> Vec<Finding> {
    let mut sources = Sources::default();
    sources.add(Path::new("10-a.conflist"), Form::List, None, text);
    super::super::check(&sources, &Programs::new(Vec::new(), BuiltIn::Used))
}

/// The plugin's own opinion: `STATUS` reads all of the configuration, and does nothing.
fn refused(plugin: &Map<String, Value>) -> Option<cni_spec::Error> {
    let mut config = plugin.clone();
    config.insert("cniVersion".to_owned(), "1.1.0".into());
    config.insert("name".to_owned(), "cnikit-lint-test".into());
    let exec = InProcess::new(ProcessExec::new());
    let file = exec.find(&config["type"].as_str().unwrap().parse().unwrap(), &[]).unwrap();
    let env = Env::from_iter([("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/nonexistent")]);
    let output = exec.exec(&file, &env, Value::Object(config).to_string().as_bytes()).unwrap();
    let error = output.check(&file).err()?;
    [ErrorCode::INVALID_CONFIG, ErrorCode::DECODING_FAILURE].contains(&error.code()).then_some(error)
}

/// Values that are right somewhere, and wrong elsewhere.
fn value() -> impl Strategy<Value = Value> {
    let texts = select(vec![
        "",
        "br0",
        "a/b",
        "10.1.0.0/16",
        "10.1.0.5",
        "10.1.0.7/16",
        "10.1.0.0/31",
        "10.1.0.1",
        "10.2.0.0/24",
        "fd00::/64",
        "fd00::5",
        "::ffff:10.1.0.5",
        "host-local",
        "nftables",
        "pf",
        "true",
    ]);
    prop_oneof![
        6 => texts.prop_map(Value::from),
        3 => any::<bool>().prop_map(Value::from),
        3 => select(vec![-1_i64, 0, 1, 67, 68, 1400, 4094, 4095, 65_535, 65_536, i64::MAX]).prop_map(Value::from),
        1 => Just(json!(1.5)),
        1 => Just(Value::Null),
        1 => Just(json!({})),
        1 => Just(json!([])),
    ]
}

fn object(keys: Vec<&'static str>) -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::btree_map(select(keys), value(), 0..3)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Ranges that are right more often than not.
fn range() -> impl Strategy<Value = Value> {
    let subnet =
        select(vec!["10.1.0.0/16", "10.1.7.0/24", "10.2.0.0/24", "10.3.0.1/24", "fd00::/64", "10.1.0.0/31"]);
    let more = prop_oneof![3 => Just(Map::new()), 1 => object(vec!["rangeStart", "rangeEnd", "gateway"])];
    (subnet, more).prop_map(|(subnet, mut range)| {
        range.insert("subnet".to_owned(), subnet.into());
        Value::Object(range)
    })
}

fn ipam() -> impl Strategy<Value = Value> {
    let ranges = proptest::collection::vec(proptest::collection::vec(range(), 1..3), 1..3);
    (ranges, object(vec!["subnet", "rangeStart", "gateway", "routes", "ranges"]), 0..4).prop_map(
        |(ranges, more, kind)| {
            let mut ipam =
                json!({"type": "host-local", "ranges": ranges, "dataDir": "/nonexistent/cnikit-lint-test"});
            match (kind, ipam.as_object_mut()) {
                (0, Some(ipam)) => ipam.extend(more),
                (1, _) => ipam = Value::Object(more),
                _ => {}
            }
            ipam
        },
    )
}

fn plugin() -> impl Strategy<Value = Map<String, Value>> {
    let keys = vec![
        "bridge",
        "isGateway",
        "ipMasq",
        "ipMasqBackend",
        "mtu",
        "hairpinMode",
        "promiscMode",
        "vlan",
        "vlanTrunk",
        "disableContainerInterface",
        "ipam",
        "capabilities",
        "dns",
    ];
    let kind = select(vec!["bridge", "ptp", "dummy"]);
    (kind, object(keys), proptest::option::weighted(0.8, ipam())).prop_map(|(kind, mut plugin, ipam)| {
        plugin.insert("type".to_owned(), kind.into());
        plugin.extend(ipam.map(|ipam| ("ipam".to_owned(), ipam)));
        plugin
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn what_a_plugin_refuses_is_an_error(plugin in plugin()) {
        let list = json!({"cniVersion": "1.1.0", "name": "a", "plugins": [plugin]});
        let found = lint(list.to_string().as_bytes());
        let errors: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Error).collect();
        if let Some(error) = refused(&plugin) {
            prop_assert!(!errors.is_empty(), "{error}\n{list:#}\n{found:#?}");
        }
    }

    #[test]
    fn whatever_stands_in_a_file_it_is_checked_without_panic(text in ".{0,200}", value in value(), plugin in plugin()) {
        lint(text.as_bytes());
        for list in [json!({"plugins": value}), json!({"name": value, "cniVersions": [value], "plugins": [value, plugin]})] {
            for finding in lint(list.to_string().as_bytes()) {
                let position = finding.position.map(|position| (position.line, position.column));
                prop_assert!(position.is_none_or(|(line, column)| line == 1 && column > 0));
            }
        }
    }
}
