//! Whatever a runtime sends, the answer is one error object with the right code, and exit status 1.

use std::{ffi::OsString, io::Read, os::unix::ffi::OsStringExt, process::ExitCode};

use crate::common::{Broken, env, serve, serve_from};
use cni_spec::{
    AddResult, Env, Error, ErrorCode, SpecVersion,
    plugin::{DelRequest, Outcome, Plugin, Request, STDIN_LIMIT},
};

/// Reads everything that a plugin could read.
struct Curious;

#[derive(serde::Deserialize)]
#[serde(default)]
struct Conf {
    mtu: u16,
    ipam: Ipam,
    panic: Option<String>,
}

impl Default for Conf {
    fn default() -> Self {
        Self { mtu: 1500, ipam: Ipam::default(), panic: None }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Ipam {
    ranges: Vec<Vec<cni_spec::IpRange>>,
    routes: Vec<cni_spec::Route>,
}

fn read(request: &Request) -> Result<AddResult, Error> {
    let config = &request.config;
    let conf: Conf = config.parse()?;
    match conf.panic.as_deref() {
        None => {}
        Some("str") => panic!("at the disco"),
        Some("any") => std::panic::panic_any(conf.mtu),
        Some(other) => panic!("{other}"),
    }
    config.ipam_type()?;
    config.dns()?;
    config.cni_args()?.get::<String>("mac")?;
    config.runtime_config().port_mappings()?;
    config.runtime_config().bandwidth()?;
    config.runtime_config().ips()?;
    request.args.deny_unknown(&["IP"])?;
    request.args.parsed::<std::net::IpAddr>("IP")?;
    let mut result = config.prev_result()?.unwrap_or_default();
    result.routes.extend(conf.ipam.routes);
    result
        .interfaces
        .extend((0..conf.ipam.ranges.len()).map(|i| cni_spec::Interface::on_host(i.to_string())));
    Ok(result)
}

impl Plugin for Curious {
    fn about(&self) -> &str {
        "curious"
    }
    fn versions(&self) -> &[SpecVersion] {
        &SpecVersion::ALL[1..]
    }
    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        read(request)
    }
    fn del(&self, _: &DelRequest) -> Result<(), Error> {
        Ok(())
    }
    fn check(&self, request: &Request) -> Result<(), Error> {
        read(request).map(drop)
    }
}

fn refused(what: &str, env: Env, stdin: &[u8], code: u32) {
    refused_from(what, env, &mut &*stdin, code);
}

fn refused_from(what: &str, env: Env, stdin: &mut dyn Read, code: u32) -> Error {
    let answer = serve_from(&Curious, env, stdin);
    let Outcome::Failed(error) = &answer.outcome else { panic!("{what}: accepted") };
    assert_eq!(error.code().get(), code, "{what}: {error}");
    assert_eq!(answer.outcome.exit_code(), ExitCode::FAILURE, "{what}");
    assert!(answer.stdout.len() < 4096, "{what}: {} bytes of error", answer.stdout.len());
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).expect(what);
    assert_eq!(document["code"], code, "{what}");
    assert!(!document["msg"].as_str().unwrap().is_empty(), "{what}");
    error.clone()
}

const CONF: &[u8] = br#"{"cniVersion": "1.1.0", "name": "blue", "type": "curious"}"#;

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[test]
fn a_good_call_is_not_refused() {
    for command in ["ADD", "DEL", "CHECK", "STATUS"] {
        assert_eq!(serve(&Curious, env(command), CONF).outcome, Outcome::Done, "{command}");
    }
}

#[test]
fn variables_that_are_missing_or_empty() {
    let needed: [(&str, &[&str]); 5] = [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("GC", &["CNI_PATH"]),
        ("STATUS", &["CNI_PATH"]),
    ];
    for (command, variables) in needed {
        for variable in variables {
            let error = refused_from(variable, env(command).with(*variable, ""), &mut &*CONF, 4);
            assert!(error.msg().contains(variable), "{error}");
            assert_eq!(error.version(), Some(SpecVersion::V1_1_0), "{variable}");
            let without = env(command).iter().filter(|(name, _)| name != variable).collect();
            refused(variable, without, CONF, 4);
        }
    }
}

