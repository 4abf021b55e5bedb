//! Plugins as processes, among them such as misbehave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cni_spec::runtime::{Runtime, RuntimeError};
use cni_spec::{Env, ErrorCode, NetworkList, ProcessExec};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{list, web};

/// Real files: plugins are shell scripts, `good` among them.
struct Host {
    dir: TempDir,
}

const GOOD: &str = r#"
    cat > "$LOG.stdin"
    [ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/16"}]}'
    exit 0
"#;

impl Host {
    fn with(scripts: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        for (name, script) in scripts.iter().chain(&[("good", GOOD)]) {
            let path = dir.path().join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\necho \"$CNI_COMMAND {name}\" >> \"$LOG\"\n{script}"))
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn runtime(&self) -> Runtime {
        let log = self.dir.path().join("log").into_os_string();
        Runtime::new(Env::from_iter([("PATH", "/usr/bin:/bin".into()), ("LOG", log)]))
            .with_plugin_dirs([self.dir.path().join("nowhere"), self.dir.path().join("bin")])
            .with_cache_dir(self.dir.path().join("cni"))
            .with_exec(Box::new(ProcessExec::new().with_timeout(Duration::from_secs(3))))
    }

    fn log(&self) -> Vec<String> {
        fs::read_to_string(self.dir.path().join("log")).unwrap().lines().map(str::to_owned).collect()
    }

    fn nothing_is_cached(&self) -> bool {
        self.runtime().attachments().unwrap().attachments.is_empty()
    }
}

fn chain(plugins: &[&str]) -> NetworkList {
    let plugins: Vec<_> = plugins.iter().map(|plugin| json!({"type": plugin})).collect();
    list(json!({"cniVersion": "1.0.0", "name": "blue", "plugins": plugins}))
}

/// Adds the chain `good bad`, expects it to fail and to be undone, and returns the error of `bad`.
fn failure(bad: &str) -> (cni_spec::Error, Duration) {
    let host = Host::with(&[("bad", &format!("[ $CNI_COMMAND = DEL ] && exit 0\ncat > /dev/null\n{bad}"))]);
    let began = Instant::now();
    let error = host.runtime().add(&chain(&["good", "bad"]), &web()).unwrap_err();
    let took = began.elapsed();
    assert!(matches!(&error, RuntimeError::Add { undo, .. } if undo.is_empty()), "{error}");
    assert_eq!(host.log(), ["ADD good", "ADD bad", "DEL bad", "DEL good"]);
    assert!(host.nothing_is_cached());
    (error.plugin_error().unwrap().clone(), took)
}

#[test]
fn a_chain_of_processes_is_attached_and_detached() {
    let host = Host::with(&[]);
    let (runtime, list) = (host.runtime(), chain(&["good", "good"]));
    runtime.add(&list, &web()).unwrap();
    runtime.check(&list, &web()).unwrap();
    runtime.del(&list, &web()).unwrap();
    assert_eq!(host.log(), ["ADD good", "ADD good", "CHECK good", "CHECK good", "DEL good", "DEL good"]);
    let stdin = fs::read(host.dir.path().join("log.stdin")).unwrap();
    let stdin: serde_json::Value = serde_json::from_slice(&stdin).unwrap();
    assert_eq!(stdin["prevResult"]["ips"], json!([{"address": "10.1.0.5/16"}]));
}

#[test]
fn garbage_in_place_of_a_result_is_quoted() {
    let (error, _) = failure("echo 'Traceback (most recent call last)'; echo 'No module named netaddr' >&2");
    let text = error.to_string();
    assert!(text.contains("Traceback") && text.contains("No module named netaddr"), "{text}");
}

#[test]
fn a_plugin_that_hangs_is_killed_and_what_it_wrote_is_quoted() {
    let (error, took) = failure("echo 'half a res'; echo 'waiting for the lock' >&2; exec sleep 20");
    let text = error.to_string();
    assert!(text.contains("half a res") && text.contains("waiting for the lock"), "{text}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn a_plugin_that_dies_by_a_signal_has_its_last_words_quoted() {
    let (error, _) = failure("echo 'last words' >&2; kill -9 $$");
    let text = error.to_string();
    assert!(text.contains("signal 9") && text.contains("last words"), "{text}");
}

#[test]
fn an_exit_status_without_an_error_object_is_explained() {
    let (error, _) = failure("echo 'iptables: not found' >&2; exit 127");
    let text = error.to_string();
    assert!(text.contains("127") && text.contains("iptables: not found"), "{text}");
}

#[test]
fn an_error_object_is_passed_on_as_it_is() {
    let (error, _) = failure(r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"d"}'; exit 1"#);
    assert_eq!((error.code(), error.msg(), error.details()), (ErrorCode::TRY_AGAIN_LATER, "busy", "d"));
}

#[test]
fn output_without_end_is_cut_off() {
    let (error, took) = failure("exec yes");
    assert!(error.to_string().contains("bytes"), "{error}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn a_child_that_a_plugin_leaves_behind_is_not_waited_for() {
    let host = Host::with(&[(
        "parent",
        "cat > /dev/null\nsleep 6 &\n[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\"}'\nexit 0",
    )]);
    let began = Instant::now();
    host.runtime().add(&chain(&["parent"]), &web()).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_plugin_that_hangs_at_del_does_not_keep_the_others_from_theirs() {
    let host = Host::with(&[(
        "bad",
        "cat > /dev/null\n[ $CNI_COMMAND = DEL ] && exec sleep 20\necho '{\"cniVersion\":\"1.0.0\"}'",
    )]);
    let (runtime, list) = (host.runtime(), chain(&["good", "bad", "good"]));
    runtime.add(&list, &web()).unwrap();
    let error = runtime.del(&list, &web()).unwrap_err();
    assert!(error.to_string().starts_with("DEL by plugin \"bad\""), "{error}");
    assert_eq!(host.log()[3..], ["DEL good", "DEL bad", "DEL good"]);
    assert!(!host.nothing_is_cached());
}

#[test]
fn a_file_that_is_not_executable_is_no_plugin() {
    let host = Host::with(&[("bad", "")]);
    let path = host.dir.path().join("bin/bad");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = host.runtime().add(&chain(&["good", "bad"]), &web()).unwrap_err();
    assert!(error.to_string().contains("no executable bit"), "{error}");
    assert!(!host.dir.path().join("log").exists());
}
