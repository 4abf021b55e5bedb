//! Calls that containerd, kubelet, ctr and podman have made, with the answers of the reference's plugins.

use cni_spec::{
    AddResult, Env, Error, NetworkConfig, SpecVersion,
    plugin::{DelRequest, Outcome, Plugin, Request},
};
use serde_json::Value;

use crate::common::serve;

#[derive(serde::Deserialize)]
struct Call {
    runtime: String,
    plugin: String,
    rc: i32,
    env: std::collections::BTreeMap<String, String>,
    stdin: Value,
    stdout: Value,
}

impl Call {
    fn command(&self) -> &str {
        &self.env["CNI_COMMAND"]
    }

    fn config(&self) -> NetworkConfig {
        NetworkConfig::from_json(self.stdin.to_string().as_bytes()).unwrap()
    }
}

fn calls() -> Vec<Call> {
    include_str!("../data/calls.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Answers what the reference has answered.
impl Plugin for Call {
    fn about(&self) -> &str {
        &self.plugin
    }

    fn versions(&self) -> &[SpecVersion] {
        let from = if self.plugin == "firewall" { 4 } else { 0 };
        &SpecVersion::ALL[from..6]
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        self.result(request.config.cni_version())
    }

    fn del(&self, _: &DelRequest) -> Result<(), Error> {
        self.result(SpecVersion::V1_0_0).map(drop)
    }

    fn check(&self, _: &Request) -> Result<(), Error> {
        unreachable!("no runtime of these has called CHECK")
    }
}

impl Call {
    fn result(&self, version: SpecVersion) -> Result<AddResult, Error> {
        match (self.rc, &self.stdout) {
            (0, Value::Object(_)) => AddResult::from_value(&self.stdout, version),
            (0, _) => Ok(AddResult::default()),
            _ => Err(Error::from_json(self.stdout.to_string().as_bytes()).unwrap()),
        }
    }
}

#[test]
fn the_recording_has_something_of_everything() {
    let calls = calls();
    for runtime in ["containerd", "ctr", "kubelet", "podman"] {
        assert!(calls.iter().any(|call| call.runtime == runtime), "{runtime}");
    }
    for command in ["ADD", "DEL", "VERSION"] {
        assert!(calls.iter().any(|call| call.command() == command), "{command}");
    }
    assert!(calls.iter().any(|call| call.rc != 0));
}

#[test]
fn every_call_is_answered_as_it_was() {
    for call in calls() {
        let what = format!("{} {} {}", call.runtime, call.plugin, call.command());
        let answer = serve(&call, call.env.iter().collect::<Env>(), call.stdin.to_string().as_bytes());
        assert_eq!(matches!(answer.outcome, Outcome::Done), call.rc == 0, "{what}: {:?}", answer.outcome);
        if answer.stdout.is_empty() {
            assert_eq!(call.stdout, "", "{what}");
            continue;
        }
        let mut expected = call.stdout.clone();
        // The reference's errors had no version.
        expected["cniVersion"] = call.stdin["cniVersion"].clone();
        // The reference's loopback leaves out the addresses' version, which 0.3.1 demands.
        if call.plugin == "loopback" {
            (expected["ips"][0]["version"], expected["ips"][1]["version"]) = ("4".into(), "6".into());
        }
        assert_eq!(serde_json::from_str::<Value>(&answer.stdout).unwrap(), expected, "{what}");
    }
}

#[test]
fn everything_in_the_configurations_is_understood() {
    let (mut ports, mut bandwidths, mut servers, mut previous) = (0, 0, 0, 0);
    for call in calls().iter().filter(|call| call.command() != "VERSION") {
        let config = call.config();
        let runtime = config.runtime_config();
        for mapping in runtime.port_mappings().unwrap() {
            assert!(mapping.host_port > 1024 && mapping.container_port > 0);
            ports += 1;
        }
        if let Some(limits) = runtime.bandwidth().unwrap() {
            assert_eq!(limits.ingress_rate, 10_000_000);
            bandwidths += 1;
        }
        servers += runtime.dns().unwrap().map_or(0, |dns| dns.servers.len());
        runtime.pod_annotations().unwrap();
        config.ipam_type().unwrap();
        config.dns().unwrap();
        assert_eq!(config.plugin_type().unwrap() == call.plugin.as_str(), call.plugin != "host-local");
        if let Some(result) = config.prev_result().unwrap() {
            let again = result.to_value(config.cni_version());
            let mut sent = call.stdin["prevResult"].clone();
            // What was made without version, or with an empty part, comes back with them.
            sent["cniVersion"] = again["cniVersion"].clone();
            sent.as_object_mut().unwrap().entry("dns").or_insert_with(|| serde_json::json!({}));
            assert_eq!(again, sent);
            previous += 1;
        }
        let args = cni_spec::CniArgs::parse(&call.env["CNI_ARGS"]);
        args.deny_unknown(&["IP", "MAC"]).unwrap();
        args.parsed::<std::net::IpAddr>("IP").unwrap();
    }
    assert!(
        ports >= 5 && bandwidths >= 2 && servers >= 2 && previous >= 10,
        "{ports} {bandwidths} {servers} {previous}"
    );
}
