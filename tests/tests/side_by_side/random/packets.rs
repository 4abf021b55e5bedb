//! Random published ports, firewalls and masquerading: who reaches whom, and who that seems to be.

use std::collections::BTreeMap;
use std::{fmt, thread};

use cnikit_tests::{Implementation, isolated, ours};
use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{each, key, object};
use crate::published::{Circumstances, DROP, Scene, scene};

/// A network with a pod that publishes ports.
#[derive(Clone)]
struct Network {
    portmap: Value,
    circumstances: Circumstances,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Circumstances { bridge, firewall, before } = &self.circumstances;
        write!(f, "bridge {bridge}, portmap {}, firewall {firewall:?}, after {before:?}", self.portmap)
    }
}

fn mappings() -> impl Strategy<Value = Value> {
    let host = key(
        "hostIP",
        ["", "0.0.0.0", "::", "127.0.0.1", "192.0.2.11", "2001:db8::1"].map(Value::from).to_vec(),
    );
    let mapping = (select(vec![8080, 8081]), select(vec![80, 81]), select(vec!["tcp", "udp"]), host);
    vec(mapping, 1..5).prop_map(|mappings| {
        let mut by_port = BTreeMap::new();
        for (port, inner, protocol, host) in mappings {
            let mut mapping = object([host]);
            mapping.insert("hostPort".to_owned(), json!(port));
            mapping.insert("containerPort".to_owned(), json!(inner));
            mapping.insert("protocol".to_owned(), json!(protocol));
            // Of two with one port it is not said which wins.
            by_port.insert((port, protocol), Value::Object(mapping));
        }
        by_port.into_values().collect()
    })
}

fn network() -> impl Strategy<Value = Network> {
    let portmap = (
        key("snat", vec![json!(true), json!(false)]),
        key("markMasqBit", vec![json!(0), json!(7)]),
        key("conditionsV4", vec![json!(["-s", "192.0.2.0/24"]), json!(["!", "-d", "192.0.2.11"])]),
        key("conditionsV6", vec![json!(["!", "-s", "fd00::/8"])]),
        mappings(),
    );
    let bridge = (key("hairpinMode", vec![json!(false)]), key("ipMasq", vec![json!(false)]));
    let firewall = proptest::option::of(
        key("ingressPolicy", vec![json!("open"), json!("same-bridge")])
            .prop_map(|key| Value::Object(object([key]))),
    );
    (portmap, bridge, firewall, select(vec!["true", DROP])).prop_map(
        |((snat, bit, v4, v6, mappings), (hairpin, masquerade), firewall, before)| {
            let mut portmap = object([snat, bit, v4, v6]);
            portmap.insert("runtimeConfig".to_owned(), json!({"portMappings": mappings}));
            let bridge = Value::Object(object([hairpin, masquerade]));
            Network {
                portmap: Value::Object(portmap),
                circumstances: Circumstances { bridge, firewall, before },
            }
        },
    )
}

/// Who asks whom: published ports at each of the node's addresses, the pod itself, and somebody outside.
const QUESTIONS: &[(&str, &str)] = &[
    ("outside", "192.0.2.1:8080"),
    ("outside", "192.0.2.11:8080"),
    ("outside", "192.0.2.1:8081"),
    ("outside", "[2001:db8::1]:8080"),
    ("outside", "10.1.0.2:80"),
    ("the node", "127.0.0.1:8080"),
    ("the node", "192.0.2.11:8081"),
    ("friend", "192.0.2.1:8080"),
    ("friend", "[fd00:1::1]:8081"),
    ("friend", "10.1.0.2:81"),
    ("pod", "192.0.2.1:8080"),
    ("pod", "192.0.2.2:90"),
    ("pod", "[2001:db8::2]:90"),
];

type Told = BTreeMap<String, Option<String>>;

/// What they are told: all ask at once, for who is not answered waits.
fn told(scene: &Scene) -> Told {
    thread::scope(|scope| {
        let asked: Vec<_> = QUESTIONS
            .iter()
            .flat_map(|(from, to)| [(from, to, "TCP"), (from, to, "UDP")])
            .map(|(from, to, protocol)| {
                let address = to.parse().unwrap();
                let answer = scope.spawn(move || match protocol {
                    "TCP" => scene.ask_by_tcp(from, address),
                    _ => scene.ask_by_udp(from, address),
                });
                (format!("{from}, {to}, {protocol}"), answer)
            })
            .collect();
        asked.into_iter().map(|(question, answer)| (question, answer.join().unwrap())).collect()
    })
}

fn same_for_packets(network: &Network) -> Result<(), String> {
    let Some(reference) = Implementation::reference() else { return Ok(()) };
    let scenes = [reference, ours!()].map(|plugins| {
        let scene = scene(&plugins, &network.portmap, &network.circumstances);
        scene.serve("outside", 90);
        scene
    });
    // A busy machine may answer too late: what differs is asked once more.
    let differences = || -> Vec<String> {
        let [theirs, ours] = scenes.each_ref().map(told);
        let differs = |question: &&String| theirs[*question] != ours[*question];
        let say = |question: &String| {
            format!("{question}: theirs {:?}, ours {:?}", theirs[question], ours[question])
        };
        theirs.keys().filter(differs).map(say).collect()
    };
    let lasting = differences();
    let lasting: Vec<_> = if lasting.is_empty() {
        lasting
    } else {
        let again = differences();
        lasting.into_iter().filter(|difference| again.contains(difference)).collect()
    };
    if lasting.is_empty() { Ok(()) } else { Err(format!("{network:?}:\n{}", lasting.join("\n"))) }
}

#[test]
fn packets_on_random_networks() {
    isolated(|| each(5, &network(), same_for_packets));
}
