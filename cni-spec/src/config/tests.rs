use serde_json::{Value, json};

use super::*;
use crate::{Error, ErrorCode, SpecVersion};

fn config(mut fields: Value) -> NetworkConfig {
    fields["name"] = "blue".into();
    NetworkConfig::from_json(fields.to_string().as_bytes()).unwrap()
}

fn runtime(fields: Value) -> NetworkConfig {
    config(json!({ "runtimeConfig": fields }))
}

fn list(fields: Value) -> Result<NetworkList, Error> {
    NetworkList::from_json(fields.to_string().as_bytes())
}

#[test]
fn a_configuration_without_version_is_of_the_first_one() {
    for version in [json!(null), json!("")] {
        assert_eq!(config(json!({ "cniVersion": version })).cni_version(), SpecVersion::V0_1_0);
    }
    assert_eq!(config(json!({})).cni_version(), SpecVersion::V0_1_0);
    assert_eq!(config(json!({"CNIVersion": "0.4.0"})).cni_version(), SpecVersion::V0_4_0);
}

#[test]
fn no_ipam_is_no_addresses() {
    for none in [json!({}), json!({"ipam": {}}), json!({"ipam": null}), json!({"ipam": {"type": ""}})] {
        assert_eq!(config(none.clone()).ipam_type().unwrap(), None, "{none}");
    }
    assert_eq!(config(json!({"ipam": {"type": "dhcp"}})).ipam_type().unwrap().unwrap(), "dhcp");
}

#[test]
fn unknown_fields_survive() {
    let config = config(json!({"x": {"Y": [null, 1.5, "z"]}, "runtimeConfig": {"own": 1}}));
    assert_eq!(NetworkConfig::from_json(config.to_json().as_bytes()).unwrap(), config);
    assert_eq!(config.document()["x"]["Y"][0], Value::Null);
    assert_eq!(config.runtime_config().get::<u8>("own").unwrap(), Some(1));
}

#[test]
fn sections_are_read_field_by_field() {
    let config = config(json!({"args": {"CNI": {"ips": ["10.0.0.1", "10.0.0.2/8"], "mac": 5}}}));
    let args = config.cni_args().unwrap();
    assert_eq!(args.path(), "args.cni");
    let ips: Vec<RequestedIp> = args.get("ips").unwrap().unwrap();
    assert_eq!(ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.2/8"]);
    let error = args.get::<String>("mac").unwrap_err();
    assert_eq!(error.msg(), "args.cni.mac: invalid type: integer `5`, expected a string");
    assert!(config.section("nothing").is_empty() && !args.is_empty());
    assert_eq!(config.section("nothing").section("deeper").unwrap().get::<u8>("x").unwrap(), None);
    assert_eq!(config.section("nothing").parse::<u8>().unwrap(), None);
}

#[test]
fn port_mappings_come_in_go_s_case_and_in_the_conventions() {
    let config = runtime(json!({"portMappings": [
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
        {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"},
        {"hostPort": 1, "containerPort": 2}
    ]}));
    let mappings = config.runtime_config().port_mappings().unwrap();
    assert_eq!(
        mappings,
        [
            PortMapping { host_port: 8080, container_port: 80, protocol: Protocol::Tcp, host_ip: None },
            PortMapping {
                host_port: 53,
                container_port: 53,
                protocol: Protocol::Udp,
                host_ip: "::1".parse().ok()
            },
            PortMapping { host_port: 1, container_port: 2, protocol: Protocol::Tcp, host_ip: None },
        ]
    );
    assert_eq!(
        serde_json::to_value(&mappings[..2]).unwrap(),
        json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"}
        ])
    );
}

#[test]
fn bursts_may_be_larger_than_four_billion() {
    let config = runtime(
        json!({"bandwidth": {"IngressRate": 10, "IngressBurst": 8_589_934_592_u64, "egressRate": 1}}),
    );
    let expected =
        Bandwidth { ingress_rate: 10, ingress_burst: 8_589_934_592, egress_rate: 1, egress_burst: 0 };
    assert_eq!(config.runtime_config().bandwidth().unwrap(), Some(expected));
}

#[test]
fn every_capability_is_read_by_its_name() {
    let config = runtime(json!({
        "dns": {"Servers": ["10.0.0.10"], "Searches": ["a"], "Options": ["ndots:5"]},
        "ips": ["10.0.0.5/24", "2001:db8::5"], "mac": "c2:11:22:33:44:55", "infinibandGUID": "c2:11:22:33:44:55:66:77",
        "deviceID": "0000:04:00.5", "aliases": ["web"], "cgroupPath": "/kubelet/pod",
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
        "ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "gateway": ""}], [{"subnet": "2001:db8::/64"}]]
    }));
    let runtime = config.runtime_config();
    assert_eq!(runtime.dns().unwrap().unwrap().servers, ["10.0.0.10"]);
    assert_eq!(runtime.ips().unwrap()[0], "10.0.0.5/24".parse().unwrap());
    assert_eq!(runtime.ips().unwrap()[1].prefix_len, None);
    assert_eq!(runtime.mac().unwrap().as_deref(), Some("c2:11:22:33:44:55"));
    assert_eq!(runtime.infiniband_guid().unwrap().as_deref(), Some("c2:11:22:33:44:55:66:77"));
    assert_eq!(runtime.device_id().unwrap().as_deref(), Some("0000:04:00.5"));
    assert_eq!(runtime.aliases().unwrap(), ["web"]);
    assert_eq!(runtime.cgroup_path().unwrap().as_deref(), Some("/kubelet/pod"));
    assert_eq!(runtime.pod_annotations().unwrap()["a"], "b");
    let ranges = runtime.ip_ranges().unwrap();
    assert_eq!((ranges.len(), ranges[0][0].gateway), (2, None));
    for capability in Capability::ALL {
        let filled_in = runtime.get::<Value>(capability.as_str()).unwrap().is_some();
        assert_eq!(
            filled_in,
            !matches!(capability, Capability::PortMappings | Capability::Bandwidth),
            "{capability}"
        );
    }
}

