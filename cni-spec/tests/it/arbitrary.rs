//! Whatever the bytes are: no panic, one answer.

use cni_spec::{
    AddResult, CniArgs, Env, Error, NetworkConfig, NetworkList, PluginConfig, SpecVersion,
    plugin::{DelRequest, Outcome, Plugin, Request},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value};

use crate::common::{env, serve};

/// Reads all that there is, and answers whatever comes of it.
struct Reader;

fn read<N>(request: &Request<N>) -> Result<AddResult, Error> {
    let config = &request.config;
    config.plugin_type()?;
    config.ipam_type()?;
    config.dns()?;
    config.cni_args()?.get::<Vec<String>>("ips")?;
    let runtime = config.runtime_config();
    runtime.port_mappings()?;
    runtime.ip_ranges()?;
    runtime.bandwidth()?;
    runtime.dns()?;
    runtime.ips()?;
    runtime.mac()?;
    runtime.aliases()?;
    runtime.pod_annotations()?;
    Ok(config.prev_result()?.unwrap_or_default())
}

impl Plugin for Reader {
    fn about(&self) -> &str {
        "reader"
    }
    fn versions(&self) -> &[SpecVersion] {
        SpecVersion::ALL
    }
    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        read(request)
    }
    fn del(&self, request: &DelRequest) -> Result<(), Error> {
        read(request).map(drop)
    }
    fn check(&self, request: &Request) -> Result<(), Error> {
        read(request).map(drop)
    }
}

/// Keys and values that mean something to a reader.
const WORDS: &str = "\
    cniVersion CNIVERSION name type ipam dns args cni runtimeConfig portMappings hostPort HostPort \
    containerPort hostIP protocol bandwidth ingressRate ips ipRanges subnet mac prevResult interfaces \
    interface address gateway routes dst gw scope mtu ip4 ip nameservers servers plugins cniVersions \
    disableCheck capabilities cni.dev/valid-attachments containerID ifname \
    io.kubernetes.cri.pod-annotations aliases 0.1.0 0.2.0 0.4.0 1.0.0 1.1.0 blue eth0 10.0.0.1 10.0.0.1/8 ::/0 tcp true";

fn word() -> impl Strategy<Value = String> {
    let known: Vec<_> = WORDS.split(' ').collect();
    prop_oneof![8 => select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..300_u16).prop_map(Value::from),
        // serde_json reads a number of 17 digits with an error in the last one; nobody configures a network with those.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::from), object(inner)]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    vec((word(), inner), 0..6).prop_map(|entries| Value::Object(Map::from_iter(entries)))
}

fn command() -> impl Strategy<Value = &'static str> {
    select(&["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"][..])
}

fn one_answer(env: Env, stdin: &[u8]) {
    let answer = serve(&Reader, env, stdin);
    match answer.outcome {
        Outcome::Failed(error) => assert_eq!(Error::from_json(answer.stdout.as_bytes()), Some(error)),
        _ if answer.stdout.is_empty() => {}
        _ => assert!(serde_json::from_str::<Value>(&answer.stdout).unwrap().is_object()),
    }
}

proptest! {
    #[test]
    fn any_bytes_on_stdin_have_one_answer(command in command(), stdin in vec(any::<u8>(), 0..300)) {
        one_answer(env(command), &stdin);
    }

    #[test]
    fn any_document_on_stdin_has_one_answer(command in command(), fields in object(json()), version in 0..7_usize) {
        let mut document = fields;
        document["name"] = "blue".into();
        document["cniVersion"] = SpecVersion::ALL[version].as_str().into();
        one_answer(env(command), document.to_string().as_bytes());
    }

    #[test]
    fn any_environment_has_one_answer(
        command in command(), variable in select(&["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "CNI_ARGS"][..]),
        value in any::<String>(),
    ) {
        let stdin = br#"{"cniVersion": "1.1.0", "name": "blue", "cni.dev/valid-attachments": []}"#;
        one_answer(env(command).with(variable, value), stdin);
    }

    #[test]
    fn every_reader_takes_any_document(document in json()) {
        let bytes = document.to_string().into_bytes();
        let _ = (NetworkList::from_json(&bytes), NetworkList::from_single_json(&bytes), PluginConfig::from_json(&bytes));
        for version in SpecVersion::ALL {
            if let Ok(result) = AddResult::from_value(&document, *version) {
                prop_assert!(AddResult::from_value(&result.to_value(*version), *version).is_ok());
            }
        }
        if let Ok(config) = NetworkConfig::from_json(&bytes) {
            prop_assert_eq!(NetworkConfig::from_json(config.to_json().as_bytes()).unwrap(), config);
        }
    }

    #[test]
    fn arguments_are_what_was_put_in(pairs in vec(("[A-Za-z0-9_]{1,8}", "[^;]{0,8}"), 0..6)) {
        let text = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";");
        let args = CniArgs::parse(&text);
        let back: Vec<_> = args.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(back, pairs);
    }

    #[test]
    fn any_text_is_arguments(text in any::<String>()) {
        let _ = CniArgs::parse(&text).deny_unknown(&["IP"]);
    }
}
