//! `sbr` on a node in memory: where routes go, whatever fails, and what is left of it.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use cni_spec::plugin::Plugin;
use netops::{Answer, Feature, LinkName, MemoryKernel, Place, Query, Resource, Route};
use plugin_bridge::Bridge;
use plugin_chain::Sbr;
use plugin_kit::testing::{MemoryNode, TestCall, Trial};
use plugin_kit::{Kernels, Kit, Purpose};
use serde_json::{Value, json};

const DUAL: &str = r#"{"type": "static", "addresses": [
    {"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00:1::5/64", "gateway": "fd00:1::1"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]}"#;

/// An interface of `bridge`'s with addresses and routes, and then `sbr` with some keys.
struct Pod<'a> {
    node: &'a MemoryNode,
    call: TestCall,
}

fn config(kind: &str, keys: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": kind});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn bridge(ipam: &str) -> TestCall {
    let ipam: Value = serde_json::from_str(ipam).unwrap();
    TestCall::new(config("bridge", &json!({"isGateway": false, "ipam": ipam})))
}

impl<'a> Pod<'a> {
    fn new(node: &'a MemoryNode, interface: &str, ipam: &str, keys: &Value) -> Self {
        let made = Kit::with_kernels(Bridge, node).add(&bridge(ipam).interface(interface).request()).unwrap();
        let call = TestCall::new(config("sbr", keys)).interface(interface).previous(&made);
        Self { node, call }
    }

    fn plugin(&self) -> impl Plugin + use<'a> {
        Kit::with_kernels(Sbr, self.node)
    }

    fn add(&self) {
        self.plugin().add(&self.call.request()).unwrap();
    }
}

fn read(node: &MemoryNode, query: Query) -> Answer {
    let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
    kernel.read(Place::Container, &[query]).unwrap().remove(0)
}

/// The rules that somebody made, and the routes out of an interface but for link-local ones.
fn routing(node: &MemoryNode, interface: &str) -> (Vec<String>, Vec<String>) {
    let Answer::Rules(rules) = read(node, Query::Rules) else { panic!("no rules") };
    let rules = rules.iter().filter_map(|rule| Some((rule.source()?, rule.table)));
    let rules = rules.filter(|(from, _)| from.prefix_len() > 0);
    let Answer::Routes(routes) = read(node, Query::Routes(LinkName::new(interface).unwrap())) else {
        panic!("no routes")
    };
    let mut routes: Vec<_> =
        routes.iter().map(ToString::to_string).filter(|route| !route.contains("fe80::")).collect();
    routes.sort();
    (rules.map(|(from, table)| format!("{from} {table}")).collect(), routes)
}

#[test]
fn each_address_has_a_table_with_the_routes_that_go_with_it() {
    let node = &MemoryNode::new();
    Pod::new(node, "eth0", DUAL, &json!({})).add();
    let (rules, routes) = routing(node, "eth0");
    assert_eq!(rules, ["10.1.0.5/32 100", "fd00:1::5/128 101"]);
    assert_eq!(
        routes,
        [
            "route 0.0.0.0/0 via 10.1.0.1 dev \"eth0\" table 100",
            "route 10.1.0.0/24 dev \"eth0\" table 100",
            "route 10.9.0.0/16 via 10.1.0.9 dev \"eth0\" table 100",
            "route ::/0 via fd00:1::1 dev \"eth0\" table 101",
            "route fd00:1::/64 dev \"eth0\" table 101",
        ]
    );
}

#[test]
fn link_local_addresses_are_still_reached_by_everybody() {
    let node = &MemoryNode::new();
    Pod::new(node, "eth0", DUAL, &json!({})).add();
    let Answer::Routes(routes) = read(node, Query::Routes(LinkName::new("eth0").unwrap())) else { panic!() };
    let link_local = routes.iter().filter(|route| route.destination.to_string() == "fe80::/64");
    assert_eq!(link_local.map(Route::table).collect::<Vec<_>>(), [254, 101]);
}

