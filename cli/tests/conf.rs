//! `cnikit conf`, from outside: exit statuses, JSON, and the words of `show`.

#![cfg(test)]

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const GOOD: &str = r#"{"cniVersion": "1.1.0", "name": "blue", "plugins": [{"type": "loopback"}]}"#;
const BROKEN: &str = "{\n  \"cniVersion\": \"1.1.0\", \"name\": \"red\",\n  \"plugins\": [{\"type\": \"bridge\", \"mtu\": \"big\"}]\n}";

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn conf(arguments: &[&str], dir: &TempDir) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cnikit"));
    command.arg("conf").args(arguments).arg("--conf-dir").arg(dir.path()).env_clear();
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn lint_exits_with_5_for_errors_and_with_0_for_less() {
    let broken = directory(&[("10-red.conflist", BROKEN)]);
    let output = conf(&["lint", "--bin-dir", "/nonexistent"], &broken);
    assert_eq!(output.status.code(), Some(5));
    let text = stdout(&output);
    assert!(
        text.contains("10-red.conflist:3:41: error: plugins[0].mtu: a text where a whole number belongs"),
        "{text}"
    );
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("1 file: 1 error, 1 hint"), "{output:?}");

    let good = directory(&[("10-blue.conflist", GOOD)]);
    let output = conf(&["lint", "--bin-dir", "/nonexistent"], &good);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(conf(&["lint", "/nonexistent.conflist"], &good).status.code(), Some(3));
}

#[test]
fn lint_says_the_same_in_json() {
    let dir = directory(&[("10-red.conflist", BROKEN), ("20-blue.conflist", GOOD)]);
    let output = conf(&["lint", "--json", "--bin-dir", "/nonexistent"], &dir);
    assert_eq!(output.status.code(), Some(5));
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&report["errors"], &report["warnings"], &report["hints"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    let error = report["findings"].as_array().unwrap().iter().find(|f| f["severity"] == "error").unwrap();
    assert_eq!(
        (&error["line"], &error["column"], &error["path"]),
        (&json!(3), &json!(41), &json!("plugins[0].mtu"))
    );
}

#[test]
fn show_tells_which_file_is_used_and_why_not_another() {
    let list = GOOD.replace("loopback", "my-plugin");
    let single = r#"{"cniVersion": "1.0.0", "name": "blue", "type": "bridge"}"#;
    let files = [("05-broken.conflist", "{"), ("10-blue.conf", single), ("20-blue.conflist", &list)];
    let dir = directory(&files);
    let text = conf(&["show"], &dir);
    let text = stdout(&text);
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("05-broken.conflist").contains("never:"), "{text}");
    // Two rules, two answers: containerd takes the first file, libcni a list before a single plugin.
    assert!(line("10-blue.conf ").contains("by default"), "{text}");
    assert!(line("20-blue.conflist").contains("by name"), "{text}");
    assert!(text.contains("takes 10-blue.conf: the first usable file by name"), "{text}");

    let entries: Value = serde_json::from_str(stdout(&conf(&["show", "--json"], &dir))).unwrap();
    let standings: Vec<_> = entries.as_array().unwrap().iter().map(|entry| &entry["standing"]).collect();
    assert_eq!(standings, ["unusable", "default", "by-name"]);

    let one: Value = serde_json::from_str(stdout(&conf(&["show", "blue", "--json"], &dir))).unwrap();
    assert_eq!(one["list"]["plugins"][0]["type"], "my-plugin");
    assert!(one["file"].as_str().unwrap().ends_with("20-blue.conflist"), "{one}");
}

#[test]
fn show_knows_the_built_in_network_and_no_others() {
    let dir = directory(&[]);
    let output = conf(&["show", "default"], &dir);
    assert!(output.status.success() && stdout(&output).contains("it is built in"), "{output:?}");
    let output = conf(&["show", "green"], &dir);
    assert_eq!(output.status.code(), Some(3));
}