#[test]
fn variables_with_bad_values() {
    let long_name = "x".repeat(256);
    let huge = "x".repeat(1 << 20);
    let bad: [(&str, &[&[u8]]); 4] = [
        ("CNI_COMMAND", &[b"add", b"FOO", b"ADD ", b"ADD\n", b"\xff", b"VERSION2", huge.as_bytes()]),
        (
            "CNI_CONTAINERID",
            &[
                b"..",
                b"../../etc/passwd",
                b"a/b",
                b"-rf",
                b".a",
                b"_a",
                b"a b",
                b"a\n",
                b"a;b",
                b"a$b",
                b"a\0b",
                "é".as_bytes(),
                b"a\xff",
                b"\xf0\x9f\x98",
                long_name.as_bytes(),
                huge.as_bytes(),
            ],
        ),
        (
            "CNI_IFNAME",
            &[
                b"sixteen-bytes-12",
                b".",
                b"..",
                b"../eth0",
                b"a/b",
                b"a:b",
                b"a b",
                b"\teth0",
                b"eth%d",
                b"eth\xff",
                "eth\u{a0}".as_bytes(),
                "e\u{3000}".as_bytes(),
                b"\n",
                huge.as_bytes(),
            ],
        ),
        (
            "CNI_ARGS",
            &[b"IP=10.0.0.300", b"IP", b"X=1", b"IgnoreUnknown=x", b"\xff=\xff", b"=;=", b"IP=\xff"],
        ),
    ];
    for (variable, values) in bad {
        for value in values {
            let what = format!("{variable}={}", String::from_utf8_lossy(&value[..value.len().min(40)]));
            refused(&what, env("ADD").with(variable, text(value)), CONF, 4);
        }
    }
}

#[test]
fn the_plugin_s_own_network_namespace() {
    let own = "/proc/self/ns/net";
    for command in ["ADD", "DEL"] {
        refused(command, env(command).with("CNI_NETNS", own), CONF, 8);
        for allow in ["1", "TRUE", "true"] {
            let env = env(command).with("CNI_NETNS", own).with("CNI_NETNS_OVERRIDE", allow);
            assert_eq!(serve(&Curious, env, CONF).outcome, Outcome::Done, "{command} {allow}");
        }
        refused(command, env(command).with("CNI_NETNS", own).with("CNI_NETNS_OVERRIDE", "0"), CONF, 8);
    }
}

#[test]
fn stdin_that_is_no_document() {
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000)).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("white space", b" \n\t ".to_vec()),
        ("null", b"null".to_vec()),
        ("array", b"[]".to_vec()),
        ("number", b"1".to_vec()),
        ("string", b"\"x\"".to_vec()),
        ("half", b"{\"name\": \"blue".to_vec()),
        ("two", [CONF, CONF].concat()),
        ("trailing", [CONF, b"x"].concat()),
        ("byte order mark", [b"\xef\xbb\xbf", CONF].concat()),
        ("not UTF-8", b"{\"name\": \"bl\xffue\"}".to_vec()),
        ("lone surrogate", br#"{"name": "\ud800"}"#.to_vec()),
        ("NUL bytes", vec![0; 4096]),
        ("raw newline in a string", b"{\"name\": \"a\nb\"}".to_vec()),
        ("number out of range", br#"{"name": "blue", "x": 1e999}"#.to_vec()),
        ("deep arrays", [b"{\"a\":".to_vec(), deep("[", "]"), b"}".to_vec()].concat()),
        ("deep objects", deep("{\"a\":", "}")),
        ("deep and open", b"[".repeat(200_000)),
        ("comments", b"{} // yes".to_vec()),
        ("single quotes", b"{'name': 'blue'}".to_vec()),
    ];
    for (what, stdin) in cases {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            refused(&format!("{what} {command}"), env(command), &stdin, 6);
        }
    }
}