#[test]
fn a_second_interface_gets_tables_of_its_own_and_leaves_the_first_its_routes() {
    let node = &MemoryNode::new();
    let (first, second) = (
        Pod::new(node, "eth0", DUAL, &json!({})),
        r#"{"type": "static", "addresses": [
        {"address": "10.2.0.5/24", "gateway": "10.2.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}"#,
    );
    let before = routing(node, "eth0").1;
    Pod::new(node, "net1", second, &json!({})).add();
    assert_eq!(routing(node, "eth0").1, before);
    assert_eq!(routing(node, "net1").0, ["10.2.0.5/32 100"]);
    first.add();
    assert_eq!(routing(node, "eth0").0, ["10.1.0.5/32 101", "10.2.0.5/32 100", "fd00:1::5/128 102"]);
}

#[test]
fn a_fixed_table_gets_rules_and_nothing_else() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({"table": 5001}));
    let before = routing(node, "eth0").1;
    pod.add();
    assert_eq!(routing(node, "eth0"), (vec!["10.1.0.5/32 5001".into(), "fd00:1::5/128 5001".into()], before));
    pod.plugin().check(&pod.call.request()).unwrap();
    pod.plugin().del(&pod.call.del_request()).unwrap();
    assert_eq!(routing(node, "eth0").0, [""; 0]);
}

#[test]
fn configured_gateways_stand_before_those_of_the_addresses() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({"gateways": ["10.1.0.77", "fd00:1::77"]}));
    pod.add();
    let routes = routing(node, "eth0").1;
    let defaults: Vec<_> = routes.iter().filter(|route| route.contains("/0 ")).collect();
    assert_eq!(
        defaults,
        [
            "route 0.0.0.0/0 via 10.1.0.77 dev \"eth0\" table 100",
            "route ::/0 via fd00:1::77 dev \"eth0\" table 101"
        ]
    );
    pod.plugin().check(&pod.call.request()).unwrap();
}

#[test]
fn source_hints_leave_the_subnets_to_everybody() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({"addSourceHints": true}));
    pod.add();
    let Answer::Routes(routes) = read(node, Query::Routes(LinkName::new("eth0").unwrap())) else { panic!() };
    let main = routes.iter().filter(|route| route.table() == 254 && !route.to_string().contains("fe80"));
    let mut main: Vec<_> = main.map(|route| format!("{route} from {:?}", route.source.unwrap())).collect();
    main.sort();
    assert_eq!(
        main,
        ["route 10.1.0.0/24 dev \"eth0\" from 10.1.0.5", "route fd00:1::/64 dev \"eth0\" from fd00:1::5"]
    );
    pod.plugin().check(&pod.call.request()).unwrap();
}

#[test]
fn a_route_through_no_addresss_subnet_goes_with_all_of_its_family() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({}));
    let (destination, gateway) = ("10.8.0.0/16".parse().unwrap(), "192.0.2.1".parse().ok());
    let route = Route::new(destination, gateway, LinkName::new("eth0").unwrap()).onlink();
    let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
    kernel.create(Place::Container, &[&Resource::Route(route)]).remove(0).unwrap();
    drop(kernel);
    pod.add();
    let routes = routing(node, "eth0").1;
    let moved: Vec<_> = routes.iter().filter(|route| route.contains("192.0.2.1")).collect();
    assert_eq!(moved, ["route 10.8.0.0/16 via 192.0.2.1 dev \"eth0\" table 100"]);
}

#[test]
fn whatever_fails_the_interface_is_as_it_was() {
    for keys in [
        json!({}),
        json!({"table": 5001}),
        json!({"gateways": ["10.1.0.77"]}),
        json!({"addSourceHints": true}),
    ] {
        let config = config("sbr", &keys);
        let trial = Trial::new(Sbr, &config).behind(|node, call| {
            let bridge = bridge(DUAL).container(call.container_id());
            let made = Kit::with_kernels(Bridge, node).add(&bridge.request()).unwrap();
            call.previous(&made)
        });
        let trial = trial.until_others_del(|node, call| {
            let bridge = bridge(DUAL).container(call.container_id());
            Kit::with_kernels(Bridge, node).del(&bridge.del_request()).unwrap();
        });
        assert!(trial.assert_add_is_all_or_nothing() > 5, "{keys}");
        assert!(trial.assert_del_is_completed_by_the_next() > 5, "{keys}");
        trial.assert_gc_is_completed_by_the_next();
    }
}