#[test]
fn capabilities_that_nobody_filled_in_are_empty() {
    for config in [config(json!({})), runtime(json!({})), runtime(json!({"mac": "", "ips": null}))] {
        let runtime = config.runtime_config();
        assert!(runtime.port_mappings().unwrap().is_empty() && runtime.ips().unwrap().is_empty());
        assert_eq!((runtime.mac().unwrap(), runtime.bandwidth().unwrap()), (None, None));
    }
}

#[test]
fn a_wrong_capability_stops_only_who_asks_for_it() {
    let config = runtime(
        json!({"portMappings": [{"hostPort": 1, "containerPort": 80}, {"hostPort": 70_000}], "mac": "x"}),
    );
    let error = config.runtime_config().port_mappings().unwrap_err();
    let msg = "runtimeConfig.portMappings[1].hostPort: invalid value: integer `70000`, expected u16";
    assert_eq!((error.code(), error.msg()), (ErrorCode::INVALID_CONFIG, msg));
    assert_eq!(config.runtime_config().mac().unwrap().as_deref(), Some("x"));
}

#[test]
fn a_list_speaks_the_newest_version_that_is_known() {
    let version = |fields: Value| {
        let mut fields = fields;
        fields["name"] = "blue".into();
        list(fields).map(|list| list.cni_version)
    };
    assert_eq!(version(json!({})), Ok(SpecVersion::V0_1_0));
    assert_eq!(version(json!({"cniVersion": "0.4.0"})), Ok(SpecVersion::V0_4_0));
    assert_eq!(
        version(json!({"cniVersion": "9.0.0", "cniVersions": ["0.4.0", "0.3.1"]})),
        Ok(SpecVersion::V0_4_0)
    );
    assert_eq!(version(json!({"cniVersions": ["1.0.0", "1.1.0", "1.2.0"]})), Ok(SpecVersion::V1_1_0));
    let unknown = version(json!({"cniVersion": "9.0.0", "cniVersions": ["8.0.0"]})).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::INCOMPATIBLE_VERSION);
    assert_eq!(unknown.msg(), "cniVersion: none of 9.0.0, 8.0.0 is known");
    assert_eq!(version(json!({"cniVersions": "1.0.0"})).unwrap_err().code(), ErrorCode::DECODING_FAILURE);
}

#[test]
fn flags_may_be_texts() {
    let parsed = list(
        json!({"name": "a", "disableCheck": "TRUE", "disableGC": true, "loadOnlyInlinedPlugins": "false"}),
    );
    let parsed = parsed.unwrap();
    assert_eq!(
        (parsed.disable_check, parsed.disable_gc, parsed.load_only_inlined_plugins),
        (true, true, false)
    );
    let error = list(json!({"name": "a", "disableGC": "yes"})).unwrap_err();
    assert_eq!(error.msg(), "disableGC: \"yes\" is neither true nor false");
}

#[test]
fn the_mistakes_in_a_list_are_named_with_their_place() {
    let cases = [
        (json!({"plugins": []}), "name: missing"),
        (json!({"name": "a b"}), "name: the name contains ' ', which is not allowed"),
        (json!({"name": "a", "plugins": {}}), "plugins: not an array"),
        (json!({"name": "a", "plugins": [1]}), "plugins[0]: not an object"),
        (json!({"name": "a", "plugins": [{"type": "x"}, {}]}), "plugins[1].type: missing"),
        (
            json!({"name": "a", "plugins": [{"type": "../x"}]}),
            "plugins[0].type: the name contains '/', which is not allowed",
        ),
        (
            json!({"name": "a", "plugins": [{"type": "x", "capabilities": {"ips": "yes"}}]}),
            "plugins[0].capabilities.ips: invalid type: string \"yes\", expected a boolean",
        ),
        (
            json!({"name": "a", "loadOnlyInlinedPlugins": true}),
            "plugins: missing or empty, and loadOnlyInlinedPlugins allows no others",
        ),
    ];
    for (document, msg) in cases {
        assert_eq!(list(document).unwrap_err().msg(), msg);
    }
}

#[test]
fn a_single_configuration_becomes_a_list_of_one() {
    let single = br#"{"cniVersion": "0.3.1", "name": "blue", "type": "bridge", "capabilities": {"ips": true}, "mtu": 9000}"#;
    let list = NetworkList::from_single_json(single).unwrap();
    assert_eq!((list.cni_version, list.name.as_str()), (SpecVersion::V0_3_1, "blue"));
    assert_eq!(list.plugins[0].document["mtu"], 9000);
    assert!(list.plugins[0].wants("ips") && !list.plugins[0].wants("mac"));
    let again = NetworkList::from_json(Value::Object(list.document.clone()).to_string().as_bytes()).unwrap();
    assert_eq!(again.plugins, list.plugins);
    assert!(NetworkList::from_single_json(br#"{"name": "blue"}"#).is_err());
}
