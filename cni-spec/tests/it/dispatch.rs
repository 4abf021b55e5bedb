//! What a plugin is called with, and how its answers are printed.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Mutex,
    thread,
};

use crate::common::{Answer, env, serve};
use cni_spec::{
    AddResult, Env, Error, ErrorCode, IpConfig, SpecVersion, VersionResult,
    plugin::{DelRequest, GcRequest, Outcome, Plugin, Request, StatusRequest, Stdio, dispatch},
};
use serde_json::{Value, json};

/// Writes down how it was called.
#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<String>>,
}

impl Recorder {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn call(&self, env: Env, config: &Value) -> Answer {
        serve(self, env, config.to_string().as_bytes())
    }
}

impl Plugin for Recorder {
    fn about(&self) -> &str {
        "CNI plugin recorder"
    }
    fn versions(&self) -> &[SpecVersion] {
        SpecVersion::ALL
    }
    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        self.note(format!("ADD {} {} {}", request.container_id, request.if_name, request.netns.display()));
        Ok(AddResult { ips: vec![IpConfig::new("10.1.0.5/16".parse().unwrap())], ..AddResult::default() })
    }
    fn del(&self, request: &DelRequest) -> Result<(), Error> {
        self.note(format!("DEL {} {:?}", request.container_id, request.netns));
        Ok(())
    }
    fn check(&self, request: &Request) -> Result<(), Error> {
        self.note(format!("CHECK {}", request.container_id));
        Err(Error::new(ErrorCode::new(101), "eth0 has lost its address"))
    }
    fn gc(&self, request: &GcRequest) -> Result<(), Error> {
        let ids = request.valid_attachments.iter().map(|id| format!("{}/{}", id.container_id, id.if_name));
        self.note(format!("GC {:?}", ids.collect::<Vec<_>>()));
        Ok(())
    }
    fn status(&self, request: &StatusRequest) -> Result<(), Error> {
        self.note(format!("STATUS {} {:?}", request.config.name(), request.invocation.path()));
        Ok(())
    }
}

fn conf(version: &str) -> Value {
    json!({"cniVersion": version, "name": "blue", "type": "recorder"})
}

