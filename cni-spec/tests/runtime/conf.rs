//! Finding configurations.

use std::fs;
use std::path::Path;

use cni_spec::runtime::{ConfFormat, ConfProblem, Position, Standing, Survey, load};
use tempfile::TempDir;

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn conflist(name: &str, plugin: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"{plugin}"}}]}}"#)
}

fn conf(name: &str, plugin: &str) -> String {
    format!(r#"{{"cniVersion":"0.4.0","name":"{name}","type":"{plugin}"}}"#)
}

/// The plugins of a network.
fn plugins(dir: &TempDir, network: &str) -> Vec<String> {
    let loaded = load([dir.path()], &network.parse().unwrap()).unwrap();
    loaded.list.plugins.iter().map(|plugin| plugin.plugin_type.to_string()).collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn lists_come_before_single_configurations_and_each_by_name() {
    let dir = dir(&[
        ("10-a.conf", &conf("blue", "single")),
        ("20-b.conflist", &conflist("blue", "second")),
        ("15-c.conflist", &conflist("blue", "first")),
        ("30-d.json", &conf("red", "json")),
        ("05-e.conflist.bak", &conflist("blue", "backup")),
        ("05-f", &conflist("blue", "no extension")),
    ]);
    assert_eq!(plugins(&dir, "blue"), ["first"]);
    assert_eq!(plugins(&dir, "red"), ["json"]);
    let default = Survey::of([dir.path()]).into_default().unwrap();
    assert_eq!(file_name(&default.path), "10-a.conf");
}

#[test]
fn a_survey_says_what_would_be_taken() {
    let dir = dir(&[
        ("05-broken.conflist", "{"),
        ("10-a.conf", &conf("red", "x")),
        ("20-b.conflist", &conflist("blue", "x")),
        ("30-c.conflist", &conflist("blue", "x")),
    ]);
    let survey = Survey::of([dir.path()]);
    let standings: Vec<_> = survey
        .files()
        .iter()
        .map(|file| (file_name(&file.path), file.format, survey.standing(file)))
        .collect();
    let by = dir.path().join("20-b.conflist");
    assert_eq!(
        standings,
        [
            ("05-broken.conflist", ConfFormat::List, Standing::Unusable),
            ("10-a.conf", ConfFormat::Single, Standing::Default),
            ("20-b.conflist", ConfFormat::List, Standing::ByName),
            ("30-c.conflist", ConfFormat::List, Standing::Shadowed { by: &by }),
        ]
    );
}

#[test]
fn the_first_directory_goes_first_and_a_missing_one_is_empty() {
    let (first, second) =
        (dir(&[("90.conf", &conf("blue", "first"))]), dir(&[("10.conflist", &conflist("blue", "second"))]));
    let missing = first.path().join("missing");
    let loaded = load([&missing, first.path(), second.path()], &"blue".parse().unwrap()).unwrap();
    assert_eq!((loaded.list.plugins[0].plugin_type.as_str(), loaded.warnings.len()), ("first", 0));
}

#[test]
fn a_broken_neighbour_is_a_warning_with_its_place() {
    let dir = dir(&[
        ("10-syntax.conflist", "{\n  \"name\": \"x\",,\n}"),
        (
            "11-type.conflist",
            "{\n  \"name\": \"x\",\n  \"plugins\": [\n    {\"type\": \"a\"},\n    {\"type\": 7}\n  ]\n}",
        ),
        ("12-missing.conf", "{\"name\": \"x\"}"),
        ("13-version.conflist", "{\"name\":\"x\",\n\"cniVersion\":\"7.0.0\",\"plugins\":[{\"type\":\"a\"}]}"),
        ("14-empty.conflist", ""),
        ("20-ok.conflist", &conflist("blue", "ok")),
    ]);
    let loaded = load([dir.path()], &"blue".parse().unwrap()).unwrap();
    let warnings: Vec<_> = loaded
        .warnings
        .iter()
        .map(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
        .collect();
    assert_eq!(
        warnings,
        [
            "10-syntax.conflist:2:15: the configuration list cannot be read: key must be a string at line 2 column 15",
            "11-type.conflist:5:14: plugins[1].type: invalid type: integer `7`, expected a string",
            "12-missing.conf:1:1: type: missing",
            "13-version.conflist:2:14: cniVersion: none of 7.0.0 is known",
            "14-empty.conflist:1:1: the configuration list cannot be read: it is empty",
        ]
    );
}

#[test]
fn a_network_that_is_nowhere_is_an_error_that_lists_what_could_not_be_read() {
    let dir = dir(&[("10-blue.conflist", "{"), ("20.conflist", &conflist("red", "x"))]);
    let error = load([dir.path()], &"blue".parse().unwrap()).unwrap_err();
    assert_eq!(error.problems.len(), 1);
    let text = error.to_string();
    assert!(
        text.starts_with("no configuration of network \"blue\" in ") && text.contains("10-blue.conflist:1:"),
        "{text}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(
        Survey::of([empty.path()])
            .into_default()
            .unwrap_err()
            .to_string()
            .starts_with("no network configuration in ")
    );
}

#[test]
fn plugins_of_the_sibling_folder_follow_those_of_the_list_by_name() {
    let list =
        |flag: &str| format!(r#"{{"name":"blue","cniVersion":"1.1.0",{flag}"plugins":[{{"type":"a"}}]}}"#);
    let extra = [
        ("blue/20-c.conf", r#"{"type":"c"}"#),
        ("blue/10-b.conf", r#"{"type":"b","capabilities":{"mac":true}}"#),
        ("blue/30-d.json", r#"{"type":"d"}"#),
        ("red/10-e.conf", r#"{"type":"e"}"#),
    ];
    let with = |list: &str| dir(&[&[("10.conflist", list)], &extra[..]].concat());
    assert_eq!(plugins(&with(&list("")), "blue"), ["a", "b", "c"]);
    assert_eq!(plugins(&with(&list(r#""loadOnlyInlinedPlugins":true,"#)), "blue"), ["a"]);
    assert_eq!(plugins(&with(r#"{"name":"blue","cniVersion":"1.1.0"}"#), "blue"), ["b", "c"]);

    let survey_dir = with(&list(""));
    let survey = Survey::of([survey_dir.path()]);
    let names: Vec<_> = survey.files()[0].plugin_files.iter().map(|path| file_name(path)).collect();
    assert_eq!(names, ["10-b.conf", "20-c.conf"]);
}

#[test]
fn plugins_of_the_sibling_folder_are_in_the_cached_configuration() {
    let conf = dir(&[("10.conflist", &conflist("blue", "a")), ("blue/10.conf", r#"{"type":"b","x":1}"#)]);
    let world = crate::support::World::new();
    let runtime = world.runtime();
    let loaded = load([conf.path()], &"blue".parse().unwrap()).unwrap();
    runtime.add(&loaded.list, &crate::support::web()).unwrap();
    let cached = runtime.attachments().unwrap().attachments.remove(0);
    assert_eq!(cached.network_list().unwrap().plugins, loaded.list.plugins);
}

#[test]
fn a_broken_plugin_file_breaks_its_list_only() {
    let dir = dir(&[
        ("10.conflist", &conflist("blue", "a")),
        ("blue/10.conf", "{\n\"type\": [] }"),
        ("20.conflist", &conflist("red", "a")),
    ]);
    let loaded = load([dir.path()], &"red".parse().unwrap()).unwrap();
    assert!(loaded.warnings[0].path.ends_with("blue/10.conf"));
    assert_eq!(loaded.warnings[0].position, Some(Position { line: 2, column: 9 }));
}

#[test]
fn a_list_without_plugins_is_unusable() {
    let dir = dir(&[("10.conflist", r#"{"name":"blue","cniVersion":"1.0.0","plugins":[]}"#)]);
    let survey = Survey::of([dir.path()]);
    assert!(matches!(survey.problems().next().unwrap().problem, ConfProblem::NoPlugins));
}

#[test]
fn what_is_not_a_file_of_reasonable_size_is_not_read() {
    let dir = dir(&[
        ("10.conflist/inner", ""),
        ("blue", "a file with a network's name"),
        ("50.conflist", &conflist("blue", "a")),
    ]);
    let big = fs::File::create(dir.path().join("20.conflist")).unwrap();
    big.set_len(1 << 40).unwrap();
    std::os::unix::net::UnixListener::bind(dir.path().join("30.conflist")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("40.conflist")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(dir.path().join("35.conflist")).status().unwrap();
    assert!(status.success());
    let loaded = load([dir.path()], &"blue".parse().unwrap()).unwrap();
    let problems: Vec<_> = loaded.warnings.iter().map(|warning| &warning.problem).collect();
    assert!(
        matches!(
            problems[..],
            [ConfProblem::TooLarge, ConfProblem::NotAFile, ConfProblem::NotAFile, ConfProblem::Io(_)]
        ),
        "{problems:?}"
    );
}

#[test]
fn a_symbolic_link_is_followed_as_config_maps_need_it() {
    let dir = dir(&[("..data/10.conflist", &conflist("blue", "a"))]);
    std::os::unix::fs::symlink("..data/10.conflist", dir.path().join("10.conflist")).unwrap();
    assert_eq!(plugins(&dir, "blue"), ["a"]);
}
