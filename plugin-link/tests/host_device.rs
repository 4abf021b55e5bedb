//! `host-device`: a node's interface goes into a container and comes back.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use cni_spec::ErrorCode;
use cni_spec::plugin::Plugin;
use netops::{
    Address, Kernel, Link, LinkKind, LinkName, LinuxKernel, MacAddr, MemoryKernel, MovedLink, Place,
    Resource, Snapshot, VethPeer, read_link,
};
use plugin_kit::testing::{MemoryNode, Node, TestCall, Trial};
use plugin_kit::{Explain, Kit};
use plugin_link::HostDevice;
use serde_json::{Value, json};

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

/// A network card of the node's: a cable whose other end stays there.
fn card(called: &str, number: u8) -> Resource {
    let peer = VethPeer { place: Place::Host, name: name(&format!("far{number}")), mtu: None, mac: None };
    let kind = LinkKind::Veth { peer };
    let mac = Some(MacAddr::new([2, 0, 0, 0, 0, number]));
    Resource::Link(Link { mac, mtu: Some(1400), up: true, ..Link::new(name(called), kind) })
}

fn make(kernel: &mut dyn Kernel, place: Place, resources: &[Resource]) {
    for result in kernel.create(place, &resources.iter().collect::<Vec<_>>()) {
        result.unwrap();
    }
}

fn carded() -> MemoryNode {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Place::Host, &[card("ens5", 5), card("ens6", 6)]);
    MemoryNode::with_kernel(kernel)
}

fn call(keys: Value) -> TestCall {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "host-device",
        "ipam": {"type": "static", "addresses": [{"address": "10.22.0.5/16"}]},
    });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    TestCall::new(config)
}

#[test]
fn host_device_fails_well() {
    let dir = tempfile::tempdir().unwrap();
    let config = |device: &str| {
        json!({
            "cniVersion": "1.1.0", "name": "net", "type": "host-device", "device": device,
            "ipam": {
                "type": "host-local", "dataDir": dir.path(),
                "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]],
                "routes": [{"dst": "192.0.2.0/24"}],
            },
        })
    };
    let added = Trial::new(HostDevice::new(), &config("ens5")).behind(|node, call| {
        make(&mut node.process(), Place::Host, &[card("ens5", 5), Resource::LinkUp(name("far5"))]);
        call
    });
    assert!(added.assert_add_is_all_or_nothing() > 10);
    let ended = Trial::new(HostDevice::new(), &config("ens5")).beside(&config("ens6")).on(carded_down);
    assert!(ended.assert_del_with_the_container_there() > 5);
    // These cards are ends of cables, which go with a namespace: no card is there before, and none after.
    let is_before = std::cell::Cell::new(false);
    let gone = Trial::new(HostDevice::new(), &config("ens5")).beside(&config("ens6")).behind(|node, call| {
        if call.container_id() == "c1" {
            is_before.set(!is_before.get());
        }
        let (called, number) = if call.container_id() == "c1" { ("ens5", 5) } else { ("ens6", 6) };
        if number == 6 || !is_before.get() {
            let far = Resource::LinkUp(name(&format!("far{number}")));
            make(&mut node.process(), Place::Host, &[card(called, number), far]);
        }
        call
    });
    gone.assert_del_with_the_container_gone();
    gone.assert_gc_is_completed_by_the_next();
}

#[test]
fn gc_does_not_take_the_nodes_own_cable_for_what_the_reference_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let node = carded_down();
    let before = node.snapshot();
    let config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "host-device", "device": "ens5",
        "ipam": {"type": "host-local", "dataDir": dir.path(), "subnet": "10.22.0.0/16"},
    });
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    let call = TestCall::new(config);
    plugin.add(&call.request()).unwrap();
    // The pod is there, and the runtime has forgotten it: the other end of its device's cable is not marked.
    plugin.gc(&call.gc_request(&[])).unwrap();
    assert!(read_link(&mut node.process(), Place::Host, &name("far5")).unwrap().is_some());
    plugin.del(&call.del_request()).unwrap();
    let links = |snapshot: &Snapshot| -> Vec<String> {
        snapshot.lines().iter().filter(|line| line.starts_with("host: link")).cloned().collect()
    };
    assert_eq!(links(&node.snapshot()), links(&before));
}

