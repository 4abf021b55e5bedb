//! What goes where: stdout has the answer alone, in plain text unless a terminal wants more.

use std::process::{Command, Stdio};

use crate::node::CNIKIT;
use crate::on_a_node;

fn cnikit(words: &str) -> Command {
    let mut command = Command::new(CNIKIT);
    command.args(words.split_whitespace()).stdin(Stdio::null());
    command
}

#[test]
fn a_reader_who_goes_away_has_seen_enough() {
    let script = format!("{CNIKIT} completions bash; echo $? >&2");
    let output = Command::new("bash").args(["-c", &format!("({script}) | true")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n");
    let full = Command::new("sh").args(["-c", &format!("{CNIKIT} version > /dev/full")]).output().unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("write to stdout"));
}

#[test]
fn there_are_no_colours_where_there_is_no_terminal() {
    for words in ["--help", "version", "add default /nonexistent/netns"] {
        let output = cnikit(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(!said.contains(&0x1b), "{words}");
    }
}

#[test]
fn a_terminal_has_colours_and_a_width() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        let at_a_terminal = |env: &str, words: &str| {
            let command = format!("stty cols 60 rows 24; {env} {CNIKIT} {words}");
            node.sh(&format!(
                "env -u COLUMNS -u NO_COLOR TERM=xterm script -qec '{command}' /dev/null < /dev/null"
            ))
        };
        let said = at_a_terminal("", "status default");
        assert!(said.contains("\x1b[32mready\x1b[0m"), "{said:?}");
        assert!(!at_a_terminal("NO_COLOR=1", "status default").contains('\x1b'));
        assert!(!at_a_terminal("TERM=dumb", "status default").contains('\x1b'));
        // Too narrow for the container's ID on one line.
        let table = at_a_terminal("NO_COLOR=1", "list");
        assert!(table.contains("…"), "{table}");
        assert!(!at_a_terminal("NO_COLOR=1 COLUMNS=200", "list").contains("…"));
    });
}

#[test]
fn a_wrong_command_line_is_status_2() {
    for words in ["", "bogus", "add", "add default", "del default", "add b/d x", "ipam release nothing"] {
        let output = cnikit(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}

#[test]
fn version_names_the_built_in_plugins() {
    let output = cnikit("version --json").output().unwrap();
    let versions: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(versions["cnikit"], env!("CARGO_PKG_VERSION"));
    assert_eq!(versions["cniVersions"].as_array().unwrap().last().unwrap(), "1.1.0");
    assert!(versions["plugins"].as_array().unwrap().contains(&"bridge".into()));
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = cnikit(&format!("completions {shell}")).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("explain"), "{shell}");
    }
    let page = String::from_utf8(cnikit("man").output().unwrap().stdout).unwrap();
    assert!(page.contains(".TH cnikit 1") && page.contains("Exit status"), "{page}");
    let dir = tempfile::tempdir().unwrap();
    let status =
        cnikit(&format!("man --dir {}", dir.path().display())).stderr(Stdio::null()).status().unwrap();
    assert!(status.success() && dir.path().join("cnikit-add.1").exists());
}
