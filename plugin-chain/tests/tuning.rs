//! `tuning` behind `bridge`, on a node in memory.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, CniArgs, Error, ErrorCode, Invocation, NetworkConfig};
use netops::{
    Answer, Kernel, LinkName, LinkSettings, LinkState, MacAddr, Place, Query, Resource, SysctlKey, read_link,
};
use plugin_chain::Tuning;
use plugin_kit::testing::TestCall;
use plugin_kit::{Explain, Kit, error};
use serde_json::{Value, json};
use support::Chain;

const TUNING: Tuning = Tuning::new().with_allowlist("/nonexistent/allowlist.conf");
const MAC: &str = "c2:b0:57:49:47:f1";

/// A chain, and where it remembers what was before.
struct Scene {
    chain: Chain,
    data: tempfile::TempDir,
}

impl Scene {
    fn new(keys: Value) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut chain = Chain::new("tuning", keys);
        chain.config["dataDir"] = json!(data.path().join("tuning"));
        Self { chain, data }
    }

    fn backup(&self) -> PathBuf {
        self.data.path().join("tuning/c1_eth0.json")
    }

    fn add(&self) -> Result<AddResult, Error> {
        self.chain.add(TUNING, "c1", &self.chain.add_bridge("c1"))
    }

    fn del(&self) -> Result<(), Error> {
        self.chain.del(TUNING, "c1")
    }

    fn eth0(&self) -> LinkState {
        let name = LinkName::new("eth0").unwrap();
        read_link(&mut self.chain.node.process(), Place::Container, &name).unwrap().unwrap()
    }

    fn sysctl(&self, key: &str) -> String {
        let query = Query::Sysctl(SysctlKey::new(key).unwrap());
        match self.chain.node.process().read(Place::Container, &[query]).unwrap().remove(0) {
            Answer::Sysctl(Some(value)) => value,
            other => panic!("{other:?}"),
        }
    }
}

fn everything() -> Value {
    json!({
        "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "0", "net.ipv4.conf.all.promote_secondaries": "1"},
        "mac": MAC, "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 77,
    })
}

#[test]
fn everything_that_is_asked_for_is_set_told_remembered_and_given_back() {
    let scene = Scene::new(everything());
    let before = scene.chain.add_bridge("c1");
    let was = scene.eth0();
    let result = scene.chain.add(TUNING, "c1", &before).unwrap();
    let now = scene.eth0();
    assert_eq!(now.mac.unwrap().to_string(), MAC);
    assert_eq!((now.mtu, now.promiscuous, now.all_multicast, now.transmit_queue), (1400, true, true, 77));
    assert_eq!(scene.sysctl("net/ipv4/conf/eth0/arp_notify"), "0");
    assert_eq!(scene.sysctl("net/ipv4/conf/all/promote_secondaries"), "1");

    let told = result.interfaces.iter().find(|interface| interface.name == "eth0").unwrap();
    assert_eq!((told.mac.as_deref(), told.mtu), (Some(MAC), Some(1400)));
    scene.chain.check(TUNING, "c1", &result).unwrap();

    // As the reference writes it, and whose it is.
    let mac = was.mac.unwrap();
    let expected = format!(
        "{{\n \"mac\": \"{mac}\",\n \"promisc\": false,\n \"mtu\": 1500,\n \"allmulti\": false,\n \"txQLen\": 1000,\n \
         \"owner\": \"cnikit net c1 eth0\"\n}}"
    );
    assert_eq!(fs::read_to_string(scene.backup()).unwrap(), expected);
    assert_eq!(fs::metadata(scene.backup()).unwrap().mode() & 0o777, 0o600);

    scene.del().unwrap();
    let after = scene.eth0();
    assert_eq!((after.mac, after.mtu, after.promiscuous), (was.mac, was.mtu, was.promiscuous));
    assert_eq!((after.all_multicast, after.transmit_queue), (was.all_multicast, was.transmit_queue));
    assert!(!scene.backup().exists());
    scene.del().unwrap();
}