/// With cards that are down, as they come back.
fn carded_down() -> MemoryNode {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Place::Host, &[card("ens5", 5), card("ens6", 6)]);
    for (called, far) in [("ens5", "far5"), ("ens6", "far6")] {
        let states = [Resource::LinkUp(name(far)), Resource::LinkDown(name(called))];
        make(&mut kernel, Place::Host, &states);
    }
    MemoryNode::with_kernel(kernel)
}

#[test]
fn the_interface_is_the_containers_until_del() {
    let node = carded_down();
    node.start_container("c1");
    let before = node.snapshot();
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    for keys in [json!({"device": "ens5"}), json!({"hwaddr": "02:00:00:00:00:05"})] {
        let call = call(keys);
        let result = plugin.add(&call.request()).unwrap();
        assert_eq!(result.interfaces.len(), 1);
        let interface = &result.interfaces[0];
        assert_eq!((interface.name.as_str(), interface.mtu), ("eth0", Some(1400)));
        assert_eq!(interface.mac.as_deref(), Some("02:00:00:00:00:05"));
        let call = call.previous(&result);
        plugin.check(&call.request()).unwrap();
        let text = node.snapshot().to_string();
        assert!(text.contains("container: link \"eth0\" veth mtu 1400") && text.contains("# ens5"), "{text}");
        plugin.del(&call.del_request()).unwrap();
        assert_eq!(node.snapshot(), before);
        plugin.del(&call.del_request()).unwrap();
    }
}

#[test]
fn check_finds_another_interface_in_its_place() {
    let node = carded();
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    let call = call(json!({"device": "ens5"}));
    let result = plugin.add(&call.request()).unwrap();
    let call = call.previous(&result);
    let mut process = node.process();
    let moved = |original: &str| {
        Resource::MovedLink(MovedLink {
            name: name("eth0"),
            from: Place::Host,
            original: name(original),
            mac: None,
        })
    };
    process.remove(Place::Container, &[&moved("ens5")]).remove(0).unwrap();
    let error = plugin.check(&call.request()).unwrap_err();
    assert!(error.to_string().contains("interface \"eth0\" (\"ens5\" of the host) is missing"), "{error}");
    make(&mut process, Place::Container, &[moved("ens6")]);
    let error = plugin.check(&call.request()).unwrap_err();
    assert!(error.to_string().contains("MAC address is 02:00:00:00:00:06"), "{error}");
}

#[test]
fn del_spares_another_networks_interface_and_one_that_is_nobodys() {
    let node = carded();
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    let theirs = call(json!({"device": "ens5"}));
    plugin.add(&theirs.request()).unwrap();
    let before = node.snapshot();
    let ours = call(json!({"device": "ens6", "name": "other"}));
    let error = plugin.add(&ours.request()).unwrap_err();
    assert!(error.to_string().contains("File exists"), "{error}");
    plugin.del(&ours.del_request()).unwrap();
    assert_eq!(node.snapshot(), before);
    plugin.del(&theirs.del_request()).unwrap();

    make(&mut node.process(), Place::Container, &[card("eth0", 9)]);
    let before = node.snapshot();
    plugin.del(&theirs.del_request()).unwrap();
    assert_eq!(node.snapshot(), before);
}

#[test]
fn a_del_that_cannot_give_back_the_name_says_so_and_can_be_repeated() {
    let node = carded();
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    let call = call(json!({"device": "ens5"}));
    plugin.add(&call.request()).unwrap();
    make(&mut node.process(), Place::Host, &[card("ens5", 9)]);
    let error = plugin.del(&call.del_request()).unwrap_err();
    assert!(error.to_string().contains("File exists"), "{error}");
    node.process().remove(Place::Host, &[&card("ens5", 9)]).remove(0).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert!(node.snapshot().to_string().contains("host: link \"ens5\""));
}

