//! Garbage collection.

use cni_spec::AttachmentId;
use cni_spec::runtime::{Attachment, RuntimeError};
use serde_json::json;

use crate::support::{World, blue, list};

fn attachment(container: &str) -> Attachment {
    Attachment::new(container.parse().unwrap(), "eth0".parse().unwrap())
        .with_netns(format!("/run/netns/{container}"))
}

fn id(container: &str) -> AttachmentId {
    attachment(container).id()
}

#[test]
fn what_is_not_valid_is_deleted_with_the_configuration_it_was_made_with() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &attachment("old").with_arg("A", "1").with_capability("mac", json!("x"))).unwrap();
    let now = list(json!({"cniVersion": "1.1.0", "name": "blue", "plugins": [{"type": "ptp"}]}));
    runtime.add(&now, &attachment("new")).unwrap();
    world.plugins.take_calls();

    runtime.gc(&now, &[id("new")]).unwrap();
    let calls = world.plugins.take_calls();
    let names: Vec<_> = calls.iter().map(|call| call.name()).collect();
    assert_eq!(names, ["DEL tuning", "DEL portmap", "DEL bridge", "GC ptp"]);
    let bridge = &calls[2];
    assert_eq!(
        (bridge.env["CNI_NETNS"].as_str(), bridge.env["CNI_ARGS"].as_str()),
        ("/run/netns/old", "A=1")
    );
    assert_eq!(bridge.stdin["runtimeConfig"], json!({"mac": "x"}));
    assert_eq!(bridge.stdin["ipam"], json!({"type": "host-local"}));
    assert_eq!(bridge.stdin["prevResult"]["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!(world.cached(), ["blue-new-eth0"]);
}

#[test]
fn plugins_get_the_valid_attachments_under_both_names() {
    let world = World::new();
    world.runtime().gc(&blue(), &[id("a"), id("b")]).unwrap();
    let calls = world.plugins.take_calls();
    assert_eq!(
        calls.iter().map(|call| call.name()).collect::<Vec<_>>(),
        ["GC bridge", "GC portmap", "GC tuning"]
    );
    let valid = json!([{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth0"}]);
    for call in calls {
        assert_eq!(call.stdin["cni.dev/valid-attachments"], valid);
        assert_eq!(call.stdin["cni.dev/attachments"], valid);
        assert!(["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].iter().all(|name| call.env[*name].is_empty()));
    }
}

#[test]
fn other_networks_and_disable_gc_are_left_alone() {
    let world = World::new();
    let runtime = world.runtime();
    let red = list(json!({"cniVersion": "1.0.0", "name": "blue-red", "plugins": [{"type": "ptp"}]}));
    runtime.add(&red, &attachment("a")).unwrap();
    runtime.add(&blue(), &attachment("a")).unwrap();
    let mut disabled = blue();
    disabled.disable_gc = true;
    world.plugins.take_calls();
    runtime.gc(&disabled, &[]).unwrap();
    assert!(world.plugins.take_calls().is_empty());
    runtime.gc(&blue(), &[]).unwrap();
    assert_eq!(world.cached(), ["blue-red-a-eth0"]);
    world.plugins.take_calls();
    // Before 1.1.0 plugins know no GC, but what the cache knows is deleted.
    runtime.gc(&red, &[]).unwrap();
    assert_eq!(world.plugins.take_names(), ["DEL ptp"]);
    assert!(world.cached().is_empty());
}

#[test]
fn failures_are_joined_and_stop_nothing() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &attachment("a")).unwrap();
    runtime.add(&blue(), &attachment("b")).unwrap();
    world.plugins.take_calls();
    world.fail(&["DEL portmap", "GC bridge"]);
    let error = runtime.gc(&blue(), &[]).unwrap_err();
    let RuntimeError::Several(failures) = &error else { panic!("{error:?}") };
    assert_eq!(failures.len(), 3);
    assert!(matches!(&failures[0], RuntimeError::Stale { who, .. } if who.attachment.container_id == "a"));
    assert_eq!(world.plugins.take_names().len(), 9);
    assert_eq!(world.cached(), ["blue-a-eth0", "blue-b-eth0"]);
    world.fail(&[]);
    runtime.gc(&blue(), &[]).unwrap();
    assert!(world.cached().is_empty());
}

#[test]
fn an_add_that_was_cut_off_is_collected() {
    let world = World::new();
    world.plugins.set_script(|call| {
        if call.plugin == "portmap" {
            std::panic::resume_unwind(Box::new("crash"))
        } else {
            crate::support::works(call)
        }
    });
    let runtime = world.runtime();
    let crash =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.add(&blue(), &attachment("a"))));
    assert!(crash.is_err());
    world.fail(&[]);
    world.plugins.take_calls();
    runtime.gc(&blue(), &[]).unwrap();
    let calls = world.plugins.take_calls();
    assert_eq!(calls[2].name(), "DEL bridge");
    assert_eq!(calls[2].stdin["prevResult"]["interfaces"], json!([{"name": "bridge"}]));
    assert!(world.cached().is_empty());
}

#[test]
fn a_namespace_named_by_a_process_id_is_not_entered_again() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &attachment("a").with_netns("/proc/4711/ns/net")).unwrap();
    world.plugins.take_calls();
    runtime.gc(&blue(), &[]).unwrap();
    assert_eq!(world.plugins.take_calls()[0].env["CNI_NETNS"], "");
}

#[test]
fn a_cached_configuration_that_is_none_is_replaced_by_the_current_one() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &attachment("a")).unwrap();
    let mut file = world.cache_file("blue-a-eth0");
    file["config"] = json!("e30="); // {}
    std::fs::write(world.results().join("blue-a-eth0"), file.to_string()).unwrap();
    world.plugins.take_calls();
    runtime.gc(&blue(), &[]).unwrap();
    assert_eq!(world.plugins.take_names()[..3], ["DEL tuning", "DEL portmap", "DEL bridge"]);
    assert!(world.cached().is_empty());
}