#[test]
fn without_keys_the_result_passes_through_and_nothing_is_done_or_remembered() {
    let scene = Scene::new(json!({}));
    let before = scene.chain.add_bridge("c1");
    let snapshot = scene.chain.node.snapshot();
    assert_eq!(scene.chain.add(TUNING, "c1", &before).unwrap(), before);
    scene.chain.node.snapshot().assert_same(&snapshot);
    assert!(fs::read_dir(scene.data.path()).unwrap().next().is_none());
    scene.chain.check(TUNING, "c1", &before).unwrap();
    scene.del().unwrap();
}

#[test]
fn a_runtimes_arguments_stand_before_the_configuration_in_the_references_order() {
    let scene = Scene::new(json!({
        "mac": "02:00:00:00:00:01", "mtu": 1300, "promisc": true,
        "sysctl": {"net.ipv4.conf.eth0.arp_notify": "0"},
        "args": {"cni": {
            "mtu": 1200, "promisc": false, "allmulti": true, "txQLen": 5, "mac": "02:00:00:00:00:04",
            "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1", "net.ipv4.conf.eth0.promote_secondaries": "1"},
        }},
        "runtimeConfig": {"mac": "02:00:00:00:00:03"},
    }));
    scene.add().unwrap();
    let eth0 = scene.eth0();
    assert_eq!(eth0.mac.unwrap().to_string(), "02:00:00:00:00:04");
    assert_eq!((eth0.mtu, eth0.promiscuous, eth0.all_multicast, eth0.transmit_queue), (1200, false, true, 5));
    assert_eq!(scene.sysctl("net/ipv4/conf/eth0/promote_secondaries"), "1");
    assert_eq!(scene.sysctl("net/ipv4/conf/eth0/arp_notify"), "1");

    for (keys, args, mac) in [
        (json!({"mac": "02:00:00:00:00:01"}), "MAC=02:00:00:00:00:02", "02:00:00:00:00:02"),
        (json!({"mac": "02:00:00:00:00:01"}), "MAC=", "02:00:00:00:00:01"),
        (
            json!({"runtimeConfig": {"mac": "02:00:00:00:00:03"}}),
            "MAC=02:00:00:00:00:02",
            "02:00:00:00:00:03",
        ),
    ] {
        let scene = Scene::new(keys);
        let before = scene.chain.add_bridge("c1");
        let call = scene.chain.call("c1").args(args).previous(&before);
        Kit::with_kernels(TUNING, &scene.chain.node).add(&call.request()).unwrap();
        assert_eq!(scene.eth0().mac.unwrap().to_string(), mac);
    }
}