#[test]
fn without_a_namespace_the_lease_is_released() {
    let leases = tempfile::tempdir().unwrap();
    let node = carded();
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    let ipam = json!({"type": "host-local", "dataDir": leases.path(), "subnet": "10.22.0.0/16"});
    let call = call(json!({"device": "ens5", "ipam": ipam}));
    plugin.add(&call.request()).unwrap();
    let lease = leases.path().join("net/10.22.0.2");
    assert!(lease.exists());
    node.end_container("c1");
    plugin.del(&call.without_netns().del_request()).unwrap();
    assert!(!lease.exists());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let node = carded();
    let before = node.snapshot();
    let plugin = Kit::with_kernels(HostDevice::new(), &node);
    for (keys, expected) in [
        (json!({}), "specify one of device, hwaddr, kernelpath and pciBusID"),
        (json!({"device": "a b"}), "device: "),
        (json!({"hwaddr": "x"}), "hwaddr: "),
        (json!({"hwaddr": "02:00:00:00:00:77"}), "no interface with 02:00:00:00:00:77"),
        (json!({"kernelpath": "/etc"}), "below /sys/devices/"),
        (json!({"kernelpath": "/sys/devices/../../etc"}), "below /sys/devices/"),
        (json!({"kernelpath": "/sys/devices/nowhere"}), "no interface in /sys/devices/nowhere/net"),
        (json!({"pciBusID": "../x"}), "pciBusID is"),
        (json!({"pciBusID": "0000:ff:ff.7"}), "no interface in"),
        (json!({"runtimeConfig": {"deviceID": "no-such"}}), "no no-such on the PCI bus"),
    ] {
        let error = plugin.add(&call(keys).request()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::INVALID_CONFIG, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = plugin.add(&call(json!({"device": "ens9"})).request()).unwrap_err();
    assert!(error.to_string().contains("ENODEV"), "{error}");
    assert_eq!(node.snapshot(), before);
}

/// A machine's `/sys`, as far as it is looked at, and its path.
fn sysfs() -> (tempfile::TempDir, &'static str) {
    let root = tempfile::tempdir().unwrap();
    let add = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
    add("devices/pci0/0000:00:05.0/net/ens5");
    add("bus/pci/devices/0000:00:05.0/net/ens5");
    add("bus/pci/devices/0000:00:06.0/virtio3/net/ens6");
    add("bus/auxiliary/devices/mlx5_core.sf.2/net/ens6");
    add("bus/pci/devices/0000:00:07.0");
    add("bus/pci/drivers/vfio-pci");
    let driver = Path::new("../../drivers/vfio-pci");
    std::os::unix::fs::symlink(driver, root.path().join("bus/pci/devices/0000:00:07.0/driver")).unwrap();
    let path = root.path().to_str().unwrap().to_owned().leak();
    (root, path)
}

#[test]
fn devices_are_found_on_their_buses() {
    let node = carded_down();
    let (_sysfs, path) = sysfs();
    let plugin = Kit::with_kernels(HostDevice::with_sysfs(path), &node);
    for (keys, expected) in [
        (json!({"kernelpath": "/sys/devices/pci0/0000:00:05.0"}), "05"),
        (json!({"pciBusID": "0000:00:05.0"}), "05"),
        (json!({"pciBusID": "0000:00:06.0"}), "06"),
        (json!({"runtimeConfig": {"deviceID": "0000:00:06.0"}, "pciBusID": "0000:00:05.0"}), "06"),
        (json!({"runtimeConfig": {"deviceID": "mlx5_core.sf.2"}}), "06"),
        // The first that says it.
        (json!({"runtimeConfig": {"deviceID": "0000:00:06.0"}, "device": "ens5"}), "05"),
        (json!({"hwaddr": "02:00:00:00:00:06", "pciBusID": "0000:00:05.0"}), "06"),
    ] {
        let call = call(keys.clone());
        let result = plugin.add(&call.request()).unwrap();
        assert!(result.interfaces[0].mac.as_ref().unwrap().ends_with(expected), "{keys}");
        plugin.check(&call.clone().previous(&result).request()).unwrap();
        plugin.del(&call.previous(&result).del_request()).unwrap();
    }
}

#[test]
fn a_device_that_a_program_drives_is_left_alone() {
    let node = carded_down();
    node.start_container("c1");
    let before = node.snapshot();
    let (_sysfs, path) = sysfs();
    let plugin = Kit::with_kernels(HostDevice::with_sysfs(path), &node);
    let call = call(json!({"pciBusID": "0000:00:07.0"}));
    let result = plugin.add(&call.request()).unwrap();
    assert_eq!(result.interfaces[0].pci_id.as_deref(), Some("0000:00:07.0"));
    assert_eq!(result.ips.len(), 1);
    let call = call.previous(&result);
    plugin.check(&call.request()).unwrap();
    plugin.del(&call.del_request()).unwrap();
    assert_eq!(node.snapshot(), before);
}

#[test]
fn it_can_be_explained() {
    let mut script = netops::Script::new("blue");
    let plugin = Kit::new(HostDevice::new());
    let call = call(json!({"device": "ens5"}));
    plugin.explain(&call.request(), &mut script).unwrap().plan.apply(&mut script).unwrap();
    let commands: Vec<_> = script.commands().iter().map(ToString::to_string).collect();
    assert_eq!(
        commands[..2],
        ["ip link set dev ens5 netns blue name eth0", "ip -n blue link set dev eth0 alias ens5"]
    );
}

#[test]
fn packets_go_through_a_card_of_the_nodes() {
    if netops::Namespace::create().is_err() {
        eprintln!("SKIPPED: no network namespaces can be made here (run as root)");
        return;
    }
    let node = Node::new();
    let plugin = Kit::new(HostDevice::new());
    node.on_host(|| {
        let mut kernel = LinuxKernel::new(None);
        make(
            &mut kernel,
            Place::Host,
            &[
                card("eth0", 5),
                Resource::Address(Address::new(name("far5"), "10.22.0.1/16".parse().unwrap())),
                Resource::LinkUp(name("far5")),
            ],
        );
    });
    let on_host = |called: &str| {
        node.on_host(|| read_link(&mut LinuxKernel::new(None), Place::Host, &name(called)).unwrap())
    };
    // A name that is in use at both ends of the way, once by the card itself.
    let call = call(json!({"device": "eth0"})).container("a");
    for _ in 0..2 {
        let result = node.add(&plugin, &call).unwrap();
        assert!(on_host("eth0").is_none());
        let call = call.clone().previous(&result);
        node.check(&plugin, &call).unwrap();
        node.ping("a", "10.22.0.1".parse().unwrap()).unwrap();
        node.del(&plugin, &call).unwrap();
        node.del(&plugin, &call).unwrap();
        let back = on_host("eth0").unwrap();
        assert_eq!((back.up, back.alias, back.mac), (false, None, Some(MacAddr::new([2, 0, 0, 0, 0, 5]))));
    }
    // A route that cannot be: the card is up again at home.
    node.on_host(|| make(&mut LinuxKernel::new(None), Place::Host, &[Resource::LinkUp(name("eth0"))]));
    let impossible = self::call(json!({"device": "eth0", "ipam": {
        "type": "static", "addresses": [{"address": "10.22.0.5/16"}],
        "routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}],
    }}));
    node.add(&plugin, &impossible.clone().container("a")).unwrap_err();
    assert!(on_host("eth0").unwrap().up);
    // Somebody has the name in the container.
    node.inside("a", || make(&mut LinuxKernel::new(None), Place::Host, &[card("eth0", 9)]));
    let error = node.add(&plugin, &call).unwrap_err();
    assert!(error.to_string().contains("EEXIST"), "{error}");
    node.del(&plugin, &call).unwrap();
    assert!(on_host("eth0").unwrap().up);
}