#[test]
fn stdin_without_end() {
    refused_from("spaces", env("ADD"), &mut std::io::repeat(b' '), 6);
    refused_from("brackets", env("ADD"), &mut std::io::repeat(b'['), 6);
    refused("a big string", env("ADD"), format!("{{\"x\": \"{}\"}}", "x".repeat(STDIN_LIMIT)).as_bytes(), 6);
    refused_from("a broken pipe", env("ADD"), &mut Broken, 5);
}

#[test]
fn configurations_that_are_wrong() {
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(256));
    let long_mtu = format!(r#""mtu": "{}""#, "x".repeat(1 << 20));
    let whole: &[(&str, u32)] = &[
        (r#"{"cniVersion": "1.1.0"}"#, 7),
        (r#"{"name": null}"#, 7),
        (r#"{"name": ""}"#, 7),
        (r#"{"name": 1}"#, 6),
        (r#"{"name": ["blue"]}"#, 6),
        (r#"{"name": "../../etc"}"#, 7),
        (r#"{"name": "a/b"}"#, 7),
        (r#"{"name": ".."}"#, 7),
        (r#"{"name": "a\u0000b"}"#, 7),
        (r#"{"name": "blå"}"#, 7),
        (&long, 7),
        (r#"{"name": "blue"}"#, 1),
        (r#"{"name": "blue", "cniVersion": ""}"#, 1),
        (r#"{"name": "blue", "cniVersion": "9.9.9"}"#, 1),
        (r#"{"name": "blue", "cniVersion": "1.1"}"#, 1),
        (r#"{"name": "blue", "cniVersion": "v1.1.0"}"#, 1),
        (r#"{"name": "blue", "cniVersion": " 1.1.0"}"#, 1),
        (r#"{"name": "blue", "cniVersion": "1.1.0\u0000"}"#, 1),
        (r#"{"name": "blue", "cniVersion": 1}"#, 6),
        (r#"{"name": "blue", "cniVersion": {"major": 1}}"#, 6),
    ];
    for (stdin, code) in whole {
        refused(stdin, env("ADD"), stdin.as_bytes(), *code);
    }
    let fields: &[(&str, u32)] = &[
        (r#""mtu": "1500""#, 7),
        (&long_mtu, 7),
        (r#""mtu": -1"#, 7),
        (r#""mtu": 65536"#, 7),
        (r#""mtu": 99999999999999999999"#, 7),
        (r#""mtu": 1.5"#, 7),
        (r#""mtu": []"#, 7),
        (r#""mtu": true"#, 7),
        (r#""ipam": 5"#, 7),
        (r#""ipam": []"#, 7),
        (r#""ipam": {"type": "../../bin/sh"}"#, 7),
        (r#""ipam": {"type": 1}"#, 7),
        (r#""ipam": {"type": ".."}"#, 7),
        (r#""ipam": {"ranges": {}}"#, 7),
        (r#""ipam": {"ranges": [[{"subnet": "10.0.0.0/33"}]]}"#, 7),
        (r#""ipam": {"ranges": [[{"subnet": "10.0.0.0"}]]}"#, 7),
        (r#""ipam": {"ranges": [[{}]]}"#, 7),
        (r#""ipam": {"routes": [{"dst": "default"}]}"#, 7),
        (r#""ipam": {"routes": [{"dst": "::/0", "gw": "fe80::1%eth0"}]}"#, 7),
        (r#""ipam": {"routes": [{"dst": "::/0", "table": -1}]}"#, 7),
        (r#""dns": "10.0.0.1""#, 7),
        (r#""dns": {"nameservers": "10.0.0.1"}"#, 7),
        (r#""args": []"#, 7),
        (r#""args": {"cni": "x"}"#, 7),
        (r#""args": {"cni": {"mac": 1}}"#, 7),
        (r#""runtimeConfig": 1"#, 7),
        (r#""runtimeConfig": {"portMappings": {}}"#, 7),
        (r#""runtimeConfig": {"portMappings": [{"HostPort": 65536, "ContainerPort": 1}]}"#, 7),
        (r#""runtimeConfig": {"portMappings": [{"hostPort": -1, "containerPort": 1}]}"#, 7),
        (r#""runtimeConfig": {"portMappings": [{"hostPort": 1}]}"#, 7),
        (
            r#""runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]}"#,
            7,
        ),
        (
            r#""runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "localhost"}]}"#,
            7,
        ),
        (r#""runtimeConfig": {"bandwidth": {"ingressRate": -1}}"#, 7),
        (r#""runtimeConfig": {"bandwidth": {"ingressRate": 1e30}}"#, 7),
        (r#""runtimeConfig": {"ips": ["10.0.0.1/33"]}"#, 7),
        (r#""runtimeConfig": {"ips": [null]}"#, 7),
        (r#""prevResult": "x""#, 6),
        (r#""prevResult": []"#, 6),
        (r#""prevResult": {"cniVersion": "9.9.9"}"#, 1),
        (r#""prevResult": {"cniVersion": 1}"#, 6),
        (r#""prevResult": {"ips": [{"address": "10.0.0.1"}]}"#, 6),
        (r#""prevResult": {"ips": {}}"#, 6),
        (r#""prevResult": {"interfaces": ["eth0"]}"#, 6),
        (r#""prevResult": {"interfaces": [{"name": 1}]}"#, 6),
        (r#""prevResult": {"cniVersion": "0.2.0", "ip4": {"gateway": "10.0.0.1"}}"#, 6),
        (r#""panic": "str""#, 999),
        (r#""panic": "any""#, 999),
        (r#""panic": "a text \" of its own""#, 999),
    ];
    for (field, code) in fields {
        let stdin = format!(r#"{{"cniVersion": "1.0.0", "name": "blue", {field}}}"#);
        for command in ["ADD", "CHECK"] {
            let what = format!("{command} {}", &field[..field.len().min(80)]);
            let error = refused_from(&what, env(command), &mut stdin.as_bytes(), *code);
            assert_eq!(error.version(), Some(SpecVersion::V1_0_0), "{what}");
        }
        // None of that is needed for a DEL.
        assert_eq!(serve(&Curious, env("DEL"), stdin.as_bytes()).outcome, Outcome::Done, "{field:.80}");
    }
}

#[test]
fn commands_that_the_version_does_not_have() {
    let cases =
        [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("GC", "0.4.0"), ("CHECK", "0.2.0")];
    for (command, version) in cases {
        let stdin = format!(r#"{{"cniVersion": "{version}", "name": "blue"}}"#);
        let error = refused_from(command, env(command), &mut stdin.as_bytes(), 1);
        assert_eq!(error.version().unwrap().as_str(), version);
    }
}

#[test]
fn a_gc_that_does_not_say_what_is_valid() {
    let cases = [
        "",
        r#", "cni.dev/valid-attachments": "all""#,
        r#", "cni.dev/valid-attachments": {}"#,
        r#", "cni.dev/valid-attachments": [{}]"#,
        r#", "cni.dev/valid-attachments": [{"containerID": "a"}]"#,
        r#", "cni.dev/valid-attachments": [{"containerID": "../a", "ifname": "eth0"}]"#,
        r#", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "a/b"}]"#,
        r#", "cni.dev/valid-attachments": [{"containerID": 1, "ifname": "eth0"}]"#,
        r#", "cni.dev/valid-attachments": [], "cni.dev/attachments": [null]"#,
    ];
    for fields in cases {
        let stdin = format!(r#"{{"cniVersion": "1.1.0", "name": "blue"{fields}}}"#);
        refused(fields, env("GC"), stdin.as_bytes(), 7);
    }
}

#[test]
fn the_version_of_an_error_is_what_was_asked_for_even_if_nobody_knows_it() {
    let answer = serve(&Curious, env("ADD"), br#"{"cniVersion": "7.7.7", "name": "blue"}"#);
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((&document["cniVersion"], &document["code"]), (&"7.7.7".into(), &1.into()));
    assert!(document["details"].as_str().unwrap().contains("0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"));
}

#[test]
fn a_panic_is_answered_with_its_text() {
    let answer = serve(&Curious, env("ADD"), br#"{"cniVersion": "1.1.0", "name": "blue", "panic": "str"}"#);
    let Outcome::Failed(error) = answer.outcome else { panic!("no failure") };
    assert_eq!((error.code(), error.msg()), (ErrorCode::INTERNAL, "the plugin panicked: at the disco"));
}