#[test]
fn add_is_answered_in_every_version() {
    for version in SpecVersion::ALL {
        let answer = Recorder::default().call(env("ADD"), &conf(version.as_str()));
        assert_eq!(answer.outcome, Outcome::Done);
        let result: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(result["cniVersion"], version.as_str());
        assert_eq!(AddResult::from_value(&result, *version).unwrap().ips.len(), 1);
    }
    let answer = Recorder::default().call(env("ADD"), &json!({"name": "blue"}));
    assert!(answer.stdout.contains(r#""cniVersion": "0.1.0""#), "{}", answer.stdout);
}

#[test]
fn the_plugin_sees_the_call() {
    let recorder = Recorder::default();
    assert_eq!(recorder.call(env("ADD"), &conf("1.0.0")).outcome, Outcome::Done);
    let status =
        recorder.call(env("STATUS").with("CNI_CONTAINERID", "").with("CNI_IFNAME", ""), &conf("1.1.0"));
    assert_eq!((status.outcome, status.stdout.as_str()), (Outcome::Done, ""));
    assert_eq!(
        recorder.calls(),
        ["ADD pod-1 eth0 /run/netns/nonexistent", r#"STATUS blue ["/opt/cni/bin", "/usr/lib/cni"]"#,]
    );
}

#[test]
fn an_error_of_the_plugin_is_printed_in_the_version_of_the_request() {
    let answer = Recorder::default().call(env("CHECK"), &conf("0.4.0"));
    assert_eq!(
        serde_json::from_str::<Value>(&answer.stdout).unwrap(),
        json!({"cniVersion": "0.4.0", "code": 101, "msg": "eth0 has lost its address"})
    );
    assert_eq!(answer.outcome.exit_code(), ExitCode::FAILURE);
}

#[test]
fn del_has_a_namespace_only_if_there_is_one() {
    let recorder = Recorder::default();
    let file = tempfile::NamedTempFile::new().unwrap();
    let gone = [
        "",
        "/run/netns/nonexistent",
        "/proc/999999999/ns/net",
        "/dev/null",
        "relative",
        file.path().to_str().unwrap(),
    ];
    for netns in gone {
        assert_eq!(recorder.call(env("DEL").with("CNI_NETNS", netns), &conf("0.3.1")).outcome, Outcome::Done);
    }
    assert_eq!(recorder.calls(), vec!["DEL pod-1 None"; gone.len()]);
    // A namespace that is not ours; the kind does not matter here, but another network namespace would need privileges.
    let other = "/proc/self/ns/uts";
    assert_eq!(recorder.call(env("DEL").with("CNI_NETNS", other), &conf("0.3.1")).outcome, Outcome::Done);
    assert_eq!(recorder.calls().last().unwrap(), &format!("DEL pod-1 {:?}", Some(Path::new(other))));
}

#[test]
fn a_switch_makes_the_namespace_the_plugin_s_own_business() {
    let recorder = Recorder::default();
    let env = env("DEL").with("CNI_NETNS", "/of/a/test").with("CNI_NETNS_OVERRIDE", "1");
    assert_eq!(recorder.call(env, &conf("1.0.0")).outcome, Outcome::Done);
    assert_eq!(recorder.calls(), ["DEL pod-1 Some(\"/of/a/test\")"]);
}

#[test]
fn gc_keeps_what_either_key_says() {
    let recorder = Recorder::default();
    let id = |container: &str| json!({"containerID": container, "ifname": "eth0"});
    let mut config = conf("1.1.0");
    config["cni.dev/valid-attachments"] = json!([id("b"), id("a")]);
    config["cni.dev/attachments"] = json!([id("b"), id("c")]);
    assert_eq!(recorder.call(env("GC"), &config).outcome, Outcome::Done);
    // Go writes an empty list as null.
    let mut config = conf("1.1.0");
    config["cni.dev/valid-attachments"] = Value::Null;
    assert_eq!(recorder.call(env("GC"), &config).outcome, Outcome::Done);
    assert_eq!(recorder.calls(), [r#"GC ["a/eth0", "b/eth0", "c/eth0"]"#, "GC []"]);
}

#[test]
fn version_needs_nothing_and_looks_at_nothing_else() {
    let versions = |env: Env, stdin: &[u8]| -> VersionResult {
        let answer = serve(&Recorder::default(), env, stdin);
        assert_eq!(answer.outcome, Outcome::Done);
        serde_json::from_str(&answer.stdout).unwrap()
    };
    let bare = Env::from_iter([("CNI_COMMAND", "VERSION")]);
    let podman = bare
        .clone()
        .with("CNI_CONTAINERID", "")
        .with("CNI_PATH", "dummy")
        .with("CNI_IFNAME", "no good/at all");
    assert_eq!(versions(podman, br#"{"cniVersion":"1.0.0"}"#).cni_version, "1.0.0");
    for stdin in ["", "garbage", "{}", r#"{"cniVersion": "9.9.9"}"#, r#"{"cniVersion": 1}"#, "[[[[["] {
        let answer = versions(bare.clone(), stdin.as_bytes());
        assert_eq!(answer, VersionResult::new(SpecVersion::V1_1_0, SpecVersion::ALL), "{stdin}");
    }
}

#[test]
fn version_does_not_wait_for_the_end_of_stdin() {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(br#"{"cniVersion":"0.4.0"}"#).unwrap();
    let (mut stdin, mut stdout, mut stderr) = (reader, Vec::new(), Vec::new());
    let stdio = Stdio { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    let outcome = dispatch(&Recorder::default(), Env::from_iter([("CNI_COMMAND", "VERSION")]), stdio);
    assert_eq!(outcome, Outcome::Done);
    drop(writer);
    assert!(stdout.starts_with(br#"{"cniVersion":"0.4.0","#));
}

#[test]
fn without_a_command_the_plugin_introduces_itself() {
    for env in [Env::default(), Env::from_iter([("CNI_COMMAND", "")])] {
        let answer = serve(&Recorder::default(), env, b"");
        assert_eq!((&answer.outcome, answer.outcome.exit_code()), (&Outcome::About, ExitCode::SUCCESS));
        assert_eq!(answer.stdout, "");
        assert_eq!(
            answer.stderr,
            "CNI plugin recorder\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
        );
    }
}

#[test]
fn a_stdout_that_nobody_reads_is_a_failure_and_what_was_added_is_taken_back() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config = conf("1.0.0").to_string();
    let stdio = Stdio { stdin: &mut config.as_bytes(), stdout: &mut Full, stderr: &mut Vec::new() };
    let recorder = Recorder::default();
    let Outcome::Failed(error) = dispatch(&recorder, env("ADD"), stdio) else { panic!("no failure") };
    assert_eq!(error.code(), ErrorCode::IO_FAILURE);
    assert_eq!(recorder.calls(), ["ADD pod-1 eth0 /run/netns/nonexistent", "DEL pod-1 None"]);
}

#[test]
fn calls_run_on_many_threads_at_once() {
    let recorder = Recorder::default();
    thread::scope(|scope| {
        for i in 0..8 {
            let recorder = &recorder;
            scope.spawn(move || {
                for version in SpecVersion::ALL {
                    let env = env("ADD").with("CNI_CONTAINERID", format!("pod-{i}"));
                    let answer = recorder.call(env, &conf(version.as_str()));
                    assert!(answer.stdout.contains(version.as_str()));
                }
            });
        }
    });
    assert_eq!(recorder.calls().len(), 8 * SpecVersion::ALL.len());
}