#[test]
fn check_names_what_is_not_as_it_was_left() {
    for (damage, named) in [
        (Query::Rules, "rule for what 10.1.0.5/32 sends"),
        (Query::Tables, "route 10.1.0.0/24 dev \"eth0\" table 100"),
    ] {
        let node = &MemoryNode::new();
        let pod = Pod::new(node, "eth0", DUAL, &json!({}));
        pod.add();
        pod.plugin().check(&pod.call.request()).unwrap();
        let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
        let unwanted =
            match (&damage, read(node, Query::Rules), read(node, Query::Routes("eth0".parse().unwrap()))) {
                (Query::Rules, Answer::Rules(rules), _) => Resource::Rule(rules[1].clone()),
                (_, _, Answer::Routes(routes)) => {
                    let lost =
                        |route: &&Route| route.to_string() == "route 10.1.0.0/24 dev \"eth0\" table 100";
                    Resource::Route(routes.iter().find(lost).unwrap().clone())
                }
                _ => panic!(),
            };
        kernel.remove(Place::Container, &[&unwanted]).remove(0).unwrap();
        drop(kernel);
        let error = pod.plugin().check(&pod.call.request()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn check_finds_a_default_route_that_is_back() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({}));
    pod.add();
    let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
    let mut create = |destination: &str, gateway: Option<&str>| {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        let route = Route::new(destination.parse().unwrap(), gateway, "eth0".parse().unwrap());
        kernel.create(Place::Container, &[&Resource::Route(route)]).remove(0).unwrap();
    };
    // What is nobody's of this attachment may come and go.
    create("10.99.0.0/16", None);
    pod.plugin().check(&pod.call.request()).unwrap();
    create("10.1.0.0/24", None);
    create("0.0.0.0/0", Some("10.1.0.1"));
    let error = pod.plugin().check(&pod.call.request()).unwrap_err().to_string();
    assert!(error.contains("absence of route 0.0.0.0/0 via 10.1.0.1"), "{error}");
}

#[test]
fn del_removes_the_rules_and_what_they_led_to_with_and_without_a_previous_result() {
    for remembered in [true, false] {
        let node = &MemoryNode::new();
        let pod = Pod::new(node, "eth0", DUAL, &json!({}));
        pod.add();
        let call = if remembered { pod.call.clone() } else { TestCall::new(config("sbr", &json!({}))) };
        for _ in 0..2 {
            pod.plugin().del(&call.del_request()).unwrap();
            let none: Vec<String> = Vec::new();
            assert_eq!(routing(node, "eth0"), (none.clone(), none), "remembered: {remembered}");
        }
    }
}

#[test]
fn del_finds_the_rules_of_an_interface_that_is_gone_by_the_previous_result() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({}));
    pod.add();
    Kit::with_kernels(Bridge, node).del(&bridge(DUAL).del_request()).unwrap();
    assert_eq!(routing(node, "eth0").0.len(), 2);
    pod.plugin().del(&pod.call.del_request()).unwrap();
    assert_eq!(routing(node, "eth0").0, [""; 0]);
}

#[test]
fn del_needs_no_namespace_and_no_valid_configuration() {
    let node = &MemoryNode::new();
    let pod = Pod::new(node, "eth0", DUAL, &json!({}));
    pod.add();
    let nonsense = TestCall::new(config("sbr", &json!({"table": "x", "gateways": 7})));
    pod.plugin().del(&nonsense.del_request()).unwrap();
    assert_eq!(routing(node, "eth0").0, [""; 0]);
    pod.plugin().del(&pod.call.clone().without_netns().del_request()).unwrap();
    node.end_container("c1");
    pod.plugin().del(&pod.call.del_request()).unwrap();
}

