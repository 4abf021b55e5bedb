//! What is on disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use cni_spec::runtime::{Attachment, CachedAttachment, RuntimeError};
use serde_json::json;

use crate::support::{World, blue, list, web};

fn attachment(container: &str) -> Attachment {
    Attachment::new(container.parse().unwrap(), "eth0".parse().unwrap())
}

#[test]
fn only_the_owner_may_read_the_cache() {
    let world = World::new();
    world.runtime().add(&blue(), &web()).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(world.results()), 0o700);
    assert_eq!(mode(world.results().join("blue-web-1-eth0")), 0o600);
}

#[test]
fn a_symbolic_link_in_the_place_of_an_entry_or_a_lock_is_refused_at_once() {
    for (link, target) in [
        ("blue-web-1-eth0", "victim"),
        ("blue-web-1-eth0", "nothing"),
        (".blue.lock", "victim"),
        (".blue.lock", "nothing"),
    ] {
        let world = World::new();
        fs::create_dir(world.results()).unwrap();
        let outside = world.results().parent().unwrap().to_owned();
        fs::write(outside.join("victim"), "precious").unwrap();
        symlink(outside.join(target), world.results().join(link)).unwrap();
        let error = world.runtime().add(&blue(), &web()).unwrap_err().to_string();
        let path = world.results().join(link);
        assert!(error.contains(path.to_str().unwrap()), "{link} to {target}: {error}");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "precious");
        assert!(!outside.join("nothing").exists(), "{link} to {target}");
    }
}

#[test]
fn what_a_symbolic_link_leads_to_is_nobodys_attachment() {
    let world = World::new();
    world.runtime().add(&blue(), &web()).unwrap();
    let (entry, elsewhere) = (world.results().join("blue-web-1-eth0"), world.results().join("../elsewhere"));
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    let error = world.runtime().cached(&"blue".parse().unwrap(), &web()).unwrap_err().to_string();
    assert!(error.contains(entry.to_str().unwrap()), "{error}");
    let found = world.runtime().attachments().unwrap();
    assert!(found.attachments.is_empty(), "{found:?}");
    assert_eq!(found.unattributed.len(), 1, "it is told of: {found:?}");
}

#[test]
fn an_attachment_is_remembered_with_all_its_parameters() {
    let world = World::new();
    let web = web().with_arg("K", "a=b").with_arg("K", "").with_capability("mac", json!(["<&>", 1.5, null]));
    let runtime = world.runtime();
    let result = runtime.add(&blue(), &web).unwrap();
    let CachedAttachment { network, attachment, result: cached, .. } =
        runtime.cached(&"blue".parse().unwrap(), &web).unwrap().unwrap();
    assert_eq!((network.as_str(), attachment, cached), ("blue", web, Some(result)));
}

#[test]
fn empty_and_broken_files_stop_neither_del_nor_add() {
    for content in ["", "\n", "{", "null", "{}", r#"{"kind":"cniCacheV1"}"#, r#"{"kind":"v9"}"#, "\0\0\0\0"] {
        let world = World::new();
        let file = world.results().join("blue-web-1-eth0");
        let runtime = world.runtime();
        fs::create_dir(world.results()).unwrap();
        fs::write(&file, content).unwrap();
        assert_eq!(runtime.attachments().unwrap().unattributed.len(), 1, "{content:?}");
        assert!(matches!(runtime.check(&blue(), &web()), Err(RuntimeError::NotAttached(_))), "{content:?}");
        runtime.del(&blue(), &web()).unwrap();
        assert_eq!(world.plugins.take_calls().len(), 3);
        assert!(world.cached().is_empty(), "{content:?}");

        fs::write(&file, content).unwrap();
        runtime.add(&blue(), &web()).unwrap();
        runtime.check(&blue(), &web()).unwrap();
    }
}

#[test]
fn a_result_that_cannot_be_read_does_not_hide_whose_the_file_is() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &web()).unwrap();
    let mut file = world.cache_file("blue-web-1-eth0");
    file["result"] = json!({"ips": "none"});
    fs::write(world.results().join("blue-web-1-eth0"), file.to_string()).unwrap();
    let found = runtime.attachments().unwrap().attachments;
    assert_eq!((found.len(), &found[0].result), (1, &None));
    runtime.gc(&blue(), &[]).unwrap();
    assert!(world.cached().is_empty());
}

#[test]
fn names_that_join_alike_are_told_apart_by_content() {
    let world = World::new();
    let runtime = world.runtime();
    let (long, short) = (json!("a-b"), json!("a"));
    let network = |name| list(json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "ptp"}]}));
    let (long, short) = (network(long), network(short));
    // Both are a-b-c-eth0.
    runtime.add(&long, &attachment("c")).unwrap();
    world.plugins.take_calls();
    let error = runtime.add(&short, &attachment("b-c")).unwrap_err();
    assert!(matches!(&error, RuntimeError::NameTaken { owner, .. } if owner.network == "a-b"), "{error}");
    assert!(world.plugins.take_calls().is_empty());
    assert!(runtime.cached(&short.name, &attachment("b-c")).unwrap().is_none());

    runtime.del(&short, &attachment("b-c")).unwrap();
    assert_eq!(world.plugins.take_calls()[0].stdin.get("prevResult"), None);
    runtime.gc(&short, &[]).unwrap();
    assert!(world.plugins.take_calls().is_empty());
    runtime.check(&long, &attachment("c")).unwrap();
    assert_eq!(world.cached(), ["a-b-c-eth0"]);
}

#[test]
fn what_a_crash_left_beside_an_entry_is_overwritten() {
    let world = World::new();
    let runtime = world.runtime();
    fs::create_dir(world.results()).unwrap();
    fs::write(world.results().join(".blue-web-1-eth0.tmp"), "{").unwrap();
    assert!(runtime.attachments().unwrap().unattributed.is_empty());
    runtime.add(&blue(), &web()).unwrap();
    assert_eq!(world.cached(), ["blue-web-1-eth0"]);
}

#[test]
fn a_name_that_is_too_long_for_a_file_is_refused_before_anything_runs() {
    let world = World::new();
    let long = attachment(&"x".repeat(250));
    let runtime = world.runtime();
    assert!(matches!(runtime.add(&blue(), &long), Err(RuntimeError::Cache(_))));
    assert!(world.plugins.take_calls().is_empty() && world.cached().is_empty());
    // A careful caller sends a DEL after every failure, until it succeeds.
    runtime.del(&blue(), &long).unwrap();
    assert_eq!(world.plugins.take_calls().len(), 3);
}

#[test]
fn a_cache_file_of_any_size_is_not_read_into_memory() {
    let world = World::new();
    fs::create_dir(world.results()).unwrap();
    let file = fs::File::create(world.results().join("blue-web-1-eth0")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(world.runtime().attachments().unwrap().unattributed[0].reason.contains("larger than"));
}