#[test]
fn settings_are_written_in_the_configurations_order_and_one_that_is_there_twice_is_refused() {
    let request = |sysctl: &str| {
        let scene = Scene::new(json!({}));
        let before = scene.chain.add_bridge("c1");
        let mut request = scene.chain.call("c1").previous(&before).request();
        let mut text = request.config.to_json();
        text.replace_range(..1, &format!("{{\"sysctl\": {sysctl},"));
        request.config = NetworkConfig::from_json(text.as_bytes()).unwrap();
        request.args = CniArgs::default();
        let version = request.config.cni_version();
        request.invocation = Invocation::new(cni_spec::Env::default(), text.into_bytes(), version);
        Kit::new(TUNING).explain(&request, &mut netops::Script::new("blue"))
    };
    let explained = request(r#"{"net.c": "1", "net.a": "2", "net.b": "3"}"#).unwrap();
    let written: Vec<_> = explained.plan.steps().iter().map(|step| step.resource.to_string()).collect();
    assert_eq!(written, ["sysctl net/c = 1", "sysctl net/a = 2", "sysctl net/b = 3"]);
    let error = request(r#"{"net.c": "1", "net.a": "2", "net.c": "1"}"#).unwrap_err();
    assert!(error.msg().contains("\"net.c\" is there twice"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name_and_changes_nothing() {
    for (keys, word) in [
        (json!({"sysctl": {"kernel.msgmax": "1"}}), "kernel.msgmax"),
        (json!({"sysctl": {"net./../../etc/passwd": "1"}}), "net./../../etc/passwd"),
        (json!({"sysctl": {"net.ipv4.ip_forward": 1}}), "sysctl.net.ipv4.ip_forward"),
        (json!({"sysctl": ["net.ipv4.ip_forward"]}), "sysctl"),
        (json!({"mtu": 60}), "mtu is 60"),
        (json!({"mtu": -1}), "mtu is -1"),
        (json!({"mac": "nonsense"}), "mac"),
        (json!({"mac": "01:00:00:00:00:01"}), "no interface's address"),
        (json!({"txQLen": -1}), "txQLen"),
        (json!({"txQLen": 4_294_967_296_i64}), "txQLen"),
        (json!({"promisc": "yes"}), "promisc"),
        (json!({"args": {"cni": {"mtu": "big"}}}), "mtu"),
    ] {
        let scene = Scene::new(keys);
        let before = scene.chain.add_bridge("c1");
        let snapshot = scene.chain.node.snapshot();
        let error = scene.chain.add(TUNING, "c1", &before).unwrap_err();
        assert_eq!(error.code(), ErrorCode::INVALID_CONFIG, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        scene.chain.node.snapshot().assert_same(&snapshot);
        scene.del().unwrap();
    }
}

#[test]
fn whatever_fails_nothing_is_changed_or_remembered() {
    let mut settings = everything();
    settings.as_object_mut().unwrap().remove("sysctl");
    let sysctls = json!({"mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}});
    for (keys, least) in [(settings, [9, 3, 0]), (json!({"mtu": 1400}), [3, 3, 0]), (sysctls, [6, 3, 0])] {
        let data = tempfile::tempdir().unwrap();
        let mut config = support::configuration("tuning", keys);
        config["dataDir"] = json!(data.path());
        let trial = support::behind_bridge(TUNING, &config);
        // An interface's sysctls go with it, as with the reference; and so does what the kernel refuses to give back.
        let trial = trial.until_others_del(support::del_bridge);
        support::fails_well(&trial, least);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "a file is left");
    }
    let data = tempfile::tempdir().unwrap();
    let mut config = support::configuration("tuning", everything());
    config["dataDir"] = json!(data.path());
    assert!(support::behind_bridge(TUNING, &config).assert_add_is_all_or_nothing() >= 9);
}

#[test]
fn a_failed_add_brings_back_what_an_earlier_one_has_remembered() {
    let scene = Scene::new(json!({"mtu": 1400}));
    let result = scene.add().unwrap();
    let remembered = fs::read_to_string(scene.backup()).unwrap();
    let mut second = scene.chain.config.clone();
    second["mac"] = json!(MAC);
    second["sysctl"] = json!({"net.no.such.setting": "1"});
    let call = TestCall::new(second).previous(&result);
    let error = Kit::with_kernels(TUNING, &scene.chain.node).add(&call.request()).unwrap_err();
    assert!(error.to_string().contains("net/no/such/setting"), "{error}");
    assert_eq!(fs::read_to_string(scene.backup()).unwrap(), remembered);
}

#[test]
fn what_the_first_of_two_has_found_is_what_comes_back() {
    let scene = Scene::new(json!({"mtu": 1400, "promisc": true}));
    let result = scene.add().unwrap();
    let mut second = scene.chain.config.clone();
    second["mtu"] = json!(1300);
    second["txQLen"] = json!(7);
    let call = TestCall::new(second).previous(&result);
    Kit::with_kernels(TUNING, &scene.chain.node).add(&call.request()).unwrap();
    assert_eq!((scene.eth0().mtu, scene.eth0().transmit_queue), (1300, 7));
    scene.del().unwrap();
    let eth0 = scene.eth0();
    assert_eq!((eth0.mtu, eth0.promiscuous, eth0.transmit_queue), (1500, false, 1000));
}

#[test]
fn what_the_reference_remembers_is_given_back() {
    let scene = Scene::new(json!({}));
    scene.chain.add_bridge("c1");
    let settings = LinkSettings {
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 9])),
        mtu: Some(1400),
        all_multicast: Some(true),
        ..LinkSettings::none(LinkName::new("eth0").unwrap())
    };
    let set = Resource::Settings(settings);
    scene.chain.node.process().create(Place::Container, &[&set]).remove(0).unwrap();
    fs::create_dir(scene.data.path().join("tuning")).unwrap();
    // As `tuning` 1.1.1 writes it.
    fs::write(
        scene.backup(),
        "{\n \"mac\": \"be:ef:00:00:00:01\",\n \"mtu\": 1500,\n \"allmulti\": false\n}",
    )
    .unwrap();
    scene.del().unwrap();
    let eth0 = scene.eth0();
    assert_eq!(eth0.mac.unwrap().to_string(), "be:ef:00:00:00:01");
    assert_eq!((eth0.mtu, eth0.all_multicast), (1500, false));
    assert!(!scene.backup().exists());
}

#[test]
fn whatever_is_in_the_place_of_what_was_remembered_del_succeeds_and_it_is_gone() {
    let put: &[&dyn Fn(&Path)] = &[
        &|path| fs::write(path, "").unwrap(),
        &|path| fs::write(path, "[1, 2").unwrap(),
        &|path| fs::write(path, r#"{"mac": "nonsense", "mtu": 7, "promisc": null}"#).unwrap(),
        &|path| fs::write(path, vec![b'{'; 1_000_000]).unwrap(),
        &|path| symlink("/etc/passwd", path).unwrap(),
        &|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
    ];
    for put in put {
        let scene = Scene::new(json!({"mtu": 1400}));
        scene.add().unwrap();
        fs::remove_file(scene.backup()).unwrap();
        put(&scene.backup());
        scene.del().unwrap();
        assert!(fs::symlink_metadata(scene.backup()).is_err());
        assert_eq!(scene.eth0().mtu, 1400);
    }
}

#[test]
fn what_a_dead_add_has_begun_to_write_is_in_nobodys_way_and_goes_with_the_del() {
    let scene = Scene::new(json!({"mtu": 1400}));
    let draft = scene.data.path().join("tuning/.cnikit net c1 eth0");
    let die_over_it = || {
        fs::create_dir_all(draft.parent().unwrap()).unwrap();
        fs::write(&draft, "{\"mt").unwrap();
    };
    die_over_it();
    scene.add().unwrap();
    assert!(scene.backup().exists() && !draft.exists());
    die_over_it();
    scene.del().unwrap();
    assert_eq!(fs::read_dir(draft.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
    let scene = Scene::new(json!({"mtu": 1400}));
    let victim = scene.data.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    fs::create_dir(scene.data.path().join("tuning")).unwrap();
    symlink(&victim, scene.backup()).unwrap();
    scene.add().unwrap();
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(scene.backup()).unwrap().is_file());
}

#[test]
fn a_strange_directory_is_an_error_of_add_and_none_of_del() {
    for directory in ["/dev/null/tuning", "/proc/1/nothing/here", "a\0b"] {
        let mut scene = Scene::new(json!({"mtu": 1400}));
        scene.chain.config["dataDir"] = json!(directory);
        let before = scene.chain.add_bridge("c1");
        let snapshot = scene.chain.node.snapshot();
        let error = scene.chain.add(TUNING, "c1", &before).unwrap_err();
        assert_eq!(error.code(), ErrorCode::IO_FAILURE, "{error}");
        scene.chain.node.snapshot().assert_same(&snapshot);
        scene.del().unwrap();
    }
    let mut scene = Scene::new(json!({}));
    scene.chain.config["dataDir"] = json!(7);
    scene.del().unwrap();
}

#[test]
fn del_without_a_namespace_forgets() {
    let scene = Scene::new(everything());
    scene.add().unwrap();
    scene.chain.node.end_container("c1");
    let call = scene.chain.call("c1").without_netns();
    Kit::with_kernels(TUNING, &scene.chain.node).del(&call.del_request()).unwrap();
    assert!(!scene.backup().exists());
}

#[test]
fn gc_deletes_what_is_remembered_of_its_own_networks_attachments_that_are_not_valid() {
    let scene = Scene::new(json!({"mtu": 1400}));
    for container in ["c1", "c2"] {
        let before = scene.chain.add_bridge(container);
        scene.chain.add(TUNING, container, &before).unwrap();
    }
    let directory = scene.data.path().join("tuning");
    // The reference's, another network's, and what is nothing of the kind.
    fs::write(directory.join("c3_eth0.json"), r#"{"mtu": 1500}"#).unwrap();
    fs::write(directory.join("c4_eth0.json"), r#"{"mtu": 1500, "owner": "cnikit net2 c4 eth0"}"#).unwrap();
    fs::write(directory.join("README"), "hello").unwrap();
    symlink("/etc/passwd", directory.join("c5_eth0.json")).unwrap();
    let _socket = UnixListener::bind(directory.join("c6_eth0.json")).unwrap();
    // What dead ADDs have begun to write.
    for owner in ["net c1 eth0", "net c2 eth0", "net2 c4 eth0"] {
        fs::write(directory.join(format!(".cnikit {owner}")), "").unwrap();
    }
    let plugin = Kit::with_kernels(TUNING, &scene.chain.node);
    plugin.gc(&scene.chain.call("c1").gc_request(&[("c2", "eth0")])).unwrap();
    let mut left: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let drafts = [".cnikit net c2 eth0", ".cnikit net2 c4 eth0"];
    let files = ["README", "c2_eth0.json", "c3_eth0.json", "c4_eth0.json", "c5_eth0.json", "c6_eth0.json"];
    assert_eq!(left, [&drafts[..], &files[..]].concat());
    plugin.status(&scene.chain.call("c1").status_request()).unwrap();
}

#[test]
fn check_names_what_is_not_as_it_was_left() {
    let damages = [
        (LinkSettings { mtu: Some(1450), ..settings() }, "MTU is 1450, not 1400"),
        (LinkSettings { promiscuous: Some(false), ..settings() }, "promiscuous is false, not true"),
        (LinkSettings { all_multicast: Some(false), ..settings() }, "all-multicast is false"),
        (LinkSettings { transmit_queue: Some(1), ..settings() }, "transmit queue length is 1, not 77"),
        (LinkSettings { mac: Some(MacAddr::new([2; 6])), ..settings() }, "MAC address is 02:02"),
    ];
    for (damage, word) in damages {
        let scene = Scene::new(everything());
        let result = scene.add().unwrap();
        let damage = Resource::Settings(damage);
        scene.chain.node.process().create(Place::Container, &[&damage]).remove(0).unwrap();
        let error = scene.chain.check(TUNING, "c1", &result).unwrap_err();
        assert_eq!(error.code(), error::DIFFERS);
        assert!(error.to_string().contains(word), "{error}");
    }
}

fn settings() -> LinkSettings {
    LinkSettings::none(LinkName::new("eth0").unwrap())
}

#[test]
fn an_administrators_list_says_which_settings_are_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("allowlist.conf");
    let plugin = Tuning::new().with_allowlist(Box::leak(path.to_str().unwrap().into()));
    let keys = json!({"sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "0"}, "mtu": 1400});
    let add = || {
        let scene = Scene::new(keys.clone());
        let before = scene.chain.add_bridge("c1");
        let snapshot = scene.chain.node.snapshot();
        let outcome = scene.chain.add(plugin, "c1", &before);
        if outcome.is_err() {
            scene.chain.node.snapshot().assert_same(&snapshot);
            assert!(!scene.backup().exists());
        }
        outcome.map_err(|error| error.to_string())
    };
    assert!(add().is_ok(), "no list, no rule");
    for allowed in [
        "arp_notify\n",
        "\n  ^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$  \n",
        "nothing\n.*",
        "arp_notify\n(broken",
    ] {
        fs::write(&path, allowed).unwrap();
        assert_eq!(add().map(drop), Ok(()), "{allowed}");
    }
    for (refused, word) in [
        ("", "is not among those"),
        ("^arp_notify$\nnet.ipv6\n", "\"net.ipv4.conf.IFNAME.arp_notify\" is not among those"),
        ("(broken\narp_notify", "pattern \"(broken\""),
    ] {
        fs::write(&path, refused).unwrap();
        assert!(add().unwrap_err().contains(word), "{refused}");
    }
    fs::write(&path, vec![b'\n'; 2_000_000]).unwrap();
    assert!(add().unwrap_err().contains("longer than 1 MiB"));
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(add().unwrap_err().contains("allowlist.conf"));
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(add().unwrap_err().contains("no file"));
}
