//! A plugin that delegates to another.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use cni_spec::{
    Env, Error, ErrorCode, Exec, ExecError, Exit, Invocation, NetworkConfig, Output, PluginType, SpecVersion,
};

use crate::common::env;

/// Answers from a script, and remembers what it was asked.
struct Fake {
    answers: Mutex<Vec<Output>>,
    calls: Mutex<Vec<(String, Env, Vec<u8>)>>,
}

impl Fake {
    fn new<const N: usize>(mut answers: [Output; N]) -> Self {
        answers.reverse();
        Self { answers: Mutex::new(answers.into()), calls: Mutex::default() }
    }

    fn commands(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|(command, ..)| command.clone()).collect()
    }
}

impl Exec for Fake {
    fn exec(&self, _: &Path, env: &Env, stdin: &[u8]) -> Result<Output, ExecError> {
        let command = env.get("CNI_COMMAND").unwrap().to_str().unwrap().to_owned();
        self.calls.lock().unwrap().push((command, env.clone(), stdin.to_vec()));
        Ok(self.answers.lock().unwrap().pop().unwrap())
    }

    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        Ok(path[0].join(plugin.as_str()))
    }
}

fn ok(stdout: &str) -> Output {
    Output { exit: Exit::Code(0), stdout: stdout.into(), stderr: Vec::new() }
}

fn failed(stdout: &str) -> Output {
    Output { exit: Exit::Code(1), stdout: stdout.into(), stderr: b"a log".to_vec() }
}

const CONF: &[u8] =
    br#"{"cniVersion": "0.2.0", "name": "blue", "type": "bridge", "ipam": {"type": "host-local"}}"#;

fn invocation() -> Invocation {
    Invocation::new(env("ADD").with("KUBECONFIG", "/etc/kube"), CONF.to_vec(), SpecVersion::V0_2_0)
}

fn host_local() -> PluginType {
    "host-local".parse().unwrap()
}

#[test]
fn the_delegate_gets_the_same_stdin_and_environment_but_for_the_command() {
    let fake = Fake::new([ok(""), ok(""), ok(""), ok("")]);
    let invocation = invocation();
    let delegate = invocation.delegate(&fake, &host_local()).unwrap();
    assert_eq!(delegate.plugin(), Path::new("/opt/cni/bin/host-local"));
    delegate.del().unwrap();
    delegate.check().unwrap();
    delegate.gc().unwrap();
    delegate.status().unwrap();
    assert_eq!(fake.commands(), ["DEL", "CHECK", "GC", "STATUS"]);
    for (command, env, stdin) in fake.calls.into_inner().unwrap() {
        assert_eq!(env, invocation.env().clone().with("CNI_COMMAND", command));
        assert_eq!(env.get("KUBECONFIG").unwrap(), "/etc/kube");
        assert_eq!(stdin, CONF);
    }
}

#[test]
fn a_result_without_version_is_read_in_that_of_the_configuration() {
    let fake = Fake::new([ok(r#"{"ip4": {"ip": "10.0.0.2/24"}}"#)]);
    let result = invocation().delegate(&fake, &host_local()).unwrap().add_or_undo().unwrap();
    assert_eq!(result.ips[0].address, "10.0.0.2/24".parse().unwrap());
    assert_eq!(fake.commands(), ["ADD"]);
}

#[test]
fn another_configuration_can_be_sent() {
    let fake = Fake::new([ok(r#"{"ips": [{"address": "10.0.0.2/24"}]}"#)]);
    let config =
        NetworkConfig::from_json(br#"{"cniVersion": "1.0.0", "name": "red", "type": "ptp"}"#).unwrap();
    let invocation = invocation();
    let delegate = invocation.delegate(&fake, &"ptp".parse().unwrap()).unwrap();
    let result = delegate.with_config(&config).with_env("CNI_IFNAME", "net1").add().unwrap();
    assert_eq!(result.ips.len(), 1);
    let calls = fake.calls.into_inner().unwrap();
    assert_eq!(NetworkConfig::from_json(&calls[0].2).unwrap(), config);
    assert_eq!(calls[0].1.get("CNI_IFNAME").unwrap(), "net1");
}

#[test]
fn a_failed_add_is_undone() {
    let answers = [
        failed(r#"{"code": 11, "msg": "no lease yet"}"#),
        ok(""),
        ok("garbage"),
        failed("segmentation fault"),
        ok(""),
        ok(""),
    ];
    let fake = Fake::new(answers);
    let invocation = invocation();
    let delegate = invocation.delegate(&fake, &host_local()).unwrap();

    let error = delegate.add_or_undo().unwrap_err();
    assert_eq!((error.code(), error.msg()), (ErrorCode::TRY_AGAIN_LATER, "no lease yet"));

    let error = delegate.add_or_undo().unwrap_err();
    assert!(error.msg().starts_with("plugin /opt/cni/bin/host-local: it succeeded, but "), "{error}");
    let [first, second, rest @ ..] = &*error.details().lines().collect::<Vec<_>>() else { panic!("{error}") };
    assert_eq!(*first, "stdout: garbage");
    assert!(
        second.starts_with("and undoing it failed: plugin /opt/cni/bin/host-local: exit status 1"),
        "{error}"
    );
    assert_eq!(rest, ["stderr: a log"]);

    // Nothing is not a result.
    assert!(delegate.add_or_undo().unwrap_err().msg().contains("it is empty"));
    assert_eq!(fake.commands(), ["ADD", "DEL", "ADD", "DEL", "ADD", "DEL"]);
}

#[test]
fn versions_can_be_asked_for() {
    let fake =
        Fake::new([ok(r#"{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}"#), ok("?")]);
    let invocation = invocation();
    let delegate = invocation.delegate(&fake, &host_local()).unwrap();
    assert!(delegate.version().unwrap().supports(SpecVersion::V1_0_0));
    assert!(delegate.version().is_err());
}

#[test]
fn a_plugin_that_is_not_installed_is_named_with_the_path() {
    let error: Error =
        invocation().delegate(&cni_spec::ProcessExec::new(), &"nope".parse().unwrap()).err().unwrap();
    assert_eq!(
        error.to_string(),
        r#"find plugin "nope" in ["/opt/cni/bin", "/usr/lib/cni"]: no such file (code 999)"#
    );
}
