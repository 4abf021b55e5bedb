//! Node files that no agent wrote.

use std::fs;
use std::os::unix::fs::symlink;

use cni_spec::ErrorCode;
use cni_spec::plugin::Plugin;
use plugin_kit::Kit;
use plugin_kit::testing::MemoryNode;
use plugin_overlay::{NodeFile, NodeFileError, Overlay};
use serde_json::{Value, json};

use crate::network::{Network, node};

/// `ADD` and `STATUS` refuse, in words; `DEL` does not care.
fn refused(network: &Network, code: ErrorCode, word: &str) {
    let memory = MemoryNode::new();
    let plugin = Kit::with_kernels(Overlay, &memory);
    let before = memory.snapshot();
    let error = plugin.add(&network.call("a").request()).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(word), "{word}: {error}");
    assert!(error.to_string().len() < 1000, "{error}");
    let status = plugin.status(&network.call("a").status_request()).unwrap_err();
    assert_eq!(status.code(), ErrorCode::PLUGIN_NOT_AVAILABLE, "{status}");
    plugin.del(&network.call("a").del_request()).unwrap();
    plugin.gc(&network.call("a").gc_request(&[])).unwrap();
    assert_eq!((memory.snapshot(), network.leases()), (before, Vec::new()));
}

#[test]
fn what_is_no_file_is_neither_followed_nor_waited_for() {
    let network = Network::new(json!({}));
    let elsewhere = network.leases_dir().join("elsewhere.json");
    fs::write(&elsewhere, serde_json::to_vec(&node()).unwrap()).unwrap();
    symlink(&elsewhere, network.file()).unwrap();
    refused(&network, ErrorCode::IO_FAILURE, "symbolic link");

    fs::remove_file(network.file()).unwrap();
    symlink("/dev/zero", network.file()).unwrap();
    refused(&network, ErrorCode::IO_FAILURE, "symbolic link");

    fs::remove_file(network.file()).unwrap();
    nix::unistd::mkfifo(&network.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&network, ErrorCode::IO_FAILURE, "no regular file");

    fs::remove_file(network.file()).unwrap();
    fs::create_dir(network.file()).unwrap();
    refused(&network, ErrorCode::IO_FAILURE, "no regular file");
}

#[test]
fn what_is_too_large_is_not_read() {
    let network = Network::new(json!({}));
    fs::File::create(network.file()).unwrap().set_len(1 << 40).unwrap();
    refused(&network, ErrorCode::IO_FAILURE, "larger than");
}

#[test]
fn what_is_no_json_or_another_is_told_as_such() {
    let network = Network::new(json!({}));
    let nested = "[".repeat(100_000);
    let long = format!(r#"{{"node": "n", "bridge": "b", "mtu": "{}"}}"#, "9".repeat(1_000_000));
    for text in ["", "garbage", "null", "[]", "{}", "\u{0}", "{\"node\": 1}", &nested, &long] {
        fs::write(network.file(), text).unwrap();
        refused(&network, ErrorCode::DECODING_FAILURE, "not as an agent writes it");
    }
    fs::write(network.file(), [0xff, 0xfe, 0x00]).unwrap();
    refused(&network, ErrorCode::DECODING_FAILURE, "not as an agent writes it");
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    let network = Network::new(json!({}));
    let with = |path: &str, value: Value| {
        let mut document = serde_json::to_value(node()).unwrap();
        *document.pointer_mut(path).unwrap() = value;
        fs::write(network.file(), document.to_string()).unwrap();
    };
    let many: Vec<_> = (0..100)
        .map(|n| {
            json!({"subnet": format!("10.244.{n}.0/24"),
        "gateway": format!("10.244.{n}.1"), "first": format!("10.244.{n}.9")})
        })
        .collect();
    let twice = json!([node().subnets[0], node().subnets[0]]);
    for (path, value, word) in [
        ("/bridge", json!("../../etc/passwd"), "bridge"),
        ("/bridge", json!(""), "bridge"),
        ("/bridge", json!("a".repeat(16)), "bridge"),
        ("/mtu", json!(0), "mtu"),
        ("/mtu", json!(4_000_000_000_u32), "mtu"),
        ("/mtu", json!(-1), "invalid value"),
        ("/subnets/0/subnet", json!("10.244.3.4/24"), "host bits"),
        ("/subnets/0/subnet", json!("0.0.0.0/33"), "not as an agent"),
        ("/subnets/0/gateway", json!("10.9.0.1"), "gateway 10.9.0.1"),
        ("/subnets/0/first", json!("fd00::1"), "fd00::1"),
        ("/subnets", many.into(), "more than 64"),
        ("/subnets", twice, "overlap"),
        (
            "/subnets",
            json!([node().subnets[0], {"subnet": "::ffff:0:0/96", "gateway": "::ffff:0:1", "first": "::ffff:0:2"}]),
            "mapped",
        ),
        (
            "/subnets",
            json!([{"subnet": "10.244.3.0/32", "gateway": "10.244.3.0", "first": "10.244.3.0"}]),
            "handed out",
        ),
        ("/cluster", json!("10.244.0.0/16"), "invalid type"),
    ] {
        with(path, value);
        refused(&network, ErrorCode::DECODING_FAILURE, word);
    }
}

#[test]
fn what_people_are_told_of_it_is_short_and_moves_no_cursor() {
    let network = Network::new(json!({}));
    let text = "\u{1b}[2J".repeat(100_000);
    let said = NodeFile { node: text.clone(), waiting: Some(text), subnets: Vec::new(), ..node() };
    network.write(&said);
    refused(&network, ErrorCode::TRY_AGAIN_LATER, "waiting");
    let read = NodeFile::read(network.file().parent().unwrap(), &"pods".parse().unwrap()).unwrap();
    assert!(!read.waiting.unwrap().contains('\u{1b}'));
}

#[test]
fn what_a_later_agent_says_more_is_no_matter() {
    let network = Network::new(json!({}));
    let mut document = serde_json::to_value(node()).unwrap();
    document["color"] = json!({"of": "the sky"});
    fs::write(network.file(), document.to_string()).unwrap();
    let memory = MemoryNode::new();
    Kit::with_kernels(Overlay, &memory).add(&network.call("a").request()).unwrap();
}

#[test]
fn what_an_agent_writes_is_read_as_it_was_meant() {
    let network = Network::served(json!({}));
    let (directory, name) = (network.file().parent().unwrap().to_owned(), "pods".parse().unwrap());
    assert_eq!(NodeFile::path(&directory, &name), network.file());
    assert_eq!(NodeFile::read(&directory, &name).unwrap(), node());
    network.forget();
    assert!(matches!(NodeFile::read(&directory, &name), Err(NodeFileError::Missing { .. })));
}