#[test]
fn an_add_that_was_cut_short_is_completed_by_the_next() {
    for n in 0..8 {
        let node = &MemoryNode::new();
        let pod = Pod::new(node, "eth0", DUAL, &json!({}));
        // All that the first came to.
        let mut kernel = node.open(Some("/run/netns/c1".as_ref()), Purpose::Attach).unwrap();
        let rule = netops::Rule::from("10.1.0.5/32".parse().unwrap(), 100 + n);
        kernel.create(Place::Container, &[&Resource::Rule(rule)]).remove(0).unwrap();
        drop(kernel);
        pod.add();
        pod.plugin().check(&pod.call.request()).unwrap();
        let (rules, routes) = routing(node, "eth0");
        assert_eq!(rules[0], format!("10.1.0.5/32 {}", 100 + n));
        assert!(routes.iter().all(|route| route.contains(" table ")), "{routes:?}");
    }
}

#[test]
fn an_attachment_without_addresses_is_refused_and_one_without_a_chain_too() {
    let node = &MemoryNode::new();
    let empty = TestCall::new(config("sbr", &json!({"prevResult": {"cniVersion": "1.1.0", "ips": []}})));
    let plugin = Kit::with_kernels(Sbr, node);
    let error = plugin.add(&empty.request()).unwrap_err().to_string();
    assert!(error.contains("sbr needs addresses"), "{error}");
    let error = plugin.add(&TestCall::new(config("sbr", &json!({}))).request()).unwrap_err().to_string();
    assert!(error.contains("prevResult: missing"), "{error}");
}

#[test]
fn nonsense_in_the_configuration_is_named() {
    for (keys, named) in [
        (json!({"table": 0}), "table is 0"),
        (json!({"table": -1}), "table is -1"),
        (json!({"gateways": ["10.0.0.1", "10.0.0.2"]}), "10.0.0.2 is the second of its family"),
        (json!({"gateways": ["x"]}), "gateways"),
    ] {
        let node = &MemoryNode::new();
        let pod = Pod::new(node, "eth0", DUAL, &keys);
        let before = node.snapshot();
        let error = pod.plugin().add(&pod.call.request()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        before.assert_same(&node.snapshot());
    }
}

#[test]
fn status_and_add_say_so_where_the_kernel_has_no_rules() {
    let node = &MemoryNode::with_kernel(MemoryKernel::new().lacking(Feature::PolicyRouting));
    let pod = Pod::new(node, "eth0", DUAL, &json!({}));
    let error = pod.plugin().status(&pod.call.status_request()).unwrap_err().to_string();
    assert!(error.contains("CONFIG_IP_MULTIPLE_TABLES"), "{error}");
    pod.plugin().add(&pod.call.request()).unwrap_err();
    let whole = &MemoryNode::new();
    Kit::with_kernels(Sbr, whole).status(&pod.call.status_request()).unwrap();
}

#[test]
fn calls_at_the_same_time_take_different_tables() {
    let node = &MemoryNode::new();
    let pods: Vec<_> = (0..8)
        .map(|n| {
            let ipam = format!(r#"{{"type": "static", "addresses": [{{"address": "10.{n}.0.5/24"}}]}}"#);
            Pod::new(node, &format!("net{n}"), &ipam, &json!({}))
        })
        .collect();
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| pod.add());
        }
    });
    let Answer::Rules(rules) = read(node, Query::Rules) else { panic!() };
    let mut tables: Vec<_> = rules
        .iter()
        .filter(|rule| rule.source().is_some_and(|from| from.prefix_len() > 0))
        .map(|rule| rule.table)
        .collect();
    tables.sort_unstable();
    assert_eq!(tables, (100..108).collect::<Vec<_>>());
}

#[test]
fn more_routes_than_fit_into_a_plan_are_refused() {
    let node = &MemoryNode::new();
    let numbers = || (0..150).map(|n| format!("10.{}.{}", n / 100, n % 100));
    let addresses: Value = numbers().map(|n| json!({"address": format!("{n}.5/24")})).collect();
    let routes: Value = numbers().map(|n| json!({"dst": format!("{n}.0/28"), "gw": "10.0.0.1"})).collect();
    let ipam = json!({"type": "static", "addresses": addresses, "routes": routes});
    let pod = Pod::new(node, "eth0", &ipam.to_string(), &json!({}));
    let before = node.snapshot();
    let error = pod.plugin().add(&pod.call.request()).unwrap_err();
    assert!(error.to_string().contains("150 addresses and"), "{error}");
    assert_eq!(node.snapshot(), before);
    pod.plugin().del(&pod.call.del_request()).unwrap();
}
